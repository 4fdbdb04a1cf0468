#include "tools/vendor.hpp"

#include <chrono>
#include <utility>

#include "cpu/baselines/openblas.hpp"
#if defined(SIGNSPLIT_HAVE_ONEDNN)
#include "cpu/baselines/onednn.hpp"
#endif

namespace signsplit::tools {
namespace {

template <class Ffn>
class Vendor final : public VendorFfn {
 public:
  explicit Vendor(Ffn ffn) : ffn_(std::move(ffn)) {}
  Status run(std::span<const float> x, std::span<float> y) override { return ffn_.run(x, y); }
  [[nodiscard]] std::size_t weight_bytes() const override { return ffn_.weight_bytes(); }
  [[nodiscard]] std::string description() const override { return ffn_.description(); }

 private:
  Ffn ffn_;
};

template <class Ffn, class... Options>
Result<std::unique_ptr<VendorFfn>> make(const Weights& weights, index_t batch, int threads, Options... options) {
  auto ffn = Ffn::create(weights, batch, threads, options...);
  if (!ffn) return ffn.status();
  return std::unique_ptr<VendorFfn>(std::make_unique<Vendor<Ffn>>(std::move(ffn).value()));
}

#if defined(SIGNSPLIT_HAVE_ONEDNN)
Result<std::unique_ptr<VendorFfn>> make_onednn(const Weights& weights, index_t batch, int threads, bool keep_f32) {
  using enum baselines::OneDnnActivations;
  return make<baselines::OneDnnFfn>(weights, batch, threads, keep_f32 ? kept_f32 : as_weights);
}
#else
Result<std::unique_ptr<VendorFfn>> make_onednn(const Weights&, index_t, int, bool) {
  return unsupported("this build has no oneDNN (Debian, Ubuntu: libdnnl-dev)");
}
#endif

}  // namespace

Result<double> VendorFfn::timed_run(std::span<const float> x, std::span<float> y) {
  const auto start = std::chrono::steady_clock::now();
  Status status = run(x, y);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!status.ok()) return status;
  return seconds.count();
}

std::vector<std::string> vendor_names() {
#if defined(SIGNSPLIT_HAVE_ONEDNN)
  return {"onednn"};
#else
  return {};
#endif
}

std::vector<std::string> vendor_names(DType dtype) {
  std::vector<std::string> names = vendor_names();
  if (dtype == DType::f32 && baselines::has_openblas()) names.push_back("openblas");
  return names;
}

Result<std::unique_ptr<VendorFfn>> make_vendor(std::string_view name, const Weights& weights, index_t batch, int threads) {
  if (name == "onednn" || name == kOneDnnF32) return make_onednn(weights, batch, threads, name == kOneDnnF32);
  if (name == "openblas") return make<baselines::OpenBlasFfn>(weights, batch, threads);
  return unsupported("no vendor baseline is called " + std::string(name));
}

}  // namespace signsplit::tools
