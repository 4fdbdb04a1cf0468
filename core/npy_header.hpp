// The header of a .npy file: a Python dictionary literal of three fixed keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "signsplit/portability.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

struct NpyHeader {
  std::string dtype;  ///< "descr", as in the file: "<f4"
  bool fortran_order = false;
  std::vector<index_t> shape;  ///< extents ≥ 0
};

/// Parses the dictionary, padded with spaces and a newline. corrupt_file says what is wrong, without naming the file.
[[nodiscard]] Result<NpyHeader> parse_npy_header(std::string_view text);

}  // namespace signsplit
