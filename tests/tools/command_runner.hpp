// Runs the built command as users do, without a shell in between.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace signsplit::test {

struct CommandResult {
  int exit_code = -1;   ///< −1 when a signal ended it
  std::string out, err;
};

/// Runs `signsplit` with the arguments, in `directory`, with the environment of the test and `environment` on top. The
/// host's profile is always one that does not exist, unless `environment` says otherwise: no test depends on a calibration.
[[nodiscard]] CommandResult run_signsplit(const std::filesystem::path& directory, const std::vector<std::string>& arguments,
                                          const std::map<std::string, std::string>& environment = {});

[[nodiscard]] std::string read_text(const std::filesystem::path& file);

/// Empty when the result is a refusal as promised: exit status 2, nothing on stdout, exactly one line on stderr and
/// `fragment` in it; else what is wrong with it.
[[nodiscard]] std::string broken_refusal(const CommandResult& result, const std::string& fragment);

}  // namespace signsplit::test
