#include <algorithm>

#include "isa.hpp"
#include "w8a8.hpp"

namespace signsplit::cpu {

const IntegerKernels& integer_kernels_for([[maybe_unused]] Isa isa) noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  if (isa == Isa::avx2) return integers_avx2;
  if (isa == Isa::avx512) return has_avx512vnni() ? integers_avx512vnni : integers_avx512;
#endif
  return integers_scalar;
}

std::vector<std::pair<std::string_view, const IntegerKernels*>> supported_integer_kernels() {
  std::vector<std::pair<std::string_view, const IntegerKernels*>> list{{"scalar", &integers_scalar}};
#if defined(SIGNSPLIT_X86_KERNELS)
  const std::vector<Isa> isas = supported_isas();
  const auto supported = [&](Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  if (supported(Isa::avx2)) list.emplace_back("avx2", &integers_avx2);
  if (supported(Isa::avx512)) list.emplace_back("avx512", &integers_avx512);
  if (supported(Isa::avx512) && has_avx512vnni()) list.emplace_back("avx512vnni", &integers_avx512vnni);
#endif
  return list;
}

}  // namespace signsplit::cpu
