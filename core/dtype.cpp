#include "signsplit/dtype.hpp"

namespace signsplit {

std::string_view to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::int8: return "int8";
  }
  return {};
}

std::optional<DType> parse_dtype(std::string_view text) noexcept {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
    if (text == to_string(dtype)) return dtype;
  }
  return std::nullopt;
}

}  // namespace signsplit
