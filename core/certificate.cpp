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

/// The least bfloat16 that is not below a finite value ≥ 0; of what underflows, or overflows, the next that is not 0 or +∞.
bf16 upper_bf16(double value) {
  if (value == 0.0) return {0};
  auto bits = static_cast<std::uint32_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
  if (static_cast<double>(to_float(bf16{static_cast<std::uint16_t>(bits)})) < value) ++bits;
  return {static_cast<std::uint16_t>(bits)};
}

/// An f32 that is not below a value whose computation in double was off by less than 2^-28, relative.
float upper_float(double value) {
  const float nearest = static_cast<float>(value);
  const double target = value + std::fabs(value) * 0x1p-28;
  return static_cast<double>(nearest) >= target ? nearest : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

/// The plane of one group and its scale.
struct GroupPlane {
  bf16 scale{0}, norm{0};
};
GroupPlane quantize_group(std::span<const float> w, int largest_q, std::span<std::int8_t> plane) {
  constexpr double kToNearest = 0x1.8p52;  // adding it leaves no bits for a fraction
  float largest = 0.0f;
  for (const float value : w) largest = std::max(largest, std::fabs(value));
  if (largest == 0.0f) {
    std::fill(plane.begin(), plane.end(), std::int8_t{0});
    return {};
  }
  // A scale that is subnormal has no inverse; a larger one is always valid.
  const double least = std::max(static_cast<double>(largest) / largest_q, 0x1p-126);
  GroupPlane group{upper_bf16(least), {0}};
  const double scale = static_cast<double>(to_float(group.scale)), inverse = 1.0 / scale;
  double squares = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) {
    const double value = static_cast<double>(w[k]), q = (value * inverse + kToNearest) - kToNearest;
    const double residual = value - scale * q;  // exact: both are multiples of one bit that is not far below
    plane[k] = static_cast<std::int8_t>(static_cast<int>(q));
    squares += residual * residual;
  }
  group.norm = upper_bf16(std::sqrt(squares) * (1.0 + 0x1p-40));
  return group;
}

/// Everything of one row.
struct RowPlane {
  std::vector<float> row;
  std::vector<std::int8_t> plane;
  std::vector<GroupPlane> groups;
  double norm = 0.0;  ///< max(‖w‖, ‖S‖), off by less than 2^-28
};

void quantize_row(PanelLayout layout, index_t bits, RowPlane& r) {
  const int largest_q = (1 << (bits - 1)) - 1;
  double weights = 0.0, planes = 0.0;
  for (index_t g = 0; g < layout.groups(); ++g) {
    const auto begin = static_cast<std::size_t>(g * layout.group), count = static_cast<std::size_t>(layout.columns_of(g));
    const std::span<const float> row = std::span(r.row).subspan(begin, count);
    GroupPlane& group = r.groups[static_cast<std::size_t>(g)];
    group = quantize_group(row, largest_q, std::span(r.plane).subspan(begin, count));
    const double scale = static_cast<double>(to_float(group.scale));
    double squares = 0.0, plane_squares = 0.0;
    for (std::size_t k = 0; k < count; ++k) {
      const double value = static_cast<double>(row[k]), q = static_cast<double>(r.plane[begin + k]);
      squares += value * value;
      plane_squares += q * q;
    }
    weights += squares;
    planes += plane_squares * scale * scale;
  }
  r.norm = std::sqrt(std::max(weights, planes));
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
  if (weights.activation().kind == ActivationKind::identity) {
    return invalid_argument("identity closes no unit: there is nothing to certify");
  }
  return {};
}

void store(std::byte* to, const void* value, std::size_t bytes) { std::memcpy(to, value, bytes); }

/// Writes a row into its lane of a panel.
void place(PanelLayout layout, const RowPlane& r, float offset, index_t lane, std::byte* panel) {
  for (index_t g = 0; g < layout.groups(); ++g) {
    std::byte* chunk = panel + layout.chunk_offset(g);
    const std::int8_t* plane = r.plane.data() + g * layout.group;
    const index_t columns = layout.columns_of(g);
    for (index_t k = 0; k < columns; ++k) {
      chunk[(k / 4 * kPanelRows + lane) * 4 + k % 4] = static_cast<std::byte>(plane[k] + 128);
    }
    std::byte* scales = chunk + columns * kPanelRows;
    const GroupPlane& group = r.groups[static_cast<std::size_t>(g)];
    store(scales + 2 * lane, &group.scale, 2);
    store(scales + 2 * (kPanelRows + lane), &group.norm, 2);
  }
  const float norm = upper_float(r.norm);
  store(panel + layout.tail_offset() + 4 * lane, &offset, 4);
  store(panel + layout.tail_offset() + 4 * (kPanelRows + lane), &norm, 4);
}

float float_at(const std::byte* p) {
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
float bf16_at(const std::byte* p) {
  bf16 value;
  std::memcpy(&value, p, sizeof value);
  return to_float(value);
}

}  // namespace

void quantize_plane_row(std::span<const float> row, index_t bits, index_t group, std::span<std::int8_t> plane,
                        std::span<float> scales, std::span<float> norms) noexcept {
  const std::size_t step = static_cast<std::size_t>(group);
  for (std::size_t g = 0, begin = 0; begin < row.size(); ++g, begin += step) {
    const std::size_t count = std::min(step, row.size() - begin);
    const GroupPlane one = quantize_group(row.subspan(begin, count), (1 << (bits - 1)) - 1, plane.subspan(begin, count));
    scales[g] = to_float(one.scale);
    norms[g] = to_float(one.norm);
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
    RowPlane r{std::vector<float>(static_cast<std::size_t>(layout.columns)),
               std::vector<std::int8_t>(static_cast<std::size_t>(layout.columns)),
               std::vector<GroupPlane>(static_cast<std::size_t>(layout.groups()))};
#pragma omp for schedule(static)
    for (index_t j = 0; j < c.panels() * kPanelRows; ++j) {
      float offset = kNever;
      if (j < c.rows_ && !weights.input_row_nonfinite(j) && !weights.down_row_nonfinite(j)) {
        weights.read_row(matrix, j, 0, r.row);
        quantize_row(layout, format.bits, r);
        offset = offset_of(layout, r, bias.empty() ? 0.0f : bias[static_cast<std::size_t>(j)]);
      }
      if (offset == kNever) {  // nothing of it may turn up in the arithmetic of its neighbours: zeros
        std::fill(r.plane.begin(), r.plane.end(), std::int8_t{0});
        std::fill(r.groups.begin(), r.groups.end(), GroupPlane{});
        r.norm = 0.0;
      }
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
  const std::byte* chunk = panel(row / kPanelRows) + layout_.chunk_offset(g);
  return static_cast<int>(chunk[(in_group / 4 * kPanelRows + row % kPanelRows) * 4 + in_group % 4]) - 128;
}

float Certificate::scale_at(index_t row, index_t group) const noexcept {
  const std::byte* chunk = panel(row / kPanelRows) + layout_.chunk_offset(group);
  return bf16_at(chunk + layout_.columns_of(group) * kPanelRows + 2 * (row % kPanelRows));
}

float Certificate::residual_norm_at(index_t row, index_t group) const noexcept {
  const std::byte* chunk = panel(row / kPanelRows) + layout_.chunk_offset(group);
  return bf16_at(chunk + layout_.columns_of(group) * kPanelRows + 2 * (kPanelRows + row % kPanelRows));
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
