#include "signsplit/certificate.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "approximate.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {
namespace {

constexpr double kMaxMagnitude = 0x1p50;  ///< norms and biases above this: never certified (docs/certificate.md, overflow)
constexpr float kNever = std::numeric_limits<float>::infinity();

/// An f32 that is not below a value whose computation in double was off by less than 2^-28, relative.
float upper_float(double value) {
  const float nearest = static_cast<float>(value);
  const double target = value + std::fabs(value) * 0x1p-28;
  return static_cast<double>(nearest) >= target ? nearest : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

/// One group of a row, as stored.
struct GroupCodes {
  std::uint8_t scale = 0, residual = 0;
};

/// Everything of one row.
struct RowPlane {
  std::vector<float> row;
  std::vector<std::int8_t> plane;
  std::vector<GroupCodes> groups;
  std::uint32_t base = 0;  ///< of its scales
  double norm = 0.0;       ///< max(‖w‖, ‖S‖), off by less than 2^-28

  RowPlane(index_t columns, index_t group_count)
      : row(static_cast<std::size_t>(columns)), plane(row.size()), groups(static_cast<std::size_t>(group_count)) {}
  [[nodiscard]] double scale(index_t g) const {
    return static_cast<double>(std::bit_cast<float>(scale_bits_of(base, groups[static_cast<std::size_t>(g)].scale)));
  }
  [[nodiscard]] std::span<float> row_of(PanelLayout layout, index_t g) {
    return std::span(row).subspan(static_cast<std::size_t>(g * layout.group), static_cast<std::size_t>(layout.columns_of(g)));
  }
  [[nodiscard]] std::span<std::int8_t> plane_of(PanelLayout layout, index_t g) {
    return std::span(plane).subspan(static_cast<std::size_t>(g * layout.group), static_cast<std::size_t>(layout.columns_of(g)));
  }
  void clear() {
    std::fill(plane.begin(), plane.end(), std::int8_t{0});
    std::fill(groups.begin(), groups.end(), GroupCodes{});
    base = 0;
    norm = 0.0;
  }
};

/// The least scale of kScaleBits bits that is not below a value > 0: its bits, counted in units of the last of them.
std::uint32_t upper_scale(double value) {
  auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  if (static_cast<double>(std::bit_cast<float>(bits)) < value) ++bits;
  return (bits + (1u << kScaleShift) - 1) >> kScaleShift;
}

/// The codes of all scales. The largest gets the last code, if the base is then no subnormal number; groups whose weights are smaller by
/// more than codes reach, or zero, get scales larger than they need. False for a row that is never certified.
bool choose_scales(PanelLayout layout, int largest_q, RowPlane& r) {
  constexpr std::uint32_t kLeastScale = 1u << kScaleBits, kLastCode = 255;  // 2^-126, as upper_scale() counts
  const auto largest_of = [&](index_t g) {
    float largest = 0.0f;
    for (const float value : r.row_of(layout, g)) largest = std::max(largest, std::fabs(value));
    return static_cast<double>(largest);
  };
  double largest = 0.0;
  for (index_t g = 0; g < layout.groups(); ++g) largest = std::max(largest, largest_of(g));
  r.clear();
  if (largest == 0.0) return true;
  if (!(largest <= kMaxMagnitude)) return false;
  const std::uint32_t top = upper_scale(largest / largest_q), base = std::max(top, kLeastScale + kLastCode) - kLastCode;
  r.base = base << kScaleShift;
  for (index_t g = 0; g < layout.groups(); ++g) {
    const double of_group = largest_of(g);
    const std::uint32_t scale = of_group > 0.0 ? std::max(upper_scale(of_group / largest_q), base) : base;
    r.groups[static_cast<std::size_t>(g)].scale = static_cast<std::uint8_t>(scale - base);
  }
  return true;
}

/// The plane of one group; returns the code of its residual.
std::uint8_t quantize_group(std::span<const float> w, double scale, std::span<std::int8_t> plane) {
  constexpr double kToNearest = 0x1.8p52;  // adding it leaves no bits for a fraction
  if (scale == 0.0) return 0;
  const double inverse = 1.0 / scale;
  double squares = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) {
    const double value = static_cast<double>(w[k]), q = (value * inverse + kToNearest) - kToNearest;
    const double residual = value - scale * q;  // exact: both are multiples of one bit that is not far below
    plane[k] = static_cast<std::int8_t>(static_cast<int>(q));
    squares += residual * residual;
  }
  // No residual is above half a scale, but for q's own rounding: the last code always holds, if not always this quotient.
  const double code = std::ceil(std::sqrt(squares) * (1.0 + 0x1p-40) / (scale * residual_unit(static_cast<index_t>(w.size()))));
  return static_cast<std::uint8_t>(std::min(code, 255.0));
}

void quantize_row(PanelLayout layout, index_t bits, RowPlane& r) {
  const int largest_q = (1 << (bits - 1)) - 1;
  if (!choose_scales(layout, largest_q, r)) {
    r.norm = std::numeric_limits<double>::infinity();
    return;
  }
  double weights = 0.0, planes = 0.0;
  for (index_t g = 0; g < layout.groups(); ++g) {
    const std::span<const float> row = r.row_of(layout, g);
    const std::span<std::int8_t> plane = r.plane_of(layout, g);
    const double scale = r.scale(g);
    r.groups[static_cast<std::size_t>(g)].residual = quantize_group(row, scale, plane);
    double squares = 0.0, plane_squares = 0.0;
    for (std::size_t k = 0; k < row.size(); ++k) {
      const double value = static_cast<double>(row[k]), q = static_cast<double>(plane[k]);
      squares += value * value;
      plane_squares += q * q;
    }
    weights += squares;
    planes += plane_squares * scale * scale;
  }
  r.norm = std::sqrt(std::max(weights, planes));
}

/// What a residual's code says of ‖R‖, rounded up.
float residual_norm(double scale, std::uint8_t code, index_t columns) {
  return code == 0 ? 0.0f : upper_float(scale * code * residual_unit(columns));
}

/// What is added to `upper` before it is compared with the threshold: the bias, the canonical sum's rounding of it, and all
/// that underflow can do. A row of zeros with a bias that is not positive is closed whatever x is.
float offset_of(PanelLayout layout, const RowPlane& r, float bias) {
  if (!(r.norm <= kMaxMagnitude) || !(std::fabs(bias) <= static_cast<float>(kMaxMagnitude))) return kNever;
  if (r.norm == 0.0 && bias <= 0.0f) return -1.0f;
  const double b = static_cast<double>(bias);
  const double underflow = static_cast<double>(layout.columns + 64 + 2 * layout.groups() + 8) * kUnderflow32;
  return upper_float(b + gamma(layout.columns / kAccumulators + 7) * std::fabs(b) + underflow);
}

Status validate(const Weights& weights, CertificateFormat format) {
  if (format.bits < 2 || format.bits > 8) {
    return invalid_argument("a certificate's plane must have 2 to 8 bits (got " + std::to_string(format.bits) + ")");
  }
  if (format.group < 64 || format.group > kMaxPlaneGroup || format.group % 64 != 0) {
    return invalid_argument("a certificate's group must be a multiple of 64 up to " + std::to_string(kMaxPlaneGroup) + " (got " +
                            std::to_string(format.group) + ")");
  }
  if (!closes_units(weights.activation())) {
    return invalid_argument(to_string(weights.activation(), weights.gated()) + " closes no unit: there is nothing to certify");
  }
  return {};
}

void store(std::byte* to, const void* value, std::size_t bytes) { std::memcpy(to, value, bytes); }

/// Writes a row into its lane of a panel.
void place(PanelLayout layout, const RowPlane& r, float offset, index_t lane, std::byte* panel) {
  for (index_t g = 0; g < layout.groups(); ++g) {
    std::byte* chunk = panel + layout.chunk_offset(g) + layout.plane_offset(g);
    const std::int8_t* plane = r.plane.data() + g * layout.group;
    const index_t columns = layout.columns_of(g);
    for (index_t k = 0; k < columns; ++k) {
      chunk[(k / 4 * kPanelRows + lane) * 4 + k % 4] = static_cast<std::byte>(plane[k] + 128);
    }
    std::byte* codes = panel + layout.chunk_offset(g) + layout.codes_offset(g) + lane;
    codes[0] = static_cast<std::byte>(r.groups[static_cast<std::size_t>(g)].scale);
    codes[kPanelRows] = static_cast<std::byte>(r.groups[static_cast<std::size_t>(g)].residual);
  }
  store(panel + 4 * lane, &r.base, 4);
  const float norm = upper_float(r.norm);
  store(panel + layout.tail_offset() + 4 * lane, &offset, 4);
  store(panel + layout.tail_offset() + 4 * (kPanelRows + lane), &norm, 4);
}

float float_at(const std::byte* p) {
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

}  // namespace

void quantize_plane_row(std::span<const float> row, index_t bits, index_t group, std::span<std::int8_t> plane,
                        std::span<float> scales, std::span<float> norms) noexcept {
  const PanelLayout layout{static_cast<index_t>(row.size()), group};
  RowPlane r(layout.columns, layout.groups());
  std::copy(row.begin(), row.end(), r.row.begin());
  quantize_row(layout, bits, r);
  std::copy(r.plane.begin(), r.plane.end(), plane.begin());
  for (index_t g = 0; g < layout.groups(); ++g) {
    const auto i = static_cast<std::size_t>(g);
    scales[i] = static_cast<float>(r.scale(g));
    norms[i] = residual_norm(r.scale(g), r.groups[i].residual, layout.columns_of(g));
  }
}

Result<Certificate> Certificate::build(const Weights& weights, CertificateFormat format) try {
  if (Status status = validate(weights, format); !status) return status;
  Certificate c;
  c.format_ = format;
  c.layout_ = {weights.stride(), format.group};
  c.rows_ = weights.d_ff();
  c.threshold_ = weights.activation().kind == ActivationKind::fatrelu ? weights.activation().threshold : 0.0f;
  c.panels_ = AlignedBuffer(static_cast<std::size_t>(c.panels() * c.layout_.bytes()));
  if (c.panels_.data() == nullptr) return io_error("not enough memory for the certificate of a layer");

  const PanelLayout layout = c.layout_;
  const Matrix matrix = weights.gated() ? Matrix::gate : Matrix::up;
  const std::span<const float> bias = weights.gated() ? weights.gate_bias() : weights.up_bias();
#pragma omp parallel
  {
    RowPlane r(layout.columns, layout.groups());
#pragma omp for schedule(static)
    for (index_t j = 0; j < c.panels() * kPanelRows; ++j) {
      float offset = kNever;
      if (j < c.rows_ && !weights.input_row_nonfinite(j) && !weights.down_row_nonfinite(j)) {
        weights.read_row(matrix, j, 0, r.row);
        quantize_row(layout, format.bits, r);
        offset = offset_of(layout, r, bias.empty() ? 0.0f : bias[static_cast<std::size_t>(j)]);
      }
      if (offset == kNever) r.clear();  // nothing of it may turn up in the arithmetic of its neighbours: zeros
      place(layout, r, offset, j % kPanelRows, c.panels_.data() + j / kPanelRows * layout.bytes());
    }
  }
  return c;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the certificate of a layer");
}

Result<Certificate> Certificate::clone() const {
  Certificate copy;
  copy.format_ = format_;
  copy.layout_ = layout_;
  copy.rows_ = rows_;
  copy.threshold_ = threshold_;
  copy.panels_ = signsplit::clone(panels_);
  if (copy.panels_.size() != panels_.size()) return io_error("not enough memory for the certificate of a layer");
  return copy;
}

int Certificate::plane_at(index_t row, index_t k) const noexcept {
  const index_t g = k / layout_.group, in_group = k % layout_.group;
  const std::byte* chunk = panel(row / kPanelRows) + layout_.chunk_offset(g) + layout_.plane_offset(g);
  return static_cast<int>(chunk[(in_group / 4 * kPanelRows + row % kPanelRows) * 4 + in_group % 4]) - 128;
}

std::uint8_t Certificate::code_at(index_t row, index_t group, index_t which) const noexcept {
  const std::byte* const codes = panel(row / kPanelRows) + layout_.chunk_offset(group) + layout_.codes_offset(group);
  return static_cast<std::uint8_t>(codes[which * kPanelRows + row % kPanelRows]);
}

float Certificate::scale_at(index_t row, index_t group) const noexcept {
  const float base = float_at(panel(row / kPanelRows) + 4 * (row % kPanelRows));
  return std::bit_cast<float>(scale_bits_of(std::bit_cast<std::uint32_t>(base), code_at(row, group, 0)));
}

float Certificate::residual_norm_at(index_t row, index_t group) const noexcept {
  return residual_norm(static_cast<double>(scale_at(row, group)), code_at(row, group, 1), layout_.columns_of(group));
}

float Certificate::offset_at(index_t row) const noexcept {
  return float_at(panel(row / kPanelRows) + layout_.tail_offset() + 4 * (row % kPanelRows));
}

float Certificate::norm_at(index_t row) const noexcept {
  return float_at(panel(row / kPanelRows) + layout_.tail_offset() + 4 * (kPanelRows + row % kPanelRows));
}

RowBound Certificate::evaluate(index_t row, const QuantizedToken& x) const noexcept {
  return evaluate_row(reinterpret_cast<const unsigned char*>(panel(row / kPanelRows)), layout_, row % kPanelRows, x,
                      [](float a, float b, float c) { return std::fma(a, b, c); });
}

}  // namespace signsplit
