#include "signsplit/residual.hpp"

#include <bit>
#include <cstring>
#include <new>
#include <string>

#include "signsplit/weights.hpp"

namespace signsplit {
namespace {

template <class T>
T element(const std::byte* from, index_t i) {
  T value;
  std::memcpy(&value, from + i * static_cast<index_t>(sizeof value), sizeof value);
  return value;
}
template <class T>
void put(std::byte* to, index_t i, T value) {
  std::memcpy(to + i * static_cast<index_t>(sizeof value), &value, sizeof value);
}

/// Element i of a list of stored weights.
float stored_weight(DType dtype, const std::byte* from, index_t i) {
  return dtype == DType::f32    ? element<float>(from, i)
         : dtype == DType::bf16 ? to_float(element<bf16>(from, i))
                                : to_float(element<f16>(from, i));
}

/// The bits that a difference is taken from.
std::uint32_t predicted(const Certificate& c, ResidualLayout layout, index_t j, index_t k) {
  const float plane = c.scale_at(j, k / c.layout().group) * static_cast<float>(c.plane_at(j, k));
  return std::bit_cast<std::uint32_t>(plane) & layout.mask();
}

std::int32_t difference_at(ResidualLayout layout, const std::byte* row, index_t k) {
  if (layout.dtype != DType::f32) return element<std::int8_t>(row, k);
  return element<std::uint16_t>(row, k) + 65536 * element<std::int8_t>(row + 2 * layout.columns, k);
}

void put_difference(ResidualLayout layout, std::byte* row, index_t k, std::int32_t difference) {
  if (layout.dtype != DType::f32) return put(row, k, static_cast<std::int8_t>(difference));
  put(row, k, static_cast<std::uint16_t>(difference & 0xffff));
  put(row + 2 * layout.columns, k, static_cast<std::int8_t>(difference >> 16));
}

/// Row j of the matrix into a row of the residual. False when it has too many escapes.
bool encode_row(const Certificate& c, ResidualLayout layout, index_t j, const std::byte* stored, std::byte* row) {
  const std::int32_t half = layout.dtype == DType::f32 ? 1 << 23 : 1 << 7;
  const index_t element_bytes = dtype_bytes(layout.dtype);
  index_t escapes = 0;
  for (index_t k = 0; k < layout.columns; ++k) {
    const std::uint32_t weight = std::bit_cast<std::uint32_t>(stored_weight(layout.dtype, stored, k));
    const std::int32_t difference = static_cast<std::int32_t>(weight - predicted(c, layout, j, k)) >> layout.shift();
    if (difference >= -half && difference < half) {
      put_difference(layout, row, k, difference);
      continue;
    }
    if (++escapes >= layout.slots()) return false;
    put(row + layout.positions_offset(), escapes, static_cast<std::uint16_t>(k));
    std::memcpy(row + layout.escapes_offset() + escapes * element_bytes, stored + k * element_bytes, static_cast<std::size_t>(element_bytes));
  }
  put(row + layout.positions_offset(), 0, static_cast<std::uint16_t>(escapes));
  return true;
}

Status validate(const Weights& weights, const Certificate& certificate) {
  if (Status status = weights.require_first_matrix(); !status) return status;
  if (weights.dtype() == DType::int8) {
    return invalid_argument("a residual of int8 weights would take no less than they do: keep them beside the plane");
  }
  if (certificate.format().bits != 8) {
    return invalid_argument("a residual needs a plane of 8 bits (got " + std::to_string(certificate.format().bits) + ")");
  }
  if (weights.stride() > kMaxResidualColumns) {
    return invalid_argument("a residual's rows have at most " + std::to_string(kMaxResidualColumns) + " elements (got " +
                            std::to_string(weights.stride()) + ")");
  }
  return {};
}

}  // namespace

Result<Residual> Residual::build(const Weights& weights, const Certificate& certificate) try {
  if (Status status = validate(weights, certificate); !status) return status;
  Residual r;
  r.layout_ = {weights.dtype(), weights.stride()};
  const index_t rows = weights.d_ff(), row_bytes = r.layout_.row_bytes(), stored_bytes = weights.row_bytes();
  const std::byte* const matrix = weights.gated() ? weights.gate() : weights.up();
  const auto no_memory = [] { return io_error("not enough memory for the residual of a layer"); };
  r.rows_ = AlignedBuffer(static_cast<std::size_t>(rows * row_bytes));
  if (r.rows_.data() == nullptr) return no_memory();
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(rows), -1);
#pragma omp parallel for schedule(static)
  for (index_t j = 0; j < rows; ++j) {
    std::byte* const row = r.rows_.data() + j * row_bytes;
    if (encode_row(certificate, r.layout_, j, matrix + j * stored_bytes, row)) continue;
    numbers[static_cast<std::size_t>(j)] = 0;
    std::memset(row, 0, static_cast<std::size_t>(row_bytes));
  }
  for (std::int32_t& number : numbers) {
    if (number == 0) number = static_cast<std::int32_t>(r.raw_count_++);
  }
  if (r.raw_count_ == 0) return r;
  r.raw_ = AlignedBuffer(static_cast<std::size_t>(r.raw_count_ * stored_bytes));
  if (r.raw_.data() == nullptr) return no_memory();
  for (index_t j = 0; j < rows; ++j) {
    const std::int32_t number = numbers[static_cast<std::size_t>(j)];
    if (number >= 0) std::memcpy(r.raw_.data() + number * stored_bytes, matrix + j * stored_bytes, static_cast<std::size_t>(stored_bytes));
  }
  r.raw_numbers_ = std::move(numbers);
  return r;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the residual of a layer");
}

Result<Residual> Residual::clone() const try {
  Residual copy;
  copy.layout_ = layout_;
  copy.rows_ = signsplit::clone(rows_);
  copy.raw_ = signsplit::clone(raw_);
  copy.raw_numbers_ = raw_numbers_;
  copy.raw_count_ = raw_count_;
  if (copy.rows_.size() == rows_.size() && copy.raw_.size() == raw_.size()) return copy;
  return io_error("not enough memory for the residual of a layer");
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the residual of a layer");
}

void Residual::restore(const Certificate& certificate, index_t j, index_t begin, std::span<float> out) const noexcept {
  const index_t end = begin + static_cast<index_t>(out.size());
  const auto at = [&](index_t k) -> float& { return out[static_cast<std::size_t>(k - begin)]; };
  if (!raw_numbers_.empty() && raw_numbers_[static_cast<std::size_t>(j)] >= 0) {
    const std::byte* const row = raw_.data() + raw_numbers_[static_cast<std::size_t>(j)] * layout_.columns * dtype_bytes(layout_.dtype);
    for (index_t k = begin; k < end; ++k) at(k) = stored_weight(layout_.dtype, row, k);
    return;
  }
  const std::byte* const row = rows_.data() + j * layout_.row_bytes();
  for (index_t k = begin; k < end; ++k) {
    const auto difference = static_cast<std::uint32_t>(difference_at(layout_, row, k)) << layout_.shift();
    at(k) = std::bit_cast<float>(predicted(certificate, layout_, j, k) + difference);
  }
  const index_t escapes = element<std::uint16_t>(row + layout_.positions_offset(), 0);
  for (index_t e = 1; e <= escapes; ++e) {
    const index_t k = element<std::uint16_t>(row + layout_.positions_offset(), e);
    if (k >= begin && k < end) at(k) = stored_weight(layout_.dtype, row + layout_.escapes_offset(), e);
  }
}

}  // namespace signsplit
