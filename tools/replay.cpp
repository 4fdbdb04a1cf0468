// signsplit replay: level 3 of the simulator. Which cache answers for which lines of a call.
#include <memory>
#include <random>
#include <vector>

#include "signsplit/sim/cache_replay.hpp"
#include "tools/command.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/problem_options.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

constexpr index_t kMostRounds = 1000;
constexpr std::uint64_t kSeed = 1;

struct ReplayOptions {
  std::string hardware = "host", rounds = "2";
  ProblemOptions problem;
};

/// Each unit is open with the given probability, independently; the same seed gives the same units.
std::vector<std::uint8_t> open_units(index_t units, double active) {
  std::mt19937_64 random(kSeed);
  std::bernoulli_distribution is_open(active);
  std::vector<std::uint8_t> open(static_cast<std::size_t>(units));
  for (std::uint8_t& unit : open) unit = is_open(random) ? 1 : 0;
  return open;
}

Result<ExitCode> replay(const ReplayOptions& options, const Context& context) {
  const Result<ProblemChoice> choice = resolve(options.problem);
  if (!choice) return choice.status();
  const Result<index_t> rounds = parse_extent("--rounds", options.rounds, kMostRounds);
  if (!rounds) return rounds.status();
  const Result<sim::Machine> machine = sim::find_machine(options.hardware);
  if (!machine) return machine.status();
  if (machine->kind != "cpu") return unsupported(fmt::format("{}: replays are of one thread of a CPU", machine->name));
  const Problem& problem = choice->problem;
  const std::vector<sim::CacheGeometry> levels = sim::cache_geometry(*machine);
  const std::vector<std::uint8_t> open = open_units(problem.d_ff, choice->active);
  if (options.hardware == "host") note_uncalibrated_host(context);
  context.print("{}, {} active (seed {}), call {} of one thread\non {} ({})\n\n", describe(problem), percent_text(choice->active), kSeed, *rounds,
                machine->name, machine->title);
  context.print("{:<28} {:<6} {:>10} {:>12} {:>12} {:>9}\n", "schedule", "level", "capacity", "lines asked", "lines missed", "hits");
  Json cases = Json::array();
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    for (const bool skip : {false, true}) {
      const Plan plan = default_plan(problem, strategy, skip);
      const auto counts = sim::replay(plan, problem, open, levels, static_cast<int>(*rounds));
      if (!counts) return counts.status();
      Json list = Json::array();
      for (std::size_t i = 0; i < levels.size(); ++i) {
        const sim::ReplayCounts& level = (*counts)[i];
        const double hits = level.accesses > 0 ? 1.0 - static_cast<double>(level.misses) / static_cast<double>(level.accesses) : 0.0;
        context.print("{:<28} {:<6} {:>10} {:>12} {:>12} {:>9}\n", i == 0 ? label(plan) : "", level.name,
                      bytes_text(static_cast<double>(levels[i].capacity_bytes)), level.accesses, level.misses, percent_text(hits));
        list.push_back({{"name", level.name}, {"capacity_bytes", levels[i].capacity_bytes}, {"ways", levels[i].ways},
                        {"policy", sim::to_string(levels[i].policy)}, {"accesses", level.accesses}, {"misses", level.misses}});
      }
      const std::uint64_t bytes = counts->back().misses * static_cast<std::uint64_t>(levels.back().line_bytes);
      cases.push_back({{"label", label(plan)}, {"plan", plan_json(plan)}, {"levels", std::move(list)}, {"memory_bytes", bytes}});
    }
  }
  if (const Status status = write_json(context, {{"cases", std::move(cases)}, {"seed", kSeed}}); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_replay(CLI::App& app, Context& context) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App& command = add_command(
      app, "replay", "Replay a call's addresses through the caches of a CPU, line by line",
      "Counts are of one thread and of the last of --rounds calls: 1 is a cold call, 2 a warm one.\n\n"
      "Examples:\n"
      "  signsplit replay --shape 1024x4096 --hardware epyc-zen5-vm\n"
      "  signsplit replay --shape 2048x8192 --active 0.1 --rounds 1 --json -");
  command.add_option("--hardware", options->hardware, "host, a name of `signsplit hardware`, or a profile (.json)")
      ->type_name("NAME|FILE|host")
      ->capture_default_str();
  command.add_option("--rounds", options->rounds, "Calls in a row, the last of which is counted")->type_name("N")->capture_default_str();
  add_problem_options(command, options->problem);
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return replay(*options, context); });
}

}  // namespace signsplit::tools
