#include "tools/gnuplot.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "tools/command.hpp"

extern char** environ;

namespace signsplit::tools {
namespace {

namespace fs = std::filesystem;
constexpr auto kTimeLimit = std::chrono::seconds(60);

/// A directory of our own under the system's temporary one, gone with the object.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "signsplit-plot-XXXXXX").string();
    if (!error && mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Where the child's three standard streams go.
class Streams {
 public:
  Streams(const fs::path& out, const fs::path& err) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  ~Streams() { posix_spawn_file_actions_destroy(&actions_); }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

std::string read_text(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// The child's exit status, or why there is none.
Result<int> wait_for(pid_t child) {
  const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
  int status = 0;
  for (;;) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) break;
    if (done < 0 && errno != EINTR) return io_error(fmt::format("waiting for gnuplot failed: {}", std::strerror(errno)));
    if (std::chrono::steady_clock::now() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return io_error("gnuplot did not end within a minute");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (WIFSIGNALED(status)) return io_error(fmt::format("gnuplot was ended by signal {}", WTERMSIG(status)));
  return WEXITSTATUS(status);
}

/// Line that says most: gnuplot prints the offending command and a caret first.
std::string complaint(const std::string& standard_error) {
  std::string last;
  std::size_t begin = 0;
  while (begin < standard_error.size()) {
    const std::size_t end = std::min(standard_error.find('\n', begin), standard_error.size());
    if (end > begin) last = standard_error.substr(begin, end - begin);
    begin = end + 1;
  }
  return one_line(last);
}

Result<std::string> run(const std::string& program, std::vector<std::string> arguments, const fs::path& directory) {
  const fs::path out = directory / "out", err = directory / "err";
  const Streams streams(out, err);
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, program.c_str(), streams.get(), nullptr, argv.data(), environ);
  if (failed == ENOENT) return not_found(fmt::format("{} is not installed (Debian, Ubuntu: gnuplot-nox)", program));
  if (failed != 0) return io_error(fmt::format("{} could not be started: {}", program, std::strerror(failed)));
  const Result<int> status = wait_for(child);
  if (!status.ok()) return status.status();
  // Some C libraries report a missing program through the child's exit status.
  if (*status == 127) return not_found(fmt::format("{} is not installed (Debian, Ubuntu: gnuplot-nox)", program));
  if (*status != 0) return io_error(fmt::format("{} failed with status {}: {}", program, *status, complaint(read_text(err))));
  return read_text(out);
}

}  // namespace

Result<std::string> run_gnuplot(const std::string& program, const std::string& script) {
  const ScratchDirectory scratch;
  if (scratch.path().empty()) return io_error("no temporary directory could be made for gnuplot");
  const fs::path file = scratch.path() / "plot.gp";
  std::ofstream stream(file, std::ios::binary);
  stream << script;
  stream.close();
  if (!stream) return io_error(fmt::format("{}: cannot be written", file.string()));
  return run(program, {"-d", file.string()}, scratch.path());
}

Result<std::string> gnuplot_version(const std::string& program) {
  const ScratchDirectory scratch;
  if (scratch.path().empty()) return io_error("no temporary directory could be made for gnuplot");
  Result<std::string> text = run(program, {"--version"}, scratch.path());
  if (!text.ok()) return text;
  std::string line = text->substr(0, text->find('\n'));
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return one_line(line);
}

}  // namespace signsplit::tools
