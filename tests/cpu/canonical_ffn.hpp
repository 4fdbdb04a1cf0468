// The canonical order of additions, written a second time, as plainly as can be: one value at a time with std::fma.
// Unfused and row_fused must give these bits on every instruction set.
#pragma once

#include <bit>
#include <cmath>
#include <vector>

#include "random_layer.hpp"
#include "signsplit/walk.hpp"

namespace signsplit::test {

/// Σ_k x[k]·w[k] by 64 strided partial sums and the pairwise tree, zero-padded.
inline float canonical_dot(const float* x, const float* w, index_t d) {
  float partial[64] = {};
  for (index_t k = 0; k < round_up(d, 64); ++k) {
    const float xk = k < d ? x[k] : 0.0f, wk = k < d ? w[k] : 0.0f;
    partial[k % 64] = std::fma(xk, wk, partial[k % 64]);
  }
  for (int half = 32; half >= 1; half /= 2) {
    for (int p = 0; p < half; ++p) partial[p] += partial[p + half];
  }
  return partial[0];
}

/// y [B, D] of the canonical evaluation with `parts` parts.
inline std::vector<float> canonical_ffn(const Layer& l, const Plan& plan, const std::vector<float>& x) {
  const Problem& p = l.problem;
  const index_t D = p.d_model, F = p.d_ff;
  std::vector<float> y(x.size());
  for (index_t b = 0; b < p.batch; ++b) {
    const float* xb = x.data() + b * D;
    bool x_finite = true;
    for (index_t k = 0; k < D; ++k) x_finite = x_finite && std::isfinite(xb[k]);
    std::vector<std::vector<float>> parts;
    for (index_t part = 0; part < plan.parts; ++part) {
      const HiddenRange range = part_range(plan, walk_shape(p), part);
      std::vector<float> sum(static_cast<std::size_t>(D), 0.0f);
      for (index_t j = range.begin; j < range.end; ++j) {
        const auto pre = [&](const std::vector<float>& m, const std::vector<float>& bias) {
          const float dot = canonical_dot(xb, m.data() + j * D, D);
          return bias.empty() ? dot : dot + bias[static_cast<std::size_t>(j)];
        };
        float h;
        if (p.gated) {
          bool finite = x_finite;
          for (index_t k = 0; k < D; ++k) {
            finite = finite && std::isfinite(l.up[static_cast<std::size_t>(j * D + k)]) &&
                     std::isfinite(l.gate[static_cast<std::size_t>(j * D + k)]);
          }
          if (!l.up_bias.empty()) finite = finite && std::isfinite(l.up_bias[static_cast<std::size_t>(j)]);
          if (!l.gate_bias.empty()) finite = finite && std::isfinite(l.gate_bias[static_cast<std::size_t>(j)]);
          h = activate_gated(p.activation, pre(l.gate, l.gate_bias), pre(l.up, l.up_bias), !finite);
        } else {
          h = activate(p.activation, pre(l.up, l.up_bias));
        }
        for (index_t d = 0; d < D; ++d) {
          float& s = sum[static_cast<std::size_t>(d)];
          s = std::fma(h, l.down[static_cast<std::size_t>(d * F + j)], s);
        }
      }
      parts.push_back(sum);
    }
    for (std::size_t stride = 1; stride < parts.size(); stride *= 2) {
      for (std::size_t i = 0; i + stride < parts.size(); i += 2 * stride) {
        for (std::size_t d = 0; d < parts[i].size(); ++d) parts[i][d] += parts[i + stride][d];
      }
    }
    for (index_t d = 0; d < D; ++d) {
      float v = parts[0][static_cast<std::size_t>(d)] + 0.0f;
      if (!l.down_bias.empty()) v += l.down_bias[static_cast<std::size_t>(d)];
      y[static_cast<std::size_t>(b * D + d)] = std::isnan(v) ? std::bit_cast<float>(0x7fc00000u) : v;
    }
  }
  return y;
}

}  // namespace signsplit::test
