// JSON of unknown origin: parsed without exceptions, with what nlohmann::json lets pass refused.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "signsplit/status.hpp"

namespace signsplit {

/// Parses the whole text. corrupt_file for text that is not JSON, for a name that occurs twice in one object (the parser
/// would silently keep the last) and for more than `max_depth` levels of nesting. Messages say where, without the text.
[[nodiscard]] Result<nlohmann::json> parse_strict_json(std::string_view text, int max_depth);

/// A text of unknown origin for a one-line message: control characters become '?', long ones are cut.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace signsplit
