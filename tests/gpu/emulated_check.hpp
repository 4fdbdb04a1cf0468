// Compares the emulated GPU with the CPU executor.
#pragma once

#include <doctest/doctest.h>

#include "cpu/random_layer.hpp"
#include "emulated_ffn.hpp"
#include "signsplit/cpu.hpp"

namespace signsplit::test {

/// all_plans() without those that a GPU refuses: with a residual in the place of the first matrix.
inline std::vector<Plan> gpu_plans(const Problem& problem, index_t k_tile) {
  std::vector<Plan> plans = all_plans(problem, k_tile);
  std::erase_if(plans, [](const Plan& plan) { return plan.placement == Placement::residual; });
  return plans;
}

struct Expected {
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
  Statistics statistics;
};

inline Expected run_on_cpu(const Weights& weights, const Plan& plan, const std::vector<float>& x, index_t batch) {
  auto ffn = cpu::Ffn::create(weights, plan, batch, {1, cpu::Isa::scalar});
  REQUIRE_MESSAGE(ffn, ffn.message());
  Expected e{std::vector<float>(x.size()), std::vector<std::uint8_t>(static_cast<std::size_t>(batch * weights.d_ff())), {}};
  REQUIRE(ffn->run(x, e.y, e.mask));
  e.statistics = ffn->report().statistics;
  return e;
}

/// The emulated GPU gives the CPU's bits, mask and statistics. Returns what it gave.
inline Emulation check_same(const Weights& weights, const Plan& plan, const std::vector<float>& x, index_t batch,
                            std::uint64_t seed, gpu::DeviceLimits limits = kSmallDevice) {
  INFO(describe(weights.problem(batch)), " ", label(plan), ", order ", seed);
  const Expected expected = run_on_cpu(weights, plan, x, batch);
  Emulation got = emulate(weights, plan, x, batch, seed, limits);
  REQUIRE(got.error == "");
  CHECK(same_bits(got.y, expected.y));
  CHECK(got.mask == expected.mask);
  CHECK(to_json(got.statistics) == to_json(expected.statistics));
  return got;
}

}  // namespace signsplit::test
