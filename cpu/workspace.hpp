// Where everything that a run needs beside weights, x and y lies: one block of memory, carved once.
#pragma once

#include <cstddef>
#include <vector>

#include "signsplit/certificate_panel.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::cpu {

/// State of one hidden tile, private to a worker. Arrays are [hidden_tile, batch] unless stated.
struct TileScratch {
  index_t* selected = nullptr;       ///< [hidden_tile] unit numbers of some of its rows
  float* pre = nullptr;              ///< pre-activations, of a gated FFN the gate's; under sign_split those of a K tile
  float* up = nullptr;               ///< up values (gated)
  float* absolute = nullptr;         ///< Σ|x||w| of a K tile (streams)
  float* coefficients = nullptr;     ///< what the next down_tile adds
  float* compact = nullptr;          ///< coefficients or sums of the selected rows
  float* pre_partials = nullptr;     ///< [hidden_tile, batch, 64] when K is tiled and sums continue
  float* up_partials = nullptr;      ///< likewise (gated)
  float* positive = nullptr;         ///< sign_split: A⁺ or P; telescoping: the prefix sum of pre
  float* negative = nullptr;         ///< sign_split: A⁻ or N; telescoping, gated: the prefix sum of up
  float* pushed = nullptr;           ///< sign_split: u, what was pushed so far; telescoping: h of the last prefix
  std::uint8_t* stopped = nullptr;   ///< sign_split: pushes ended because something was not finite
  std::uint8_t* open = nullptr;      ///< the unit is open for the token
  std::int16_t* integers = nullptr;  ///< w8a8: h of the tile's rows of W2 that are read
  float* h_scales = nullptr;         ///< w8a8: [batch]
  std::int32_t* integer_sums = nullptr;  ///< w8a8: [batch, d_padded], of the part and group
  std::uint8_t* already_read = nullptr;  ///< [hidden_tile] row of W2 was read since the tile began
  index_t* survivors = nullptr;      ///< certified: [hidden_tile] unit numbers that the certificate left
  index_t* deferred = nullptr;       ///< certified: [hidden_tile] rows of W2 that the tile before has still to add
  float* deferred_coefficients = nullptr;  ///< certified: their coefficients
  float* certify_sums = nullptr;     ///< certified: [batch, or borders between K tiles if more, 2, kPanelRows]
  float* panel_remains = nullptr;    ///< certified, rows judged again (judges_again): [borders, kPanelRows] of one panel
  float* remains = nullptr;          ///< likewise: [hidden_tile, borders] of the survivors
  float* offsets = nullptr;          ///< likewise: [hidden_tile]
  std::uint32_t* places = nullptr;   ///< likewise: [hidden_tile] where the two, and partial sums, of those still in question lie
  signed char* planes = nullptr;     ///< placement residual: [hidden_tile, d_padded] the survivors' rows of the plane
  std::uint16_t* plane_scales = nullptr;  ///< placement residual: [hidden_tile, groups] bfloat16 bits
  float* restored = nullptr;         ///< placement residual: [restored_rows(batch), d_padded]
};

/// All pointers into one workspace block.
struct Workspace {
  float* x = nullptr;                ///< [batch, d_padded] copy of x, zero-padded
  float* packed_x = nullptr;         ///< batch > 1: x as the kernels read it (PackX)
  signed char* x_integers = nullptr;  ///< w8a8: [batch, d_padded]
  float* x_scales = nullptr;         ///< w8a8: [batch]
  std::int32_t* x_sums = nullptr;    ///< w8a8: [batch, groups], of each token's integers
  std::uint8_t* x_nonfinite = nullptr;  ///< [batch]
  double* x_norms = nullptr;         ///< [batch] Euclidean norms, rounded up
  QuantizedQuad* x_quads = nullptr;    ///< certified: [batch, d_padded / 4]
  QuantizedGroup* x_groups = nullptr;  ///< certified: [batch, groups]
  QuantizedToken* x_tokens = nullptr;  ///< certified: [batch]
  float* partial_y = nullptr;        ///< [parts, batch, y_stride]
  index_t y_stride = 0;              ///< elements, at least d_padded
  float* h = nullptr;                ///< [d_ff, batch] (unfused)
  std::vector<TileScratch> tiles;    ///< one per worker
};

/// Bytes that carve() needs, alignment included.
[[nodiscard]] std::size_t workspace_size(const Plan& plan, const Problem& problem, int threads);

/// Lays the workspace out in `memory`, 64-byte aligned and workspace_size() long.
[[nodiscard]] Workspace carve(std::byte* memory, const Plan& plan, const Problem& problem, int threads);

}  // namespace signsplit::cpu
