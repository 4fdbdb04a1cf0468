// The certificate's plane in the ring, and its evaluation: what certificate_panel.hpp's evaluate_row defines, with the integer
// sums split over two lanes a row.
#pragma once

#include "shared_state.hpp"
#include "signsplit/certificate_panel.hpp"

namespace signsplit::gpu {

/// What one stage holds: groups [group, group + groups) of a panel; with the first group comes the panel's head, with the last its tail.
struct PlaneChunk {
  int panel, group, groups;
  bool first, last;
};

/// Goes over the panels of a tile, all of them for some groups, then for the next: so that each panel's warp has work.
template <class Visit>
SIGNSPLIT_DEVICE void for_plane_chunks(const KernelArguments& a, Tile tile, Visit&& visit) {
  const int first = static_cast<int>(first_panel(tile.begin));
  const int panels = static_cast<int>(panels_spanned(tile.begin, tile.begin + tile.units));
  const int groups = static_cast<int>(a.plane.layout.groups()), step = groups_per_stage(a);
  int panel = 0, group = 0;
  while (group < groups) {  // one loop: what `visit` does is compiled once
    const int count = step < groups - group ? step : groups - group;
    visit(PlaneChunk{first + panel, group, count, group == 0, group + count == groups});
    if (++panel < panels) continue;
    panel = 0;
    group += count;
  }
}

/// Where a chunk begins in its panel, and its bytes.
SIGNSPLIT_DEVICE index_t plane_chunk_offset(const PanelLayout& layout, const PlaneChunk& chunk) {
  return chunk.first ? 0 : layout.chunk_offset(chunk.group);
}
SIGNSPLIT_DEVICE int plane_chunk_bytes(const PanelLayout& layout, const PlaneChunk& chunk) {
  const index_t end = chunk.last ? layout.bytes() : layout.chunk_offset(chunk.group + chunk.groups);
  return static_cast<int>(end - plane_chunk_offset(layout, chunk));
}

/// sum + Σ plane[i]·x[i] of four bytes, the plane's unsigned.
SIGNSPLIT_DEVICE std::uint32_t add_four_products(std::uint32_t plane, std::uint32_t x, std::uint32_t sum) {
#if defined(__CUDA_ARCH__)
  std::uint32_t result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(plane), "r"(x), "r"(sum));
  return result;
#else
  for (int i = 0; i < 4; ++i) {
    const auto p = static_cast<std::int32_t>(plane >> (8 * i) & 0xffu);
    const auto v = static_cast<std::int8_t>(static_cast<std::uint8_t>(x >> (8 * i) & 0xffu));
    sum += static_cast<std::uint32_t>(p * v);
  }
  return sum;
#endif
}

/// The two halves of a quantized quad that dp4a multiplies with.
using HighAndLow = Pack<std::uint32_t, 2>;

/// Evaluates a chunk for the rows of a tile and all tokens. What is known so far of a row and token is kept in `middle` and
/// `bound`, [unit of the tile][token], the bases of the rows' scales in `bases`, [unit of the tile]. Lane l works on row l % 16; the two lanes of a row take every other quad.
template <class Block>
SIGNSPLIT_DEVICE void evaluate_chunk(Block& block, const KernelArguments& a, Tile tile, const PlaneChunk& chunk,
                                     const std::byte* stage, float* middle, float* bound, std::uint32_t* bases) {
  constexpr int kRows = static_cast<int>(kPanelRows);
  const PanelLayout& layout = a.plane.layout;
  const int tokens = static_cast<int>(a.launch.tokens), quads = static_cast<int>(layout.group / 4);
  const auto unit_of = [&](int lane) { return chunk.panel * kRows + lane % kRows - tile.begin; };  // of the tile
  const auto outside = [&](int lane) { return unit_of(lane) < 0 || unit_of(lane) >= tile.units; };
  const std::byte* const chunks = stage - plane_chunk_offset(layout, chunk);  // the panel, of which this is a part
  typename Block::template PerLane<std::uint32_t> base;
  block.lanes([&](int lane) {
    base[lane] = 0;
    if (chunk.first) base[lane] = block.load(reinterpret_cast<const std::uint32_t*>(stage) + lane % kRows);
    if (outside(lane)) return;
    if (!chunk.first) base[lane] = block.load(bases + unit_of(lane));
  });
  block.lanes([&](int lane) {
    if (chunk.first && lane < kRows && !outside(lane)) block.store(bases + unit_of(lane), base[lane]);
  });
  for (int token = 0; token < a.problem.batch; ++token) {
    typename Block::template PerLane<float> mid, bnd;
    block.lanes([&](int lane) {
      const bool fresh = chunk.first || outside(lane);
      mid[lane] = fresh ? 0.0f : block.load(middle + unit_of(lane) * tokens + token);
      bnd[lane] = fresh ? 0.0f : block.load(bound + unit_of(lane) * tokens + token);
    });
    for (int group = chunk.group; group < chunk.group + chunk.groups; ++group) {
      const int count = static_cast<int>(layout.columns_of(group) / 4);
      const std::byte* const at = chunks + layout.chunk_offset(group);
      typename Block::template PerLane<std::uint32_t> sum;
      block.lanes([&](int lane) {
        const auto* plane = reinterpret_cast<const std::uint32_t*>(at + layout.plane_offset(group));
        const QuantizedQuad* x = a.plane.quads + token * (layout.columns / 4) + group * quads;
        std::uint32_t high = 0, low = 0;
        SIGNSPLIT_UNROLL_BY(4)
        for (int q = lane / kRows; q < count; q += 2) {
          const std::uint32_t four = block.load(plane + q * kRows + lane % kRows);
          const auto factors = block.load(reinterpret_cast<const HighAndLow*>(x + q));
          high = add_four_products(four, factors.v[0], high);
          low = add_four_products(four, factors.v[1], low);
        }
        sum[lane] = 128u * high + low;  // modulo 2³², as the definition
      });
      block.add_halves(sum);
      block.lanes([&](int lane) {
        const auto* codes = reinterpret_cast<const std::uint8_t*>(at + layout.codes_offset(group));
        const auto& with = a.plane.groups[token * layout.groups() + group];
        const float scale = float_of(scale_bits_of(base[lane], block.load(codes + lane % kRows)));
        const auto code = static_cast<float>(block.load(codes + kRows + lane % kRows));
        const auto total = static_cast<std::int32_t>(sum[lane] + static_cast<std::uint32_t>(block.load(&with.start)));
        mid[lane] = fused_multiply_add(scale, static_cast<float>(total) * block.load(&with.step), mid[lane]);
        const float of_scale = fused_multiply_add(code, block.load(&with.per_code), block.load(&with.per_scale));
        bnd[lane] = fused_multiply_add(scale, of_scale, bnd[lane]);
      });
    }
    block.lanes([&](int lane) {
      if (lane >= kRows || outside(lane)) return;
      block.store(middle + unit_of(lane) * tokens + token, mid[lane]);
      block.store(bound + unit_of(lane) * tokens + token, bnd[lane]);
    });
  }
}

/// After a panel's last chunk: survives[unit] is 1 unless the unit is proven closed for every token.
template <class Block>
SIGNSPLIT_DEVICE void judge_panel(Block& block, const KernelArguments& a, Tile tile, const PlaneChunk& chunk,
                                  const std::byte* stage, const float* middle, const float* bound, std::uint32_t* survives,
                                  std::uint32_t* wanted) {
  constexpr int kRows = static_cast<int>(kPanelRows);
  const PanelLayout& layout = a.plane.layout;
  const int tokens = static_cast<int>(a.launch.tokens);
  block.lanes([&](int lane) {
    const int unit = chunk.panel * kRows + lane - tile.begin;
    if (lane >= kRows || unit < 0 || unit >= tile.units) return;
    const auto* tail = reinterpret_cast<const float*>(stage + layout.tail_offset() - plane_chunk_offset(layout, chunk));
    const float offset = block.load(tail + lane), norm = block.load(tail + kRows + lane);
    bool certified = true;
    for (int token = 0; token < a.problem.batch; ++token) {
      const float all = fused_multiply_add(norm, block.load(a.plane.margins + token), block.load(bound + unit * tokens + token));
      const float upper = all + block.load(middle + unit * tokens + token);
      certified = certified && is_certified(upper, offset, a.plane.threshold);
    }
    block.store(survives + unit, certified ? 0u : 1u);
    block.store(wanted + unit, certified ? 0u : 1u);
  });
}

}  // namespace signsplit::gpu
