// The seed of every random test: printed by the test main, set by SIGNSPLIT_TEST_SEED to repeat a run.
#pragma once

#include <cstdint>

namespace signsplit::test {

[[nodiscard]] std::uint64_t seed();

}  // namespace signsplit::test
