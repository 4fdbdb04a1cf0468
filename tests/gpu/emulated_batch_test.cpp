// Every kernel, strategy and stored type on the emulated GPU, at every batch: the CPU executor's bits, masks and statistics.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "emulated_check.hpp"
#include "kernel_names.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// Devices that give x and y room in shared memory, and devices that do not.
gpu::DeviceLimits some_device(std::mt19937_64& rng) {
  const int warps = static_cast<int>(1 + rng() % 4);
  return {static_cast<int>(1 + rng() % 3), static_cast<index_t>(rng() % 2 == 0 ? 20 : 60) * 1024, warps, static_cast<int>(2 + rng() % 4)};
}

TEST_CASE("every kernel, strategy and stored type, every batch from 1 to 16") {
  std::mt19937_64 rng(seed() + 20);
  const std::vector<ActivationCase> activations = all_activations();
  std::set<std::string> ran;
  for (index_t batch = 1; batch <= gpu::kMaxBatch; ++batch) {
    std::set<std::string> of_batch;
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      ActivationCase a = activations[rng() % activations.size()];
      if (!closes_units(a.activation)) a = {{ActivationKind::relu}, a.gated};  // which certified refuses
      Problem problem{.d_model = 70, .d_ff = 23, .batch = batch, .dtype = dtype, .activation = a.activation, .gated = a.gated};
      if (dtype == DType::int8 && rng() % 2 == 0) problem.group = 64;
      const Weights weights = gaussian_layer(problem, rng() % 2 == 0, rng).pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      for (Plan plan : gpu_plans(problem, 64)) {
        plan.parts = 3;
        plan.hidden_tile = 5;
        for (const std::string& name : check_same(weights, plan, x, batch, rng(), some_device(rng)).kernels) of_batch.insert(name);
      }
    }
    CAPTURE(batch);
    CHECK(of_batch.size() == all_kernel_names().size() / 2);  // those for one token, or those for more
    ran.merge(of_batch);
  }
  CHECK(ran == all_kernel_names());
}

}  // namespace
