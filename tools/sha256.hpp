// SHA-256 (FIPS 180-4), so that anybody can check with sha256sum that predictions are those that were written down.
#pragma once

#include <string>
#include <string_view>

namespace signsplit::tools {

/// The digest in 64 lower-case hexadecimal digits.
[[nodiscard]] std::string sha256_hex(std::string_view bytes);

}  // namespace signsplit::tools
