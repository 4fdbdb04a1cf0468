// error_bound() against executions of every schedule in plain f32, written here from the definition of the canonical
// orders: they must stay inside, and damaged ones must fall outside.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "seed.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/walk.hpp"
#include "small_layer.hpp"

using namespace signsplit;
using signsplit::test::make_layer;
using signsplit::test::SmallLayer;

namespace {

using Floats = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// What a damaged execution does wrong.
enum class Damage { none, last_unit_dropped, k_tail_dropped, repair_dropped };

struct Sums {
  float z = 0.0f, s = 0.0f;  // Σ x·w and Σ |x·w|
};

// One f32 execution of a plan for one token.
class Execution {
 public:
  Execution(const SmallLayer& layer, const Plan& plan, std::span<const float> x, Damage damage)
      : layer_(layer), plan_(plan), x_(x), damage_(damage),
        shape_{round_up(layer.d, kAccumulators), layer.f} {}

  Floats run() {
    std::vector<Floats> parts;
    for (index_t p = 0; p < plan_.parts; ++p) {
      y_.assign(static_cast<std::size_t>(layer_.d), 0.0f);
      const HiddenRange range = part_range(plan_, shape_, p);
      for (index_t j = range.begin; j < range.end; ++j) {
        if (damage_ == Damage::last_unit_dropped && j + 1 == layer_.f) continue;
        plan_.strategy == Strategy::sign_split ? split_unit(j) : push(j, hidden(total(layer_.up, layer_.up_bias, j), j));
      }
      parts.push_back(y_);
    }
    return reduce(parts);
  }

 private:
  void push(index_t j, float coefficient) {
    for (index_t c = 0; c < layer_.d; ++c) {
      float& y = y_[static_cast<std::size_t>(c)];
      y = std::fma(coefficient, layer_.down_at(j, c), y);
    }
  }

  [[nodiscard]] Floats reduce(std::vector<Floats>& parts) const {
    Floats y;
    for (std::size_t c = 0; c < static_cast<std::size_t>(layer_.d); ++c) {
      for (std::size_t stride = 1; stride < parts.size(); stride *= 2) {
        for (std::size_t i = 0; i + stride < parts.size(); i += 2 * stride) parts[i][c] += parts[i + stride][c];
      }
      const float sum = parts[0][c] + 0.0f;
      y.push_back(layer_.down_bias.empty() ? sum : sum + layer_.down_bias[c]);
    }
    return y;
  }

  // The canonical sum over [begin, end) of the padded row, with partials of its own.
  [[nodiscard]] Sums range_sum(const Floats& matrix, index_t j, index_t begin, index_t end) const {
    Floats z(64, 0.0f), s(64, 0.0f);
    for (index_t k = begin; k < std::min(end, layer_.d - (damage_ == Damage::k_tail_dropped ? 1 : 0)); ++k) {
      const float x = x_[static_cast<std::size_t>(k)], w = matrix[static_cast<std::size_t>(j * layer_.d + k)];
      const auto p = static_cast<std::size_t>(k % 64);
      z[p] = std::fma(x, w, z[p]);
      s[p] = std::fma(std::abs(x), std::abs(w), s[p]);
    }
    for (std::size_t half = 32; half > 0; half /= 2) {
      for (std::size_t p = 0; p < half; ++p) {
        z[p] += z[p + half];
        s[p] += s[p + half];
      }
    }
    return {z[0], s[0]};
  }

  [[nodiscard]] Sums tile(const Floats& matrix, const Floats& bias, index_t j, index_t t) const {
    const KRange k = k_range(plan_, shape_, t);
    Sums sums = range_sum(matrix, j, k.begin, k.end);
    if (t == 0 && !bias.empty()) sums.z += bias[static_cast<std::size_t>(j)];
    return sums;
  }

  [[nodiscard]] float total(const Floats& matrix, const Floats& bias, index_t j) const {
    const float z = range_sum(matrix, j, 0, shape_.d_padded).z;
    return bias.empty() ? z : z + bias[static_cast<std::size_t>(j)];
  }

  // h from the sum of the up row so far; the gate's sum is worked out here, or given.
  [[nodiscard]] float hidden(float up, index_t j) const {
    if (!layer_.gated()) return activate(layer_.activation, up);
    return activate_gated(layer_.activation, total(layer_.gate, layer_.gate_bias, j), up, false);
  }

  void split_unit(index_t j) {
    if (plan_.variant == Variant::telescoping) return telescoping_unit(j);
    const bool streams = plan_.variant == Variant::streams;
    float pushed = 0.0f, positive = 0.0f, negative = 0.0f;
    for (index_t t = 0; t < k_tile_count(plan_, shape_); ++t) {
      const Sums sums = tile(layer_.up, layer_.up_bias, j, t);
      const float p = streams ? std::max(0.5f * (sums.s + sums.z), 0.0f) : std::max(sums.z, 0.0f);
      positive += p;
      negative += sums.z - p;
      const float coefficient = activate(layer_.activation, streams ? p : sums.z);
      pushed += coefficient;
      push(j, coefficient);
    }
    if (plan_.variant != Variant::ignore && damage_ != Damage::repair_dropped) repair(j, pushed, positive, negative);
  }

  void repair(index_t j, float pushed, float positive, float negative) {
    float z = positive + negative;
    if (plan_.repair == Repair::redo) z = total(layer_.up, layer_.up_bias, j);
    if (layer_.activation.kind == ActivationKind::relu && plan_.repair != Repair::redo) {
      push(j, z > 0.0f ? negative : -positive);
    } else {
      push(j, activate(layer_.activation, z) - pushed);
    }
  }

  void telescoping_unit(index_t j) {
    float up = 0.0f, gate = 0.0f, last = 0.0f;
    for (index_t t = 0; t < k_tile_count(plan_, shape_); ++t) {
      up += tile(layer_.up, layer_.up_bias, j, t).z;
      if (layer_.gated()) gate += tile(layer_.gate, layer_.gate_bias, j, t).z;
      const float now = layer_.gated() ? activate_gated(layer_.activation, gate, up, false) : activate(layer_.activation, up);
      push(j, now - last);
      last = now;
    }
  }

  const SmallLayer& layer_;
  const Plan& plan_;
  std::span<const float> x_;
  Damage damage_;
  WalkShape shape_;
  Floats y_;
};

// The check itself. The reference is y rounded to f32: its rounding is added to the bound.
bool inside(const Floats& y, const ReferenceResult& exact, const std::vector<double>& bound) {
  if (y.size() != exact.y.size() || y.size() != bound.size()) return false;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto reference = static_cast<double>(exact.y[i]);
    const double rounding = std::abs(reference) * 0x1p-24 + 0x1p-149;
    if (!(std::abs(static_cast<double>(y[i]) - reference) <= bound[i] + rounding)) return false;
  }
  return true;
}

struct Case {
  SmallLayer layer;
  Weights weights;
  Floats x;
  ReferenceResult exact;

  Case(SmallLayer l, Floats input)
      : layer(std::move(l)), weights(layer.pack()), x(std::move(input)),
        exact(std::move(reference(weights, x, 1, ReferenceMode::composite).value())) {}

  [[nodiscard]] std::vector<double> bound(const Plan& plan) const {
    auto result = error_bound(plan, weights, x, 1);
    REQUIRE_MESSAGE(result.ok(), result.message());
    return std::move(*result);
  }
  [[nodiscard]] Floats execute(const Plan& plan, Damage damage = Damage::none) const {
    return Execution(layer, plan, x, damage).run();
  }
  [[nodiscard]] bool stays_inside(const Plan& plan, Damage damage = Damage::none) const {
    return inside(execute(plan, damage), exact, bound(plan));
  }
};

std::vector<Plan> plans(bool gated, index_t d, index_t f) {
  std::vector<Plan> result;
  const auto add = [&](Strategy strategy, Variant variant, Repair repair) {
    for (const index_t parts : {index_t{1}, std::min(f, index_t{3}), std::min(f, index_t{8})}) {
      for (const index_t k_tile : {index_t{0}, index_t{64}, index_t{128}}) {
        if (k_tile > round_up(d, 64)) continue;
        result.push_back({.strategy = strategy, .variant = variant, .repair = repair, .parts = parts, .k_tile = k_tile});
      }
    }
  };
  add(Strategy::row_fused, Variant::none, Repair::none);
  add(Strategy::unfused, Variant::none, Repair::none);
  add(Strategy::sign_split, Variant::telescoping, Repair::none);
  if (gated) return result;
  for (const Repair repair : {Repair::selective, Repair::full, Repair::redo}) {
    add(Strategy::sign_split, Variant::interim, repair);
    add(Strategy::sign_split, Variant::streams, repair);
  }
  add(Strategy::sign_split, Variant::ignore, Repair::none);
  return result;
}

struct Kind {
  Activation activation;
  bool gated;
};
const std::vector<Kind> kKinds = {{{ActivationKind::identity}, false}, {{ActivationKind::relu}, false},
                                  {{ActivationKind::relu2}, false},    {{ActivationKind::fatrelu, 0.3f}, false},
                                  {{ActivationKind::relu}, true},      {{ActivationKind::relu2}, true},
                                  {{ActivationKind::fatrelu, 0.3f}, true}, {{ActivationKind::drelu}, true}};

Case draw_case(std::mt19937_64& random, const Kind& kind, index_t d, index_t f, bool biased, int spread = 1) {
  std::normal_distribution<float> normal;
  const auto draw = [&] { return std::ldexp(normal(random), static_cast<int>(random() % static_cast<unsigned>(spread))); };
  const DType dtype = std::array{DType::f32, DType::bf16, DType::f16}[random() % 3];
  SmallLayer layer = make_layer({d, f, kind.activation, kind.gated, biased, dtype}, draw);
  Floats x;
  for (index_t k = 0; k < d; ++k) x.push_back(draw());
  return {std::move(layer), std::move(x)};
}

std::mt19937_64 generator() { return std::mt19937_64(signsplit::test::seed()); }

}  // namespace

TEST_CASE("every schedule stays inside its bound") {
  auto random = generator();
  for (const Kind& kind : kKinds) {
    for (int round = 0; round < 6; ++round) {
      const index_t d = 1 + static_cast<index_t>(random() % 300), f = 1 + static_cast<index_t>(random() % 40);
      const Case c = draw_case(random, kind, d, f, round % 2 == 0, round < 3 ? 1 : 12);
      for (const Plan& plan : plans(kind.gated, d, f)) {
        CAPTURE(label(plan));
        CAPTURE(to_string(kind.activation, kind.gated));
        CHECK(c.stays_inside(plan));
      }
    }
  }
}

TEST_CASE("cancellation, subnormals and zeros stay inside") {
  auto random = generator();
  std::normal_distribution<float> normal;
  for (const Kind& kind : kKinds) {
    for (const int scale : {-70, -60, -40}) {
      Case c = draw_case(random, kind, 130, 9, false);
      SmallLayer layer = c.layer;
      layer.dtype = DType::f32;
      for (std::size_t i = 0; i < layer.up.size(); ++i) {
        layer.up[i] = i % 2 == 1 ? -layer.up[i - 1] : std::ldexp(layer.up[i], scale);  // pairs cancel
      }
      for (float& w : layer.down) w = std::ldexp(w, scale);
      Floats x(130, std::ldexp(1.0f, scale));
      x[7] = std::nextafter(x[7], 2.0f);
      const Case hard(std::move(layer), std::move(x));
      for (const Plan& plan : plans(kind.gated, 130, 9)) {
        CAPTURE(label(plan));
        CHECK(hard.stays_inside(plan));
      }
    }
  }
}

TEST_CASE("each term of the bound is needed: executions that go to its limit") {
  const auto unit_layer = [](index_t d, index_t f, float up, float down) {
    SmallLayer layer{.d = d, .f = f, .activation = {ActivationKind::relu}};
    layer.up.assign(static_cast<std::size_t>(d * f), up);
    layer.down.assign(static_cast<std::size_t>(d * f), down);
    return layer;
  };
  SmallLayer drift = unit_layer(1, 100, 1.0f, 0x1.8p-24f);  // every FMA of product 2 rounds up by half an ulp
  drift.down[0] = 1.0f;
  CHECK(Case(drift, {1.0f}).stays_inside({}));
  CHECK(Case(unit_layer(1, 9, 0.5f, 0x1p-149f), {1.0f}).stays_inside({}));    // product 2 underflows to 0, every time
  CHECK(Case(unit_layer(40, 1, 0x1p-149f, 0x1p20f), Floats(40, 0.5f)).stays_inside({}));  // product 1 does
  SmallLayer jump = unit_layer(1, 1, 1.0f, 1.0f);  // z = 1 + 2^-40 is above t = 1, its f32 value is not
  jump.activation = {ActivationKind::fatrelu, 1.0f};
  jump.up_bias = {0x1p-40f};
  const Case c(jump, {1.0f});
  CHECK(c.execute({})[0] == 0.0f);
  CHECK(c.exact.y[0] == 1.0f);
  CHECK(c.stays_inside({}));
}

// docs/exactness.md, section 5: one open unit, all products 1, T K tiles of 64. δz has the chain n₁ + T + 1, n₁ = d/64 + 7; the sum of what was
// pushed, T + 1; product 2, T + 1 FMAs and 2. No execution here goes to that limit: the roundings of ones are none.
TEST_CASE("every K tile of sign_split costs the bound its roundings") {
  constexpr index_t kTiles = 16, kD = 64 * kTiles;
  SmallLayer layer{.d = kD, .f = 1, .activation = {ActivationKind::relu}};
  layer.up.assign(kD, 1.0f);
  layer.down.assign(kD, 1.0f);
  const Case c(layer, Floats(kD, 1.0f));
  const double roundings = (kTiles + 7 + kTiles + 1) + (kTiles + 1) + (kTiles + 1 + 2);
  for (const double bound : c.bound({.strategy = Strategy::sign_split, .variant = Variant::telescoping, .k_tile = 64})) {
    CHECK(bound >= roundings * 0x1p-24 * kD);
    CHECK(bound < (roundings + 10) * 0x1p-24 * kD);  // and little else: of relu the rest is a handful of roundings
  }
}

TEST_CASE("damaged executions fall outside") {
  auto random = generator();
  for (const Kind& kind : kKinds) {
    const Case c = draw_case(random, kind, 200, 24, true);
    for (const Plan& plan : plans(kind.gated, 200, 24)) {
      if (plan.variant == Variant::ignore) continue;  // its bound holds the missing repairs, and with them much damage
      CAPTURE(label(plan));
      CAPTURE(to_string(kind.activation, kind.gated));
      const auto bound = c.bound(plan);
      const Floats right = c.execute(plan);
      REQUIRE(inside(right, c.exact, bound));
      Floats wrong = right;
      wrong[17] = -wrong[17];
      CHECK_FALSE(inside(wrong, c.exact, bound));
      wrong = right;
      wrong[3] = wrong[4];
      CHECK_FALSE(inside(wrong, c.exact, bound));
      wrong = right;
      wrong.back() = kNan;
      CHECK_FALSE(inside(wrong, c.exact, bound));
      wrong = right;
      wrong.pop_back();
      CHECK_FALSE(inside(wrong, c.exact, bound));
      CHECK_FALSE(c.stays_inside(plan, Damage::k_tail_dropped));
    }
  }
}

TEST_CASE("a dropped unit and a dropped repair fall outside") {
  auto random = generator();
  Case drawn = draw_case(random, {{ActivationKind::relu}, false}, 200, 24, true);
  SmallLayer layer = drawn.layer;
  layer.up_bias.back() = 50.0f;  // the last unit is open
  const Case c(std::move(layer), drawn.x);
  for (const Plan& plan : plans(false, 200, 24)) {
    if (plan.variant == Variant::ignore) continue;
    CAPTURE(label(plan));
    CHECK_FALSE(c.stays_inside(plan, Damage::last_unit_dropped));
    if (plan.repair != Repair::none && (plan.variant == Variant::streams || plan.k_tile != 0)) {
      CHECK_FALSE(c.stays_inside(plan, Damage::repair_dropped));
    }
  }
}

TEST_CASE("the bound is useful: thousands of times smaller than y, and 0 for exact zeros but for underflow") {
  auto random = generator();
  const Case c = draw_case(random, {{ActivationKind::relu}, false}, 256, 64, false);
  double largest = 0.0, error = 0.0;
  for (const float y : c.exact.y) largest = std::max(largest, std::abs(static_cast<double>(y)));
  for (const double bound : c.bound({})) error = std::max(error, bound);
  CHECK(error > 0.0);
  CHECK(error * 1000.0 < largest);
  SmallLayer closed = c.layer;
  closed.up_bias.assign(64, -1e6f);
  for (const double bound : Case(std::move(closed), c.x).bound({})) CHECK(bound < 64 * 0x1p-147);
}

TEST_CASE("where a value is not finite, or may overflow, there is no bound") {
  const SmallLayer layer = make_layer({2, 3, {ActivationKind::relu}, false, true}, [] { return 1.0f; });
  const auto bounds = [](const SmallLayer& l, const Floats& x) { return error_bound({}, l.pack(), x, 1).value(); };
  const auto infinite = [](double v) { return v == std::numeric_limits<double>::infinity(); };
  const auto all_infinite = [&](const std::vector<double>& v) { return std::all_of(v.begin(), v.end(), infinite); };
  const auto none_infinite = [&](const std::vector<double>& v) { return std::none_of(v.begin(), v.end(), infinite); };
  CHECK(none_infinite(bounds(layer, {1.0f, 2.0f})));
  CHECK(all_infinite(bounds(layer, {1.0f, kNan})));
  CHECK(all_infinite(bounds(layer, {1.0f, std::numeric_limits<float>::max()})));
  SmallLayer wrong = layer;
  wrong.up[1] = std::numeric_limits<float>::infinity();
  CHECK(all_infinite(bounds(wrong, {1.0f, 0.0f})));
  wrong = layer;
  wrong.up_bias = {-9.0f, -9.0f, -9.0f};  // all closed
  wrong.down[0] = kNan;                   // W2[0][0]: output 0 only
  const auto one = bounds(wrong, {1.0f, 1.0f});
  CHECK(infinite(one[0]));
  CHECK_FALSE(infinite(one[1]));
  wrong = layer;
  wrong.down_bias[1] = -std::numeric_limits<float>::infinity();
  CHECK(infinite(bounds(wrong, {1.0f, 1.0f})[1]));
  wrong = layer;
  wrong.activation = {ActivationKind::relu2};
  CHECK(all_infinite(bounds(wrong, {0x1p70f, 1.0f})));
}

TEST_CASE("tokens are independent, and skip changes nothing") {
  auto random = generator();
  const Case c = draw_case(random, {{ActivationKind::relu}, false}, 600, 20, true);  // more than one block of columns
  Floats both = c.x;
  for (const float v : c.x) both.push_back(-v);
  Plan plan{.parts = 4};
  const auto together = error_bound(plan, c.weights, both, 2).value(), first = c.bound(plan);
  CHECK(std::equal(first.begin(), first.end(), together.begin()));
  plan.skip = true;
  CHECK(c.bound(plan) == first);
}

TEST_CASE("wrong arguments are refused in words") {
  const Weights weights = make_layer({2, 3, {}, true, false}, [] { return 1.0f; }).pack();
  CHECK(error_bound({}, weights, Floats(3), 1).status().code() == StatusCode::invalid_argument);
  CHECK(error_bound({}, weights, Floats(), 0).status().code() == StatusCode::invalid_argument);
  const Plan interim{.strategy = Strategy::sign_split, .variant = Variant::interim, .repair = Repair::full};
  CHECK(error_bound(interim, weights, Floats(2), 1).status().code() == StatusCode::invalid_argument);  // gated
}
