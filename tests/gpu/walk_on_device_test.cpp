// The walk compiled for the device sends the same events, in the same order, as on the host. Skipped without a device.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "host_walk.hpp"
#include "signsplit/gpu.hpp"
#include "skip_without_device.hpp"
#include "walk_on_device.hpp"

namespace {

TEST_CASE("device and host walk the same events") {
  for (const auto& [plan, shape] : signsplit::test::walk_cases()) {
    for (int index = 0; index < signsplit::phase_count(plan); ++index) {
      const signsplit::Phase phase = signsplit::phase_at(plan, index);
      const auto device = signsplit::gpu::walk_on_device(plan, shape, phase);
      REQUIRE_MESSAGE(device.ok(), device.message());
      CHECK(*device == signsplit::test::walk_on_host(plan, shape, phase));
    }
  }
}

}  // namespace

int main(int argc, char** argv) { return signsplit::test::run_unless_without_device(argc, argv); }
