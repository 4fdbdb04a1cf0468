// Weights::quantize(): a layer's matrices rounded to int8.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <string>

#include "int8_scale.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {
namespace {

constexpr index_t kPiece = 64;  // elements widened at a time, on the stack: nothing here allocates inside a parallel loop

/// 127 times the bfloat16 above |w| / 127, which is larger by at most 1/128, must stay finite.
constexpr float kLargestWeight = 0x1.fcp127f;

/// Calls use(k, values) for pieces of elements [begin, end) of a row.
template <class Use>
void for_pieces(const Weights& weights, Matrix matrix, index_t j, index_t begin, index_t end, Use&& use) {
  std::array<float, kPiece> storage;
  for (index_t k = begin; k < end; k += kPiece) {
    const std::span<float> piece(storage.data(), static_cast<std::size_t>(std::min(kPiece, end - k)));
    weights.read_row(matrix, j, k, piece);
    use(k, std::span<const float>(piece));
  }
}

/// The first hidden unit whose row cannot be rounded, or F.
index_t first_unfit_row(const Weights& weights, Matrix matrix) {
  index_t first = weights.d_ff();
#pragma omp parallel for schedule(static) reduction(min : first)
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    for_pieces(weights, matrix, j, 0, weights.d_model(), [&](index_t, std::span<const float> row) {
      for (const float w : row) {
        if (!(std::abs(w) <= kLargestWeight)) first = std::min(first, j);
      }
    });
  }
  return first;
}

Status validate_rows(const Weights& weights, Matrix matrix) {
  const index_t j = first_unfit_row(weights, matrix);
  if (j == weights.d_ff()) return {};
  const char* const name = matrix == Matrix::up ? "up.weight: row " : matrix == Matrix::gate ? "gate.weight: row " : "down.weight: column ";
  return invalid_argument("tensor " + std::string(name) + std::to_string(j) +
                          " has a weight that is an infinity, a NaN or above 3.37e38: it cannot be rounded to int8");
}

/// A matrix as it is filled: rows of q lie `stride` apart, `group` elements share a scale.
struct Target {
  std::int8_t* q;
  bf16* scales;
  index_t stride, group;
};

/// Rows of up or gate: groups lie along them.
void quantize_input(const Weights& source, Matrix matrix, const Target& to) {
  const index_t d = source.d_model(), groups = ceil_div(d, to.group);
#pragma omp parallel for schedule(static)
  for (index_t j = 0; j < source.d_ff(); ++j) {
    std::int8_t* const q = to.q + j * to.stride;
    for (index_t g = 0; g < groups; ++g) {
      const index_t begin = g * to.group, end = std::min(d, begin + to.group);
      float largest = 0.0f;
      for_pieces(source, matrix, j, begin, end, [&](index_t, std::span<const float> row) {
        for (const float w : row) largest = std::max(largest, std::abs(w));
      });
      const bf16 scale = to.scales[j * groups + g] = scale_for(largest);
      for_pieces(source, matrix, j, begin, end, [&](index_t k, std::span<const float> row) {
        for (std::size_t i = 0; i < row.size(); ++i) q[k + static_cast<index_t>(i)] = quantized(row[i], static_cast<double>(to_float(scale)));
      });
    }
  }
}

/// Columns [column, column + largest.size()) of the hidden units [begin, end) of down: one scale each.
void quantize_down_block(const Weights& source, index_t begin, index_t end, index_t column, index_t columns, const Target& to) {
  std::array<float, kPiece> storage, largest{};
  const std::span<float> row(storage.data(), static_cast<std::size_t>(columns));
  for (index_t j = begin; j < end; ++j) {
    source.read_row(Matrix::down, j, column, row);
    for (std::size_t i = 0; i < row.size(); ++i) largest[i] = std::max(largest[i], std::abs(row[i]));
  }
  bf16* const scales = to.scales + begin / to.group * to.stride + column;
  std::array<double, kPiece> divisor;
  for (std::size_t i = 0; i < row.size(); ++i) divisor[i] = static_cast<double>(to_float(scales[i] = scale_for(largest[i])));
  for (index_t j = begin; j < end; ++j) {
    source.read_row(Matrix::down, j, column, row);
    std::int8_t* const q = to.q + j * to.stride + column;
    for (std::size_t i = 0; i < row.size(); ++i) q[i] = quantized(row[i], divisor[i]);
  }
}

/// Groups of down are runs of hidden units, with a scale for every column.
void quantize_down(const Weights& source, const Target& to) {
  const index_t d = source.d_model(), f = source.d_ff();
  for (index_t begin = 0; begin < f; begin += to.group) {
    const index_t end = std::min(f, begin + to.group);
#pragma omp parallel for schedule(static)
    for (index_t column = 0; column < d; column += kPiece) {
      quantize_down_block(source, begin, end, column, std::min(kPiece, d - column), to);
    }
  }
}

}  // namespace

Result<Weights> Weights::quantize(index_t group) const try {
  if (dtype() == DType::int8) return invalid_argument("the layer is int8 already: quantize the layer that it came from");
  Weights result;
  result.problem_ = problem_;
  result.problem_.dtype = DType::int8;
  result.problem_.group = group;
  if (Status status = validate(result.problem_); !status) return status;
  if (Status status = validate_rows(*this, Matrix::up); !status) return status;
  if (Status status = validate_rows(*this, Matrix::down); !status) return status;
  if (gated()) {
    if (Status status = validate_rows(*this, Matrix::gate); !status) return status;
  }
  if (Status status = result.allocate(); !status) return status;

  const auto target = [&](AlignedBuffer& q, AlignedBuffer& scales, index_t length) {
    return Target{reinterpret_cast<std::int8_t*>(q.data()), reinterpret_cast<bf16*>(scales.data()), stride(),
                  group == 0 ? length : group};
  };
  quantize_input(*this, Matrix::up, target(result.up_, result.up_scales_, d_model()));
  if (gated()) quantize_input(*this, Matrix::gate, target(result.gate_, result.gate_scales_, d_model()));
  quantize_down(*this, target(result.down_, result.down_scales_, d_ff()));
  result.up_bias_ = up_bias_;
  result.gate_bias_ = gate_bias_;
  result.down_bias_ = down_bias_;
  result.scan();
  return result;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to quantize a layer");
}

}  // namespace signsplit
