// The certificate: an integer plane of the first matrix (of a gated layer: the gate) that proves most closed units closed
// without their weights being read. W = S + R with S the plane times its scales; |W·x − S·x| is bounded by what is stored of
// R. docs/certificate.md has the proof, certificate_panel.hpp the layout and the evaluation.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/certificate_panel.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

class Residual;
class Weights;

/// What is chosen freely about a certificate. Read from a plan with format_of().
struct CertificateFormat {
  index_t bits = 8;    ///< of a plane element, sign included; 2 to 8. Stored as a byte whatever it is.
  index_t group = 64;  ///< elements of D that share a scale and a bound of the residual; a multiple of 64, at most kMaxPlaneGroup

  friend constexpr bool operator==(const CertificateFormat&, const CertificateFormat&) = default;
};
[[nodiscard]] constexpr CertificateFormat format_of(const Plan& plan) { return {plan.plane_bits, plan.plane_group}; }

/// One row: q = round(w / scale) with |q| < 2^(bits−1), one scale per `group` elements (the last group may be shorter), not below
/// the least that fits and as certificate_panel.hpp stores it; and for every group an upper bound of ‖w − scale·q‖, as stored.
/// `plane` has the row's length, scales and norms ⌈length / group⌉ elements. All of `row` must be finite, its norm at most 2^50.
void quantize_plane_row(std::span<const float> row, index_t bits, index_t group, std::span<std::int8_t> plane,
                        std::span<float> scales, std::span<float> norms) noexcept;

/// The certificate of one layer. Immutable.
class Certificate {
 public:
  /// From up, or of a gated layer from gate. Rows with anything not finite in the unit's input rows, biases or its row of
  /// W2, or with norms or biases above 2^50, are never certified. invalid_argument for a format that is none, or a layer
  /// whose activation closes no unit (identity, gelu, ...).
  [[nodiscard]] static Result<Certificate> build(const Weights& weights, CertificateFormat format);
  /// A copy in memory of its own.
  [[nodiscard]] Result<Certificate> clone() const;

  [[nodiscard]] CertificateFormat format() const noexcept { return format_; }
  [[nodiscard]] PanelLayout layout() const noexcept { return layout_; }
  /// Memory taken.
  [[nodiscard]] std::size_t bytes() const noexcept { return panels_.size(); }
  [[nodiscard]] index_t rows() const noexcept { return rows_; }
  /// Panel p holds rows [16p, 16p + 16); the rows beyond the layer's are never certified. 64-byte aligned, one after the other.
  [[nodiscard]] const std::byte* panel(index_t p) const noexcept { return panels_.data() + p * layout_.bytes(); }
  [[nodiscard]] index_t panels() const noexcept { return ceil_div(rows_, kPanelRows); }
  /// A unit is closed when its pre-activation is at most this.
  [[nodiscard]] float threshold() const noexcept { return threshold_; }

  // Single elements, for studies and tests.
  [[nodiscard]] int plane_at(index_t row, index_t k) const noexcept;
  [[nodiscard]] float scale_at(index_t row, index_t group) const noexcept;
  [[nodiscard]] float residual_norm_at(index_t row, index_t group) const noexcept;
  [[nodiscard]] float offset_at(index_t row) const noexcept;
  [[nodiscard]] float norm_at(index_t row) const noexcept;
  /// The evaluation that every kernel repeats.
  [[nodiscard]] RowBound evaluate(index_t row, const QuantizedToken& x) const noexcept;
  [[nodiscard]] bool certifies(index_t row, const QuantizedToken& x) const noexcept {
    return is_certified(evaluate(row, x).upper, offset_at(row), threshold_);
  }

 private:
  Certificate() = default;
  /// which: 0 the scale's, 1 the residual's.
  [[nodiscard]] std::uint8_t code_at(index_t row, index_t group, index_t which) const noexcept;

  CertificateFormat format_;
  PanelLayout layout_;
  index_t rows_ = 0;
  float threshold_ = 0.0f;
  AlignedBuffer panels_;
};

/// For every machine.
GroupSums quantize_group(const float* x, index_t columns, QuantizedQuad* quads, QuantizedGroup& group);

/// Quantizes one token: x [columns], zero-padded to layout.columns, into quads [columns / 4] and groups [layout.groups()].
/// Returns the view, whose margin is +∞ when x is not finite or its norm is above 2^50. The rounding mode must be to nearest.
[[nodiscard]] QuantizedToken quantize_token(PanelLayout layout, const float* x, QuantizedQuad* quads, QuantizedGroup* groups,
                                            QuantizeGroup quantize = quantize_group) noexcept;

/// Certificates and residuals of one layer, built when first asked for. Safe to use from several threads.
class CertificateStore {
 public:
  CertificateStore();
  ~CertificateStore();
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;
  [[nodiscard]] Result<std::shared_ptr<const Certificate>> get(const Weights& weights, CertificateFormat format);
  [[nodiscard]] Result<std::shared_ptr<const Residual>> get_residual(const Weights& weights, CertificateFormat format);
  /// All that was built, in memory of its own.
  [[nodiscard]] Result<std::shared_ptr<CertificateStore>> clone() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace signsplit
