// Vendor baselines by name, behind one interface.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::tools {

/// One layer in a vendor library's own packing.
class VendorFfn {
 public:
  virtual ~VendorFfn() = default;
  /// y [B, D] = FFN(x [B, D]).
  virtual Status run(std::span<const float> x, std::span<float> y) = 0;
  /// run(), and the seconds it took: by the clock on the wall, unless the vendor's device has a better one.
  virtual Result<double> timed_run(std::span<const float> x, std::span<float> y);
  /// Bytes of the vendor's copy of the weights.
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;
  /// Library, version, arithmetic and the kernels it chose.
  [[nodiscard]] virtual std::string description() const = 0;
};

/// The vendors that this build contains for weights of every type: "onednn", or none.
[[nodiscard]] std::vector<std::string> vendor_names();
/// Those that multiply weights of this type on this machine: for f32 also "openblas", where it is installed.
[[nodiscard]] std::vector<std::string> vendor_names(DType dtype);

/// oneDNN with x and h kept in f32, where "onednn" rounds them: what prefill runs (tools/prefill.hpp).
inline constexpr std::string_view kOneDnnF32 = "onednn_f32";

/// `weights` are copied. unsupported when this build has no such vendor, or with the vendor's reason.
[[nodiscard]] Result<std::unique_ptr<VendorFfn>> make_vendor(std::string_view name, const Weights& weights, index_t batch,
                                                             int threads);

}  // namespace signsplit::tools
