// Numbers of the report that quantity_text.hpp has no form for.
#pragma once

#include <string>

namespace signsplit::tools {

[[nodiscard]] std::string time_range_text(double low, double high);  ///< "11.9–12.8 µs"; "71.4 µs–14.8 ms"
[[nodiscard]] std::string capacity_text(double bytes);               ///< "32 MiB"
[[nodiscard]] std::string share_text(double fraction);               ///< two digits: "9.8 %", "0.04 %", "88 %", "100 %"
[[nodiscard]] std::string signed_share_text(double fraction);        ///< "+4.1 %", "−12 %"
[[nodiscard]] std::string ratio_text(double ratio);                  ///< "0.62×", "1.45×", "12.1×"
/// `digits` significant digits, no exponent between 1e-3 and 1e6; "n/a" for what is not finite.
[[nodiscard]] std::string significant_text(double value, int digits);

}  // namespace signsplit::tools
