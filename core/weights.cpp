#include "signsplit/weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "signsplit/certificate.hpp"
#include "signsplit/residual.hpp"
#include "int8_scale.hpp"
#include "transpose.hpp"

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

/// The scales of one stored matrix of `rows` rows. Only an int8 layer has them.
Status validate_scales(const char* tensor, const char* shape, std::span<const float> scales, index_t rows, index_t groups,
                       DType dtype) {
  if (dtype != DType::int8) {
    if (scales.empty()) return {};
    return invalid_argument(std::string("tensor ") + tensor + ": only int8 matrices have scales (these are " +
                            std::string(to_string(dtype)) + ")");
  }
  if (scales.size() != static_cast<std::size_t>(rows * groups)) return wrong_size(tensor, shape, rows * groups, scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (is_scale(scales[i])) continue;
    return invalid_argument(std::string("tensor ") + tensor + ": element " + std::to_string(i) + " is " +
                            std::to_string(scales[i]) + ", must be a bfloat16 value, not negative, and 127 times it finite");
  }
  return {};
}

Status validate_quantized(const char* tensor, std::span<const std::byte> q) {
  const auto found = std::find(q.begin(), q.end(), std::byte{0x80});
  if (found == q.end()) return {};
  return invalid_argument(std::string("tensor ") + tensor + ": element " + std::to_string(found - q.begin()) +
                          " is -128, must be in [-127, 127]");
}

Status validate_int8(const LayerTensors& layer, const Problem& problem) {
  const index_t d = layer.d_model, f = layer.d_ff;
  const index_t inputs = scale_count(problem, 0, d), outputs = scale_count(problem, 0, f);
  if (Status s = validate_scales("up.scale", "[F, G1]", layer.up_scale, f, inputs, layer.dtype); !s) return s;
  if (Status s = validate_scales("down.scale", "[D, G2]", layer.down_scale, d, outputs, layer.dtype); !s) return s;
  if (problem.gated) {
    if (Status s = validate_scales("gate.scale", "[F, G1]", layer.gate_scale, f, inputs, layer.dtype); !s) return s;
  } else if (!layer.gate_scale.empty()) {
    return invalid_argument("tensor gate.scale: there is no gate.weight to go with it");
  }
  if (layer.dtype != DType::int8) return {};
  if (Status s = validate_quantized("up.weight", layer.up); !s) return s;
  if (Status s = validate_quantized("down.weight", layer.down); !s) return s;
  return validate_quantized("gate.weight", layer.gate);
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
  if (Status s = validate_int8(layer, problem); !s) return s;
  if (Status s = validate_bias("up.bias", "[F]", layer.up_bias, layer.d_ff); !s) return s;
  if (Status s = validate_bias("gate.bias", "[F]", layer.gate_bias, layer.d_ff); !s) return s;
  return validate_bias("down.bias", "[D]", layer.down_bias, layer.d_model);
}

/// The 16-bit elements at `first`, as f32.
template <class T>
void widen(const std::byte* first, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, first + sizeof value * i, sizeof value);
    out[i] = to_float(value);
  }
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
double sum_of_squares(const Weights& weights, Matrix matrix, index_t j) {
  constexpr std::size_t kLanes = 8;
  constexpr index_t kPiece = 64;  // divides the stride
  std::array<float, kPiece> piece;
  std::array<double, kLanes> sums{};
  for (index_t k = 0; k < weights.stride(); k += kPiece) {
    weights.read_row(matrix, j, k, piece);
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
void scan_rows(const Weights& weights, Matrix matrix, std::span<std::uint8_t> nonfinite, std::span<float> norms) {
#pragma omp parallel for schedule(static)
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    const double sum = sum_of_squares(weights, matrix, j);
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

/// Row-major [F, G1], as the tensor has them.
void pack_input_scales(std::span<const float> scales, AlignedBuffer& packed) {
  auto* const out = reinterpret_cast<bf16*>(packed.data());
  for (std::size_t i = 0; i < scales.size(); ++i) out[i] = to_bf16(scales[i]);
}

/// [D, G2] to [G2, stride].
void pack_down_scales(std::span<const float> scales, const Weights& weights, AlignedBuffer& packed) {
  auto* const out = reinterpret_cast<bf16*>(packed.data());
  const index_t groups = weights.down_groups();
  for (index_t d = 0; d < weights.d_model(); ++d) {
    for (index_t g = 0; g < groups; ++g) {
      out[g * weights.stride() + d] = to_bf16(scales[static_cast<std::size_t>(d * groups + g)]);
    }
  }
}

bool any_set(const std::vector<std::uint8_t>& flags) {
  return std::find(flags.begin(), flags.end(), std::uint8_t{1}) != flags.end();
}

}  // namespace

void Weights::read_row(Matrix matrix, index_t j, index_t begin, std::span<float> out) const noexcept {
  if (!has_first_matrix() && matrix == (gated() ? Matrix::gate : Matrix::up)) {
    kept_residual_->restore(*kept_certificate_, j, begin, out);
    return;
  }
  const AlignedBuffer& buffer = matrix == Matrix::up ? up_ : matrix == Matrix::gate ? gate_ : down_;
  const std::byte* const first = buffer.data() + j * row_bytes() + begin * dtype_bytes(dtype());
  switch (dtype()) {
    case DType::f32: std::memcpy(out.data(), first, out.size_bytes()); return;
    case DType::bf16: widen<bf16>(first, out); return;
    case DType::f16: widen<f16>(first, out); return;
    case DType::int8: break;
  }
  const auto* const q = reinterpret_cast<const std::int8_t*>(first);
  if (matrix == Matrix::down) {
    const bf16* const scale = down_scales().data() + (group() == 0 ? 0 : j / group()) * stride() + begin;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = to_float(scale[i]) * static_cast<float>(q[i]);
    return;
  }
  const bf16* const scale = (matrix == Matrix::up ? up_scales() : gate_scales()).data() + j * input_groups();
  const index_t end = begin + static_cast<index_t>(out.size());
  for (index_t k = begin; k < end;) {  // a group at a time; the padding belongs to the last one
    const index_t g = group() == 0 ? 0 : std::min(k / group(), input_groups() - 1);
    const index_t last = g + 1 == input_groups() ? end : std::min(end, (g + 1) * group());
    const float s = to_float(scale[g]);
    for (; k < last; ++k) out[static_cast<std::size_t>(k - begin)] = s * static_cast<float>(q[k - begin]);
  }
}

float Weights::at(Matrix matrix, index_t j, index_t k) const noexcept {
  float value = 0.0f;
  read_row(matrix, j, k, std::span(&value, 1));
  return value;
}

void Weights::scan() {
  const std::size_t units = static_cast<std::size_t>(d_ff());
  input_nonfinite_.assign(units, 0);
  down_nonfinite_.assign(units, 0);
  up_norms_.assign(units, 0.0f);
  scan_rows(*this, Matrix::up, input_nonfinite_, up_norms_);
  scan_rows(*this, Matrix::down, down_nonfinite_, {});
  if (gated()) {
    gate_norms_.assign(units, 0.0f);
    scan_rows(*this, Matrix::gate, input_nonfinite_, gate_norms_);
  }
  scan_bias(up_bias_, input_nonfinite_);
  scan_bias(gate_bias_, input_nonfinite_);
  any_input_nonfinite_ = any_set(input_nonfinite_);
  any_down_nonfinite_ = any_set(down_nonfinite_);
}

/// Zeroed memory for the matrices and scales of problem_, and an empty store of certificates. May throw std::bad_alloc.
Status Weights::allocate() {
  const auto matrix_bytes = static_cast<std::size_t>(d_ff() * row_bytes());
  certificates_ = std::make_shared<CertificateStore>();
  bool enough = true;
  const auto make = [&](AlignedBuffer& buffer, std::size_t bytes) {
    buffer = AlignedBuffer(bytes);
    enough = enough && buffer.data() != nullptr;
  };
  make(up_, matrix_bytes);
  make(down_, matrix_bytes);
  if (gated()) make(gate_, matrix_bytes);
  if (dtype() == DType::int8) {
    const auto input_bytes = static_cast<std::size_t>(d_ff() * input_groups()) * sizeof(bf16);
    make(up_scales_, input_bytes);
    if (gated()) make(gate_scales_, input_bytes);
    make(down_scales_, static_cast<std::size_t>(down_groups() * stride()) * sizeof(bf16));
  }
  return enough ? Status{} : io_error("not enough memory to pack a layer of " + describe(problem_));
}

Result<Weights> Weights::pack(const LayerTensors& layer) try {
  Weights packed;
  packed.problem_ = {.d_model = layer.d_model,
                     .d_ff = layer.d_ff,
                     .batch = 1,
                     .dtype = layer.dtype,
                     .activation = layer.activation,
                     .gated = !layer.gate.empty(),
                     .group = layer.group};
  if (Status status = validate_layer(layer, packed.problem_); !status) return status;
  if (Status status = packed.allocate(); !status) return status;

  // Fresh memory is zero, and so is the padding of every row.
  const index_t element = dtype_bytes(layer.dtype), row_bytes = layer.d_model * element;
  copy_rows(layer.up, layer.d_ff, row_bytes, packed.up_.data(), packed.row_bytes());
  if (packed.gated()) copy_rows(layer.gate, layer.d_ff, row_bytes, packed.gate_.data(), packed.row_bytes());
  transpose(layer.down.data(), layer.d_model, layer.d_ff, layer.d_ff, packed.down_.data(), packed.stride(), element);
  if (layer.dtype == DType::int8) {
    pack_input_scales(layer.up_scale, packed.up_scales_);
    pack_input_scales(layer.gate_scale, packed.gate_scales_);
    pack_down_scales(layer.down_scale, packed, packed.down_scales_);
  }
  packed.up_bias_.assign(layer.up_bias.begin(), layer.up_bias.end());
  packed.gate_bias_.assign(layer.gate_bias.begin(), layer.gate_bias.end());
  packed.down_bias_.assign(layer.down_bias.begin(), layer.down_bias.end());
  packed.scan();
  return packed;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to pack a layer");
}

Status Weights::set_arithmetic(Arithmetic arithmetic) {
  Problem changed = problem_;
  changed.arithmetic = arithmetic;
  if (Status status = validate(changed); !status) return status;
  problem_ = changed;
  return {};
}

Result<Weights> Weights::clone() const try {
  Weights copy;
  copy.problem_ = problem_;
  copy.up_ = signsplit::clone(up_);
  copy.gate_ = signsplit::clone(gate_);
  copy.down_ = signsplit::clone(down_);
  copy.up_scales_ = signsplit::clone(up_scales_);
  copy.gate_scales_ = signsplit::clone(gate_scales_);
  copy.down_scales_ = signsplit::clone(down_scales_);
  if (copy.up_.size() != up_.size() || copy.gate_.size() != gate_.size() || copy.down_.size() != down_.size() ||
      copy.up_scales_.size() != up_scales_.size() || copy.gate_scales_.size() != gate_scales_.size() ||
      copy.down_scales_.size() != down_scales_.size()) {
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
  Result<std::shared_ptr<CertificateStore>> certificates = certificates_->clone();
  if (!certificates) return certificates.status();
  copy.certificates_ = std::move(certificates).value();
  if (has_first_matrix()) return copy;
  const CertificateFormat format = kept_certificate_->format();  // of which the store has both
  auto certificate = copy.certificate(format);
  if (!certificate) return certificate.status();
  auto residual = copy.residual(format);
  if (!residual) return residual.status();
  copy.kept_certificate_ = std::move(certificate).value();
  copy.kept_residual_ = std::move(residual).value();
  return copy;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to copy a layer");
}

}  // namespace signsplit
