// The CPU executor's sink: receives the walk's events and runs tile kernels on them.
#pragma once

#include <span>

#include "crew.hpp"
#include "isa.hpp"
#include "kernels/certify_kernels.hpp"
#include "kernels/integer_kernels.hpp"
#include "kernels/restored_kernels.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/unit_decision.hpp"
#include "signsplit/walk.hpp"
#include "signsplit/weights.hpp"
#include "workspace.hpp"

namespace signsplit {
class Certificate;
class Residual;
}

namespace signsplit::cpu {

/// What all workers of one run share.
struct RunContext {
  const Weights& weights;
  const Plan& plan;
  Problem problem;
  WalkShape shape;
  const KernelTable& kernels;
  Workspace& workspace;
  float* y = nullptr;                     ///< [batch, d_model]
  std::uint8_t* active_mask = nullptr;    ///< [batch, d_ff] or null
  const Certificate* certificate = nullptr;  ///< certified only
  const Residual* residual = nullptr;        ///< certified with placement residual only
  CertifyKernel certify = nullptr;
  bool exact_mask = false;
  const IntegerKernels* integers = nullptr;  ///< w8a8 only
  const RestoredKernels* restored = nullptr; ///< placement residual only
  bool from_memory = false;                  ///< the layer is not expected in a cache
  RequestStyle style = RequestStyle::slow_memory;
};

/// Who helps a worker once the queue of its phase is empty.
struct Help {
  Crew* crew = nullptr;             ///< null: nobody
  const WorkQueue* queue = nullptr;
  int worker = 0;
};

/// One worker's sink. Satisfies WalkSink.
class TileSink {
 public:
  TileSink(const RunContext& run, TileScratch& scratch, Help help)
      : run_(run), tile_(scratch), help_(help), judges_again_(judges_again(run.plan, run.problem)) {}

  /// Which of the units of the part that begins next come, and the unit that this worker goes on with, more often than not; or d_ff.
  void expect(HiddenRange units, index_t following) {
    units_ = units;
    following_ = following;
  }

  void begin_part(index_t part, Phase phase);
  void up_tile(HiddenRange hidden, KRange k);
  void activate(HiddenRange hidden);
  void push(HiddenRange hidden, KRange k);
  void down_tile(HiddenRange hidden);
  void correct(HiddenRange hidden);
  void certify(HiddenRange hidden);
  void store_h(HiddenRange hidden);
  void load_h(HiddenRange hidden);
  void reduce(ColumnRange columns);

  /// y of part `into` += y of part `from`.
  void add_part(index_t into, index_t from);

  [[nodiscard]] const Statistics& statistics() const { return statistics_; }

 private:
  using Units = std::span<const index_t>;

  void begin_y();
  void count_tile(HiddenRange hidden);

  // What is read, and what after it (tile_sink.cpp).
  [[nodiscard]] RowList rows_of(Matrix matrix, Units units, KRange k) const;
  [[nodiscard]] RowList rows_of(Matrix matrix, HiddenRange units, KRange k) const;
  [[nodiscard]] KRange whole_row() const { return {0, run_.shape.d_padded, true, true}; }
  [[nodiscard]] Matrix first_matrix() const { return run_.problem.gated ? Matrix::gate : Matrix::up; }
  [[nodiscard]] RowList next_tile(HiddenRange hidden, Matrix matrix) const;
  [[nodiscard]] RowList after_first_matrix(HiddenRange hidden, KRange k) const;
  [[nodiscard]] RowList after_first_product(HiddenRange hidden) const;
  [[nodiscard]] RowList after_down_tile(HiddenRange hidden);
  [[nodiscard]] RowList first_rows_of_next_tile(HiddenRange hidden);

  // Kernel calls (products.cpp).
  template <class Rows>
  void run_kernel(void (*kernel)(const Rows&), const Rows& all);
  void dot(Matrix matrix, const RowList& rows, KRange k, float* partials, float* sums, float* absolute_sums,
           const RowList& next = {});
  void dot_floats(Matrix matrix, const RowList& rows, KRange k, float* partials, float* sums, float* absolute_sums,
                  const RowList& next);
  void add_rows(const RowList& rows, const float* coefficients, const RowList& next);
  [[nodiscard]] index_t announce(const RowList& now, const RowList& next);

  // Products (tile_sink.cpp).
  void dot_then_open_rows(HiddenRange hidden, KRange k);
  void select_and_add(HiddenRange hidden, const float* coefficients, bool skip_zero, const RowList& next = {});
  index_t up_rows_of_open_gates(HiddenRange hidden);
  void open_ungated(index_t count);
  void open_smooth(index_t count);
  void finish_units(HiddenRange hidden);

  // Integers (w8a8.cpp).
  void dot_integers(Matrix matrix, RowList rows, KRange k, float* sums, const RowList& next);
  void find_h_scales();
  void begin_integer_part();
  void add_integer_rows(HiddenRange hidden);
  void add_integer_group(HiddenRange units);
  void scale_integer_sums(index_t unit);

  // One unit and token (tile_sink.cpp).
  [[nodiscard]] std::span<const float> bias_of(Matrix matrix) const;
  [[nodiscard]] float biased(Matrix matrix, index_t unit, float sum) const;
  void add_bias(Matrix matrix, HiddenRange hidden, float* sums) const;
  [[nodiscard]] bool strict(index_t unit, index_t token) const;
  [[nodiscard]] float unit_h(index_t unit, index_t token, float pre, float up) const;

  // Certificate (certified.cpp).
  void ask_for_y() const;
  void ask_for_first_survivors() const;
  void dot_survivors(HiddenRange hidden, KRange k);
  void keep_bounds(index_t unit);
  void drop_closed(index_t n);
  [[nodiscard]] RowList plane_after(HiddenRange hidden) const;
  [[nodiscard]] RowList after_survivors(HiddenRange hidden) const;
  void add_bias_of_survivors();
  void activate_survivors(HiddenRange hidden);
  void open_gated_survivors(HiddenRange hidden);
  void up_sums_of_open_survivors(HiddenRange hidden);
  void defer_rows(HiddenRange hidden);

  // Placement residual (restored.cpp).
  void keep_planes(index_t p, index_t first);
  [[nodiscard]] RowList residual_rows(Units units) const;
  void dot_restored(Units survivors, const RowList& next);

  // Signs in doubt (exact_mask.cpp).
  struct Settled {
    bool open;
    float pre, up;
  };
  [[nodiscard]] bool in_doubt(index_t unit, index_t token, float z, float up) const;
  [[nodiscard]] double rounding_bound_of(Matrix matrix, index_t unit, index_t token) const;
  [[nodiscard]] Settled settle(index_t unit, index_t token);
  [[nodiscard]] bool counts_as_open(index_t unit, index_t token, float pre, float up);

  // Sign split (sign_split.cpp).
  [[nodiscard]] SplitUnit split_unit(index_t at) const { return {tile_.positive[at], tile_.negative[at], tile_.pushed[at]}; }
  [[nodiscard]] float push_one(index_t unit, index_t at, bool first);
  [[nodiscard]] Correction correct_one(index_t unit, index_t token, index_t at);
  void redo_rows(Units units, index_t first_unit);

  [[nodiscard]] bool integers() const { return run_.problem.arithmetic == Arithmetic::w8a8; }
  [[nodiscard]] index_t at(index_t i, index_t token) const { return i * run_.problem.batch + token; }
  [[nodiscard]] std::uint64_t row_bytes() const { return static_cast<std::uint64_t>(run_.weights.row_bytes()); }

  const RunContext& run_;
  TileScratch& tile_;
  const Help help_;
  const bool judges_again_;
  Statistics statistics_;
  Phase phase_ = Phase::fused;
  bool h_scales_found_ = false;           // w8a8
  struct {
    const void* matrix = nullptr;
    index_t first = 0, bytes = 0;
  } announced_;                           // the rows that the last kernel call has begun to ask for
  HiddenRange units_ = {};                // that come of the part: all, or those from its beginning on, or the rest
  index_t part_begin_ = 0;
  index_t following_ = 0;                 // the unit that this worker goes on with, more often than not
  index_t survivors_ = 0, deferred_ = 0;  // certified: of the arrays in tile_
  index_t likely_units_[kRowsAtOnce], likely_ = 0;  // certified: the tile's first survivors that are open, more likely than not; unfused
                                                    // with skip: the first units of the next tile that are
  float* y_part_ = nullptr;               // [batch, y_stride]
  bool y_begun_ = false;                  // it holds sums, not what was there before
  const float* coefficients_ = nullptr;   // [tile, batch], of the next down_tile
};

/// Asks for y of the part while the first product of its first tile is computed. Other layers have gone through the caches since it
/// was last used: set to 0 before it is asked for, it takes 5 us a part, in which no weights come. Inlined by force: GCC drops the
/// call of a function that only prefetches.
__attribute__((always_inline)) inline void TileSink::ask_for_y() const {
  constexpr int kToWrite = 1, kIntoSecondLevel = 2;
  for (index_t d = 0; d < run_.shape.d_padded; d += 16) __builtin_prefetch(y_part_ + d, kToWrite, kIntoSecondLevel);
}

}  // namespace signsplit::cpu
