// Whole-or-nothing files: written beside their place under a temporary name, then renamed.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "signsplit/status.hpp"

namespace signsplit {

/// Writes the pieces one after the other. On any failure nothing is left behind, and an older file stays as it was.
[[nodiscard]] Status write_file(const std::filesystem::path& file, std::span<const std::span<const std::byte>> pieces);
[[nodiscard]] Status write_file(const std::filesystem::path& file, std::string_view text);

}  // namespace signsplit
