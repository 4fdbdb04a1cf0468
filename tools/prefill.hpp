// Prefill: batches so large that the FFN is a matrix product, which is a vendor library's business and not ours. Whether a batch
// is, the planner says (sim/planner.hpp).
#pragma once

#include <memory>

#include "tools/vendor.hpp"

namespace signsplit::tools {

/// Whether this build can give such a problem to oneDNN's matmul, with the activation fused into it.
[[nodiscard]] bool can_prefill(const Problem& problem);

/// oneDNN for this layer and batch, x and h kept in f32: y is within the bound of an f32 FFN summed in any order, and has not
/// the bits of our plans. Null when can_prefill() says no, or oneDNN refuses: then our kernels run.
[[nodiscard]] std::unique_ptr<VendorFfn> prefill_ffn(const Weights& weights, index_t batch, int threads);

}  // namespace signsplit::tools
