// Probes: what calibration measures by itself, without an executor.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "signsplit/status.hpp"

namespace signsplit::sim {

/// Median of repeated measurements, the half width of its 90 % interval, and the spread of a single measurement.
struct Sampled {
  double median = 0;
  double ci90 = 0;
  double cv = 0;  ///< relative
};
/// Robust: the spread comes from the quartiles. At least one sample.
[[nodiscard]] Sampled summarise_samples(std::vector<double> samples);

/// Processors that this process may use.
[[nodiscard]] int probe_threads();

/// Instruction sets that this processor and operating system support, slowest first; "scalar" is always there.
[[nodiscard]] std::vector<std::string> probe_isas();

/// Total main memory available, in bytes; 0 when it is not known.
[[nodiscard]] double available_memory_bytes();

struct BandwidthSample {
  double working_set_bytes = 0;
  Sampled bytes_per_s;
};
/// Bytes per second of `threads` threads that read working sets again and again, each its own contiguous share.
/// io_error when there is no memory for the largest.
[[nodiscard]] Result<std::vector<BandwidthSample>> probe_read_bandwidth(const std::vector<double>& working_sets, int threads,
                                                                        int repetitions);

/// Seconds of one barrier, and of one empty parallel region, of `threads` OpenMP threads.
[[nodiscard]] Sampled probe_barrier(int threads, int repetitions);
[[nodiscard]] Sampled probe_fork_join(int threads, int repetitions);

/// FLOP/s of one thread on independent FMAs in registers. `isa` is one of probe_isas().
[[nodiscard]] Sampled probe_fma(const std::string& isa, int repetitions);

}  // namespace signsplit::sim
