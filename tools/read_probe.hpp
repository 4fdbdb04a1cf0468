// The read probe: how fast this machine can read the weights when it does nothing else with them. The limit of every case.
#pragma once

#include <cstddef>
#include <span>

namespace signsplit::tools {

/// Reads every byte of the ranges once with `threads` OpenMP threads, each its share of every range, with the widest loads
/// that the processor has. Ranges are 64-byte aligned and a multiple of 64 bytes long.
void read_all(std::span<const std::span<const std::byte>> ranges, int threads);

}  // namespace signsplit::tools
