// What the executor decides before it asks a device: which plans have kernels and fit, and the rule that others break.
// Devices are made up, and nothing is launched.
#include "launch.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "kernel_names.hpp"

using namespace signsplit;

namespace {

gpu::Device h200() {
  gpu::Device device;
  device.name = "made-up H200";
  device.compute_major = 9;
  device.multiprocessors = 132;
  device.shared_bytes_per_block = 232448;
  device.cooperative_launch = true;
  return device;
}

gpu::Device a100() {
  gpu::Device device = h200();
  device.name = "made-up A100";
  device.compute_major = 8;
  device.multiprocessors = 108;
  device.shared_bytes_per_block = 166912;
  return device;
}

std::string refusal(const Plan& plan, const Problem& problem, const gpu::Device& device, const gpu::Options& options = {}) {
  return gpu::prepare(plan, problem, device, options).message();
}

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const Problem kProblem{.d_model = 4096, .d_ff = 16384};

}  // namespace

TEST_CASE("every default plan of every stored type has kernels and fits on both generations") {
  for (const gpu::Device& device : {h200(), a100()}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      for (const bool gated : {false, true}) {
        for (const index_t batch : {index_t{1}, index_t{4}, index_t{16}}) {
          const Problem problem{.d_model = 2048, .d_ff = 8192, .batch = batch, .dtype = dtype, .gated = gated};
          for (Plan plan : default_plans(problem)) {
            CAPTURE(describe(problem));
            CAPTURE(label(plan));
            // The default tiles are made for caches: some are too large for the state of 16 tokens, and the reason says so.
            const std::string reason = refusal(plan, problem, device);
            CHECK((reason.empty() || (batch == 16 && mentions(reason, "smaller hidden tiles"))));
            plan.parts = device.multiprocessors;
            plan.hidden_tile = 32;
            CHECK(refusal(plan, problem, device) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("a plan has the kernels that its phases need, by the names that profilers show") {
  const auto fused = gpu::prepare(default_plan(kProblem, Strategy::row_fused), kProblem, h200(), {});
  REQUIRE(fused.ok());
  REQUIRE(fused->kernels.size() == 1);
  CHECK(std::string(fused->kernels[0].name) == "signsplit_fused_bf16_t1");
  const auto unfused = gpu::prepare(default_plan(kProblem, Strategy::unfused), kProblem, h200(), {});
  REQUIRE(unfused.ok());
  REQUIRE(unfused->kernels.size() == 2);
  CHECK(std::string(unfused->kernels[0].name) == "signsplit_first_bf16_t1");
  CHECK(std::string(unfused->kernels[1].name) == "signsplit_second_bf16_t1");
}

TEST_CASE("every step of every strategy and stored type has its kernel, for one token and for more, and there are no others") {
  std::set<std::string> found;
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split, Strategy::certified}) {
    const Plan plan = default_plan(kProblem, strategy, true);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
      for (index_t batch = 1; batch <= gpu::kMaxBatch; ++batch) {
        for (int i = 0; i < gpu::kernel_count(plan); ++i) {
          const gpu::KernelKind kind = gpu::kernel_kind_at(plan, i);
          const gpu::KernelEntry kernel = gpu::find_kernel(kind, strategy, dtype, batch);
          REQUIRE(kernel.function != nullptr);
          CHECK(kernel.name == test::kernel_name(kind, strategy, dtype, batch));
          found.insert(kernel.name);
        }
      }
    }
  }
  CHECK(found == test::all_kernel_names());
}

TEST_CASE("bytes in flight: at least 48 KiB per multiprocessor, fewer stages when asked for") {
  Plan plan = default_plan(kProblem, Strategy::row_fused);
  plan.parts = 132;
  plan.hidden_tile = 64;
  const auto full = gpu::prepare(plan, kProblem, h200(), {});
  REQUIRE(full.ok());
  CHECK(full->shape().ctas == 132);
  CHECK(full->shape().stages * full->shape().stage_bytes >= 48 * 1024);
  gpu::Options two;
  two.stages = 2;
  const auto few = gpu::prepare(plan, kProblem, h200(), two);
  REQUIRE(few.ok());
  CHECK(few->shape().stages == 2);
  two.stages = 1;  // one copy could not come while another is read
  const auto fewest = gpu::prepare(plan, kProblem, h200(), two);
  REQUIRE_MESSAGE(fewest.ok(), fewest.message());
  CHECK(fewest->shape().stages == 2);
}

TEST_CASE("dependent launches leave room for two blocks on a multiprocessor") {
  gpu::Options options;
  options.launch = gpu::Launch::programmatic;
  const auto launchable = gpu::prepare(default_plan(kProblem, Strategy::unfused), kProblem, h200(), options);
  REQUIRE(launchable.ok());
  CHECK(2 * (launchable->shape().shared.bytes + 1024) <= 233472);
}

TEST_CASE("what cannot run is refused with the rule") {
  Plan plan = default_plan(kProblem, Strategy::row_fused);
  Problem problem = kProblem;
  problem.batch = 17;
  CHECK(mentions(refusal(plan, problem, h200()), "batches up to 16 (got 17)"));
  plan.parts = 1025;
  CHECK(mentions(refusal(plan, kProblem, h200()), "at most 1024 (got 1025)"));
  plan = default_plan(kProblem, Strategy::row_fused);
  gpu::Device old = h200();
  old.compute_major = 7;
  CHECK(mentions(refusal(plan, kProblem, old), "7.0: plans need 8.0"));
  gpu::Device small = h200();
  small.shared_bytes_per_block = 4 * 1024;
  CHECK(mentions(refusal(plan, kProblem, small), "shared memory"));
  gpu::Device plain = h200();
  plain.cooperative_launch = false;
  CHECK(mentions(refusal(plan, kProblem, plain), "cooperative"));
  gpu::Options dependent;
  dependent.launch = gpu::Launch::programmatic;
  CHECK(mentions(refusal(plan, kProblem, a100(), dependent), "9.0"));
  Problem scaled{.d_model = 4096, .d_ff = 16384, .dtype = DType::int8};
  scaled.arithmetic = Arithmetic::w8a8;
  CHECK(mentions(refusal(default_plan(scaled, Strategy::unfused), scaled, h200()), "w8a8"));
  plan.k_tile = 100;
  CHECK(mentions(refusal(plan, kProblem, h200()), "k_tile"));
}
