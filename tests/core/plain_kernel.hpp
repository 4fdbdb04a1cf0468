// PlainKernel: an FFN as somebody would write it, in f32 loops, with a bug on demand. Shares no code with the library's
// own evaluations.
#pragma once

#include <cmath>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "signsplit/golden.hpp"

namespace signsplit::test {

enum class Bug {
  none,
  k_tail,             // the loop over k goes in steps of 8 and has no tail
  hidden_tail,        // the last 3 hidden units are missed
  down_transposed,    // W2 read as [F, D]
  up_transposed,      // W1 read as [D, F]
  bf16_sums,          // accumulators in bf16
  bf16_h,             // h stored as bf16
  no_up_bias,
  no_down_bias,
  down_bias_twice,
  up_bias_subtracted,
  flush_to_zero,      // every result below 2^-126 is 0
  no_activation,
  square_missing,     // relu where relu2 is due
  gate_up_swapped,
  hidden_off_by_one,  // h[j + 1] meets column j
  input_off_by_one,   // x[k + 1] meets w[k]
  tokens_swapped,     // tokens 0 and 1
  columns_off_by_one, // y[d] written to y[d + 1]
  output_transposed,  // [D, B]
  output_tail,        // the last 5 columns are never written
  negated,
  k_tiled_activation, // relu on the sums of tiles of 64
};

/// The order in which a sound kernel sums.
enum class Order { forward, backward, pairwise, fused };

class PlainKernel {
 public:
  /// `taken`: the activation that it takes in place of the layer's.
  explicit PlainKernel(const GoldenInput& in, Bug bug = Bug::none, Order order = Order::forward, std::optional<ActivationKind> taken = {})
      : in_(in), w_(in.weights), bug_(bug), order_(order), activation_(taken ? Activation{*taken} : w_.activation()), d_(w_.d_model()), f_(w_.d_ff()) {}

  [[nodiscard]] std::vector<float> run() const {
    std::vector<float> y;
    for (index_t b = 0; b < in_.batch; ++b) {
      const std::vector<float> one = token(b);
      y.insert(y.end(), one.begin(), one.end());
    }
    return arranged(std::move(y));
  }

 private:
  using Terms = std::vector<std::pair<float, float>>;

  [[nodiscard]] float kept(float v) const { return bug_ == Bug::flush_to_zero && std::abs(v) < 0x1p-126f ? 0.0f : v; }
  [[nodiscard]] float summed(float v) const { return bug_ == Bug::bf16_sums ? to_float(to_bf16(v)) : kept(v); }

  [[nodiscard]] float sum(const Terms& terms) const {
    if (order_ == Order::pairwise) return pairwise(terms, 0, terms.size());
    float total = 0.0f;
    for (std::size_t i = 0; i < terms.size(); ++i) {
      const auto [a, b] = terms[order_ == Order::backward ? terms.size() - 1 - i : i];
      total = order_ == Order::fused ? std::fma(a, b, total) : summed(total + kept(kept(a) * kept(b)));
    }
    return total;
  }
  [[nodiscard]] float pairwise(const Terms& terms, std::size_t begin, std::size_t end) const {
    if (end - begin == 0) return 0.0f;
    if (end - begin == 1) return terms[begin].first * terms[begin].second;
    const std::size_t middle = begin + (end - begin) / 2;
    return pairwise(terms, begin, middle) + pairwise(terms, middle, end);
  }

  // What the file would hold at `place` of up.weight or gate.weight.
  [[nodiscard]] float stored_up(index_t place, bool gate) const {
    return gate ? w_.gate_at(place / d_, place % d_) : w_.up_at(place / d_, place % d_);
  }
  [[nodiscard]] float first(index_t b, index_t j, bool gate, index_t begin, index_t end) const {
    Terms terms;
    for (index_t k = begin; k < end; ++k) {
      const index_t from = bug_ == Bug::input_off_by_one ? k + 1 : k;
      const float x = from < d_ ? in_.x[static_cast<std::size_t>(b * d_ + from)] : 0.0f;
      terms.emplace_back(x, stored_up(bug_ == Bug::up_transposed ? k * f_ + j : j * d_ + k, gate));
    }
    const auto bias = gate ? w_.gate_bias() : w_.up_bias();
    float z = sum(terms);
    if (bias.empty() || begin > 0 || (bug_ == Bug::no_up_bias && !gate)) return z;
    const float one = bias[static_cast<std::size_t>(j)];
    z = bug_ == Bug::up_bias_subtracted && !gate ? z - one : z + one;
    return summed(z);
  }

  [[nodiscard]] float act(float z) const {
    const Activation a = activation_;
    if (a.kind == ActivationKind::gelu) return 0.5f * z * (1.0f + std::erf(z * 0.70710678f));
    if (a.kind == ActivationKind::gelu_tanh) return 0.5f * z * (1.0f + std::tanh(0.79788456f * (z + 0.044715f * z * z * z)));
    if (a.kind == ActivationKind::silu) return z / (1.0f + std::exp(-z));
    const float open = z > 0.0f || std::isnan(z) ? z : 0.0f;
    if (bug_ == Bug::no_activation || a.kind == ActivationKind::identity) return z;
    if (a.kind == ActivationKind::fatrelu) return z > a.threshold || std::isnan(z) ? z : 0.0f;
    return a.kind == ActivationKind::relu2 && bug_ != Bug::square_missing ? open * open : open;
  }

  [[nodiscard]] float hidden(index_t b, index_t j) const {
    const index_t end = bug_ == Bug::k_tail ? d_ / 8 * 8 : d_;
    float h = 0.0f;
    if (bug_ == Bug::k_tiled_activation) {
      for (index_t k = 0; k < d_; k += 64) h += act(first(b, j, false, k, std::min(k + 64, d_)));
      return h;
    }
    float u = first(b, j, false, 0, end);
    if (!w_.gated()) {
      h = act(u);
    } else {
      float g = first(b, j, true, 0, end);
      if (bug_ == Bug::gate_up_swapped) std::swap(g, u);
      if (w_.activation().kind == ActivationKind::drelu) u = act(u);
      h = act(g) * u;
    }
    return bug_ == Bug::bf16_h ? to_float(to_bf16(h)) : h;
  }

  [[nodiscard]] std::vector<float> token(index_t b) const {
    std::vector<float> h, y;
    for (index_t j = 0; j < f_; ++j) h.push_back(hidden(b, j));
    for (index_t c = 0; c < d_; ++c) {
      Terms terms;
      for (index_t j = 0; j < f_ - (bug_ == Bug::hidden_tail ? 3 : 0); ++j) {
        const index_t from = bug_ == Bug::hidden_off_by_one ? j + 1 : j, swapped = j * d_ + c;
        const float weight = bug_ == Bug::down_transposed ? w_.down_at(swapped % f_, swapped / f_) : w_.down_at(j, c);
        terms.emplace_back(from < f_ ? h[static_cast<std::size_t>(from)] : 0.0f, weight);
      }
      const auto bias = w_.down_bias();
      float total = sum(terms);
      if (!bias.empty() && bug_ != Bug::no_down_bias) total = summed(total + kept(bias[static_cast<std::size_t>(c)]));
      if (bug_ == Bug::down_bias_twice) total += bias[static_cast<std::size_t>(c)];
      y.push_back(total);
    }
    return y;
  }

  [[nodiscard]] std::vector<float> arranged(std::vector<float> y) const {
    const auto d = static_cast<std::size_t>(d_), batch = static_cast<std::size_t>(in_.batch);
    const std::vector<float> right = y;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t b = i / d, c = i % d;
      if (bug_ == Bug::negated) y[i] = -right[i];
      if (bug_ == Bug::tokens_swapped && b < 2) y[i] = right[(1 - b) * d + c];
      if (bug_ == Bug::columns_off_by_one) y[i] = c == 0 ? 0.0f : right[i - 1];
      if (bug_ == Bug::output_transposed) y[c * batch + b] = right[i];
      if (bug_ == Bug::output_tail && c + 5 >= d) y[i] = 0.0f;
    }
    return y;
  }

  const GoldenInput& in_;
  const Weights& w_;
  Bug bug_;
  Order order_;
  Activation activation_;
  index_t d_, f_;
};

}  // namespace signsplit::test
