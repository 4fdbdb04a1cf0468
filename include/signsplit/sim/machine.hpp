// Machine profiles: what the simulator knows of a machine, as data, with the provenance of every number.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "signsplit/portability.hpp"
#include "signsplit/status.hpp"

namespace signsplit::sim {

/// Where a number comes from, most to least trustworthy as it is used here.
enum class Kind : std::uint8_t { measured, fitted, datasheet, assumed };
[[nodiscard]] std::string_view to_string(Kind) noexcept;

/// One number of a profile, in SI base units once parsed (seconds, bytes, hertz, operations, and per second).
struct Quantity {
  double value = 0.0;
  std::string unit;      ///< the SI base unit once parsed: s, Hz, B, B/s, FLOP/s, elem/s, 1
  Kind kind = Kind::assumed;
  std::string source;    ///< a document, or the command that measured it
  double ci90 = 0.0;     ///< half width of the 90 % interval of the value, same scale; 0: not known

  friend bool operator==(const Quantity&, const Quantity&) = default;
};

/// Where a whole number of a profile comes from.
struct Provenance {
  Kind kind = Kind::assumed;
  std::string source = "not stated";

  friend bool operator==(const Provenance&, const Provenance&) = default;
};

/// Converts a value with a unit to SI base units: prefixes n, u/µ, m, k, M, G, T, Ki, Mi, Gi, Ti on s, Hz, B, B/s, FLOP/s, elem/s,
/// and plain "1". invalid_argument names the unit.
[[nodiscard]] Result<double> to_si(double value, std::string_view unit);

/// One point of a bandwidth curve: reading a working set over and over with some workers (threads of a CPU, blocks of a GPU).
/// The working set is that of all workers together, each reads its own share; the last point of a curve is what main memory
/// gives.
struct BandwidthPoint {
  double working_set_bytes = 0;
  int threads = 1;
  double bytes_per_s = 0;
  double ci90 = 0;

  friend bool operator==(const BandwidthPoint&, const BandwidthPoint&) = default;
};

/// Which line of a full set a cache gives up.
enum class Replacement : std::uint8_t {
  lru,   ///< the least recently used
  plru,  ///< the one that a binary tree of "used last" bits points at; ways must be a power of two
};
[[nodiscard]] std::string_view to_string(Replacement) noexcept;  ///< "lru", "plru"

struct CacheLevel {
  std::string name;  ///< "L1d", "L2", "L3"
  Quantity capacity_bytes;
  int shared_by_units = 1;
  int line_bytes = 64;
  Provenance shared_from = {}, line_from = {};
  int ways = 0;  ///< lines per set; 0: not known
  Provenance ways_from = {};
  Replacement policy = Replacement::lru;
  std::optional<Quantity> latency_s = {};      ///< of a hit; where a cache has halves, in the near one
  std::optional<Quantity> latency_far_s = {};  ///< in the far half

  friend bool operator==(const CacheLevel&, const CacheLevel&) = default;
};

/// A cost that depends on the number of threads.
struct ThreadCost {
  int threads = 1;
  Quantity seconds;

  friend bool operator==(const ThreadCost&, const ThreadCost&) = default;
};

/// Arithmetic throughput of one worker on cache-resident data.
struct Rate {
  std::string isa;   ///< "scalar", "avx2", "avx512", "neon", "gpu"
  std::string name;  ///< "fma_f32", "up_f32", "up_bf16", "streams_bf16", "down_f32", ... (docs/simulator.md)
  Quantity per_s;    ///< FLOP/s for fma_*, weight elements per second for the others

  friend bool operator==(const Rate&, const Rate&) = default;
};

/// A CPU or a GPU. A worker is what takes a part of a plan: a thread of a CPU, a block (CTA) of a GPU.
struct Machine {
  std::string name;     ///< "host", "epyc-zen5-vm", "h200"
  std::string title;    ///< for people
  std::string kind = "cpu";  ///< "cpu" or "gpu"
  std::string date;     ///< of the measurement, ISO 8601; empty if none
  int units = 1;        ///< cores, or multiprocessors, that can run a worker
  int threads = 1;      ///< workers that predictions assume unless told
  Provenance units_from = {}, threads_from = {};
  std::string isa;      ///< best instruction set: scalar, avx2, avx512, neon; "gpu" for every GPU
  Quantity clock_hz;
  std::vector<CacheLevel> levels;
  std::vector<BandwidthPoint> read_bandwidth;  ///< sorted by threads, then working set
  std::string read_bandwidth_source;
  Kind read_bandwidth_kind = Kind::assumed;
  std::vector<ThreadCost> barrier_s;       ///< CPU
  std::vector<ThreadCost> fork_join_s;     ///< CPU
  std::vector<Rate> rates;
  /// By "section.name", as in "overheads.launch_graph": memory, concurrency, launches and barriers, mostly of GPUs
  /// (docs/gpu-model.md). A GPU has all that its predictions need.
  std::map<std::string, Quantity> figures;
  std::map<std::string, Quantity> model;  ///< fitted corrections of the cost model, by name
  double noise_cv = 0.05;                 ///< relative spread of repeated measurements
  Provenance noise_from = {};

  friend bool operator==(const Machine&, const Machine&) = default;
};

/// Parses and checks a profile. Errors name the file, the field and the rule.
[[nodiscard]] Result<Machine> parse_machine(std::string_view json, std::string_view file_name);
[[nodiscard]] Result<Machine> load_machine(const std::filesystem::path& file);
[[nodiscard]] std::string to_json(const Machine& machine);

/// Names of the profiles built into the library (hardware/*.json).
[[nodiscard]] std::vector<std::string> machine_names();

/// A profile by name, by path of a .json file, or "host": the calibrated profile of this machine
/// ($SIGNSPLIT_HOST_PROFILE, else host.json in the user's cache directory), or, when there is none, detect_host().
[[nodiscard]] Result<Machine> find_machine(const std::string& name_or_file);
/// Where `calibrate` leaves the host's profile for find_machine.
[[nodiscard]] std::filesystem::path host_profile_path();
/// What the operating system tells about this machine, everything else assumed: good for a first guess with wide intervals.
[[nodiscard]] Machine detect_host();

}  // namespace signsplit::sim
