// Measuring: every time of the command comes from here. Cases are interleaved in one process (A, B, C, A, B, C, ...),
// the layer is rotated past the last-level cache when cold, outputs are poisoned before each call and checked after it.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/predict.hpp"
#include "tools/executor.hpp"

namespace signsplit::tools {

struct MeasureResult;

/// One case of a comparison: a plan of ours, or a vendor baseline by name ("onednn").
struct CaseRequest {
  std::optional<Plan> plan = {};
  std::string vendor = {};
  bool exact_mask = false;  ///< of a plan on the CPU: with cpu::Options::exact_mask, its statistics included
  bool seldom = false;      ///< takes a turn in the first three rounds and then in every third: the others are what is compared closely
  std::string name = {};  ///< what the case is called; empty: the plan's label, or the vendor's name
};
[[nodiscard]] std::string label_of(const CaseRequest& request);

struct MeasureOptions {
  Executor* executor = nullptr;   ///< borrowed; nullptr: the CPU, with the next two
  int threads = 0;                ///< 0: all. Also of the reference that results are compared with
  std::optional<cpu::Isa> isa;
  sim::Residency residency = sim::Residency::cold;
  double rotation_bytes = 0;      ///< cold: of the layers that take turns together; 0: what the executor needs at least
  double budget_s = 2.0;          ///< for all cases together, after set-up
  int min_rounds = 5;
  /// So many seconds more for the fastest fused and the fastest unfused plan, where after budget_s the 90 % interval of their difference covers
  /// zero. It is looked at once, before these rounds, and its sign never.
  double tie_budget_s = 0.0;
  std::uint64_t seed = 1;
  bool measure_read_bandwidth = true;
  bool check_results = true;      ///< compare with row_fused bit by bit and with the exact reference in ulps
  bool exact_reference = true;    ///< the second of these, which takes a second per token of a large layer
  std::function<Status()> before_timing = {};  ///< when all is set up, just before the first timed call
  /// Asked when all is timed: whether to forget it and to time all once more, on the same layers, before_timing included. Empty: no.
  std::function<bool(const MeasureResult&)> again = {};
  /// Whether the machine is still what it was just before the first timed call; asked between turns, every 2 ms and more. A turn counts
  /// when the answer just before it and the one just after it are yes; of cases that leave fewer than 3 such turns all count. Empty:
  /// all do.
  std::function<bool()> still = {};
};

struct CaseResult {
  std::string label;              ///< label_of its request
  std::optional<Plan> plan;
  bool exact_mask = false;
  double median_s = 0, p10_s = 0, p90_s = 0;
  int samples = 0;                ///< turns that count
  double all_turns_median_s = 0;  ///< whether they count or not
  double paired_s = 0, paired_ci90_s = 0;  ///< paired_medians: to be compared with those of other cases; 0 when fewer than 3 turns count
  Statistics statistics;          ///< of one call; all zero for a vendor
  std::uint64_t bytes = 0;        ///< weight bytes read by one call (vendor: its own copy of the dense layer)
  bool same_bits_as_row_fused = false;
  std::uint64_t max_ulp = 0;      ///< against the composite reference, or the staged one where that is not defined
  std::string detail;             ///< of a vendor: version, arithmetic, the kernels it chose
  std::string error;              ///< not empty: the case could not run, and why
};

struct MeasureResult {
  double read_bandwidth_Bps = 0;  ///< same threads, same kind of pages, same residency, interleaved with the cases
  double read_bandwidth_p10_Bps = 0, read_bandwidth_p90_Bps = 0;
  std::string device;             ///< "cpu", "cuda:0"
  int threads = 1;                ///< used by every case; multiprocessors of a GPU
  int layers = 1;                 ///< layers rotated through
  double layer_bytes = 0;
  double turns_left_out = 0;      ///< share of all turns, 0..1, between which the machine was another one
  bool huge_pages = false;        ///< what the system granted for the weights
  std::vector<CaseResult> cases;
};

using MeasureProgress = std::function<void(double fraction, const std::string& what)>;

/// Makes a synthetic layer (seed and active fraction given) and measures every case on it. A case that cannot run is
/// reported in its `error`, the others go on.
[[nodiscard]] Result<MeasureResult> measure(const Problem& problem, double active, std::span<const CaseRequest> cases,
                                            const MeasureOptions& options, const MeasureProgress& progress = {});

}  // namespace signsplit::tools
