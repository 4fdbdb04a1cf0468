// Probes: what calibration measures by itself, without an executor.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/sim/machine.hpp"
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
/// The working set that counts as main memory: four times what is said to be the outermost cache, at least 256 MiB, at most
/// 1 GiB and a third of the memory available.
[[nodiscard]] double largest_working_set(const Machine& machine);

/// Reads working sets again and again with some threads, each its own contiguous share of the memory that this owns.
class ReadProbe {
 public:
  /// io_error when there is no memory for the largest.
  [[nodiscard]] static Result<ReadProbe> make(double largest_bytes, int threads);
  /// Bytes per second of all threads together, a sample per working set, `repetitions` times in turns.
  [[nodiscard]] std::vector<BandwidthSample> sample(const std::vector<double>& working_sets, int repetitions) const;
  /// The same of about `bytes` that follow those of the last call, read once: no cache has them where the memory is larger.
  [[nodiscard]] double next_slice(double bytes);
  [[nodiscard]] int threads() const { return threads_; }

 private:
  AlignedBuffer memory_;
  int threads_ = 1;
  std::size_t next_ = 0;
};

inline constexpr double kLineBytes = 64;

/// Follows chains of addresses: each line holds where the next one is, in an order that no prefetcher guesses.
class ChaseProbe {
 public:
  /// io_error when there is no memory for the largest.
  [[nodiscard]] static Result<ChaseProbe> make(double largest_bytes);
  /// Seconds per step of one thread that follows 1 to 16 chains side by side within `bytes`: with one chain, the latency.
  [[nodiscard]] Sampled latency(double bytes, int chains, int repetitions) const;
  [[nodiscard]] double bytes() const { return static_cast<double>(memory_.size()); }

 private:
  mutable AlignedBuffer memory_;
};

/// Elements per second of one thread, from the first-level cache: "convert_bf16", "convert_f16", "convert_int8" to f32, and
/// "dot_int8", products of bytes added up in 32 bits. `isa` is one of probe_isas(), `name` one of these.
[[nodiscard]] Sampled probe_conversion(const std::string& isa, const std::string& name, int repetitions);

/// Seconds of one barrier, and of one empty parallel region, of `threads` OpenMP threads. A sample is so many `regions` in a row.
[[nodiscard]] Sampled probe_barrier(int threads, int repetitions);
[[nodiscard]] Sampled probe_fork_join(int threads, int repetitions, int regions = 200);

/// FLOP/s of one thread on independent FMAs in registers. `isa` is one of probe_isas().
[[nodiscard]] Sampled probe_fma(const std::string& isa, int repetitions);

}  // namespace signsplit::sim
