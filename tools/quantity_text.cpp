#include "tools/quantity_text.hpp"

#include <cmath>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

/// Three significant digits, without an exponent.
std::string three_digits(double value) {
  const double size = std::fabs(value);
  if (size >= 99.95) return fmt::format("{:.0f}", value);
  if (size >= 9.995) return fmt::format("{:.1f}", value);
  return fmt::format("{:.2f}", value);
}

}  // namespace

std::string time_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const double size = std::fabs(seconds);
  if (size < 0.9995e-9) return "0 ns";
  if (size < 0.9995e-6) return three_digits(seconds * 1e9) + " ns";
  if (size < 0.9995e-3) return three_digits(seconds * 1e6) + " µs";
  if (size < 0.9995) return three_digits(seconds * 1e3) + " ms";
  return three_digits(seconds) + " s";
}

std::string bytes_text(double bytes) {
  if (!std::isfinite(bytes)) return "?";
  if (bytes < 999.5) return fmt::format("{:.0f} B", bytes);
  if (bytes < 999.5e3) return three_digits(bytes * 1e-3) + " kB";
  if (bytes < 999.5e6) return three_digits(bytes * 1e-6) + " MB";
  return three_digits(bytes * 1e-9) + " GB";
}

std::string rate_text(double bytes_per_s) {
  if (!std::isfinite(bytes_per_s)) return "?";
  return three_digits(bytes_per_s * 1e-9) + " GB/s";
}

std::string percent_text(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.1f} %", 100 * fraction) : "?";
}

}  // namespace signsplit::tools
