// The main of tests that need a GPU: without one they are skipped, and say so. Included once, with
// DOCTEST_CONFIG_IMPLEMENT defined.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>

#include "signsplit/gpu.hpp"

namespace signsplit::test {

inline int run_unless_without_device(int argc, char** argv) {
  const auto devices = gpu::devices();
  if (!devices && devices.status().code() == StatusCode::unsupported) {
    std::printf("skipped, no GPU: %s\n", devices.message().c_str());
    return 77;
  }
  if (!devices) {
    std::fprintf(stderr, "%s\n", devices.message().c_str());
    return 1;
  }
  doctest::Context context(argc, argv);
  return context.run();
}

}  // namespace signsplit::test
