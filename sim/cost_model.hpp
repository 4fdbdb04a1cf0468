// What level 1 and level 2 share: the numbers that a scenario needs from a machine, and what a phase has to do.
#pragma once

#include <limits>

#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

namespace signsplit::sim {

/// Seconds that one thread needs for one weight element of each kernel, whatever the batch.
struct ElementTimes {
  double up = 0, down = 0, exact = 0, plane = 0;
  double redo = 0;      ///< product 1 once more, whatever the variant
  double restored = 0;  ///< placement residual: what a weight takes beside its multiplication, whatever the batch
};

/// Of a rate: bytes per second that nothing reaches.
inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// Everything the equations need, looked up once.
struct Model {
  const Machine& machine;
  int threads = 1;
  ElementTimes element;
  double stream_efficiency = 1, cache_efficiency = 1, overlap_loss = 0, cache_overlap_loss = 0, gap_bytes = 0, first_byte = 0, imbalance = 0;
  double most_per_thread = kNoLimit;  ///< bytes per second that a thread gets from main memory at most
  double piece = 0;  ///< thread seconds per row piece of product 1, all tokens
  double fold = 0;   ///< the same for having several tokens, and of every matrix
  double row = 0;    ///< the same per row of product 2
  double unit = 0;   ///< the same per unit that a certificate judges
  double redo = 0;   ///< the same per row that sign_split computes once more
  /// Bytes of main memory per second that a thread waits for them, beside its arithmetic.
  double up_stall_rate = kNoLimit, down_stall_rate = kNoLimit;
  double mixed_rate = kNoLimit;  ///< bytes per second of a thread's waits where half of the lines come from main memory and half from a cache
  bool jumps_stall = false;  ///< no arithmetic goes on beside a jump in main memory
  double restart = 0;  ///< thread seconds of waiting where reading begins anew
  double cache_end = 0;  ///< bytes: working sets up to here come from caches alone
  bool returns = true;  ///< a call begins where the one before ended
  double parts = 1;
  double guess_wait = 0;    ///< the same again where main memory serves the rows
  double down_restart = 0;  ///< thread seconds per tile of product 2 from main memory
  double guess = 0;  ///< thread seconds per unit for finding out early which rows will be read
  /// Bytes' worth of time that main memory loses, share of the bytes: of rows read by a list, of two matrices read in turns, of a certificate's
  /// survivors.
  double lost_listed = 0, lost_in_turns = 0, lost_survivors = 0;
  double survivor = 0;  ///< thread seconds per unit that a certificate leaves
  double listed_row = 0;  ///< thread seconds more per row of product 2
  double down_wait = 0;  ///< thread seconds per row of product 2 from main memory
  double miss = 0;   ///< thread seconds that a row piece waits for main memory, where nothing asked for it ahead
};

/// What one product of a phase has to do. Bytes and elements of all parts together.
struct Demand {
  double stream_bytes = 0;     ///< weights read for the first time
  double jumps = 0;            ///< restarts of the address stream
  double busy_s = 0;           ///< arithmetic on them, thread seconds
  double stall_s = 0;          ///< waits beside the arithmetic, were all from main memory, thread seconds
  double misses = 0;           ///< row pieces that nothing asks for ahead
  double restarts = 0;         ///< changes of the matrix, or tiles that nothing asks for ahead: reading begins anew
  double lost_bytes = 0;       ///< bytes' worth of time lost, were all from main memory
  double waits_s = 0;          ///< waits beside no stream, were all from main memory, thread seconds
  double again_bytes = 0;      ///< weights that the hidden tile has read before
  double again_busy_s = 0;
};

/// The two products of a phase; what a phase does not compute is empty.
struct PhaseDemand {
  Demand up, down;
  [[nodiscard]] Demand sum() const;
};

/// Sets what the corrections of the machine's profile say of the kernels that a call on a CPU runs, rows of `row_bytes` each.
void add_kernel_terms(Model& model, const Scenario& scenario, index_t row_bytes);

/// invalid_argument when the machine lacks a rate or a bandwidth.
[[nodiscard]] Result<Model> look_up(const Scenario& scenario, const Machine& machine);

[[nodiscard]] PhaseDemand demand_of(Phase phase, const Scenario& scenario, const Model& model, const Structure& structure,
                                    const Statistics& bytes);

/// The working set that the stream of new weights is looked up with. Cold: none that a cache could hold. Warm: half way
/// between what a call reads and the whole layer.
[[nodiscard]] double footprint_of(const Scenario& scenario, const Machine& machine, const Statistics& bytes);

/// Share of a footprint's bytes that main memory, and no cache, gives: m in 1 / curve = m / main memory + (1 - m) / cache, where the cache
/// gives what the curve tells where it begins to fall.
[[nodiscard]] double memory_share(const Model& model, int workers, double footprint);

/// Bytes per second at which some workers stream weights: what the curve tells, the time in main memory and that in caches each with its
/// efficiency.
[[nodiscard]] double stream_rate(const Model& model, int workers, double footprint);

/// Time of a share of a demand done by some workers at once.
struct PhaseTime {
  double stream = 0, compute = 0;
  double serial = 0;  ///< of `compute`: what goes on beside no stream
  double bytes = 0;   ///< that are streamed, jumps included
  double busy_s = 0;  ///< thread seconds beside the stream
  [[nodiscard]] double total() const { return stream + compute; }
};
[[nodiscard]] PhaseTime time_of(const Demand& demand, double share, int workers, double footprint, double tile_bytes, const Model& model);

/// predict() without the interval: low and high are the time. For sweeps, which need the interval of a gap only.
[[nodiscard]] Result<Prediction> predict_time(const Scenario& scenario, const Machine& machine);

/// Bytes of the rows of one hidden tile, of all matrices.
[[nodiscard]] double tile_bytes_of(const Scenario& scenario, const Structure& structure);

/// Threads that have a part to work on.
[[nodiscard]] int worker_count(const Scenario& scenario, const Model& model);

}  // namespace signsplit::sim
