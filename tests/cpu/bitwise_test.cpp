// Same plan, same bits: across instruction sets, threads, K tiles, hidden tiles, launch modes; skip equals no skip.
#include <doctest/doctest.h>

#include "canonical_ffn.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

struct Outcome {
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
  Statistics statistics;
};

Outcome run(const Weights& w, const Plan& plan, const std::vector<float>& x, index_t batch, cpu::Isa isa, int threads) {
  auto ffn = cpu::Ffn::create(w, plan, batch, {threads, isa});
  REQUIRE_MESSAGE(ffn, ffn.message());
  Outcome o{std::vector<float>(x.size(), std::nanf("")), std::vector<std::uint8_t>(static_cast<std::size_t>(batch * w.d_ff()), 7), {}};
  REQUIRE(ffn->run(x, o.y, o.mask));
  CHECK(ffn->report().isa == isa);
  o.statistics = ffn->report().statistics;
  return o;
}

const std::vector<std::pair<index_t, index_t>> kShapes = {{1, 1},  {1, 70},   {64, 1},  {63, 31},  {65, 37},   {127, 129},
                                                          {128, 64}, {200, 100}, {257, 200}, {320, 331}};

TEST_CASE("unfused and row_fused give the canonical bits on every instruction set") {
  std::mt19937_64 rng(seed());
  for (const auto& [d, f] : kShapes) {
    for (const ActivationCase& a : all_activations()) {
      for (const Storage& stored : {any_storage(rng), any_storage(rng)}) {
        const index_t batch = 1 + static_cast<index_t>(rng() % 5);
        const Problem problem{d, f, batch, stored.dtype, a.activation, a.gated, stored.group};
        const Layer layer = gaussian_layer(problem, rng() % 2 == 0, rng);
        const Weights w = layer.pack();
        const std::vector<float> x = gaussian_input(problem, rng);
        for (const Strategy strategy : {Strategy::row_fused, Strategy::unfused}) {
          for (const bool skip : {false, true}) {
            Plan plan = default_plan(problem, strategy, skip);
            plan.parts = std::min<index_t>(f, 1 + static_cast<index_t>(rng() % 9));
            const std::vector<float> expected = canonical_ffn(layer, plan, x);
            for (const cpu::Isa isa : cpu::supported_isas()) {
              INFO(describe(problem), " ", label(plan), " ", cpu::to_string(isa));
              CHECK(same_bits(run(w, plan, x, batch, isa, 1).y, expected));
            }
          }
        }
      }
    }
  }
}

/// One token, one part, every instruction set.
void check_canonical(const Layer& layer, const std::vector<float>& x, index_t hidden_tile = 256) {
  Plan plan = default_plan(layer.problem, Strategy::row_fused);
  plan.parts = 1;
  plan.hidden_tile = hidden_tile;
  const std::vector<float> expected = canonical_ffn(layer, plan, x);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    INFO(describe(layer.problem), " ", cpu::to_string(isa));
    CHECK(same_bits(run(layer.pack(), plan, x, 1, isa, 1).y, expected));
  }
}

TEST_CASE("int8: inputs and units so small or large that sums cannot be kept times a power of two give the canonical bits") {
  std::mt19937_64 rng(seed() + 7);
  for (const index_t group : {0, 64}) {
    for (const float power : {0x1p-126f, 0x1p-116f, 0x1p70f, 0x1p108f}) {  // with the first, sums are subnormal
      const Problem problem{200, 131, 1, DType::int8, {ActivationKind::relu}, false, group};
      const Layer layer = gaussian_layer(problem, false, rng);
      std::vector<float> x = gaussian_input(problem, rng);
      for (float& v : x) v *= power;
      INFO("x times ", power);
      check_canonical(layer, x);
    }
  }
}

TEST_CASE("int8: scales of many binades, and of 0, give the canonical bits") {
  std::mt19937_64 rng(seed() + 9);
  for (const index_t group : {0, 64}) {
    for (const int binades : {3, 17, 70}) {  // with the last, too many for some kernels
      const Problem problem{200, 131, 1, DType::int8, {ActivationKind::relu}, false, group};
      Layer layer = gaussian_layer(problem, false, rng);
      const auto vary = [&](std::vector<float>& m, std::vector<float>& scales, index_t length) {
        std::vector<float> powers(scales.size());
        for (std::size_t s = 0; s < scales.size(); ++s) {
          powers[s] = rng() % 8 == 0 ? 0.0f : std::ldexp(1.0f, -static_cast<int>(rng() % static_cast<std::uint64_t>(binades)));
        }
        for (std::size_t i = 0; i < m.size(); ++i) m[i] *= layer.scale_of(powers, i, length);
        for (std::size_t s = 0; s < scales.size(); ++s) scales[s] *= powers[s];
      };
      vary(layer.up, layer.up_scale, problem.d_model);
      vary(layer.down, layer.down_scale, problem.d_ff);
      std::vector<float> x = gaussian_input(problem, rng);
      for (float& v : x) v *= 0x1p57f;
      INFO("binades ", binades);
      check_canonical(layer, x);
    }
  }
}

TEST_CASE("int8: units added to sums that are very large give the canonical bits") {
  std::mt19937_64 rng(seed() + 10);
  const Problem problem{200, 128, 1, DType::int8, {ActivationKind::relu}, false, 0};
  Layer layer = gaussian_layer(problem, false, rng);
  for (std::size_t i = 64 * 200; i < layer.up.size(); ++i) layer.up[i] *= 0x1p-60f;  // of the second tile
  for (std::size_t j = 64; j < 128; ++j) layer.up_scale[j] *= 0x1p-60f;
  for (float& v : layer.down) v *= 0x1p-20f;
  for (float& v : layer.down_scale) v *= 0x1p-20f;
  std::vector<float> x = gaussian_input(problem, rng);
  for (float& v : x) v *= 0x1p108f;
  check_canonical(layer, x, 64);
}

TEST_CASE("int8: subnormal scales give the canonical bits") {
  std::mt19937_64 rng(seed() + 8);
  for (const bool of_up : {true, false}) {
    const Problem problem{200, 61, 1, DType::int8, {ActivationKind::relu}, false, 0};
    Layer layer = gaussian_layer(problem, false, rng);
    (of_up ? layer.up_scale : layer.down_scale)[7] = 0x1p-130f;
    std::vector<float>& m = of_up ? layer.up : layer.down;
    const std::size_t length = of_up ? 200 : 61;
    for (std::size_t k = 0; k < length; ++k) m[7 * length + k] = 0x1p-130f * static_cast<float>(static_cast<int>(k % 11) - 4);
    INFO("of up ", of_up);
    check_canonical(layer, gaussian_input(problem, rng));
  }
}

TEST_CASE("long rows that lie apart, four at a time and those left over, give the canonical bits") {
  std::mt19937_64 rng(seed() + 6);
  const std::pair<DType, index_t> kinds[] = {{DType::f32, 1030}, {DType::bf16, 2100}, {DType::f16, 2049}, {DType::int8, 4100}};
  for (const auto& [dtype, d] : kinds) {  // rows of more than 4 KiB
    for (const index_t f : {6, 13, 14, 15, 16, 35}) {
      const bool gated = rng() % 2 == 0;
      const Problem problem{d, f, 1, dtype, {ActivationKind::relu, 0.0f}, gated};
      const Layer layer = gaussian_layer(problem, true, rng);
      const Weights w = layer.pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      for (const Strategy strategy : {Strategy::row_fused, Strategy::certified}) {
        Plan plan = default_plan(problem, strategy, true);
        plan.hidden_tile = 1 + static_cast<index_t>(rng() % static_cast<std::uint64_t>(f));
        const std::vector<float> expected = canonical_ffn(layer, plan, x);
        for (const cpu::Isa isa : cpu::supported_isas()) {
          INFO(describe(problem), " ", label(plan), " ", cpu::to_string(isa));
          CHECK(same_bits(run(w, plan, x, 1, isa, 1).y, expected));
        }
      }
    }
  }
}

TEST_CASE("threads, K tiles, hidden tiles and launch modes do not change a bit") {
  std::mt19937_64 rng(seed() + 1);
  for (const ActivationCase& a : all_activations()) {
    const Storage stored = any_storage(rng);
    const Problem problem{321, 131, 3, stored.dtype, a.activation, a.gated, stored.group};
    const Weights w = gaussian_layer(problem, true, rng).pack();
    const std::vector<float> x = gaussian_input(problem, rng);
    for (Plan plan : all_plans(problem, 128)) {
      plan.parts = 5;
      plan.hidden_tile = 11;
      const Outcome expected = run(w, plan, x, problem.batch, cpu::Isa::scalar, 1);
      INFO(describe(problem), " ", label(plan));
      for (const cpu::Isa isa : cpu::supported_isas()) {
        for (const int threads : {1, 2, 3, 7}) {
          const Outcome got = run(w, plan, x, problem.batch, isa, threads);
          CHECK(same_bits(got.y, expected.y));
          CHECK(got.mask == expected.mask);
          CHECK(got.statistics == expected.statistics);
        }
      }
      Plan other = plan;
      other.launch = Launch::region_per_phase;
      other.reduce_tile = 64;
      CHECK(same_bits(run(w, other, x, problem.batch, cpu::supported_isas().back(), 2).y, expected.y));
      if (plan.strategy == Strategy::sign_split) continue;  // there tiles decide what is added when
      for (const index_t hidden_tile : {1, 7, 64, 1024}) {
        other = plan;
        other.hidden_tile = hidden_tile;
        CHECK(same_bits(run(w, other, x, problem.batch, cpu::supported_isas().back(), 2).y, expected.y));
      }
      for (const index_t k_tile : {64, 192, 448, 512, 4096}) {
        other = plan;
        other.k_tile = k_tile;
        CHECK(same_bits(run(w, other, x, problem.batch, cpu::supported_isas().back(), 2).y, expected.y));
      }
    }
  }
}

TEST_CASE("skip gives the same bits as no skip, and reads less") {
  std::mt19937_64 rng(seed() + 2);
  for (const ActivationCase& a : all_activations()) {
    const Problem problem{192, 300, 2, DType::bf16, a.activation, a.gated};
    const Weights w = gaussian_layer(problem, true, rng).pack();
    const std::vector<float> x = gaussian_input(problem, rng);
    for (const Plan& plan : all_plans(problem, 64)) {
      if (plan.skip) continue;
      Plan skip = plan;
      skip.skip = true;
      const Outcome dense = run(w, plan, x, 2, cpu::supported_isas().back(), 2);
      const Outcome sparse = run(w, skip, x, 2, cpu::supported_isas().back(), 2);
      INFO(describe(problem), " ", label(plan));
      CHECK(same_bits(dense.y, sparse.y));
      CHECK(dense.mask == sparse.mask);
      CHECK(dense.statistics.active == sparse.statistics.active);
      CHECK(sparse.statistics.bytes_down <= dense.statistics.bytes_down);
      if (a.activation.kind == ActivationKind::relu && plan.strategy != Strategy::sign_split) {
        CHECK(sparse.statistics.bytes_down < dense.statistics.bytes_down);
        CHECK(sparse.statistics.bytes_down == sparse.statistics.active_union * static_cast<std::uint64_t>(w.row_bytes()));
      }
    }
  }
}

TEST_CASE("two runs of one Ffn, and runs of batches against single tokens, agree") {
  std::mt19937_64 rng(seed() + 3);
  const Problem problem{130, 260, 6, DType::bf16, {ActivationKind::relu}, false};
  const Weights w = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  const Plan plan = default_plan(problem, Strategy::row_fused, true);
  auto batched = cpu::Ffn::create(w, plan, 6, {2, {}});
  auto single = cpu::Ffn::create(w, plan, 1, {2, {}});
  std::vector<float> first(x.size()), second(x.size(), 3.0f), tokens(x.size());
  REQUIRE(batched->run(x, first));
  REQUIRE(batched->run(x, second));
  for (std::size_t b = 0; b < 6; ++b) {
    REQUIRE(single->run(std::span(x).subspan(b * 130, 130), std::span(tokens).subspan(b * 130, 130)));
  }
  CHECK(same_bits(first, second));
  CHECK(same_bits(first, tokens));
}

TEST_CASE("a token's bits do not depend on the batch it comes in") {
  std::mt19937_64 rng(seed() + 5);
  // Slices of x that stay in the first-level cache end inside the longer rows.
  for (const auto& [d, f] : std::vector<std::pair<index_t, index_t>>{{130, 61}, {2112, 29}, {8256, 14}}) {
    const Storage stored = any_storage(rng);
    const Problem problem{d, f, 17, stored.dtype, {ActivationKind::relu}, rng() % 2 == 0, stored.group};
    const Weights w = gaussian_layer(problem, true, rng).pack();
    const std::vector<float> x = gaussian_input(problem, rng);
    const auto tokens = static_cast<std::size_t>(d);
    Plan plan = default_plan(problem, Strategy::row_fused, true);
    plan.k_tile = rng() % 2 == 0 ? 0 : 64;
    std::vector<float> expected;
    for (std::size_t b = 0; b < 17; ++b) {
      const std::vector<float> one(x.begin() + static_cast<std::ptrdiff_t>(b * tokens), x.begin() + static_cast<std::ptrdiff_t>((b + 1) * tokens));
      const std::vector<float> y = run(w, plan, one, 1, cpu::Isa::scalar, 1).y;
      expected.insert(expected.end(), y.begin(), y.end());
    }
    for (const cpu::Isa isa : cpu::supported_isas()) {
      for (const index_t batch : {1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17}) {
        INFO(describe(w.problem(batch)), " ", cpu::to_string(isa));
        const auto count = static_cast<std::size_t>(batch) * tokens;
        const std::vector<float> some(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count));
        CHECK(same_bits(run(w, plan, some, batch, isa, 2).y, std::span(expected).first(count)));
      }
    }
  }
}

TEST_CASE("the bit comparison itself notices one wrong bit, a NaN, a sign and a dropped tail") {
  std::vector<float> a = {1.0f, 0.0f, 3.0f}, b = a;
  CHECK(same_bits(a, b));
  b[2] = std::nextafter(3.0f, 4.0f);
  CHECK_FALSE(same_bits(a, b));
  b = a;
  b[1] = -0.0f;
  CHECK_FALSE(same_bits(a, b));
  b[1] = std::nanf("");
  CHECK_FALSE(same_bits(a, b));
  b = {1.0f, 0.0f};
  CHECK_FALSE(same_bits(a, b));
}

}  // namespace
