// Prefill: batches so large that the FFN is a matrix product, which is a vendor library's business and not ours.
#pragma once

#include <memory>

#include "tools/vendor.hpp"

namespace signsplit::tools {

/// From so many tokens per call on, `auto` gives a layer to oneDNN's GEMM, bias and activation fused into it. Measured:
/// docs/measuring.md, "Prefill".
inline constexpr index_t kPrefillBatch = 32;

/// Batches for which `bench` shows what prefill would run.
[[nodiscard]] constexpr bool prefill_candidate(const Problem& problem) {
  return problem.batch >= kPrefillBatch / 4 && problem.arithmetic == Arithmetic::f32;
}

/// Problems that `auto` gives to oneDNN where the build has it; oneDNN may still refuse.
[[nodiscard]] constexpr bool prefills(const Problem& problem) {
  return problem.batch >= kPrefillBatch && prefill_candidate(problem) && problem.activation.kind != ActivationKind::fatrelu;
}

/// oneDNN for this layer and batch, x and h kept in f32: y is within the bound of an f32 FFN summed in any order, and has not
/// the bits of our plans. Null when prefills() says no, or oneDNN is missing or refuses: then our kernels run.
[[nodiscard]] std::unique_ptr<VendorFfn> prefill_ffn(const Weights& weights, index_t batch, int threads);

}  // namespace signsplit::tools
