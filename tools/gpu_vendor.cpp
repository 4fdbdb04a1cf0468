#include "tools/gpu_vendor.hpp"

#if defined(SIGNSPLIT_HAVE_CUBLASLT)
#include <dlfcn.h>

#include <filesystem>

#include "gpu/baselines/cublaslt.hpp"
#endif

namespace signsplit::tools {

#if defined(SIGNSPLIT_HAVE_CUBLASLT)
namespace {

using baselines::CublasLtFfn;

class CublasLtVendor final : public VendorFfn {
 public:
  explicit CublasLtVendor(std::unique_ptr<CublasLtFfn> ffn) : ffn_(std::move(ffn)) {}
  Status run(std::span<const float> x, std::span<float> y) override { return ffn_->run(x, y).status(); }
  Result<double> timed_run(std::span<const float> x, std::span<float> y) override { return ffn_->run(x, y); }
  [[nodiscard]] std::size_t weight_bytes() const override { return ffn_->weight_bytes(); }
  [[nodiscard]] std::string description() const override { return ffn_->description(); }

 private:
  std::unique_ptr<CublasLtFfn> ffn_;
};

/// The module's one function. The module stays loaded until the process ends, as NVIDIA's libraries want it.
struct Module {
  baselines::CreateCublasLt* create = nullptr;
};
Result<Module> load_module() {
  std::error_code error;
  const auto command = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string module = (command.parent_path() / SIGNSPLIT_CUBLASLT_MODULE).string();
  void* handle = dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return unsupported(std::string("cublaslt cannot be loaded: ") + dlerror());
  void* function = dlsym(handle, baselines::kCreateCublasLtName);
  if (function == nullptr) return unsupported(std::string("cublaslt cannot be used: ") + dlerror());
  return Module{reinterpret_cast<baselines::CreateCublasLt*>(function)};
}

}  // namespace

std::vector<std::string> gpu_vendor_names() { return {"cublaslt"}; }

Result<std::unique_ptr<VendorFfn>> make_gpu_vendor(std::string_view name, const Weights& weights, index_t batch, int device,
                                                   double rotation_bytes) {
  if (name != "cublaslt") return unsupported("no vendor baseline on GPUs is called " + std::string(name));
  static const Result<Module> loaded = load_module();
  if (!loaded) return loaded.status();
  auto ffn = loaded->create(weights, batch, device, rotation_bytes);
  if (!ffn) return ffn.status();
  return std::unique_ptr<VendorFfn>(std::make_unique<CublasLtVendor>(std::move(*ffn)));
}
#else
std::vector<std::string> gpu_vendor_names() { return {}; }

Result<std::unique_ptr<VendorFfn>> make_gpu_vendor(std::string_view name, const Weights&, index_t, int, double) {
  return unsupported("this build has no GPU baseline called " + std::string(name));
}
#endif

}  // namespace signsplit::tools
