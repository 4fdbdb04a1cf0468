// KernelModel: an FFN kernel described by what it gets wrong; the default gets nothing wrong. KernelEvaluation: what such a
// kernel computes, and how far its arithmetic may be off that, whatever the order of its sums.
#pragma once

#include <span>
#include <vector>

#include "approximate.hpp"
#include "signsplit/golden.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// Values changed before they are multiplied.
enum class Operands : std::uint8_t { kept, to_bf16, to_tf32, flushed };
/// An activation in place of the layer's own.
enum class Curve : std::uint8_t { own, identity, relu, relu2, gelu, gelu_tanh, silu, absolute };

struct FirstProduct {
  index_t k_begin = 0, k_end = kMaxExtent;  ///< elements of x that are summed; k_end is cut to D
  index_t k_tile = 0;         ///< > 0: the activation of each tile's own sum, added up
  index_t x_shift = 0;        ///< x[k + x_shift] meets w[k]; 0 outside
  bool transposed = false;    ///< the buffers [F, D] read as [D, F]
  bool swapped = false;       ///< gate and up take each other's place
  bool gate_ignored = false;  ///< h = act(u)
  float x_factor = 1.0f, up_bias = 1.0f, gate_bias = 1.0f;  ///< factors: 0 leaves it out, −1 has its sign wrong
  Operands x = Operands::kept, weights = Operands::kept, h = Operands::kept;
  Curve curve = Curve::own;

  friend constexpr bool operator==(const FirstProduct&, const FirstProduct&) = default;
};

struct SecondProduct {
  index_t begin = 0, end = kMaxExtent;  ///< hidden units that are summed; end is cut to F
  index_t h_shift = 0;                  ///< h[j + h_shift] meets column j of W2
  bool transposed = false;              ///< the buffer [D, F] read as [F, D]
  float bias = 1.0f;
  Operands weights = Operands::kept;

  friend constexpr bool operator==(const SecondProduct&, const SecondProduct&) = default;
};

struct KernelModel {
  FirstProduct first;
  SecondProduct second;
};

class KernelEvaluation {
 public:
  /// x is [batch, D]; the tokens in `tokens` are evaluated. All is borrowed but `tokens`. May throw std::bad_alloc, as all
  /// members.
  KernelEvaluation(const Weights& weights, std::span<const float> x, std::vector<index_t> tokens, Accumulation accumulation,
                   int threads);

  struct Hidden {
    std::vector<Approximate> z, h;  ///< [tokens, F]; z of a gated FFN is the gate's
  };
  [[nodiscard]] Hidden hidden(const FirstProduct& model) const;
  /// [tokens, columns.size()], from h [tokens, F].
  [[nodiscard]] std::vector<Approximate> output(const SecondProduct& model, std::span<const Approximate> h,
                                                std::span<const index_t> columns) const;

 private:
  struct Input;
  struct Row;
  // What product 2 adds up for one output; mass is Σ(|h| + its reach)·|w|, carried the errors of h that arrive.
  struct Sums {
    double value = 0.0, mass = 0.0, carried = 0.0, slack = 0.0;
    bool integers = true;
  };
  [[nodiscard]] std::vector<Input> inputs(const FirstProduct& model) const;
  void read_row(const FirstProduct& model, bool gate, index_t j, Row& row) const;
  [[nodiscard]] Approximate sum(const FirstProduct& model, const Input& input, const Row& row, index_t begin,
                                index_t end) const;
  [[nodiscard]] Approximate activated(const FirstProduct& model, const Approximate& gate, const Approximate& up) const;
  [[nodiscard]] Approximate stored_h(const FirstProduct& model, const Approximate& h) const;
  void unit(const FirstProduct& model, std::span<const Input> inputs, index_t j, Row& up, Row& gate, Hidden& out) const;
  void accumulate(const SecondProduct& model, std::span<const Approximate> h, std::span<const index_t> columns, index_t from,
                  index_t to, std::span<Sums> sums) const;
  [[nodiscard]] Approximate finish(const SecondProduct& model, Sums sums, index_t column) const;
  [[nodiscard]] float down_weight(const SecondProduct& model, index_t column, index_t j) const;
  [[nodiscard]] double gamma_of(index_t n) const;

  const Weights& weights_;
  std::span<const float> x_;
  std::vector<index_t> tokens_;
  Accumulation accumulation_;
  int threads_;
};

/// The operand as the kernel sees it.
[[nodiscard]] float changed(Operands operands, float value) noexcept;

}  // namespace signsplit
