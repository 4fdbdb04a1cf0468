// The exact reference against integer arithmetic, and against an expansion of every product into exact terms summed by
// BigFixed: it shares no sum, no splitting and no rounding with core/.
#include "signsplit/reference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "big_fixed.hpp"
#include "real_activation.hpp"
#include "seed.hpp"
#include "small_layer.hpp"

using namespace signsplit;
using signsplit::test::BigFixed;
using signsplit::test::LayerShape;
using signsplit::test::make_layer;
using signsplit::test::SmallLayer;

namespace {

using Terms = std::vector<double>;  // an exact sum, not evaluated
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

BigFixed evaluate(const Terms& terms) {
  BigFixed sum;
  for (const double term : terms) sum.add(term);
  return sum;
}

// a·b as a sum, from error-free products.
Terms multiply(const Terms& a, const Terms& b) {
  Terms result;
  for (const double left : a) {
    for (const double right : b) {
      result.push_back(left * right);
      result.push_back(std::fma(left, right, -result.back()));
    }
  }
  return result;
}

Terms pre_activation(std::span<const float> x, std::span<const float> row, const std::vector<float>& bias, std::size_t j) {
  Terms terms;
  for (std::size_t k = 0; k < x.size(); ++k) terms.push_back(static_cast<double>(x[k]) * static_cast<double>(row[k]));
  if (!bias.empty()) terms.push_back(static_cast<double>(bias[j]));
  return terms;
}

bool above(const Terms& z, float threshold) {
  BigFixed difference = evaluate(z);
  difference.add(-static_cast<double>(threshold));
  return difference.sign() > 0;
}

// Finite data, exponents near zero.
ReferenceResult expand(const SmallLayer& layer, std::span<const float> x, ReferenceMode mode) {
  const auto d = static_cast<std::size_t>(layer.d), f = static_cast<std::size_t>(layer.f);
  const Activation a = layer.activation;
  ReferenceResult result;
  std::vector<Terms> units;
  for (std::size_t j = 0; j < f; ++j) {
    const Terms up = pre_activation(x, std::span(layer.up).subspan(j * d, d), layer.up_bias, j);
    const Terms gate = layer.gated() ? pre_activation(x, std::span(layer.gate).subspan(j * d, d), layer.gate_bias, j) : up;
    const float threshold = a.kind == ActivationKind::fatrelu ? a.threshold : 0.0f;
    bool open = a.kind == ActivationKind::identity || above(gate, threshold);
    if (a.kind == ActivationKind::drelu) open = open && above(up, 0.0f);
    const float z = evaluate(gate).to_float(), u = evaluate(up).to_float();
    Terms h;
    if (mode == ReferenceMode::staged) {
      h = {static_cast<double>(layer.gated() ? activate_gated(a, z, u, false) : activate(a, z))};
    } else if (open) {
      h = a.kind == ActivationKind::relu2 ? multiply(gate, gate) : gate;
      if (layer.gated()) h = multiply(h, up);
    }
    result.z.push_back(z);
    result.h.push_back(evaluate(h).to_float());
    result.active.push_back(open ? 1 : 0);
    units.push_back(h);
  }
  for (std::size_t column = 0; column < d; ++column) {
    BigFixed y;
    for (std::size_t j = 0; j < f; ++j) {
      const auto weight = static_cast<double>(layer.down_at(static_cast<index_t>(j), static_cast<index_t>(column)));
      for (const double term : units[j]) y.add_product(term, weight);
    }
    if (!layer.down_bias.empty()) y.add(static_cast<double>(layer.down_bias[column]));
    result.y.push_back(y.to_float() + 0.0f);
  }
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return false;
  }
  return true;
}

bool same(const ReferenceResult& a, const ReferenceResult& b) {
  return same_bits(a.y, b.y) && same_bits(a.z, b.z) && same_bits(a.h, b.h) && a.active == b.active;
}

ReferenceResult run(const SmallLayer& layer, const std::vector<float>& x, ReferenceMode mode, int threads = 1) {
  const Weights weights = layer.pack();
  auto result = reference(weights, x, static_cast<index_t>(x.size()) / layer.d, mode, threads);
  REQUIRE(result.ok());
  return std::move(*result);
}

std::mt19937_64 generator() { return std::mt19937_64(signsplit::test::seed()); }

std::vector<float> draw_many(index_t count, const std::function<float()>& draw) {
  std::vector<float> values;
  for (index_t i = 0; i < count; ++i) values.push_back(draw());
  return values;
}

struct Kind {
  Activation activation;
  bool gated;
};
const std::vector<Kind> kKinds = {{{ActivationKind::identity}, false}, {{ActivationKind::relu}, false},
                                  {{ActivationKind::relu2}, false},    {{ActivationKind::fatrelu, 0.5f}, false},
                                  {{ActivationKind::identity}, true},  {{ActivationKind::relu}, true},
                                  {{ActivationKind::relu2}, true},     {{ActivationKind::fatrelu, 0.5f}, true},
                                  {{ActivationKind::drelu}, true}};

constexpr auto kModes = {ReferenceMode::staged, ReferenceMode::composite};

}  // namespace

TEST_CASE("small layers: every activation, both modes, three dtypes, against the expansion") {
  auto random = generator();
  std::normal_distribution<float> normal;
  const auto draw = [&] { return std::ldexp(normal(random), static_cast<int>(random() % 16) - 8); };
  for (const Kind& kind : kKinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const bool biased : {false, true}) {
        const index_t d = 1 + static_cast<index_t>(random() % 7), f = 1 + static_cast<index_t>(random() % 9);
        const SmallLayer layer = make_layer({d, f, kind.activation, kind.gated, biased, dtype}, draw);
        const auto x = draw_many(d, draw);
        for (const ReferenceMode mode : kModes) CHECK(same(run(layer, x, mode), expand(layer, x, mode)));
      }
    }
  }
}

TEST_CASE("cancellation: pre-activations that f32 cannot tell from zero") {
  auto random = generator();
  for (int round = 0; round < 20; ++round) {
    SmallLayer layer{.d = 3, .f = 2, .activation = {ActivationKind::relu}};
    const float big = std::ldexp(1.0f, 10 + static_cast<int>(random() % 10));
    const float tiny = std::ldexp(random() % 2 == 0 ? 1.0f : -1.0f, -40 - static_cast<int>(random() % 20));
    layer.up = {big, -big, tiny, -big, big, tiny};
    layer.down = {1.0f, 2.0f, -3.0f, 4.0f, 0x1p60f, -0x1p60f};
    const std::vector<float> x{1.0f, 1.0f, 1.0f};
    for (const ReferenceMode mode : kModes) {
      const auto result = run(layer, x, mode);
      CHECK(same(result, expand(layer, x, mode)));
      CHECK(result.active == std::vector<std::uint8_t>(2, tiny > 0.0f ? 1 : 0));
    }
  }
}

TEST_CASE("composite: products of many-bit activations cancel without a trace") {
  auto random = generator();
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const int spread = dtype == DType::f16 ? 8 : 20;  // f16 ends at 2^16
    const auto draw = [&] { return std::ldexp(normal(random), static_cast<int>(random() % 40) * spread / 20 - spread); };
    for (int round = 0; round < 20; ++round) {
      SmallLayer layer = make_layer({12, 3, {ActivationKind::identity}, false, false, dtype}, draw);
      std::copy_n(layer.up.begin(), 12, layer.up.begin() + 12);  // three times the same unit
      std::copy_n(layer.up.begin(), 12, layer.up.begin() + 24);
      for (std::size_t c = 0; c < 12; ++c) {  // w − w' − w" = 0, in numbers that use all bits of the dtype
        const std::array<float, 3> row = dtype == DType::bf16 ? std::array{255.0f, -170.0f, -85.0f}
                                          : dtype == DType::f16 ? std::array{2047.0f, -1365.0f, -682.0f}
                                                                : std::array{0x.ffffffp24f, -0x.aaaaaap24f, -0x.555555p24f};
        std::copy(row.begin(), row.end(), layer.down.begin() + static_cast<std::ptrdiff_t>(3 * c));
      }
      CHECK(same_bits(run(layer, draw_many(12, draw), ReferenceMode::composite).y, std::vector<float>(12, 0.0f)));
    }
  }
}

TEST_CASE("integer data: both modes are plain integer arithmetic") {
  auto random = generator();
  const auto draw = [&] { return static_cast<float>(static_cast<int>(random() % 9) - 4); };
  for (const Kind& kind : {Kind{{ActivationKind::relu}, false}, Kind{{ActivationKind::relu}, true}}) {
    const index_t d = 130, f = 37, batch = 3;  // more than one block of columns, with a tail
    const SmallLayer layer = make_layer({d, f, kind.activation, kind.gated, true, DType::bf16}, draw);
    const auto x = draw_many(batch * d, draw);
    std::vector<float> expected;
    for (index_t b = 0; b < batch; ++b) {
      std::vector<long> y(layer.down_bias.begin(), layer.down_bias.end());
      for (index_t j = 0; j < f; ++j) {
        const auto at = static_cast<std::size_t>(j);
        long up = static_cast<long>(layer.up_bias[at]), gate = kind.gated ? static_cast<long>(layer.gate_bias[at]) : 0;
        for (index_t k = 0; k < d; ++k) {
          const long value = static_cast<long>(x[static_cast<std::size_t>(b * d + k)]);
          up += value * static_cast<long>(layer.up_at(j, k));
          if (kind.gated) gate += value * static_cast<long>(layer.gate_at(j, k));
        }
        const long h = kind.gated ? std::max(gate, 0L) * up : std::max(up, 0L);
        for (index_t c = 0; c < d; ++c) y[static_cast<std::size_t>(c)] += h * static_cast<long>(layer.down_at(j, c));
      }
      for (const long value : y) {
        REQUIRE(std::abs(value) < (1L << 24));
        expected.push_back(static_cast<float>(value));
      }
    }
    const auto staged = run(layer, x, ReferenceMode::staged), composite = run(layer, x, ReferenceMode::composite);
    CHECK(same_bits(staged.y, expected));
    CHECK(same(staged, composite));
    for (const int threads : {2, 3, 7, 0}) CHECK(same(staged, run(layer, x, ReferenceMode::staged, threads)));
  }
}

TEST_CASE("the threshold of fatrelu is met exactly, by the real number") {
  SmallLayer layer{.d = 1, .f = 3, .activation = {ActivationKind::fatrelu, 1.0f}};
  layer.up = {1.0f, 1.0f, 1.0f};
  layer.up_bias = {0.0f, 0x1p-40f, -0x1p-40f};  // z = 1, just above, just below: all round to 1
  layer.down = {1.0f, 1.0f, 1.0f};
  const auto staged = run(layer, {1.0f}, ReferenceMode::staged), composite = run(layer, {1.0f}, ReferenceMode::composite);
  CHECK(staged.active == std::vector<std::uint8_t>{0, 1, 0});
  CHECK(composite.active == std::vector<std::uint8_t>{0, 1, 0});
  CHECK(staged.h == std::vector<float>{0.0f, 0.0f, 0.0f});  // of the rounded z, which is not above t
  CHECK(composite.h == std::vector<float>{0.0f, 1.0f, 0.0f});
}

TEST_CASE("non-finite values show as IEEE 754 has them") {
  const auto is_canonical_nan = [](float v) { return std::bit_cast<std::uint32_t>(v) == 0x7fc00000u; };
  for (const ReferenceMode mode : kModes) {
    SmallLayer layer{.d = 2, .f = 2, .activation = {ActivationKind::relu}};
    layer.up = {1.0f, 0.0f, -1.0f, 0.0f};
    layer.down = {1.0f, 1.0f, 0.0f, 1.0f};
    for (const float v : run(layer, {kNan, 0.0f}, mode).y) CHECK(is_canonical_nan(v));
    for (const float v : run(layer, {0.0f, kInfinity}, mode).y) CHECK(is_canonical_nan(v));  // ∞ · 0
    layer.up = {1.0f, 2.0f, -1.0f, -3.0f};
    const auto open = run(layer, {kInfinity, 1.0f}, mode);  // h = ∞, 0
    CHECK(open.y[0] == kInfinity);
    CHECK(is_canonical_nan(open.y[1]));  // ∞ · 0
    CHECK(open.active == std::vector<std::uint8_t>{1, 0});
    layer.down[3] = kInfinity;  // W2[1][1], of the closed unit: 0 · ∞ is not skipped
    const auto closed = run(layer, {1.0f, 1.0f}, mode);
    CHECK(closed.y[0] == 3.0f);
    CHECK(is_canonical_nan(closed.y[1]));
  }
}

TEST_CASE("a closed gate hides a finite up value, not an infinite weight") {
  const float most = std::numeric_limits<float>::max();
  for (const ReferenceMode mode : kModes) {
    SmallLayer layer{.d = 1, .f = 1, .activation = {ActivationKind::relu}};
    layer.up = {most};
    layer.gate = {-1.0f};
    layer.down = {1.0f};
    CHECK(same_bits(run(layer, {2.0f}, mode).y, {0.0f}));  // up overflows
    layer.up = {kInfinity};
    CHECK(std::isnan(run(layer, {2.0f}, mode).y[0]));
    layer.activation = {ActivationKind::drelu};
    layer.up = {-1.0f};
    layer.gate = {1.0f};
    CHECK(run(layer, {2.0f}, mode).active[0] == 0);
  }
}

TEST_CASE("overflow happens at the one rounding, and not before it in composite") {
  SmallLayer layer{.d = 1, .f = 1, .activation = {ActivationKind::relu}};
  layer.up = {std::numeric_limits<float>::max()};
  layer.down = {0x1p-100f};
  CHECK(run(layer, {4.0f}, ReferenceMode::staged).y[0] == kInfinity);
  CHECK(run(layer, {4.0f}, ReferenceMode::composite).y[0] == std::ldexp(std::numeric_limits<float>::max(), -98));
  layer.activation = {ActivationKind::relu2};
  layer.up = {0x1p-149f};
  layer.down = {0x1p127f};
  CHECK(run(layer, {0x1p20f}, ReferenceMode::composite).y[0] == 0x1p-131f);
  layer.down = {-0x1p-149f};
  CHECK(same_bits(run(layer, {0x1p20f}, ReferenceMode::composite).y, {0.0f}));  // never −0
}

TEST_CASE("gelu, gelu_tanh and silu: staged h is the correctly rounded one of z; there is no composite") {
  std::mt19937_64 rng(test::seed() + 9);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  for (const auto kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
    for (const bool gated : {false, true}) {
      SmallLayer layer = make_layer({9, 40, {kind}, gated, true}, [&] { return normal(rng); });
      std::vector<float> x(9);
      for (float& v : x) v = 3.0f * normal(rng);
      const ReferenceResult staged = run(layer, x, ReferenceMode::staged);
      layer.activation = {ActivationKind::identity};
      layer.gate.clear();
      layer.gate_bias.clear();
      const std::vector<float> up = run(layer, x, ReferenceMode::staged).z;
      for (std::size_t j = 0; j < 40; ++j) {
        const float act = rounded_activation(kind, staged.z[j]);
        CHECK(staged.h[j] == (gated ? act * up[j] : act));
        CHECK(staged.active[j] == 1);
      }
      layer.activation = {kind};
      CHECK(sharpest_mode({kind}) == ReferenceMode::staged);
      CHECK(reference(layer.pack(), x, 1, ReferenceMode::composite).message().find("use staged for activation") != std::string::npos);
    }
  }
}

TEST_CASE("wrong arguments are refused in words") {
  const SmallLayer layer = make_layer({2, 3, {}, false, false}, [] { return 1.0f; });
  const Weights weights = layer.pack();
  const std::vector<float> x(3);
  CHECK(reference(weights, x, 1, ReferenceMode::staged).status().code() == StatusCode::invalid_argument);
  CHECK(reference(weights, x, 1, ReferenceMode::staged).message().find("(got 3)") != std::string::npos);
  CHECK(reference(weights, {}, 0, ReferenceMode::staged).status().code() == StatusCode::invalid_argument);
}

TEST_CASE("ulp_distance counts floats") {
  CHECK(ulp_distance(1.0f, 1.0f) == 0);
  CHECK(ulp_distance(-0.0f, 0.0f) == 0);
  CHECK(ulp_distance(kNan, -kNan) == 0);
  CHECK(ulp_distance(kNan, 1.0f) == std::numeric_limits<std::uint64_t>::max());
  CHECK(ulp_distance(kInfinity, kNan) == std::numeric_limits<std::uint64_t>::max());
  CHECK(ulp_distance(1.0f, std::nextafter(1.0f, 2.0f)) == 1);
  CHECK(ulp_distance(0x1p-149f, -0x1p-149f) == 2);
  CHECK(ulp_distance(std::numeric_limits<float>::max(), kInfinity) == 1);
  CHECK(ulp_distance(-kInfinity, kInfinity) == 2u * 0x7f800000u);
}

TEST_CASE("the checks can fail") {
  auto random = generator();
  std::normal_distribution<float> normal;
  const auto draw = [&] { return normal(random); };
  SmallLayer layer = make_layer({5, 6, {ActivationKind::identity}, false, false}, draw);
  const auto x = draw_many(5, draw);
  const auto right = run(layer, x, ReferenceMode::composite);
  CHECK(same(right, expand(layer, x, ReferenceMode::composite)));
  auto wrong = right;
  wrong.y[4] = std::nextafter(wrong.y[4], 9.0f);  // one element, by one ulp
  CHECK_FALSE(same(wrong, right));
  wrong = right;
  wrong.y[0] = kNan;
  CHECK_FALSE(same(wrong, right));
  wrong = right;
  wrong.h[3] = -wrong.h[3];
  CHECK_FALSE(same(wrong, right));
  wrong = right;
  wrong.active[5] ^= 1;
  CHECK_FALSE(same(wrong, right));
  wrong = right;
  wrong.y.pop_back();
  CHECK_FALSE(same(wrong, right));
  layer.up.back() = 0.0f;  // a tail of the row dropped
  CHECK_FALSE(same(right, expand(layer, x, ReferenceMode::composite)));
}
