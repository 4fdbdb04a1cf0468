// The public GPU interface answers in every build, with a status and never a crash.
#include <doctest/doctest.h>

#include "signsplit/gpu.hpp"

namespace {

const signsplit::Problem kProblem{.d_model = 256, .d_ff = 1024};

TEST_CASE("devices() lists devices or says why there are none") {
  const auto devices = signsplit::gpu::devices();
  if (devices) {
    CHECK(signsplit::gpu::built_with_cuda());
    REQUIRE_FALSE(devices->empty());
    for (const auto& device : *devices) {
      CHECK_FALSE(device.name.empty());
      CHECK(device.multiprocessors > 0);
      CHECK(device.memory_bytes > 0);
    }
  } else {
    CHECK(devices.status().code() == signsplit::StatusCode::unsupported);
    CHECK(devices.message().find("CUDA") != std::string::npos);
    CHECK(devices.message().find('\n') == std::string::npos);
  }
}

TEST_CASE("can_run() refuses, and names the rule") {
  const auto plan = signsplit::default_plan(kProblem, signsplit::Strategy::row_fused);
  const signsplit::Status status = signsplit::gpu::can_run(plan, kProblem);
  CHECK(status.code() == signsplit::StatusCode::unsupported);
  CHECK_FALSE(status.message().empty());
}

TEST_CASE("can_run() checks the plan before the device") {
  if (!signsplit::gpu::built_with_cuda()) return;  // without CUDA the answer is the same whatever the plan
  auto plan = signsplit::default_plan(kProblem, signsplit::Strategy::row_fused);
  plan.k_tile = 100;
  const signsplit::Status status = signsplit::gpu::can_run(plan, kProblem);
  CHECK(status.code() == signsplit::StatusCode::invalid_argument);
  CHECK(status.message().find("k_tile") != std::string::npos);
}

}  // namespace
