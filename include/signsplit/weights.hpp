// Weights: one FFN layer, packed for the executors.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/dtype.hpp"
#include "signsplit/problem.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

class Certificate;
class CertificateStore;
class Residual;
struct Plan;
struct CertificateFormat;

enum class Matrix : std::uint8_t { up, gate, down };

/// A layer as frameworks store it: row-major matrices of `dtype`, borrowed. Input of pack().
///
/// int8: element (i, k) of a stored matrix is scale(i, k / group)·q(i, k), q in [−127, 127]. Scales are row-major as well,
/// [F, G1] of up and gate and [D, G2] of down, with G1 = ⌈D/group⌉ and G2 = ⌈F/group⌉ (1 when group is 0). A scale must be a
/// bfloat16 value, not negative, and 127 times it finite: then scale·q is exactly an f32, and the layer is an f32 layer of
/// those values in every respect.
struct LayerTensors {
  index_t d_model = 0, d_ff = 0;
  DType dtype = DType::bf16;
  Activation activation = {};
  std::span<const std::byte> up;    ///< W1 [F, D]
  std::span<const std::byte> down;  ///< W2 [D, F]
  std::span<const std::byte> gate;  ///< Wg [F, D]; empty: not gated
  std::span<const float> up_bias;   ///< [F] or empty
  std::span<const float> gate_bias; ///< [F] or empty; only with a gate
  std::span<const float> down_bias; ///< [D] or empty
  index_t group = 0;                ///< int8: elements along a stored row that share a scale, a multiple of 64; 0: the whole row
  std::span<const float> up_scale = {};    ///< int8: [F, G1]
  std::span<const float> down_scale = {};  ///< int8: [D, G2]
  std::span<const float> gate_scale = {};  ///< int8, gated: [F, G1]
};

/// One layer in packed form. All matrices are hidden-major with row stride `stride()` elements, D rounded up to a
/// multiple of 64; the padding is zero. Row j of `down` is column j of W2: what unit j adds to y. Rows are 64-byte
/// aligned. Immutable once packed, but for set_arithmetic(); move-only, clone() copies.
class Weights {
 public:
  [[nodiscard]] index_t d_model() const noexcept { return problem_.d_model; }
  [[nodiscard]] index_t d_ff() const noexcept { return problem_.d_ff; }
  [[nodiscard]] index_t stride() const noexcept { return round_up(problem_.d_model, 64); }
  [[nodiscard]] DType dtype() const noexcept { return problem_.dtype; }
  [[nodiscard]] index_t group() const noexcept { return problem_.group; }
  [[nodiscard]] bool gated() const noexcept { return problem_.gated; }
  [[nodiscard]] Activation activation() const noexcept { return problem_.activation; }
  /// The problem of running this layer on `batch` tokens.
  [[nodiscard]] Problem problem(index_t batch = 1) const noexcept {
    Problem p = problem_;
    p.batch = batch;
    return p;
  }

  /// Packed matrices, d_ff() rows of stride() elements of dtype(). gate() is nullptr when not gated.
  [[nodiscard]] const std::byte* up() const noexcept { return up_.data(); }
  [[nodiscard]] const std::byte* gate() const noexcept { return gate_.data(); }
  [[nodiscard]] const std::byte* down() const noexcept { return down_.data(); }
  [[nodiscard]] index_t row_bytes() const noexcept { return stride() * dtype_bytes(dtype()); }

  /// Scales of an int8 layer, else empty, in 64-byte aligned memory. Element k of row j of up and of gate has the scale
  /// [j·input_groups() + k / group]. Element d of row j of down has the scale [(j / group)·stride() + d], zero in the
  /// padding: they lie as the rows of down do. Group 0 stands for one group. Other layers have no groups.
  [[nodiscard]] std::span<const bf16> up_scales() const noexcept { return scales(up_scales_); }      ///< [F, input_groups()]
  [[nodiscard]] std::span<const bf16> gate_scales() const noexcept { return scales(gate_scales_); }  ///< [F, input_groups()]
  [[nodiscard]] std::span<const bf16> down_scales() const noexcept { return scales(down_scales_); }  ///< [down_groups(), stride()]
  [[nodiscard]] index_t input_groups() const noexcept { return scale_count(problem_, 0, d_model()); }
  [[nodiscard]] index_t down_groups() const noexcept { return scale_count(problem_, 0, d_ff()); }

  /// Biases, or empty.
  [[nodiscard]] std::span<const float> up_bias() const noexcept { return up_bias_; }      ///< [F]
  [[nodiscard]] std::span<const float> gate_bias() const noexcept { return gate_bias_; }  ///< [F]
  [[nodiscard]] std::span<const float> down_bias() const noexcept { return down_bias_; }  ///< [D]

  /// Euclidean norms of the rows of up and gate, rounded up: with ‖x‖ they bound Σ|x||w| (Cauchy–Schwarz). [F]
  [[nodiscard]] std::span<const float> up_norms() const noexcept { return up_norms_; }
  [[nodiscard]] std::span<const float> gate_norms() const noexcept { return gate_norms_; }

  /// Rows that hold an infinity or a NaN. They are never skipped, so that no schedule hides what IEEE 754 would show.
  [[nodiscard]] bool input_row_nonfinite(index_t j) const noexcept {  ///< row j of up or of gate, or a bias of unit j
    return any_input_nonfinite_ && input_nonfinite_[static_cast<std::size_t>(j)] != 0;
  }
  [[nodiscard]] bool down_row_nonfinite(index_t j) const noexcept {
    return any_down_nonfinite_ && down_nonfinite_[static_cast<std::size_t>(j)] != 0;
  }

  /// Elements [begin, begin + out.size()) of packed row j, exactly, as f32: the one place that knows the stored types.
  /// 0 ≤ j < F, begin + out.size() ≤ stride(). Not gate when there is none.
  void read_row(Matrix matrix, index_t j, index_t begin, std::span<float> out) const noexcept;
  /// One element of a packed matrix, exactly, as f32. 0 ≤ j < F, 0 ≤ k < stride().
  [[nodiscard]] float up_at(index_t j, index_t k) const noexcept { return at(Matrix::up, j, k); }
  [[nodiscard]] float gate_at(index_t j, index_t k) const noexcept { return at(Matrix::gate, j, k); }
  [[nodiscard]] float down_at(index_t j, index_t k) const noexcept { return at(Matrix::down, j, k); }

  /// The layer's certificate of a format (certificate.hpp): built at the first call, then kept with the layer. Safe to call
  /// from several threads. As Certificate::build says when there is none.
  [[nodiscard]] Result<std::shared_ptr<const Certificate>> certificate(CertificateFormat format) const;
  /// What restores the first matrix from that certificate (residual.hpp): built and kept in the same way.
  [[nodiscard]] Result<std::shared_ptr<const Residual>> residual(CertificateFormat format) const;

  /// Gives the first matrix's memory back (up, or of a gated layer gate): from now on plane and residual of this format stand
  /// for it, and up() (gate()) is nullptr. Plans of `certified` with placement residual and this format run as before, other plans
  /// are refused. read_row() and what is built on it (reference, error bounds, analyses) restore what they read. invalid_argument
  /// as Residual::build says. What was built on pointers into the matrix is void; not to be called while something runs.
  [[nodiscard]] Status give_up_first_matrix(CertificateFormat format);
  [[nodiscard]] bool has_first_matrix() const noexcept { return kept_residual_ == nullptr; }
  /// Ok when it is there; else, which plans can run: for whoever reads it directly.
  [[nodiscard]] Status require_first_matrix() const;
  /// Ok when what the plan reads is there.
  [[nodiscard]] Status has_for(const Plan& plan) const;
  /// Bytes of memory that the matrices, their scales, and plane and residual where they stand for one, take.
  [[nodiscard]] std::size_t stored_bytes() const noexcept;

  /// A copy in memory of its own, with the certificates that were built; io_error: not enough memory.
  [[nodiscard]] Result<Weights> clone() const;

  /// Packs a layer. invalid_argument names the tensor and the rule when sizes do not fit together.
  /// int8: the matrix also has no q of −128, and the scales are as LayerTensors asks.
  [[nodiscard]] static Result<Weights> pack(const LayerTensors& layer);

  /// This layer with its matrices rounded to int8. Every group of `group` elements along a stored row (0: the row) gets the
  /// smallest bfloat16 scale that is not below max|w| / 127, and q is w / scale, rounded to nearest, ties to even. Biases are
  /// kept. invalid_argument when this layer is int8 already, when a weight is an infinity or a NaN or too large (named), or
  /// when group is neither 0 nor a multiple of 64.
  [[nodiscard]] Result<Weights> quantize(index_t group = 0) const;

  /// How executors are to compute with this layer: becomes part of problem(). invalid_argument when validate() refuses it.
  [[nodiscard]] Status set_arithmetic(Arithmetic arithmetic);

 private:
  Weights() = default;
  [[nodiscard]] Status allocate();  // may throw std::bad_alloc
  [[nodiscard]] float at(Matrix matrix, index_t j, index_t k) const noexcept;
  [[nodiscard]] static std::span<const bf16> scales(const AlignedBuffer& buffer) noexcept {
    return {reinterpret_cast<const bf16*>(buffer.data()), buffer.size() / sizeof(bf16)};
  }
  void scan();

  Problem problem_;
  AlignedBuffer up_, gate_, down_;
  AlignedBuffer up_scales_, gate_scales_, down_scales_;
  std::vector<float> up_bias_, gate_bias_, down_bias_, up_norms_, gate_norms_;
  std::vector<std::uint8_t> input_nonfinite_, down_nonfinite_;
  bool any_input_nonfinite_ = false, any_down_nonfinite_ = false;
  std::shared_ptr<CertificateStore> certificates_;
  std::shared_ptr<const Certificate> kept_certificate_;  // in place of the first matrix, with the next
  std::shared_ptr<const Residual> kept_residual_;
};

/// Reads a layer from a safetensors file: up.weight [F,D], down.weight [D,F], optional gate.weight [F,D], up.bias [F],
/// gate.bias [F], down.bias [D]; matrices all F32, all BF16, all F16 or all I8; biases F32 (or BF16 or F16, widened);
/// metadata `activation` (to_string/parse_activation), overridden by the argument. I8 matrices come with up.scale [F] or
/// [F,G1], down.scale [D] or [D,G2], gate.scale as up.scale (LayerTensors), BF16 or other types that hold bfloat16 values;
/// metadata `group`, "0" or missing for one scale per row. Errors name file, tensor and rule.
[[nodiscard]] Result<Weights> load_weights(const std::filesystem::path& file,
                                           std::optional<ParsedActivation> activation = std::nullopt);

/// Writes a layer in the form that load_weights reads, to a temporary file first, then renamed.
[[nodiscard]] Status save_weights(const std::filesystem::path& file, const Weights& weights);

}  // namespace signsplit
