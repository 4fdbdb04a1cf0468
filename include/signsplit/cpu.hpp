// The CPU executor: runs any plan on any x86-64 (or, scalar, any) processor, with the same bits everywhere.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::cpu {

/// Instruction sets, slowest first. scalar is always there and never removed: it is the reference for the others.
enum class Isa : std::uint8_t {
  scalar,
  avx2,    ///< AVX2 + FMA3 (+ F16C)
  avx512,  ///< AVX-512 F, BW, DQ, VL
};

[[nodiscard]] std::string_view to_string(Isa isa) noexcept;
[[nodiscard]] std::optional<Isa> parse_isa(std::string_view text) noexcept;

/// The instruction sets that this build contains and that this processor and operating system (cpuid and XCR0) support.
[[nodiscard]] std::vector<Isa> supported_isas();

/// The one to use: `forced` if given, else what the environment variable SIGNSPLIT_ISA names, else the best supported.
/// One that is not supported, or a name that is none, is an error, never a fallback.
[[nodiscard]] Result<Isa> select_isa(std::optional<Isa> forced = std::nullopt);

struct Options {
  int threads = 0;         ///< 0: as many as OpenMP would use
  std::optional<Isa> isa;  ///< empty: select_isa()
  /// The active mask, and the statistics of it, are those of real numbers: units whose sign is within the rounding bound are
  /// settled by the exact accumulator, which reads their rows again (Statistics::rechecked). y does not change. sign_split
  /// does this in any case. Not with w8a8.
  bool exact_mask = false;
};

/// Ok when the plan is valid for the problem and this machine can run it; else the rule in words.
[[nodiscard]] Status can_run(const Plan& plan, const Problem& problem, const Options& options = {});

/// Bytes of scratch memory that one run needs.
[[nodiscard]] std::size_t workspace_bytes(const Plan& plan, const Problem& problem, const Options& options = {});

/// What a run may report beside y.
struct Report {
  Statistics statistics;
  Isa isa = Isa::scalar;  ///< as the kernels that ran report it themselves
  int threads = 0;
};

/// One item that a worker did in a traced run.
struct TraceEvent {
  int worker = 0;
  int phase = 0;         ///< index of the phase in the plan
  index_t item = 0;      ///< part, or column slice of the reduction
  double begin_s = 0, end_s = 0;  ///< since the run began
};

/// An FFN bound to weights, a plan and a workspace of its own. The weights are borrowed and must outlive it.
/// run() allocates nothing. One Ffn must not run in two threads at once; two may share weights.
class Ffn {
 public:
  [[nodiscard]] static Result<Ffn> create(const Weights& weights, const Plan& plan, index_t batch = 1,
                                          const Options& options = {});
  Ffn(Ffn&&) noexcept;
  Ffn& operator=(Ffn&&) noexcept;
  ~Ffn();

  /// y [B, D] = FFN(x [B, D]); x and y do not overlap. NaN outputs are the canonical quiet NaN 0x7fc00000. The calling
  /// thread's and the workers' floating-point modes (rounding, flush to zero) are set to the default and put back.
  /// `active_mask`, unless empty, receives [B, F]: 1 where the unit is open. Under sign_split, and
  /// with Options::exact_mask, the mask is exact: units whose sign is within the rounding error are settled by the exact accumulator.
  Status run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask = {});

  /// Goes on with another layer of the same problem, as decoding through a model does: plan and workspace stay, nothing is
  /// allocated. Borrowed like the first. invalid_argument, and nothing changes, when the layer's problem is another.
  Status rebind(const Weights& weights);

  /// Every later run() leaves in `events` what its workers did and when, ordered by worker and time, in place of what was
  /// there; nullptr: no more. Traced runs allocate. A run that is not traced pays one comparison per item.
  void trace(std::vector<TraceEvent>* events) noexcept;

  /// Statistics of the last run.
  [[nodiscard]] const Report& report() const noexcept;
  [[nodiscard]] const Plan& plan() const noexcept;
  [[nodiscard]] const Problem& problem() const noexcept;

 private:
  struct State;
  explicit Ffn(State* state) noexcept : state_(state) {}
  State* state_ = nullptr;
};

}  // namespace signsplit::cpu
