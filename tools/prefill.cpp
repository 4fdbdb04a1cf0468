#include "tools/prefill.hpp"

#include <utility>

namespace signsplit::tools {

bool can_prefill(const Problem& problem) {
  return !vendor_names().empty() && problem.arithmetic == Arithmetic::f32 && problem.activation.kind != ActivationKind::fatrelu;
}

std::unique_ptr<VendorFfn> prefill_ffn(const Weights& weights, index_t batch, int threads) {
  if (!can_prefill(weights.problem(batch))) return nullptr;
  auto ffn = make_vendor(kOneDnnF32, weights, batch, threads);
  return ffn ? std::move(ffn).value() : nullptr;
}

}  // namespace signsplit::tools
