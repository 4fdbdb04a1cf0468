// What the subcommands share: how one registers, where its words go, and the exit codes.
//
// A subcommand lives in a file of its own and offers one function, for instance
//
//   void add_bench(CLI::App& app, Context& context) {
//     auto options = std::make_shared<BenchOptions>();
//     CLI::App& command = add_command(app, "bench", "Time every schedule ...", "Examples:\n  signsplit bench ...");
//     command.add_option("--rounds", options->rounds, "...")->capture_default_str();
//     add_json_option(command, context);
//     on_run(command, context, [options, &context] { return run_bench(*options, context); });
//   }
//
// The action runs after the whole command line was parsed. It returns done or check_failed, or a Status whose message
// becomes the one line on stderr before exit code 2.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "signsplit/status.hpp"

namespace signsplit::tools {

enum class ExitCode : int {
  done = 0,
  check_failed = 1,  ///< the command ran, and a check that it was asked for failed
  bad_input = 2,     ///< bad usage, bad input, or a machine that cannot do it: one line on stderr
};

using Action = std::function<Result<ExitCode>()>;

/// One invocation of the command.
struct Context {
  std::string json_target;  ///< "": no JSON; "-": standard output; else a file
  std::string command;      ///< name of the subcommand that runs
  Action action;

  /// Where text for people goes: stdout, or stderr when stdout is kept for the JSON.
  [[nodiscard]] std::FILE* human() const { return json_target == "-" ? stderr : stdout; }

  template <class... T>
  void print(fmt::format_string<T...> format, T&&... values) const {
    fmt::print(human(), format, std::forward<T>(values)...);
  }
  /// A remark that is not a result, on stderr: what was assumed, what to run first.
  template <class... T>
  void note(fmt::format_string<T...> format, T&&... values) const {
    fmt::print(stderr, "note: {}\n", fmt::format(format, std::forward<T>(values)...));
  }
};

/// Adds a subcommand. `examples` are lines for the end of its --help.
CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& description, const std::string& examples);

/// Sets what the subcommand does.
void on_run(CLI::App& command, Context& context, Action action);

/// Parses and runs. Returns the exit status of the process; prints the one line when it is 2.
int run_command(int argc, const char* const* argv);

/// `message` on one line: control characters that a hostile file name or header brought along become '?'.
[[nodiscard]] std::string one_line(std::string_view message);

// One per subcommand; each is defined in the file of that name.
void add_report(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_predict(CLI::App& app, Context& context);
void add_explain(CLI::App& app, Context& context);
void add_sweep(CLI::App& app, Context& context);
void add_trace(CLI::App& app, Context& context);
void add_calibrate(CLI::App& app, Context& context);
void add_validate(CLI::App& app, Context& context);
void add_golden(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_activity(CLI::App& app, Context& context);
void add_overflow(CLI::App& app, Context& context);
void add_models(CLI::App& app, Context& context);
void add_hardware(CLI::App& app, Context& context);
void add_gpu_fit(CLI::App& app, Context& context);
void add_layer(CLI::App& app, Context& context);
void add_replay(CLI::App& app, Context& context);

}  // namespace signsplit::tools
