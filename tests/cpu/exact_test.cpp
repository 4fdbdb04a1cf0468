// Against the truth: integer data exactly, real data within the derived bound, and sign_split's active set exactly.
#include <doctest/doctest.h>

#include "random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// Elements outside [truth − bound − half an ulp, truth + bound + half an ulp]; NaN is outside.
std::size_t outside(std::span<const float> y, std::span<const float> truth, std::span<const double> bound) {
  std::size_t count = y.size() == truth.size() && y.size() == bound.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(y.size(), truth.size()); ++i) {
    const double t = static_cast<double>(truth[i]);
    const double rounding = std::fabs(t) * 0x1p-24 + 0x1p-150;  // of the reference itself
    if (!(std::fabs(static_cast<double>(y[i]) - t) <= bound[i] + rounding)) ++count;
  }
  return count;
}

TEST_CASE("integer-valued layers are computed exactly by every plan") {
  std::mt19937_64 rng(seed());
  for (const ActivationCase& a : all_activations()) {
    if (!has_composite(a.activation)) continue;  // integers do not stay integers
    for (const auto& [dtype, group] : {any_storage(rng), any_storage(rng)}) {
      // |z| ≤ 90·3·3 + 3 < 2^10, |h| < 2^20 (squares and products), |Σ h·w| < 60·2^20·… kept small by sparse integer weights
      const Problem problem{90, 60, 2, dtype, {a.activation.kind, a.activation.kind == ActivationKind::fatrelu ? 2.0f : 0.0f}, a.gated, group};
      std::uniform_int_distribution<int> small(-1, 1);
      const Layer layer = make_layer(problem, true, [&] { return static_cast<double>(small(rng)); });
      const Weights w = layer.pack();
      std::vector<float> x(2 * 90);
      for (float& v : x) v = static_cast<float>(small(rng));
      const auto truth = reference(w, x, 2, ReferenceMode::composite);
      REQUIRE(truth);
      // Every product and partial sum is an integer below 2^24: no f32 operation rounds. Largest: 60·(91·91) + 1.
      for (const Plan& plan : all_plans(problem, 64)) {
        if (plan.variant == Variant::ignore) continue;
        // relu² of streams: P ≤ 91, pushes ≤ 2·91², still exact; halves of S + z are exact too, their squares in quarters.
        for (const cpu::Isa isa : cpu::supported_isas()) {
          auto ffn = cpu::Ffn::create(w, plan, 2, {2, isa});
          REQUIRE(ffn);
          std::vector<float> y(x.size(), std::nanf(""));
          std::vector<std::uint8_t> mask(2 * 60);
          REQUIRE(ffn->run(x, y, mask));
          INFO(describe(problem), " ", label(plan), " ", cpu::to_string(isa));
          for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == truth->y[i]);
          CHECK(mask == truth->active);
        }
      }
    }
  }
}

TEST_CASE("every plan stays inside its bound, and sign_split's active set is the exact one") {
  std::mt19937_64 rng(seed() + 1);
  for (const auto& [d, f] : std::vector<std::pair<index_t, index_t>>{{1, 1}, {67, 41}, {512, 300}, {1000, 129}}) {
    for (const ActivationCase& a : all_activations()) {
      const Storage stored = any_storage(rng);
      const Problem problem{d, f, 2, stored.dtype, a.activation, a.gated, stored.group};
      const Weights w = gaussian_layer(problem, rng() % 2 == 0, rng).pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      const auto truth = reference(w, x, 2, sharpest_mode(a.activation));
      REQUIRE(truth);
      for (const index_t k_tile : {64, 256}) {
        for (const Plan& plan : all_plans(problem, k_tile)) {
          auto ffn = cpu::Ffn::create(w, plan, 2, {2, {}});
          REQUIRE(ffn);
          std::vector<float> y(x.size(), std::nanf(""));
          std::vector<std::uint8_t> mask(static_cast<std::size_t>(2 * f));
          REQUIRE(ffn->run(x, y, mask));
          auto bound = error_bound(plan, w, x, 2);
          REQUIRE(bound);
          if (!has_composite(a.activation)) {  // the staged reference is one more execution that the bound holds for
            for (double& b : *bound) b *= 2.0;
          }
          INFO(describe(problem), " ", label(plan), " k_tile ", k_tile);
          CHECK(outside(y, truth->y, *bound) == 0);
          if (plan.strategy == Strategy::sign_split) CHECK(mask == truth->active);
        }
      }
    }
  }
}

TEST_CASE("signs in doubt are settled exactly: weights built so that z is a rounding error away from zero") {
  std::mt19937_64 rng(seed() + 2);
  for (const auto kind : {ActivationKind::relu, ActivationKind::relu2}) {
    const Problem problem{256, 200, 1, DType::f32, {kind}, false};
    Layer layer = gaussian_layer(problem, false, rng);
    const std::vector<float> x = gaussian_input(problem, rng);
    for (std::size_t j = 0; j < 200; ++j) {  // cancel each row's dot product with its last weight, to within an ulp or so
      double z = 0.0;
      for (std::size_t k = 0; k + 1 < 256; ++k) z += static_cast<double>(x[k]) * static_cast<double>(layer.up[j * 256 + k]);
      layer.up[j * 256 + 255] = static_cast<float>(-z / static_cast<double>(x[255]));
      if (j % 3 == 0) layer.up[j * 256 + 255] = std::nextafter(layer.up[j * 256 + 255], 9.0f);
    }
    const Weights w = layer.pack();
    const auto truth = reference(w, x, 1, ReferenceMode::composite);
    REQUIRE(truth);
    for (const Plan& plan : all_plans(problem, 128)) {
      if (plan.strategy != Strategy::sign_split) continue;
      auto ffn = cpu::Ffn::create(w, plan, 1, {1, {}});
      std::vector<float> y(256);
      std::vector<std::uint8_t> mask(200);
      REQUIRE(ffn->run(x, y, mask));
      INFO(label(plan));
      CHECK(mask == truth->active);
      CHECK(ffn->report().statistics.rechecked > 100);
      const auto bound = error_bound(plan, w, x, 1);
      REQUIRE(bound);
      CHECK(outside(y, truth->y, *bound) == 0);
    }
  }
}

TEST_CASE("the bound check notices a wrong element, a NaN, a flipped sign and a dropped tail") {
  const std::vector<float> truth = {1.0f, -2.0f, 1e-3f, 4.0f};
  const std::vector<double> bound = {1e-6, 1e-6, 1e-9, 1e-6};
  std::vector<float> y = truth;
  CHECK(outside(y, truth, bound) == 0);
  y[0] = 1.00001f;
  CHECK(outside(y, truth, bound) == 1);
  y = truth;
  y[1] = std::nanf("");
  CHECK(outside(y, truth, bound) == 1);
  y = truth;
  y[2] = -y[2];
  CHECK(outside(y, truth, bound) == 1);
  y = truth;
  y.pop_back();
  CHECK(outside(y, truth, bound) == 1);
}

}  // namespace
