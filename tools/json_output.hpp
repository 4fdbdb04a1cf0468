// --json FILE|-, and how plans and counters look in JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "signsplit/plan.hpp"
#include "signsplit/statistics.hpp"
#include "signsplit/status.hpp"
#include "tools/command.hpp"

namespace signsplit::tools {

using Json = nlohmann::ordered_json;

void add_json_option(CLI::App& command, Context& context);

/// Writes the document where --json asked for: standard output, or a file, whole or not at all. Nothing without --json.
/// Numbers that JSON does not have (NaN, infinities) become null.
[[nodiscard]] Status write_json(const Context& context, const Json& document);

/// The text of write_json: two spaces of indent and a final newline; bytes that are not UTF-8 are replaced.
[[nodiscard]] std::string json_text(const Json& document);

/// The plan as an object, with the keys of to_json(Plan).
[[nodiscard]] Json plan_json(const Plan& plan);
/// Every counter by its name.
[[nodiscard]] Json statistics_json(const Statistics& statistics);

/// Ok when `file` can be written as far as can be told beforehand: its directory exists and is writable, and the name
/// is not that of a directory. Asked before work whose result would be lost. `option` is the option that named it.
[[nodiscard]] Status check_output(const std::filesystem::path& file, std::string_view option);

}  // namespace signsplit::tools
