#include "tools/report_text.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

struct Unit {
  double scale;
  const char* name;
};
constexpr std::array<Unit, 4> kTimes{{{1.0, "s"}, {1e-3, "ms"}, {1e-6, "µs"}, {1e-9, "ns"}}};
constexpr std::array<Unit, 4> kCapacities{
    {{1024.0 * 1024 * 1024, "GiB"}, {1024.0 * 1024, "MiB"}, {1024.0, "KiB"}, {1.0, "B"}}};

/// The largest unit that leaves at least 1 before the point.
const Unit& unit_for(double value, const std::array<Unit, 4>& descending) {
  for (const Unit& unit : descending) {
    if (std::abs(value) >= unit.scale * 0.9995) return unit;
  }
  return descending.back();
}

/// Exponent of the leading digit once `size` > 0 is rounded to `digits` digits: 9.996 with three is 10.0.
int leading_exponent(double size, int digits) {
  const int exponent = static_cast<int>(std::floor(std::log10(size)));
  const double rounded = std::round(size * std::pow(10.0, digits - 1 - exponent));
  return rounded >= std::pow(10.0, digits) ? exponent + 1 : exponent;
}

}  // namespace

std::string significant_text(double value, int digits) {
  if (!std::isfinite(value)) return "n/a";
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size >= 1e6 || size < 1e-3) return fmt::format("{:.{}e}", value, std::max(digits - 1, 0));
  const int decimals = digits - 1 - leading_exponent(size, digits);
  if (decimals >= 0) return fmt::format("{:.{}f}", value, decimals);
  const double step = std::pow(10.0, -decimals);
  return fmt::format("{:.0f}", std::round(value / step) * step);
}

std::string time_range_text(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "n/a";
  const Unit& unit = unit_for(high, kTimes);
  const Unit& low_unit = unit_for(low, kTimes);
  if (low > 0 && high > 10 * low && low_unit.scale != unit.scale) {
    return significant_text(low / low_unit.scale, 3) + " " + low_unit.name + "–" + significant_text(high / unit.scale, 3) + " " + unit.name;
  }
  return significant_text(low / unit.scale, 3) + "–" + significant_text(high / unit.scale, 3) + " " + unit.name;
}

std::string capacity_text(double bytes) {
  if (!std::isfinite(bytes)) return "n/a";
  const Unit& unit = unit_for(bytes, kCapacities);
  return fmt::format("{:.4g} {}", bytes / unit.scale, unit.name);
}

std::string share_text(double fraction) {
  if (!std::isfinite(fraction)) return "n/a";
  return significant_text(fraction * 100, std::abs(fraction) >= 0.995 ? 3 : 2) + " %";
}

std::string signed_share_text(double fraction) {
  if (!std::isfinite(fraction)) return "n/a";
  return (fraction > 0 ? "+" : fraction < 0 ? "−" : "") + share_text(std::abs(fraction));
}

std::string ratio_text(double ratio) {
  if (!std::isfinite(ratio)) return "n/a";
  if (ratio >= 0.0995 && ratio < 9.995) return fmt::format("{:.2f}×", ratio);
  return significant_text(ratio, ratio < 1 ? 2 : 3) + "×";
}

}  // namespace signsplit::tools
