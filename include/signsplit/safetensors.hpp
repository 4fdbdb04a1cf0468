// Reading and writing of safetensors files (8-byte little-endian header length, JSON header, tensor bytes).
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"
#include "signsplit/status.hpp"

namespace signsplit {

/// A parsed file. Tensors borrow their bytes from it.
class SafetensorsFile {
 public:
  struct Tensor {
    std::string dtype;             ///< as in the file: "F32", "BF16", ...
    std::vector<index_t> shape;    ///< extents ≥ 0
    std::span<const std::byte> bytes;
  };

  /// Reads and checks the whole file. Refused, each with its own message: header length past the end of the file or
  /// over 100 MB, header that is not a JSON object, duplicate names, unknown dtype, extents negative or not integers or
  /// whose product overflows, byte range outside the file, not matching shape × dtype, overlapping another or leaving a gap.
  [[nodiscard]] static Result<SafetensorsFile> open(const std::filesystem::path& file);

  [[nodiscard]] const std::map<std::string, Tensor>& tensors() const noexcept { return tensors_; }
  /// nullptr when the file has no such tensor.
  [[nodiscard]] const Tensor* find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  SafetensorsFile() = default;
  std::filesystem::path path_;
  AlignedBuffer content_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors and metadata to a temporary file beside `file`, then renames it: the file is whole or not there.
[[nodiscard]] Status write_safetensors(const std::filesystem::path& file,
                                       const std::map<std::string, SafetensorsFile::Tensor>& tensors,
                                       const std::map<std::string, std::string>& metadata = {});

}  // namespace signsplit
