#include "certify_dispatch.hpp"

#include <algorithm>

#include "isa.hpp"
#include "signsplit/certificate.hpp"

namespace signsplit::cpu {

CertifyKernel certify_kernel_for([[maybe_unused]] Isa isa) noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  if (isa == Isa::avx2) return certify_avx2;
  if (isa == Isa::avx512) return has_avx512vnni() ? certify_avx512vnni : certify_avx512;
#endif
  return certify_scalar;
}

QuantizeGroup quantize_group_for([[maybe_unused]] Isa isa) noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  if (isa == Isa::avx2) return quantize_group_avx2;
  if (isa == Isa::avx512) return quantize_group_avx512;
#endif
  return quantize_group;
}

const RestoredKernels& restored_kernels_for([[maybe_unused]] Isa isa) noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  if (isa == Isa::avx2) return restored_avx2;
  if (isa == Isa::avx512) return restored_avx512;
#endif
  return restored_scalar;
}

std::vector<std::pair<std::string_view, CertifyKernel>> supported_certify_kernels() {
  std::vector<std::pair<std::string_view, CertifyKernel>> list{{"scalar", certify_scalar}};
#if defined(SIGNSPLIT_X86_KERNELS)
  const std::vector<Isa> isas = supported_isas();
  const auto supported = [&](Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  if (supported(Isa::avx2)) list.emplace_back("avx2", certify_avx2);
  if (supported(Isa::avx512)) list.emplace_back("avx512", certify_avx512);
  if (supported(Isa::avx512) && has_avx512vnni()) list.emplace_back("avx512vnni", certify_avx512vnni);
#endif
  return list;
}

}  // namespace signsplit::cpu
