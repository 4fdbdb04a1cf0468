// Times, bytes and rates as people read them.
#pragma once

#include <string>

namespace signsplit::tools {

/// "12.3 µs", "4.56 ms", "1.20 s": three digits or more, the unit chosen by size. Below 1 ns: "0 ns".
[[nodiscard]] std::string time_text(double seconds);
/// "33.6 MB" (powers of 1000).
[[nodiscard]] std::string bytes_text(double bytes);
/// "43.1 GB/s".
[[nodiscard]] std::string rate_text(double bytes_per_s);
/// "10.0 %".
[[nodiscard]] std::string percent_text(double fraction);

}  // namespace signsplit::tools
