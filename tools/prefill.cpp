#include "tools/prefill.hpp"

#include <utility>

namespace signsplit::tools {

std::unique_ptr<VendorFfn> prefill_ffn(const Weights& weights, index_t batch, int threads) {
  if (!prefills(weights.problem(batch))) return nullptr;
  auto ffn = make_vendor(kOneDnnF32, weights, batch, threads);
  return ffn ? std::move(ffn).value() : nullptr;
}

}  // namespace signsplit::tools
