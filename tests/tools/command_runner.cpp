#include "command_runner.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "scratch_directory.hpp"

namespace signsplit::test {
namespace {

/// In the child: replaces it by the command. Only returns when that failed.
void become_command(const std::filesystem::path& directory, const std::vector<std::string>& arguments,
                    const std::map<std::string, std::string>& environment, const std::string& out, const std::string& err) {
  if (::chdir(directory.c_str()) != 0) return;
  const int out_file = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err_file = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (::dup2(out_file, STDOUT_FILENO) < 0 || ::dup2(err_file, STDERR_FILENO) < 0) return;
  ::unsetenv("SIGNSPLIT_ISA");
  ::setenv("SIGNSPLIT_HOST_PROFILE", (directory / "no-such-profile.json").c_str(), 1);
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<std::string> words{SIGNSPLIT_COMMAND};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(SIGNSPLIT_COMMAND, argv.data());
}

}  // namespace

std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

CommandResult run_signsplit(const std::filesystem::path& directory, const std::vector<std::string>& arguments,
                            const std::map<std::string, std::string>& environment) {
  const ScratchDirectory scratch;
  const std::string out = scratch / "out", err = scratch / "err";
  const ::pid_t child = ::fork();
  if (child == 0) {
    become_command(directory, arguments, environment, out, err);
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return {};
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(out), read_text(err)};
}

std::string broken_refusal(const CommandResult& result, const std::string& fragment) {
  if (result.exit_code != 2) return "exit status " + std::to_string(result.exit_code) + ", stderr: " + result.err;
  if (!result.out.empty()) return "something on stdout: " + result.out;
  if (std::count(result.err.begin(), result.err.end(), '\n') != 1 || result.err.back() != '\n') {
    return "not exactly one line on stderr: " + result.err;
  }
  if (result.err.find(fragment) == std::string::npos) return "no '" + fragment + "' in: " + result.err;
  return {};
}

}  // namespace signsplit::test
