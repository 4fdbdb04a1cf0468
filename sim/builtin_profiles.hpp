// The profiles of hardware/*.json, embedded when the library is built.
#pragma once

#include <span>
#include <string_view>

namespace signsplit::sim {

struct BuiltinProfile {
  std::string_view name;  ///< file name without ".json"
  std::string_view json;
};

[[nodiscard]] std::span<const BuiltinProfile> builtin_profiles() noexcept;

}  // namespace signsplit::sim
