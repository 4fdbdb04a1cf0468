// Which instruction sets this build contains and this machine can run, and which one to use.
#include <cstdlib>
#include <string>

#if defined(SIGNSPLIT_X86_KERNELS)
#include <cpuid.h>
#endif

#include "isa.hpp"

namespace signsplit::cpu {

std::string_view to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "";
}

std::optional<Isa> parse_isa(std::string_view text) noexcept {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (text == to_string(isa)) return isa;
  }
  return std::nullopt;
}

#if defined(SIGNSPLIT_X86_KERNELS)
/// Conversion of f16. (clang 14's __builtin_cpu_supports does not know it. Its registers are those of AVX.)
static bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<Isa> supported_isas() {
  std::vector<Isa> list{Isa::scalar};
#if defined(SIGNSPLIT_X86_KERNELS)
  // These built-ins ask cpuid and also XCR0: an instruction set whose registers the system does not save is not there.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) list.push_back(Isa::avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    list.push_back(Isa::avx512);
  }
#endif
  return list;
}

Result<Isa> select_isa(std::optional<Isa> forced) {
  const std::vector<Isa> supported = supported_isas();
  std::string origin = "the requested instruction set ";
  if (!forced) {
    const char* text = std::getenv("SIGNSPLIT_ISA");
    if (text == nullptr || *text == '\0') return supported.back();
    forced = parse_isa(text);
    origin = "SIGNSPLIT_ISA=";
    if (!forced) return invalid_argument("SIGNSPLIT_ISA=" + std::string(text) + " is not one of scalar, avx2, avx512");
  }
  for (const Isa isa : supported) {
    if (isa == *forced) return isa;
  }
  std::string names;
  for (const Isa isa : supported) names += (names.empty() ? "" : ", ") + std::string(to_string(isa));
  return unsupported(origin + std::string(to_string(*forced)) + " is not available on this machine (available: " + names + ")");
}

bool has_avx512vnni() noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") != 0;
#else
  return false;
#endif
}

const KernelTable& kernels_for([[maybe_unused]] Isa isa) noexcept {
#if defined(SIGNSPLIT_X86_KERNELS)
  if (isa == Isa::avx2) return kernels_avx2;
  if (isa == Isa::avx512) return kernels_avx512;
#endif
  return kernels_scalar;
}

}  // namespace signsplit::cpu
