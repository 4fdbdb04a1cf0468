#include "workspace.hpp"

#include <algorithm>
#include <cstdint>

#include "kernels/restored_kernels.hpp"

namespace signsplit::cpu {
namespace {

/// Hands out 64-byte aligned pieces of a block; with a null block it only measures.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(index_t count) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += static_cast<std::size_t>(round_up(count * static_cast<index_t>(sizeof(T)), 64));
    return piece;
  }
  /// Leaves room before what another worker writes. Where a core reads up to the end of its own arrays, its prefetchers ask for the lines
  /// that follow, and take them from the core that works there: with all of it side by side, sign_split in cache took 1.1 to 1.35 times
  /// as long on two core complexes (256 bytes of room were not enough). Room between the parts of y as well, or before them, saved it
  /// another 3 % and cost row_fused 2 %.
  void keep_apart() { used_ += kPage; }
  void go_to_page() { used_ = (used_ + kPage - 1) / kPage * kPage; }
  [[nodiscard]] std::size_t used() const { return used_; }
  static constexpr std::size_t kPage = 4096;

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

/// y of several tokens: the same column of two tokens must not lie at the same place of two 4 KiB pages, because a load then
/// waits for the store to the other, and because all of them fall into one set of the first-level cache.
constexpr index_t kPageElems = 1024, kApartElems = 128;

TileScratch carve_tile(Carver& carver, const Plan& plan, const Problem& problem) {
  const index_t units = plan.hidden_tile, values = units * problem.batch;
  const bool split = plan.strategy == Strategy::sign_split;
  const bool continued = !split && (plan.strategy != Strategy::certified || judges_again(plan, problem)) && k_tile_count(plan, walk_shape(problem)) > 1;
  TileScratch t;
  t.selected = carver.take<index_t>(units);
  t.pre = carver.take<float>(values);
  t.coefficients = carver.take<float>(values);
  t.compact = carver.take<float>(values);
  t.open = carver.take<std::uint8_t>(values);
  if (problem.gated) t.up = carver.take<float>(values);
  if (continued) t.pre_partials = carver.take<float>(values * kAccumulators);
  if (continued && problem.gated) t.up_partials = carver.take<float>(values * kAccumulators);
  if (split) {
    t.absolute = carver.take<float>(values);
    t.positive = carver.take<float>(values);
    t.negative = carver.take<float>(values);
    t.pushed = carver.take<float>(values);
    t.stopped = carver.take<std::uint8_t>(values);
    t.already_read = carver.take<std::uint8_t>(units);
  }
  if (problem.arithmetic == Arithmetic::w8a8) {
    t.integers = carver.take<std::int16_t>(values);
    t.h_scales = carver.take<float>(problem.batch);
    t.integer_sums = carver.take<std::int32_t>(problem.batch * walk_shape(problem).d_padded);
  }
  if (plan.strategy == Strategy::certified) {
    t.survivors = carver.take<index_t>(units);
    t.deferred = carver.take<index_t>(units);
    t.deferred_coefficients = carver.take<float>(values);
    const bool again = judges_again(plan, problem);
    const index_t borders = again ? k_tile_count(plan, walk_shape(problem)) - 1 : 0;
    t.certify_sums = carver.take<float>(std::max(problem.batch, borders) * 2 * kPanelRows);
    t.panel_remains = carver.take<float>(borders * kPanelRows);
    t.remains = carver.take<float>(borders * units);
    if (again) t.offsets = carver.take<float>(units);
    if (again) t.places = carver.take<std::uint32_t>(units);
  }
  if (plan.placement == Placement::residual) {
    const index_t padded = walk_shape(problem).d_padded;
    t.planes = carver.take<signed char>(units * padded);
    t.plane_scales = carver.take<std::uint16_t>(units * PanelLayout{padded, plan.plane_group}.groups());
    t.restored = carver.take<float>(restored_rows(problem.batch) * padded);
  }
  return t;
}

Workspace carve(Carver& carver, const Plan& plan, const Problem& problem, int threads) {
  const index_t padded = walk_shape(problem).d_padded;
  Workspace w;
  w.x = carver.take<float>(problem.batch * padded);
  if (problem.batch > 1) w.packed_x = carver.take<float>(problem.batch * padded);
  if (problem.arithmetic == Arithmetic::w8a8) {
    w.x_integers = carver.take<signed char>(problem.batch * padded);
    w.x_scales = carver.take<float>(problem.batch);
    w.x_sums = carver.take<std::int32_t>(problem.batch * scale_count(problem, 0, padded));
  }
  w.x_nonfinite = carver.take<std::uint8_t>(problem.batch);
  w.x_norms = carver.take<double>(problem.batch);
  if (plan.strategy == Strategy::certified) {
    w.x_quads = carver.take<QuantizedQuad>(problem.batch * padded / 4);
    w.x_groups = carver.take<QuantizedGroup>(problem.batch * PanelLayout{padded, plan.plane_group}.groups());
    w.x_tokens = carver.take<QuantizedToken>(problem.batch);
  }
  w.y_stride = problem.batch > 1 ? round_up(padded, kPageElems) + kApartElems : padded;
  // Rows of W2 begin at pages too, often. Loads of f32 rows alias the stores to y where these lie 64 to 512 bytes behind modulo 4 KiB:
  // product 2 then took 1.5 to 1.9 times as long from the last-level cache.
  carver.go_to_page();
  w.partial_y = carver.take<float>(plan.parts * problem.batch * w.y_stride);
  if (plan.strategy == Strategy::unfused) w.h = carver.take<float>(problem.d_ff * problem.batch);
  for (int i = 0; i < threads; ++i) {
    carver.keep_apart();
    w.tiles.push_back(carve_tile(carver, plan, problem));
  }
  return w;
}

}  // namespace

std::size_t workspace_size(const Plan& plan, const Problem& problem, int threads) {
  Carver carver(nullptr);
  static_cast<void>(carve(carver, plan, problem, threads));
  return carver.used() + Carver::kPage;
}

Workspace carve(std::byte* memory, const Plan& plan, const Problem& problem, int threads) {
  const std::size_t past_page = reinterpret_cast<std::uintptr_t>(memory) % Carver::kPage;
  Carver carver(memory + (past_page == 0 ? 0 : Carver::kPage - past_page));
  return carve(carver, plan, problem, threads);
}

}  // namespace signsplit::cpu
