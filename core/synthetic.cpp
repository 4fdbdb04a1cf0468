#include "signsplit/synthetic.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <string>

namespace signsplit {
namespace {

// The random streams of one seed.
enum Stream : std::uint64_t { kUp, kDown, kGate };

constexpr std::uint64_t finalise(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Coefficients from the constant term up.
template <std::size_t n>
constexpr double polynomial(const double (&coefficients)[n], double x) {
  double value = coefficients[n - 1];
  for (std::size_t i = n - 1; i-- > 0;) value = value * x + coefficients[i];
  return value;
}

// M. J. Wichura, Algorithm AS 241: The percentage points of the normal distribution, Appl. Statist. 37 (1988), PPND16.
constexpr double kCentreNumerator[] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                       1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                       3.3430575583588128105e+4, 2.5090809287301226727e+3};
constexpr double kCentreDenominator[] = {1.0,
                                         4.2313330701600911252e+1,
                                         6.8718700749205790830e+2,
                                         5.3941960214247511077e+3,
                                         2.1213794301586595867e+4,
                                         3.9307895800092710610e+4,
                                         2.8729085735721942674e+4,
                                         5.2264952788528545610e+3};
constexpr double kShoulderNumerator[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                         3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr double kShoulderDenominator[] = {1.0,
                                           2.05319162663775882187e0,
                                           1.67638483018380384940e0,
                                           6.89767334985100004550e-1,
                                           1.48103976427480074590e-1,
                                           1.51986665636164571966e-2,
                                           5.47593808499534494600e-4,
                                           1.05075007164441684324e-9};
constexpr double kTailNumerator[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                     2.71155556874348757815e-5, 2.01033439929228813265e-7};
constexpr double kTailDenominator[] = {1.0,
                                       5.99832206555887937690e-1,
                                       1.36929880922735805310e-1,
                                       1.48753612908506148525e-2,
                                       7.86869131145613259100e-4,
                                       1.84631831751005468180e-5,
                                       1.42151175831644588870e-7,
                                       2.04426310338993978564e-15};

float cast(double value, float) { return static_cast<float>(value); }
bf16 cast(double value, bf16) { return to_bf16(static_cast<float>(value)); }
f16 cast(double value, f16) { return to_f16(static_cast<float>(value)); }

/// Element i is `scale` times normal value i of the seed: no thread count changes it.
template <class T>
void fill_normal(std::span<std::byte> bytes, std::uint64_t seed, double scale, int threads) {
  T* const out = reinterpret_cast<T*>(bytes.data());
  const index_t count = static_cast<index_t>(bytes.size() / sizeof(T));
  const int team = threads > 0 ? threads : omp_get_max_threads();
#pragma omp parallel for schedule(static) num_threads(team)
  for (index_t i = 0; i < count; ++i) {
    out[i] = cast(scale * random_normal(seed, static_cast<std::uint64_t>(i)), T{});
  }
}

AlignedBuffer normal_matrix(const Problem& problem, std::uint64_t seed, index_t fan_in, int threads) {
  AlignedBuffer matrix(static_cast<std::size_t>(problem.d_ff * problem.d_model * dtype_bytes(problem.dtype)));
  const double scale = 1.0 / std::sqrt(static_cast<double>(fan_in));
  if (problem.dtype == DType::f32) {
    fill_normal<float>(matrix.bytes(), seed, scale, threads);
  } else if (problem.dtype == DType::bf16) {
    fill_normal<bf16>(matrix.bytes(), seed, scale, threads);
  } else {
    fill_normal<f16>(matrix.bytes(), seed, scale, threads);
  }
  return matrix;
}

/// The bias b for which z + b > threshold with probability `active`, z standard normal: which W1·x is, very nearly.
float opening_bias(Activation activation, double active) {
  constexpr float kOpensAll = 40.0f;  // forty standard deviations
  const float threshold = activation.kind == ActivationKind::fatrelu ? activation.threshold : 0.0f;
  if (active == 1.0) return threshold + kOpensAll;
  // drelu is active where gate and up are both open; they are independent.
  const double fraction = activation.kind == ActivationKind::drelu ? std::sqrt(active) : active;
  return threshold + static_cast<float>(normal_quantile(fraction));
}

Status validate_active(const Problem& problem, double active) {
  if (!(active > 0.0 && active <= 1.0)) {
    return invalid_argument("the fraction of active units must be above 0 and at most 1 (got " + std::to_string(active) +
                            ")");
  }
  if (!closes_units(problem.activation) && active != 1.0) {
    return invalid_argument("the fraction of active units must be 1 for " + to_string(problem.activation, problem.gated) +
                            ", which closes none (got " + std::to_string(active) + ")");
  }
  return {};
}

}  // namespace

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) noexcept {
  return finalise(finalise(seed + 0x9e3779b97f4a7c15u) + (index + 1) * 0x9e3779b97f4a7c15u);
}

double normal_quantile(double p) noexcept {
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * polynomial(kCentreNumerator, r) / polynomial(kCentreDenominator, r);
  }
  const double r = std::sqrt(-std::log(q < 0.0 ? p : 1.0 - p));
  const double magnitude = r <= 5.0 ? polynomial(kShoulderNumerator, r - 1.6) / polynomial(kShoulderDenominator, r - 1.6)
                                    : polynomial(kTailNumerator, r - 5.0) / polynomial(kTailDenominator, r - 5.0);
  return q < 0.0 ? -magnitude : magnitude;
}

double random_normal(std::uint64_t seed, std::uint64_t index) noexcept {
  // 52 bits and a half: never 0, never 1.
  return normal_quantile((static_cast<double>(random_bits(seed, index) >> 12) + 0.5) * 0x1p-52);
}

namespace {

/// An int8 layer is rounded from an f16 one, which is half as large as f32 and has four bits more than are kept.
Result<Weights> synthetic_int8(const Problem& problem, double active, std::uint64_t seed, int threads) {
  Problem source = problem;
  source.dtype = DType::f16;
  source.group = 0;
  source.arithmetic = Arithmetic::f32;
  const Result<Weights> wide = synthetic_weights(source, active, seed, threads);
  if (!wide) return wide.status();
  Result<Weights> layer = wide->quantize(problem.group);
  if (!layer) return layer;
  if (Status status = layer->set_arithmetic(problem.arithmetic); !status) return status;
  return layer;
}

}  // namespace

Result<Weights> synthetic_weights(const Problem& problem, double active, std::uint64_t seed, int threads) try {
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate_active(problem, active); !status) return status;
  if (problem.dtype == DType::int8) return synthetic_int8(problem, active, seed, threads);
  const AlignedBuffer up = normal_matrix(problem, random_bits(seed, kUp), problem.d_model, threads);
  const AlignedBuffer down = normal_matrix(problem, random_bits(seed, kDown), problem.d_ff, threads);
  AlignedBuffer gate;
  if (problem.gated) gate = normal_matrix(problem, random_bits(seed, kGate), problem.d_model, threads);
  if (up.data() == nullptr || down.data() == nullptr || (problem.gated && gate.data() == nullptr)) {
    return io_error("not enough memory for a synthetic layer of " + describe(problem));
  }
  const Activation activation = problem.activation;
  std::vector<float> bias;
  if (closes_units(activation)) {
    bias.assign(static_cast<std::size_t>(problem.d_ff), opening_bias(activation, active));
  }
  const bool bias_on_up = !problem.gated || activation.kind == ActivationKind::drelu;
  return Weights::pack({.d_model = problem.d_model,
                        .d_ff = problem.d_ff,
                        .dtype = problem.dtype,
                        .activation = activation,
                        .up = {up.data(), up.size()},
                        .down = {down.data(), down.size()},
                        .gate = {gate.data(), gate.size()},
                        .up_bias = bias_on_up ? std::span<const float>(bias) : std::span<const float>(),
                        .gate_bias = problem.gated ? std::span<const float>(bias) : std::span<const float>(),
                        .down_bias = {}});
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for a synthetic layer");
}

std::vector<float> synthetic_input(index_t batch, index_t d_model, std::uint64_t seed) {
  std::vector<float> x(static_cast<std::size_t>(batch * d_model));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random_normal(seed, i));
  return x;
}

}  // namespace signsplit
