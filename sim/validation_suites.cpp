// Which problems are measured: shapes that no calibration runs, and no two suites share for tuning and for reporting.
#include "signsplit/sim/validation.hpp"

namespace signsplit::sim {
namespace {

constexpr Residency kCold = Residency::cold, kWarm = Residency::warm;
constexpr DType kF32 = DType::f32, kBf16 = DType::bf16, kInt8 = DType::int8;

ValidationCase plain(index_t d, index_t f, DType dtype, double active, Residency residency, index_t batch = 1) {
  ValidationCase one;
  one.problem.d_model = d;
  one.problem.d_ff = f;
  one.problem.batch = batch;
  one.problem.dtype = dtype;
  one.active = active;
  one.residency = residency;
  return one;
}

ValidationCase gated(index_t d, index_t f, DType dtype, double active, Residency residency, index_t batch = 1) {
  ValidationCase one = plain(d, f, dtype, active, residency, batch);
  one.problem.gated = true;
  return one;
}

ValidationCase relu2(ValidationCase one) {
  one.problem.activation.kind = ActivationKind::relu2;
  return one;
}

std::vector<ValidationCase> quick() {
  return {
      plain(512, 2048, kBf16, 0.1, kWarm),        plain(768, 3072, kF32, 1.0, kCold),
      plain(768, 3072, kBf16, 0.1, kCold),        plain(768, 3072, kBf16, 0.5, kWarm),
      plain(1024, 4096, kBf16, 0.1, kWarm),       plain(1024, 4096, kF32, 0.5, kCold, 4),
      plain(2048, 8192, kBf16, 1.0, kCold),       plain(2048, 8192, kBf16, 0.1, kCold),
      plain(2048, 8192, kF32, 0.5, kCold),        plain(2048, 8192, kBf16, 0.1, kCold, 4),
      relu2(gated(2560, 6912, kBf16, 0.2, kCold)), gated(4096, 11008, kBf16, 0.1, kCold),
  };
}

std::vector<ValidationCase> full() {
  return {
      plain(256, 1024, kF32, 0.3, kWarm),          plain(256, 1024, kBf16, 0.05, kWarm),
      plain(256, 1024, kBf16, 1.0, kCold),         plain(320, 1111, kBf16, 0.5, kWarm, 2),
      plain(512, 2048, kBf16, 0.1, kWarm),         plain(512, 2048, kF32, 0.02, kCold),
      plain(512, 2048, kInt8, 0.2, kWarm),         plain(768, 3072, kF32, 1.0, kCold),
      plain(768, 3072, kBf16, 0.1, kCold),         plain(768, 3072, kBf16, 0.5, kWarm),
      gated(768, 2048, kF32, 0.25, kWarm),         plain(777, 3333, kBf16, 0.1, kCold),
      plain(1000, 4001, kF32, 0.05, kWarm),        plain(1024, 4096, kBf16, 0.1, kWarm, 8),
      plain(1024, 4096, kF32, 0.5, kCold, 4),      plain(1024, 4096, kInt8, 0.03, kCold),
      gated(1024, 2816, kBf16, 0.1, kWarm),        gated(1536, 3840, kBf16, 0.12, kCold),
      plain(2048, 8192, kBf16, 1.0, kCold),        plain(2048, 8192, kBf16, 0.1, kCold),
      plain(2048, 8192, kBf16, 0.01, kCold),       plain(2048, 8192, kF32, 0.5, kCold),
      plain(2048, 8192, kBf16, 0.1, kCold, 4),     plain(2048, 8192, kInt8, 0.1, kCold, 2),
      plain(2048, 5632, kBf16, 0.3, kWarm, 2),     relu2(plain(2560, 10240, kBf16, 0.2, kCold)),
      relu2(gated(2560, 6912, kBf16, 0.2, kCold)), gated(2048, 5632, kInt8, 0.05, kCold),
      plain(3001, 7007, kF32, 0.1, kCold, 2),      gated(4096, 11008, kBf16, 0.33, kCold),
      plain(4096, 16384, kBf16, 0.03, kCold),      plain(4096, 16384, kBf16, 0.3, kCold),
      plain(4096, 16384, kInt8, 0.1, kCold),       plain(4096, 16384, kBf16, 0.1, kCold, 8),
  };
}

std::vector<ValidationCase> development() {
  return {
      plain(384, 1536, kBf16, 0.2, kWarm),      plain(384, 1536, kF32, 1.0, kWarm),       plain(640, 2600, kBf16, 0.05, kCold),
      plain(896, 3584, kF32, 0.1, kWarm),       plain(1280, 5120, kBf16, 0.5, kCold, 4),  plain(1280, 5120, kBf16, 0.1, kWarm, 2),
      plain(1536, 6144, kF32, 0.2, kCold),      plain(3072, 8192, kBf16, 0.05, kCold),    plain(3072, 8192, kBf16, 0.5, kCold),
      gated(1280, 3456, kBf16, 0.1, kWarm),     gated(3072, 8192, kBf16, 0.15, kCold),    plain(1152, 4608, kBf16, 0.1, kCold, 8),
      plain(1280, 5120, kInt8, 0.1, kWarm),     plain(3072, 8192, kInt8, 0.1, kCold),     gated(1536, 4096, kInt8, 0.2, kCold, 2),
      plain(600, 2500, kF32, 0.3, kWarm, 2),    plain(360, 1300, kBf16, 0.4, kWarm, 2),   plain(1152, 4608, kF32, 0.4, kCold, 4),
      plain(2304, 9216, kInt8, 0.1, kCold, 2),  plain(896, 3584, kInt8, 0.2, kWarm, 4),   plain(500, 2222, kBf16, 0.2, kCold, 5),
      plain(1792, 7168, kBf16, 0.1, kCold, 3),  plain(1280, 5120, kBf16, 0.1, kWarm, 8),  plain(2304, 6144, kF32, 0.15, kCold, 2),
      plain(3072, 8192, kBf16, 0.1, kCold, 8),  gated(1280, 5120, kBf16, 0.25, kWarm, 2), plain(600, 2500, kInt8, 0.1, kCold, 8),
  };
}

}  // namespace

Result<std::vector<ValidationCase>> validation_suite(std::string_view name) {
  if (name == "quick") return quick();
  if (name == "full") return full();
  if (name == "development") return development();
  return not_found("unknown validation suite \"" + std::string(name) + "\" (known: quick, full, development)");
}

}  // namespace signsplit::sim
