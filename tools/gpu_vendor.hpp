// Vendor baselines on a GPU. NVIDIA's libraries are large: they are in a module of their own beside the command, which is
// loaded when a GPU is measured and not before. signsplit's libraries never link them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/vendor.hpp"

namespace signsplit::tools {

/// "cublaslt" where this build has it; or none.
[[nodiscard]] std::vector<std::string> gpu_vendor_names();

/// `weights` are copied to the device, so many times that a turn goes through `rotation_bytes` of weights.
[[nodiscard]] Result<std::unique_ptr<VendorFfn>> make_gpu_vendor(std::string_view name, const Weights& weights, index_t batch,
                                                                 int device, double rotation_bytes);

}  // namespace signsplit::tools
