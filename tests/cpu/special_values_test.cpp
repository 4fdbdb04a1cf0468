// NaN, infinities, −0, subnormals and overflow: what docs/exactness.md promises.
#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "canonical_ffn.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

using namespace signsplit;
using namespace signsplit::test;

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

std::vector<float> run(const Weights& w, const Plan& plan, const std::vector<float>& x, cpu::Isa isa) {
  auto ffn = cpu::Ffn::create(w, plan, 1, {2, isa});
  REQUIRE_MESSAGE(ffn, ffn.message());
  std::vector<float> y(x.size(), 7.0f);
  REQUIRE(ffn->run(x, y));
  return y;
}

/// Runs all unfused and row_fused plans and compares bits with the canonical evaluation.
void check_canonical(const Layer& layer, const std::vector<float>& x) {
  const Weights w = layer.pack();
  for (const Plan& plan : all_plans(layer.problem, 64)) {
    if (plan.strategy == Strategy::sign_split) continue;
    const std::vector<float> expected = canonical_ffn(layer, plan, x);
    for (const cpu::Isa isa : cpu::supported_isas()) {
      INFO(label(plan), " ", cpu::to_string(isa));
      CHECK(same_bits(run(w, plan, x, isa), expected));
    }
  }
}

TEST_CASE("non-finite inputs and weights: the same bits with and without skip, and nothing hidden") {
  std::mt19937_64 rng(seed());
  for (const ActivationCase& a : all_activations()) {
    const Problem problem{100, 80, 1, DType::f32, a.activation, a.gated};
    for (const float bad : {kNaN, kInf, -kInf}) {
      Layer layer = gaussian_layer(problem, true, rng);
      std::vector<float> x = gaussian_input(problem, rng);
      SUBCASE("x") { x[37] = bad; }
      SUBCASE("up") { layer.up[static_cast<std::size_t>(5 * 100 + 3)] = bad; }
      SUBCASE("up bias") { layer.up_bias[9] = bad; }
      SUBCASE("down") { layer.down[static_cast<std::size_t>(12 * 80 + 33)] = bad; }
      SUBCASE("down bias") { layer.down_bias[64] = bad; }
      if (a.gated) {
        SUBCASE("gate") { layer.gate[static_cast<std::size_t>(7 * 100 + 99)] = bad; }
      }
      check_canonical(layer, x);
    }
  }
}

TEST_CASE("NaN in x reaches every output of every plan; a NaN weight of W2 reaches its output") {
  std::mt19937_64 rng(seed() + 1);
  for (const ActivationCase& a : all_activations()) {
    const Problem problem{100, 80, 1, DType::bf16, a.activation, a.gated};
    Layer layer = gaussian_layer(problem, false, rng);
    std::vector<float> x = gaussian_input(problem, rng);
    const Weights clean = layer.pack();
    layer.down[static_cast<std::size_t>(12 * 80 + 33)] = kNaN;
    const Weights poisoned = layer.pack();
    for (const Plan& plan : all_plans(problem, 64)) {
      INFO(describe(problem), " ", label(plan));
      CHECK(std::bit_cast<std::uint32_t>(run(poisoned, plan, x, cpu::supported_isas().back())[12]) == 0x7fc00000u);
      std::vector<float> bad = x;
      bad[50] = kNaN;
      for (const float v : run(clean, plan, bad, cpu::supported_isas().back())) {
        CHECK(std::bit_cast<std::uint32_t>(v) == 0x7fc00000u);
      }
    }
  }
}

TEST_CASE("a dead unit with an infinite row of W2 is not skipped: 0 times infinity shows") {
  Layer layer;
  layer.problem = {1, 2, 1, DType::f32, {ActivationKind::relu}, false};
  layer.up = {1.0f, -1.0f};    // unit 1 is dead for x = 1
  layer.down = {2.0f, kInf};
  const Weights w = layer.pack();
  for (const Plan& plan : all_plans(layer.problem, 0)) {
    INFO(label(plan));
    CHECK(std::isnan(run(w, plan, {1.0f}, cpu::Isa::scalar)[0]));
  }
}

TEST_CASE("an output whose products underflow from below is +0") {
  Layer layer;
  layer.problem = {1, 2, 1, DType::f32, {ActivationKind::relu}, false};
  layer.up = {1e-30f, 1e-30f};
  layer.down = {-1e-30f, -1e-30f};  // h · w2 = -1e-60, rounded to -0
  const Weights w = layer.pack();
  for (const Plan& plan : all_plans(layer.problem, 0)) {
    INFO(label(plan));
    CHECK(std::bit_cast<std::uint32_t>(run(w, plan, {1.0f}, cpu::supported_isas().back())[0]) == 0u);
  }
}

TEST_CASE("a closed gate hides a finite overflow of the up value, in every schedule") {
  Layer layer;
  layer.problem = {2, 2, 1, DType::f32, {ActivationKind::relu}, true};
  layer.gate = {-1.0f, 0.0f, 1.0f, 0.0f};
  layer.up = {3e38f, 3e38f, 1.0f, 1.0f};  // unit 0 overflows to infinity, behind a closed gate
  layer.down = {1.0f, 1.0f, 1.0f, 2.0f};
  check_canonical(layer, {2.0f, 2.0f});
  const Weights w = layer.pack();
  for (const Plan& plan : all_plans(layer.problem, 64)) {
    INFO(label(plan));
    CHECK(run(w, plan, {2.0f, 2.0f}, cpu::Isa::scalar) == std::vector<float>{8.0f, 16.0f});
  }
}

TEST_CASE("streams that overflow where z does not are redone") {
  Layer layer;
  layer.problem = {256, 1, 1, DType::f32, {ActivationKind::relu}, false};
  layer.up.assign(256, 0.0f);
  layer.up[0] = 3e38f;      // four K tiles of 64; in canonical order the terms of a partial sum cancel, but the
  layer.up[64] = -3e38f;    // positive tiles add up to infinity
  layer.up[129] = 3e38f;
  layer.up[193] = -2.9e38f;
  layer.down.assign(256, 0.0f);
  layer.down[0] = 1e-30f;
  const std::vector<float> x(256, 1.0f);
  const Weights w = layer.pack();
  const float expected = run(w, default_plan(layer.problem, Strategy::row_fused), x, cpu::Isa::scalar)[0];
  CHECK(expected > 9e6f);
  CHECK(expected < 1.1e7f);
  const float rounding = 8.0f * 0x1p-24f * 3e8f;  // at most 8 additions to sums of at most 3e38·1e-30
  for (const Plan& plan : all_plans(layer.problem, 64)) {
    if (plan.variant == Variant::ignore) continue;
    for (const cpu::Isa isa : cpu::supported_isas()) {
      const float got = run(w, plan, x, isa)[0];
      INFO(label(plan), " ", cpu::to_string(isa), " got ", got);
      CHECK(std::fabs(got - expected) <= rounding);
    }
  }
}

TEST_CASE("zeros: −0 never comes out of a sum, dead layers give +0, −0 biases are kept as IEEE 754 adds them") {
  Layer layer;
  layer.problem = {3, 5, 1, DType::f32, {ActivationKind::relu}, false};
  layer.up.assign(15, -1.0f);
  layer.down.assign(15, -1.0f);
  check_canonical(layer, {1.0f, 1.0f, 1.0f});
  const Weights w = layer.pack();
  for (const Plan& plan : all_plans(layer.problem, 64)) {
    for (const float v : run(w, plan, {1.0f, 1.0f, 1.0f}, cpu::Isa::scalar)) CHECK(std::bit_cast<std::uint32_t>(v) == 0u);
  }
  layer.down_bias = {-0.0f, 0.0f, 1.0f};
  check_canonical(layer, {1.0f, 1.0f, 1.0f});
  check_canonical(layer, {-0.0f, 0.0f, -0.0f});
}

TEST_CASE("subnormal weights, inputs and results keep their bits, also when products underflow to −0") {
  std::mt19937_64 rng(seed() + 2);
  std::uniform_int_distribution<std::uint32_t> tiny(0, 0x00ffffffu);
  for (const ActivationCase& a : all_activations()) {
    const Problem problem{130, 70, 1, DType::f32, a.activation, a.gated};
    const auto draw = [&] { return static_cast<double>(std::bit_cast<float>(tiny(rng) | (rng() % 2 == 0 ? 0x80000000u : 0u))); };
    Layer layer = make_layer(problem, true, draw);
    std::vector<float> x(130);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? static_cast<float>(draw()) : 1.5f;
    check_canonical(layer, x);
    for (float& v : layer.up) v *= 1e30f;
    check_canonical(layer, x);
  }
}

#if defined(__SSE2__)
TEST_CASE("the caller's flush-to-zero and rounding modes are not used, and are put back") {
  std::mt19937_64 rng(seed() + 3);
  const Problem problem{130, 70, 1, DType::f32, {ActivationKind::relu}, false};
  Layer layer = gaussian_layer(problem, true, rng);
  for (float& v : layer.up) v *= 1e-38f;
  for (float& v : layer.up_bias) v *= 1e-38f;
  const std::vector<float> x = gaussian_input(problem, rng);
  const Weights w = layer.pack();
  const Plan plan = default_plan(problem, Strategy::row_fused);
  const std::vector<float> expected = canonical_ffn(layer, plan, x);
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040u | 0x6000u);  // flush to zero, subnormals are zero, round toward zero
  const unsigned changed = _mm_getcsr();
  auto ffn = cpu::Ffn::create(w, plan, 1, {2, {}});
  std::vector<float> y(130);
  const Status status = ffn->run(x, y);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(saved);
  REQUIRE(status);
  CHECK(same_bits(y, expected));
  CHECK((after & 0xe040u) == (changed & 0xe040u));
}
#endif

struct Masked {
  std::vector<std::uint8_t> mask;
  Statistics statistics;
};
Masked run_masked(const Weights& w, const Plan& plan, const std::vector<float>& x, index_t batch, bool exact) {
  auto ffn = cpu::Ffn::create(w, plan, batch, {2, {}, exact});
  REQUIRE_MESSAGE(ffn, ffn.message());
  Masked masked{std::vector<std::uint8_t>(static_cast<std::size_t>(batch * w.d_ff()), 7), {}};
  std::vector<float> y(x.size());
  REQUIRE(ffn->run(x, y, masked.mask));
  masked.statistics = ffn->report().statistics;
  return masked;
}

TEST_CASE("exact_mask leaves alone what has no real value: a token that is not finite beside one that is, and rows that are not") {
  std::mt19937_64 rng(seed() + 8);
  for (const ActivationCase& a : all_activations()) {
    const Problem problem{130, 40, 2, DType::f32, a.activation, a.gated};
    Layer layer = gaussian_layer(problem, true, rng);
    layer.up[static_cast<std::size_t>(5 * 130 + 3)] = kInf;
    if (a.gated) layer.gate[static_cast<std::size_t>(6 * 130 + 3)] = kNaN;
    const Weights w = layer.pack();
    std::vector<float> x = gaussian_input(problem, rng);
    const auto bad = static_cast<std::size_t>(rng() % 2);
    x[bad * 130 + 7] = rng() % 2 == 0 ? kInf : kNaN;
    for (const Plan& plan : all_plans(problem, 64)) {
      if (plan.strategy == Strategy::sign_split) continue;
      INFO(describe(problem), " ", label(plan), ", token ", bad);
      const Masked plain = run_masked(w, plan, x, 2, false), exact = run_masked(w, plan, x, 2, true);
      CHECK(std::equal(exact.mask.begin() + static_cast<std::ptrdiff_t>(bad * 40), exact.mask.begin() + static_cast<std::ptrdiff_t>(bad * 40 + 40),
                       plain.mask.begin() + static_cast<std::ptrdiff_t>(bad * 40)));
      for (const std::size_t unit : {5u, 6u}) {
        if (unit == 6 && !a.gated) continue;
        CHECK(exact.mask[(1 - bad) * 40 + unit] == plain.mask[(1 - bad) * 40 + unit]);
      }
      CHECK(exact.statistics.rechecked <= 2);  // by chance, of the finite token
    }
  }
}

TEST_CASE("exact_mask settles sums that overflow in f32 and not in real numbers: the gate's, and drelu's up value") {
  const Problem problem{128, 2, 1, DType::f32, {ActivationKind::drelu}, true};
  Layer layer;
  layer.problem = problem;
  layer.gate.assign(256, 0.0f);
  layer.up.assign(256, 0.0f);
  layer.down.assign(256, 1.0f);
  for (const std::size_t row : {0u, 128u}) {
    std::vector<float>&overflows = row == 0 ? layer.up : layer.gate, &other = row == 0 ? layer.gate : layer.up;
    other[row] = 1.0f;
    overflows[row] = overflows[row + 64] = 3e38f;  // in one partial sum: infinity
    for (const std::size_t k : {1u, 2u, 3u}) overflows[row + k] = -3e38f;
  }
  const Weights w = layer.pack();
  const std::vector<float> x(128, 1.0f);
  for (const Plan& plan : all_plans(problem, 64)) {
    if (plan.strategy == Strategy::sign_split) continue;
    INFO(label(plan));
    CHECK(run_masked(w, plan, x, 1, false).mask == std::vector<std::uint8_t>{1, 1});
    CHECK(run_masked(w, plan, x, 1, true).mask == std::vector<std::uint8_t>{0, 0});
  }
}

TEST_CASE("exact_mask asks with the token's own norm, about drelu's up value as about the gate") {
  const Problem problem{192, 2, 2, DType::f32, {ActivationKind::drelu}, true};
  Layer layer;
  layer.problem = problem;
  layer.gate.assign(2 * 192, 0.0f);
  layer.up.assign(2 * 192, 0.0f);
  layer.down.assign(192 * 2, 1.0f);
  for (const std::size_t row : {0u, 192u}) {
    std::vector<float>&lost = row == 0 ? layer.up : layer.gate, &other = row == 0 ? layer.gate : layer.up;
    other[row] = 0x1p20f;  // beyond its own doubt
    lost[row] = 0x1p25f;  // 2^25 + 1 - 2^25 in one partial sum: 0 in f32
    lost[row + 64] = 1.0f;
    lost[row + 128] = -0x1p25f;
  }
  const Weights w = layer.pack();
  for (const std::size_t bright : {0u, 1u}) {  // the other token is zero, and so is its norm
    std::vector<float> x(2 * 192, 0.0f);
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(bright * 192), 192, 1.0f);
    for (const Plan& plan : all_plans(problem, 64)) {
      if (plan.strategy == Strategy::sign_split) continue;
      INFO(label(plan), " ", bright);
      std::vector<std::uint8_t> expected(4, 0);
      CHECK(run_masked(w, plan, x, 2, false).mask == expected);
      expected[bright * 2] = expected[bright * 2 + 1] = 1;
      CHECK(run_masked(w, plan, x, 2, true).mask == expected);
    }
  }
}

TEST_CASE("rows that exact_mask reads again are counted with their scales") {
  for (const index_t group : {0, 64}) {
    const Problem problem{192, 3, 1, DType::int8, {ActivationKind::relu}, false, group};
    Layer layer = make_layer(problem, false, [] { return 1.0; });
    for (std::size_t k = 0; k < 3 * 192; ++k) layer.up[k] = k % 192 < 96 ? 1.0f : -1.0f;  // z is 0: in doubt
    const Weights w = layer.pack();
    const std::vector<float> x(192, 1.0f);
    const Plan plan = default_plan(problem, Strategy::row_fused);
    const Masked plain = run_masked(w, plan, x, 1, false), exact = run_masked(w, plan, x, 1, true);
    CHECK(exact.statistics.rechecked == 3);
    CHECK(exact.statistics.bytes_up_again == 3 * 192);
    CHECK(exact.statistics.bytes_up == plain.statistics.bytes_up + 3 * 192);
    CHECK(exact.statistics.bytes_scales == plain.statistics.bytes_scales + 3 * 2 * (group == 0 ? 1 : 3));
  }
}

}  // namespace
