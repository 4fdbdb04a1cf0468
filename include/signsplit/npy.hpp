// Reading and writing of .npy files (numpy format 1.0 to 3.0), little-endian f32, C order.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "signsplit/portability.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

/// A matrix [rows, columns] of f32, row-major. A one-dimensional file of n elements reads as [1, n].
struct FloatMatrix {
  index_t rows = 0, columns = 0;
  std::vector<float> values;  ///< [rows, columns]
};

/// Reads a .npy of dtype '<f4', C order, one or two dimensions; or, when the name ends in .safetensors, the one F32
/// tensor of the file (or the one named "x" if there are several). Errors name the file and the rule.
[[nodiscard]] Result<FloatMatrix> read_matrix(const std::filesystem::path& file);

/// Writes a .npy (format 1.0) to a temporary file beside `file`, then renames it.
[[nodiscard]] Status write_npy(const std::filesystem::path& file, std::span<const float> values, index_t rows, index_t columns);

}  // namespace signsplit
