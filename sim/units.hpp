// Units of profile quantities: prefixes, and the SI base unit each stands for.
#pragma once

#include <optional>
#include <string_view>

namespace signsplit::sim {

struct UnitScale {
  std::string_view base;  ///< "s", "Hz", "B", "B/s", "FLOP/s", "elem/s" or "1"
  double factor;          ///< base units per unit
};

/// nullopt for an unknown unit.
[[nodiscard]] std::optional<UnitScale> find_unit(std::string_view unit) noexcept;

}  // namespace signsplit::sim
