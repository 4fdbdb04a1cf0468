// Weights: one FFN layer, packed for the executors.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/problem.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

class Certificate;
class CertificateStore;
struct CertificateFormat;

/// A layer as frameworks store it: row-major matrices of `dtype`, borrowed. Input of pack().
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
};

/// One layer in packed form. All matrices are hidden-major with row stride `stride()` elements, D rounded up to a
/// multiple of 64; the padding is zero. Row j of `down` is column j of W2: what unit j adds to y. Rows are 64-byte
/// aligned. Immutable once packed; move-only, clone() copies.
class Weights {
 public:
  [[nodiscard]] index_t d_model() const noexcept { return problem_.d_model; }
  [[nodiscard]] index_t d_ff() const noexcept { return problem_.d_ff; }
  [[nodiscard]] index_t stride() const noexcept { return round_up(problem_.d_model, 64); }
  [[nodiscard]] DType dtype() const noexcept { return problem_.dtype; }
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

  /// One element of a packed matrix, exactly, as f32. 0 ≤ j < F, 0 ≤ k < stride().
  [[nodiscard]] float up_at(index_t j, index_t k) const noexcept { return at(up_, j, k); }
  [[nodiscard]] float gate_at(index_t j, index_t k) const noexcept { return at(gate_, j, k); }
  [[nodiscard]] float down_at(index_t j, index_t k) const noexcept { return at(down_, j, k); }

  /// The layer's certificate of a format (certificate.hpp): built at the first call, then kept with the layer. Safe to call
  /// from several threads. As Certificate::build says when there is none.
  [[nodiscard]] Result<std::shared_ptr<const Certificate>> certificate(CertificateFormat format) const;

  /// A copy in memory of its own, or io_error when there is not enough memory.
  [[nodiscard]] Result<Weights> clone() const;

  /// Packs a layer. invalid_argument names the tensor and the rule when sizes do not fit together.
  [[nodiscard]] static Result<Weights> pack(const LayerTensors& layer);

 private:
  Weights() = default;
  [[nodiscard]] float at(const AlignedBuffer& matrix, index_t j, index_t k) const noexcept;
  void scan();

  Problem problem_;
  AlignedBuffer up_, gate_, down_;
  std::vector<float> up_bias_, gate_bias_, down_bias_, up_norms_, gate_norms_;
  std::vector<std::uint8_t> input_nonfinite_, down_nonfinite_;
  bool any_input_nonfinite_ = false, any_down_nonfinite_ = false;
  std::shared_ptr<CertificateStore> certificates_;
};

/// Reads a layer from a safetensors file: up.weight [F,D], down.weight [D,F], optional gate.weight [F,D], up.bias [F],
/// gate.bias [F], down.bias [D]; matrices all F32 or all BF16, biases F32 (or BF16, widened); metadata `activation`
/// (to_string/parse_activation), overridden by the argument. Errors name file, tensor and rule.
[[nodiscard]] Result<Weights> load_weights(const std::filesystem::path& file,
                                           std::optional<ParsedActivation> activation = std::nullopt);

/// Writes a layer in the form that load_weights reads, to a temporary file first, then renamed.
[[nodiscard]] Status save_weights(const std::filesystem::path& file, const Weights& weights);

}  // namespace signsplit
