#include "signsplit/dtype.hpp"

namespace signsplit {

std::string_view to_string(DType dtype) noexcept { return dtype == DType::f32 ? "f32" : "bf16"; }

std::optional<DType> parse_dtype(std::string_view text) noexcept {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    if (text == to_string(dtype)) return dtype;
  }
  return std::nullopt;
}

}  // namespace signsplit
