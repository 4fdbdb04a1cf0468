// The certificate with vectors, once for all instruction sets. P says what a panel is in registers:
//   floats, integers          16 lanes of each, one per row of the panel
//   group_sums<asks>(plane, quads, count, group)   the exact sums Σ q·X of a group; asks: calls ask_ahead() for every line of the plane
// and the few operations on floats below. Everything has internal linkage: each instruction set instantiates its own.
#pragma once

#include "certify_kernels.hpp"

namespace signsplit::cpu {
namespace {

constexpr int kIntoFirstLevelCache = 3;  // locality argument of __builtin_prefetch

/// Columns come by 64, so that loops over their quads can be unrolled whole.
constexpr int kQuadsAtOnce = 16;

/// Asks for the cache line that is read kPlaneAheadBytes after this one, and once more for one that was asked for before: processors drop
/// requests while too many loads wait. Between the loads: a chunk's requests in one go took 4 to 5 % more of the whole call's time, once
/// instead of twice 2 to 4 % more (bf16, 4096x16384, memory fast). Inlined by force: GCC takes a function that does nothing but
/// prefetch for one without effect, and drops the call.
__attribute__((always_inline)) inline void ask_ahead(const unsigned char* line) {
  __builtin_prefetch(line + kPlaneAheadBytes, 0, kIntoFirstLevelCache);
  __builtin_prefetch(line + kPlaneAgainBytes, 0, kIntoFirstLevelCache);
}

/// One group of a panel.
struct Chunk {
  const unsigned char *plane, *codes;
  index_t columns;

  Chunk(const CertifyPanel& a, index_t g)
      : plane(a.panel + a.layout.chunk_offset(g) + a.layout.plane_offset(g)),
        codes(a.panel + a.layout.chunk_offset(g) + a.layout.codes_offset(g)),
        columns(a.layout.columns_of(g)) {}
};

/// Asks for the first three lines of the page that lies kPlanePagesAhead beyond one that begins in the next `bytes` (of several, the first): the
/// hardware's prefetchers start anew in every page, and so they set out before the other requests come (read_ahead.hpp does likewise).
__attribute__((always_inline)) inline void open_page(const unsigned char* from, index_t bytes) {
  constexpr index_t page_bytes = 4096;
  constexpr int into_second_level_cache = 2;
  const auto past = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(from) % page_bytes);
  const index_t to_page = past == 0 ? 0 : page_bytes - past;
  if (to_page < bytes) {
    __builtin_prefetch(from + to_page + kPlanePagesAhead, 0, into_second_level_cache);
    __builtin_prefetch(from + to_page + kPlanePagesAhead + 64, 0, into_second_level_cache);
    __builtin_prefetch(from + to_page + kPlanePagesAhead + 128, 0, into_second_level_cache);
  }
}

/// Adds one group to a token's sums. Asks: for what is read later, too.
template <class P, bool Asks>
inline void add_group(const Chunk& chunk, typename P::integers bases, const QuantizedQuad* quads, const QuantizedGroup& group,
                      typename P::floats& middle, typename P::floats& bound) {
  const typename P::floats sums = P::template group_sums<Asks>(chunk.plane, quads, chunk.columns / 4, group);
  if (Asks) ask_ahead(chunk.codes);
  const typename P::floats scale = P::scales(bases, chunk.codes), code = P::load_bytes(chunk.codes + kPanelRows);
  middle = P::fma(scale, P::multiply(sums, P::broadcast(group.step)), middle);
  bound = P::fma(scale, P::fma(code, P::broadcast(group.per_code), P::broadcast(group.per_scale)), bound);
}

template <class P>
inline void judge(const CertifyPanel& a, const QuantizedToken& token, typename P::floats middle, typename P::floats bound,
                  PanelVerdict& verdict) {
  const unsigned char* tail = a.panel + a.layout.tail_offset();
  const typename P::floats offset = P::load(tail), norm = P::load(tail + 4 * kPanelRows), t = P::broadcast(a.threshold);
  bound = P::fma(norm, P::broadcast(token.margin), bound);
  verdict.certified &= P::less(P::add(P::add(bound, middle), offset), t);
  verdict.likely |= static_cast<std::uint16_t>(~P::less(P::add(middle, offset), t));
}

/// remaining_bound() at every border between K tiles, from the sums that were kept there and those at the end.
template <class P>
inline void find_remains(const CertifyPanel& a, typename P::floats middle, typename P::floats bound) {
  using F = typename P::floats;
  const F minus = P::broadcast(-1.0f), slack = P::broadcast(remaining_slack(a.layout.groups()));
  const F margin = P::broadcast(a.tokens[0].margin), norm = P::load(a.panel + a.layout.tail_offset() + 4 * kPanelRows);
  bound = P::fma(norm, margin, bound);
  const F more = P::multiply(norm, margin);
  for (index_t g = a.tile_groups, n = 0; g < a.layout.groups(); g += a.tile_groups, ++n) {
    const F middle_before = P::load(a.sums + n * 2 * kPanelRows), bound_before = P::load(a.sums + (n * 2 + 1) * kPanelRows);
    const F rest = P::fma(slack, bound, P::fma(minus, bound_before, bound));
    P::store(a.remains + n * kPanelRows, P::add(P::add(rest, more), P::fma(minus, middle_before, middle)));
  }
}

template <class P>
PanelVerdict certify_panel(const CertifyPanel& a) {
  using F = typename P::floats;
  PanelVerdict verdict{0xffff, 0};
  const index_t groups = a.layout.groups();
  const typename P::integers bases = P::load_integers(a.panel);
  if (a.batch == 1) {
    const QuantizedToken& token = a.tokens[0];
    const QuantizedQuad* quads = token.quads;
    F middle = P::broadcast(0.0f), bound = P::broadcast(0.0f);
    float* border = a.sums;
    index_t due = a.tile_groups;
    for (index_t g = 0; g < groups; ++g) {
      const Chunk chunk(a, g);
      if (g == due && g > 0) {
        P::store(border, middle);
        P::store(border + kPanelRows, bound);
        border += 2 * kPanelRows;
        due += a.tile_groups;
      }
      open_page(chunk.plane, (chunk.columns + PanelLayout::kCodes) * kPanelRows);
      add_group<P, true>(chunk, bases, quads, token.groups[g], middle, bound);
      quads += chunk.columns / 4;
    }
    judge<P>(a, token, middle, bound, verdict);
    if (a.tile_groups > 0) find_remains<P>(a, middle, bound);
  } else {  // a group of the plane comes from memory once and is used for every token
    for (index_t g = 0; g < groups; ++g) {
      const Chunk chunk(a, g);
      for (index_t b = 0; b < a.batch; ++b) {
        float* sums = a.sums + b * 2 * kPanelRows;
        F middle = g == 0 ? P::broadcast(0.0f) : P::load(sums), bound = g == 0 ? P::broadcast(0.0f) : P::load(sums + kPanelRows);
        const QuantizedQuad* quads = a.tokens[b].quads + g * a.layout.group / 4;
        const auto add = b == 0 ? add_group<P, true> : add_group<P, false>;
        add(chunk, bases, quads, a.tokens[b].groups[g], middle, bound);
        P::store(sums, middle);
        P::store(sums + kPanelRows, bound);
      }
    }
    for (index_t b = 0; b < a.batch; ++b) {
      const float* sums = a.sums + b * 2 * kPanelRows;
      judge<P>(a, a.tokens[b], P::load(sums), P::load(sums + kPanelRows), verdict);
    }
  }
  for (index_t at = a.layout.tail_offset(); at < a.layout.bytes() + PanelLayout::kHeadBytes; at += 64) ask_ahead(a.panel + at);
  verdict.likely &= static_cast<std::uint16_t>(~verdict.certified);
  return verdict;
}

}  // namespace
}  // namespace signsplit::cpu
