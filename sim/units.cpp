#include "units.hpp"

#include <cmath>
#include <string>

#include "signsplit/sim/machine.hpp"

namespace signsplit::sim {
namespace {

struct Prefix {
  std::string_view text;
  double factor;
};

// Two-letter prefixes first: "Mi" must not be taken for "M".
constexpr Prefix kPrefixes[] = {
    {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0},
    {"n", 1e-9},    {"u", 1e-6},       {"\xC2\xB5", 1e-6},   {"\xCE\xBC", 1e-6},  // U+00B5 micro sign, U+03BC mu
    {"m", 1e-3},    {"k", 1e3},        {"M", 1e6},           {"G", 1e9},          {"T", 1e12},
};

constexpr std::string_view kBases[] = {"s", "Hz", "B", "B/s", "FLOP/s", "elem/s"};

}  // namespace

std::optional<UnitScale> find_unit(std::string_view unit) noexcept {
  if (unit == "1") return UnitScale{"1", 1.0};
  for (const std::string_view base : kBases) {
    if (unit == base) return UnitScale{base, 1.0};
    if (!unit.ends_with(base)) continue;
    const std::string_view prefix = unit.substr(0, unit.size() - base.size());
    for (const Prefix& known : kPrefixes) {
      if (prefix == known.text) return UnitScale{base, known.factor};
    }
  }
  return std::nullopt;
}

Result<double> to_si(double value, std::string_view unit) {
  const std::optional<UnitScale> scale = find_unit(unit);
  if (!scale) {
    return invalid_argument("unknown unit \"" + std::string(unit) +
                            "\" (known: s, Hz, B, B/s, FLOP/s, elem/s with prefixes n, u, m, k, M, G, T, Ki, Mi, Gi, Ti; 1)");
  }
  // Dividing by the inverse of a negative power of ten is the correctly rounded result; multiplying by 1e-9 is not.
  if (scale->factor < 1.0) return value / std::round(1.0 / scale->factor);
  return value * scale->factor;
}

}  // namespace signsplit::sim
