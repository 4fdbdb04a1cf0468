// Running gnuplot: one script in, what it printed out.
#pragma once

#include <string>

#include "signsplit/status.hpp"

namespace signsplit::tools {

/// Runs `program` (looked up in PATH, no shell) on the script, without the user's own gnuplot settings, and returns its
/// standard output. not_found when there is no such program; io_error with gnuplot's own words when it fails or takes
/// longer than a minute.
[[nodiscard]] Result<std::string> run_gnuplot(const std::string& program, const std::string& script);

/// What `program --version` says, one line.
[[nodiscard]] Result<std::string> gnuplot_version(const std::string& program);

}  // namespace signsplit::tools
