#include "tools/command.hpp"

#include <algorithm>
#include <exception>
#include <new>

#include "tools/json_output.hpp"

namespace signsplit::tools {
namespace {

constexpr const char* kDescription =
    "signsplit: an exact, fused ReLU feed-forward network for decoding, that knows before it runs which schedule is\n"
    "fastest on a machine, and proves it by measuring.";

constexpr const char* kExamples =
    "Start here:\n"
    "  signsplit report                       the whole story of this machine, as one HTML page\n"
    "  signsplit calibrate                    measure this machine once; predictions then know it\n"
    "  signsplit predict --model opt-6.7b     which schedule would be fastest, without running anything\n"
    "  signsplit run --help                   run a layer of yours\n"
    "\n"
    "Every command takes --json FILE, or --json - for standard output (text for people then goes to stderr).\n"
    "Exit status: 0 done; 1 a check failed; 2 bad usage or bad input, said in one line on stderr.";

int refuse(const Context& context, std::string_view message) {
  const std::string name = context.command.empty() ? "signsplit" : "signsplit " + context.command;
  fmt::print(stderr, "{}: {}\n", name, one_line(message));
  return static_cast<int>(ExitCode::bad_input);
}

std::string command_names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return names;
}

/// The first word that is not an option, when it is no command: CLI11 would only say that it was not expected.
std::string unknown_command(const CLI::App& app, int argc, const char* const* argv) {
  if (argc < 2 || argv[1][0] == '-') return {};
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == argv[1]) return {};
  }
  return fmt::format("unknown command '{}'; the commands are {}", argv[1], command_names(app));
}

Result<ExitCode> act(const Context& context) {
  if (!context.json_target.empty() && context.json_target != "-") {
    if (const Status status = check_output(context.json_target, "--json"); !status) return status;
  }
  try {
    return context.action();
  } catch (const std::bad_alloc&) {
    return io_error("not enough memory");
  } catch (const std::exception& error) {
    return io_error(error.what());
  }
}

}  // namespace

CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& description,
                      const std::string& examples) {
  CLI::App& command = *app.add_subcommand(name, description);
  if (!examples.empty()) command.footer(examples);
  return command;
}

void on_run(CLI::App& command, Context& context, Action action) {
  command.callback([&context, name = command.get_name(), action = std::move(action)] {
    context.command = name;
    context.action = action;
  });
}

std::string one_line(std::string_view message) {
  std::string line(message);
  std::replace_if(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return line;
}

int run_command(int argc, const char* const* argv) {
  CLI::App app{kDescription, "signsplit"};
  app.set_version_flag("--version", "signsplit " SIGNSPLIT_VERSION);
  app.footer(kExamples);
  app.require_subcommand(0, 1);
  Context context;
  add_report(app, context);
  add_run(app, context);
  add_bench(app, context);
  add_predict(app, context);
  add_explain(app, context);
  add_sweep(app, context);
  add_trace(app, context);
  add_calibrate(app, context);
  add_validate(app, context);
  add_golden(app, context);
  add_check(app, context);
  add_activity(app, context);
  add_overflow(app, context);
  add_models(app, context);
  add_hardware(app, context);
  add_gpu_fit(app, context);
  add_layer(app, context);
  add_replay(app, context);

  if (const std::string message = unknown_command(app, argc, argv); !message.empty()) return refuse(context, message);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // --help, --version
    if (const auto commands = app.get_subcommands(); !commands.empty()) context.command = commands.front()->get_name();
    return refuse(context, error.what());
  }
  if (!context.action) return refuse(context, "no command given; the commands are " + command_names(app) + " (see --help)");
  const Result<ExitCode> result = act(context);
  if (!result) return refuse(context, result.message());
  return static_cast<int>(*result);
}

}  // namespace signsplit::tools
