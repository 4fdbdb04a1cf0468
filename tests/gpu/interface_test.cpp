// The public GPU interface answers in every build, with a status and never a crash.
#include <doctest/doctest.h>

#include <string>

#include "signsplit/gpu.hpp"
#include "signsplit/synthetic.hpp"

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
      CHECK(device.l2_bytes > 0);
      CHECK(device.shared_bytes_per_block >= 48 * 1024);
      CHECK(signsplit::gpu::find_device(device.index).ok());
    }
  } else {
    CHECK(devices.status().code() == signsplit::StatusCode::unsupported);
    CHECK(devices.message().find("CUDA") != std::string::npos);
    CHECK(devices.message().find('\n') == std::string::npos);
  }
}

/// One line that says that there is no GPU, or no CUDA in the build.
void check_refusal(const signsplit::Status& status) {
  CHECK(status.code() == signsplit::StatusCode::unsupported);
  CHECK(status.message().find("CUDA") != std::string::npos);
  CHECK(status.message().find('\n') == std::string::npos);
}

TEST_CASE("without a device every call says so, and none crashes") {
  using namespace signsplit;
  if (gpu::devices()) return;
  const Plan plan = default_plan(kProblem, Strategy::row_fused);
  check_refusal(gpu::can_run(plan, kProblem));
  check_refusal(gpu::find_device(0).status());
  check_refusal(gpu::free_bytes().status());
  check_refusal(gpu::measure_device(0).status());
  CHECK(gpu::workspace_bytes(plan, kProblem) == 0);
  const auto weights = synthetic_weights(kProblem, 0.5, 1);
  REQUIRE(weights.ok());
  check_refusal(gpu::DeviceLayer::upload(*weights).status());
  CHECK_FALSE(gpu::time_read({}).ok());
}

TEST_CASE("launch modes have names") {
  using signsplit::gpu::Launch;
  for (const Launch launch : {Launch::stream, Launch::graph, Launch::programmatic, Launch::cooperative}) {
    CHECK(signsplit::gpu::parse_launch(to_string(launch)) == launch);
  }
  CHECK_FALSE(signsplit::gpu::parse_launch("").has_value());
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
