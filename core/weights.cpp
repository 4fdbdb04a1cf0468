#include "signsplit/weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "signsplit/certificate.hpp"
#include "transpose.hpp"
#include "weight_rows.hpp"

namespace signsplit {
namespace {

Status wrong_size(const char* tensor, const char* shape, index_t expected, std::size_t got) {
  return invalid_argument(std::string("tensor ") + tensor + ": must have " + std::to_string(expected) + " elements " +
                          shape + " (got " + std::to_string(got) + ")");
}

/// `tensor` must hold `elements` elements of `dtype`.
Status validate_matrix(const char* tensor, const char* shape, std::span<const std::byte> bytes, index_t elements,
                       DType dtype) {
  if (bytes.size() == static_cast<std::size_t>(elements * dtype_bytes(dtype))) return {};
  return invalid_argument(std::string("tensor ") + tensor + ": must have " + std::to_string(elements * dtype_bytes(dtype)) +
                          " bytes, " + std::to_string(elements) + " " + std::string(to_string(dtype)) + " elements " +
                          shape + " (got " + std::to_string(bytes.size()) + ")");
}

Status validate_bias(const char* tensor, const char* shape, std::span<const float> bias, index_t elements) {
  if (bias.empty() || bias.size() == static_cast<std::size_t>(elements)) return {};
  return wrong_size(tensor, shape, elements, bias.size());
}

Status validate_layer(const LayerTensors& layer, const Problem& problem) {
  if (Status status = validate(problem); !status) return status;
  const index_t elements = layer.d_ff * layer.d_model;
  if (Status s = validate_matrix("up.weight", "[F, D]", layer.up, elements, layer.dtype); !s) return s;
  if (Status s = validate_matrix("down.weight", "[D, F]", layer.down, elements, layer.dtype); !s) return s;
  if (problem.gated) {
    if (Status s = validate_matrix("gate.weight", "[F, D]", layer.gate, elements, layer.dtype); !s) return s;
  } else if (!layer.gate_bias.empty()) {
    return invalid_argument("tensor gate.bias: there is no gate.weight to go with it");
  }
  if (Status s = validate_bias("up.bias", "[F]", layer.up_bias, layer.d_ff); !s) return s;
  if (Status s = validate_bias("gate.bias", "[F]", layer.gate_bias, layer.d_ff); !s) return s;
  return validate_bias("down.bias", "[D]", layer.down_bias, layer.d_model);
}

void copy_rows(std::span<const std::byte> source, index_t rows, index_t row_bytes, std::byte* target,
               index_t target_row_bytes) {
#pragma omp parallel for schedule(static)
  for (index_t j = 0; j < rows; ++j) {
    std::memcpy(target + j * target_row_bytes, source.data() + j * row_bytes, static_cast<std::size_t>(row_bytes));
  }
}

/// Σw² of a packed row in double. Every square of an f32 is a double, so only the additions round. Not finite exactly
/// when the row holds an infinity or a NaN: 2^24 squares of finite f32 stay below 2^281.
double sum_of_squares(DType dtype, const std::byte* row, index_t stride) {
  constexpr std::size_t kLanes = 8;
  constexpr index_t kPiece = 64;  // divides the stride
  std::array<float, kPiece> piece;
  std::array<double, kLanes> sums{};
  for (index_t k = 0; k < stride; k += kPiece) {
    widen(dtype, row, k, piece);
    for (std::size_t i = 0; i < piece.size(); i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const double value = static_cast<double>(piece[i + lane]);
        sums[lane] += value * value;
      }
    }
  }
  double sum = 0.0;
  for (const double one : sums) sum += one;
  return sum;
}

/// An f32 that is not below the exact norm of the row whose Σw² was computed as `sum`. At most 2^24 + 7 additions, in
/// whatever order, of terms ≥ 0: the exact sum is at most sum / (1 − γ) with γ < 1.01·2^-29. The factor 1 + 2^-28 covers
/// that and, with what it has to spare (> 2^-30), the two roundings of the product and of the square root.
float norm_bound(double sum) {
  if (!std::isfinite(sum)) return std::numeric_limits<float>::infinity();
  const double bound = std::sqrt(sum * (1.0 + 0x1p-28));
  if (bound > static_cast<double>(std::numeric_limits<float>::max())) return std::numeric_limits<float>::infinity();
  const float nearest = static_cast<float>(bound);
  if (static_cast<double>(nearest) >= bound) return nearest;
  return std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

/// Marks in `nonfinite` the rows of a packed matrix that hold an infinity or a NaN; with `norms`, bounds theirs.
void scan_rows(DType dtype, const AlignedBuffer& matrix, index_t stride, std::span<std::uint8_t> nonfinite,
               std::span<float> norms) {
  const index_t row_bytes = stride * dtype_bytes(dtype), rows = static_cast<index_t>(nonfinite.size());
#pragma omp parallel for schedule(static)
  for (index_t j = 0; j < rows; ++j) {
    const double sum = sum_of_squares(dtype, matrix.data() + j * row_bytes, stride);
    const std::size_t row = static_cast<std::size_t>(j);
    if (!std::isfinite(sum)) nonfinite[row] = 1;
    if (!norms.empty()) norms[row] = norm_bound(sum);
  }
}

void scan_bias(std::span<const float> bias, std::span<std::uint8_t> nonfinite) {
  for (std::size_t j = 0; j < bias.size(); ++j) {
    if (!std::isfinite(bias[j])) nonfinite[j] = 1;
  }
}

bool any_set(const std::vector<std::uint8_t>& flags) {
  return std::find(flags.begin(), flags.end(), std::uint8_t{1}) != flags.end();
}

}  // namespace

float Weights::at(const AlignedBuffer& matrix, index_t j, index_t k) const noexcept {
  float value = 0.0f;
  widen(dtype(), matrix.data() + j * row_bytes(), k, std::span(&value, 1));
  return value;
}

void Weights::scan() {
  const std::size_t units = static_cast<std::size_t>(d_ff());
  input_nonfinite_.assign(units, 0);
  down_nonfinite_.assign(units, 0);
  up_norms_.assign(units, 0.0f);
  scan_rows(dtype(), up_, stride(), input_nonfinite_, up_norms_);
  scan_rows(dtype(), down_, stride(), down_nonfinite_, {});
  if (gated()) {
    gate_norms_.assign(units, 0.0f);
    scan_rows(dtype(), gate_, stride(), input_nonfinite_, gate_norms_);
  }
  scan_bias(up_bias_, input_nonfinite_);
  scan_bias(gate_bias_, input_nonfinite_);
  any_input_nonfinite_ = any_set(input_nonfinite_);
  any_down_nonfinite_ = any_set(down_nonfinite_);
}

Result<Weights> Weights::pack(const LayerTensors& layer) try {
  Weights packed;
  packed.problem_ = {.d_model = layer.d_model,
                     .d_ff = layer.d_ff,
                     .batch = 1,
                     .dtype = layer.dtype,
                     .activation = layer.activation,
                     .gated = !layer.gate.empty()};
  if (Status status = validate_layer(layer, packed.problem_); !status) return status;

  const index_t element = dtype_bytes(layer.dtype), row_bytes = layer.d_model * element;
  const std::size_t bytes = static_cast<std::size_t>(layer.d_ff * packed.row_bytes());
  packed.up_ = AlignedBuffer(bytes);
  packed.down_ = AlignedBuffer(bytes);
  if (packed.gated()) packed.gate_ = AlignedBuffer(bytes);
  if (packed.up() == nullptr || packed.down() == nullptr || (packed.gated() && packed.gate() == nullptr)) {
    return io_error("not enough memory to pack a layer of " + describe(packed.problem_));
  }
  // Fresh memory is zero, and so is the padding of every row.
  copy_rows(layer.up, layer.d_ff, row_bytes, packed.up_.data(), packed.row_bytes());
  if (packed.gated()) copy_rows(layer.gate, layer.d_ff, row_bytes, packed.gate_.data(), packed.row_bytes());
  transpose(layer.down.data(), layer.d_model, layer.d_ff, layer.d_ff, packed.down_.data(), packed.stride(), element);
  packed.up_bias_.assign(layer.up_bias.begin(), layer.up_bias.end());
  packed.gate_bias_.assign(layer.gate_bias.begin(), layer.gate_bias.end());
  packed.down_bias_.assign(layer.down_bias.begin(), layer.down_bias.end());
  packed.scan();
  packed.certificates_ = std::make_shared<CertificateStore>();
  return packed;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to pack a layer");
}

Result<std::shared_ptr<const Certificate>> Weights::certificate(CertificateFormat format) const {
  return certificates_->get(*this, format);
}

Result<Weights> Weights::clone() const try {
  Weights copy;
  copy.problem_ = problem_;
  copy.up_ = signsplit::clone(up_);
  copy.gate_ = signsplit::clone(gate_);
  copy.down_ = signsplit::clone(down_);
  if (copy.up_.size() != up_.size() || copy.gate_.size() != gate_.size() || copy.down_.size() != down_.size()) {
    return io_error("not enough memory to copy a layer of " + describe(problem_));
  }
  copy.up_bias_ = up_bias_;
  copy.gate_bias_ = gate_bias_;
  copy.down_bias_ = down_bias_;
  copy.up_norms_ = up_norms_;
  copy.gate_norms_ = gate_norms_;
  copy.input_nonfinite_ = input_nonfinite_;
  copy.down_nonfinite_ = down_nonfinite_;
  copy.any_input_nonfinite_ = any_input_nonfinite_;
  copy.any_down_nonfinite_ = any_down_nonfinite_;
  copy.certificates_ = std::make_shared<CertificateStore>();
  return copy;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to copy a layer");
}

}  // namespace signsplit
