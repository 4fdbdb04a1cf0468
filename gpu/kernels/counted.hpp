// What the warps of a block count while they run, and the statistics that come of it: those of the CPU's report.
#pragma once

#include "../block.hpp"
#include "../kernel_arguments.hpp"

namespace signsplit::gpu {

/// What every warp counts alike: a block's share of a run stays below 2^32 rows.
struct Counted {
  std::uint32_t parts = 0, tiles = 0, up_rows = 0, gate_rows = 0, down_rows = 0, h_units = 0, reduced_columns = 0, scales = 0;
  std::uint32_t panels = 0, plane_units = 0, survivors = 0;  // certified
  std::uint64_t tile_elems = 0;                              // sign_split: of W1 (and as many of the gate), by K tiles
  std::uint32_t redone = 0, repaired = 0, down_again = 0;
};

/// The part of the statistics that comes of `counted`. `total` has what each warp counted for itself: active, active_union,
/// rechecked. `phase`: the last one of the kernel.
SIGNSPLIT_DEVICE void fill_statistics(Statistics& total, const KernelArguments& a, const Counted& counted, Phase phase) {
  const auto tokens_bytes = static_cast<std::uint64_t>(a.problem.batch * 4);
  const auto row_bytes = static_cast<std::uint64_t>(a.shape.d_padded * dtype_bytes(a.problem.dtype));
  const std::uint64_t columns = static_cast<std::uint64_t>(a.shape.d_padded);
  total.tiles = counted.tiles;
  total.bytes_scales = counted.scales * static_cast<std::uint64_t>(kScaleBytes);
  total.bytes_up = counted.up_rows * row_bytes;
  total.bytes_gate = counted.gate_rows * row_bytes;
  total.bytes_down = counted.down_rows * row_bytes;
  total.pushed_rows = counted.down_rows - counted.repaired;
  if (a.plan.strategy == Strategy::sign_split) {
    const std::uint64_t tiles = counted.tile_elems * static_cast<std::uint64_t>(dtype_bytes(a.problem.dtype));
    total.bytes_scales += total.rechecked * static_cast<std::uint64_t>((a.problem.gated ? 2 : 1) * kScaleBytes *
                                                                       scale_count(a.problem, 0, a.shape.d_padded));
    const std::uint64_t again = (counted.redone + total.rechecked) * row_bytes;
    total.bytes_up += tiles + again;
    if (a.problem.gated) total.bytes_gate += tiles + again;
    total.bytes_up_again = a.problem.gated ? 2 * again : again;
    total.bytes_down_again = counted.down_again * row_bytes;
    total.redone = counted.redone;
    total.repaired = counted.repaired;
  }
  total.bytes_plane = counted.panels * static_cast<std::uint64_t>(a.plane.layout.bytes());
  total.certified = counted.plane_units - counted.survivors;
  total.refined = counted.survivors;
  total.bytes_h = counted.h_units * tokens_bytes;
  if (phase != Phase::second_product) total.bytes_x = counted.parts * columns * tokens_bytes;
  if (phase != Phase::first_product) total.bytes_y = counted.parts * columns * tokens_bytes;
  total.bytes_y += static_cast<std::uint64_t>(a.plan.parts) * counted.reduced_columns * tokens_bytes;
}

/// Statistics are words of 64 bits, one after the other.
SIGNSPLIT_DEVICE void add_to(Statistics& total, const Statistics& more) {
  auto* words = reinterpret_cast<std::uint64_t*>(&total);
  const auto* other = reinterpret_cast<const std::uint64_t*>(&more);
  SIGNSPLIT_UNROLL
  for (int i = 0; i < static_cast<int>(sizeof(Statistics) / sizeof(std::uint64_t)); ++i) words[i] += other[i];
}

}  // namespace signsplit::gpu
