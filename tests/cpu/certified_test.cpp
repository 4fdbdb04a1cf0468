// certified plans give row_fused's bits and read what they say; the exact mask is exact.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "certificate_cases.hpp"
#include "seed.hpp"
#include "signsplit/reference.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

TEST_CASE("certified has the bits of row_fused, whatever the weights, the instruction set and the threads") {
  std::mt19937_64 rng(seed() + 1);
  for (const Adversary& adversary : adversaries()) {
    for (const ActivationCase& a : closing_activations()) {
      const Problem problem{static_cast<index_t>(130 + rng() % 200), static_cast<index_t>(60 + rng() % 90), 1 + static_cast<index_t>(rng() % 3),
                            any_dtype(rng), a.activation, a.gated};
      const Case c = make_case(adversary, problem, rng() % 2 == 0, rng);
      const Weights w = c.layer.pack();
      Plan plain = default_plan(problem, Strategy::row_fused, true);
      plain.parts = 1 + static_cast<index_t>(rng() % 5);
      const Outcome expected = run(w, plain, c, cpu::Isa::scalar, 1);
      Plan plan = default_plan(problem, Strategy::certified);
      plan.parts = plain.parts;
      plan.hidden_tile = 1 + static_cast<index_t>(rng() % 70);
      plan.plane_bits = rng() % 2 == 0 ? 8 : 2 + static_cast<index_t>(rng() % 7);
      plan.plane_group = 64 * (1 + static_cast<index_t>(rng() % 3));
      plan.k_tile = rng() % 3 == 0 ? 64 * static_cast<index_t>(rng() % 2) : plan.plane_group;
      INFO(adversary.name, ", ", describe(problem), ", ", to_json(plan));
      std::optional<Statistics> first, first_restored;
      Plan restored = plan;
      restored.plane_bits = 8;
      restored.placement = Placement::residual;
      Weights without = c.layer.pack();
      REQUIRE(without.give_up_first_matrix(format_of(restored)));
      const Statistics beside = [&] {
        Plan whole = restored;
        whole.placement = Placement::beside;
        return run(w, whole, c, cpu::Isa::scalar, 1).statistics;
      }();
      for (const cpu::Isa isa : cpu::supported_isas()) {
        for (const int threads : {1, 3}) {
          const Outcome got = run(w, plan, c, isa, threads);
          CHECK(same_bits(got.y, expected.y));
          CHECK(got.mask == expected.mask);
          CHECK(got.statistics.active == expected.statistics.active);
          CHECK(got.statistics.certified + got.statistics.refined == static_cast<std::uint64_t>(problem.d_ff));
          if (!first) first = got.statistics;
          CHECK(got.statistics == *first);
          const Outcome again = run(threads == 1 ? w : without, restored, c, isa, threads);
          CHECK(same_bits(again.y, expected.y));
          CHECK(again.mask == expected.mask);
          CHECK(again.statistics.refined == beside.refined);
          CHECK(again.statistics.bytes_plane == beside.bytes_plane);
          if (!first_restored) first_restored = again.statistics;
          CHECK(again.statistics == *first_restored);
        }
      }
    }
  }
}

TEST_CASE("most closed units of an ordinary layer are certified, and the bytes are those of what is left") {
  std::mt19937_64 rng(seed() + 2);
  const Problem problem{512, 1024, 1, DType::bf16, {ActivationKind::relu}, false};
  Case c{gaussian_layer(problem, true, rng), gaussian_input(problem, rng)};
  for (float& b : c.layer.up_bias) b -= 1.3f;
  const Weights w = c.layer.pack();
  const Plan plan = default_plan(problem, Strategy::certified);
  const Statistics s = run(w, plan, c, cpu::supported_isas().back(), 2).statistics;
  // The bound is ‖x‖‖R‖ ≈ √512·√512·(2.4/(127·√12·√512)) ≈ 0.12 standard deviations: a few of a hundred closed units are in it.
  CHECK(s.certified > 3 * (1024 - s.active) / 4);
  CHECK(s.certified <= 1024 - s.active);
  CHECK(s.bytes_up == s.refined * 1024);
  CHECK(s.bytes_plane == 1024 / 16 * (16 * 512 + 32 * 8 + 192));
  CHECK(weight_bytes(s) == s.bytes_up + s.bytes_plane + s.bytes_down);
}

TEST_CASE("an Ffn goes on with another layer's certificate, and with none of a layer that has another shape") {
  std::mt19937_64 rng(seed() + 3);
  const Problem problem{192, 100, 1, DType::bf16, {ActivationKind::relu}, false};
  const Case first{gaussian_layer(problem, true, rng), gaussian_input(problem, rng)};
  const Case second{gaussian_layer(problem, true, rng), first.x};
  const Weights a = first.layer.pack(), b = second.layer.pack();
  const Plan plan = default_plan(problem, Strategy::certified), plain = default_plan(problem, Strategy::row_fused, true);
  auto ffn = cpu::Ffn::create(a, plan, 1, {1, {}});
  REQUIRE(ffn);
  std::vector<float> y(first.x.size());
  for (const auto& [weights, c] : {std::pair{&b, &second}, {&a, &first}, {&b, &second}}) {
    REQUIRE(ffn->rebind(*weights));
    REQUIRE(ffn->run(c->x, y));
    CHECK(same_bits(y, run(*weights, plain, *c, cpu::Isa::scalar, 1).y));
  }
  CHECK(a.certificate(format_of(plan)).value() == a.certificate(format_of(plan)).value());
  CHECK(a.certificate(format_of(plan)).value() != a.certificate({8, 128}).value());
}

TEST_CASE("exact_mask gives every strategy the active set of real numbers, and leaves y alone") {
  std::mt19937_64 rng(seed() + 6);
  std::uint64_t rechecked = 0, corrected = 0;
  for (const Adversary& adversary : adversaries()) {
    if (adversary.name.find("finite") != std::string::npos) continue;
    for (const ActivationCase& a : closing_activations()) {
      const index_t batch = 1 + static_cast<index_t>(rng() % 2);
      const Problem problem{130, 70, batch, any_dtype(rng), a.activation, a.gated};
      const Case c = make_case(adversary, problem, rng() % 2 == 0, rng);
      const Weights w = c.layer.pack();
      const auto truth = reference(w, c.x, batch, ReferenceMode::composite);
      REQUIRE(truth);
      for (const Plan& plan : all_plans(problem, 64)) {
        if (plan.strategy == Strategy::sign_split) continue;
        INFO(adversary.name, ", ", describe(problem), ", ", label(plan));
        const Outcome plain = run(w, plan, c, cpu::supported_isas().back(), 2);
        auto ffn = cpu::Ffn::create(w, plan, batch, {2, {}, true});
        REQUIRE(ffn);
        std::vector<float> y(c.x.size());
        std::vector<std::uint8_t> mask(plain.mask.size());
        REQUIRE(ffn->run(c.x, y, mask));
        CHECK(same_bits(y, plain.y));
        CHECK(mask == truth->active);
        CHECK(ffn->report().statistics.active == static_cast<std::uint64_t>(std::count(mask.begin(), mask.end(), 1)));
        rechecked += ffn->report().statistics.rechecked;
        corrected += mask != plain.mask ? 1 : 0;
      }
    }
  }
  CHECK(rechecked > 0);
  CHECK(corrected > 0);  // f32 does get signs wrong on these layers: the option does something
}

}  // namespace
