// signsplit hardware: the machine profiles, and what is in one.
#include <algorithm>
#include <memory>
#include <vector>

#include "signsplit/sim/machine.hpp"
#include "tools/command.hpp"
#include "tools/host_profile.hpp"
#include "tools/json_output.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

/// Read bandwidth from beyond the caches: of the largest working set, at the best number of threads; 0 when not known.
double dram_bandwidth(const sim::Machine& machine) {
  double largest = 0, best = 0;
  for (const sim::BandwidthPoint& point : machine.read_bandwidth) largest = std::max(largest, point.working_set_bytes);
  for (const sim::BandwidthPoint& point : machine.read_bandwidth) {
    if (point.working_set_bytes == largest) best = std::max(best, point.bytes_per_s);
  }
  return best;
}

Result<ExitCode> list_machines(const Context& context) {
  std::vector<sim::Machine> machines;
  std::vector<std::string> names = sim::machine_names();
  names.insert(names.begin(), "host");
  for (const std::string& name : names) {
    const Result<sim::Machine> machine = sim::find_machine(name);
    if (!machine) return machine.status();
    machines.push_back(*machine);
  }
  context.print("{:<20} {:<5} {:>5} {:>7}  {:<8} {:>10}  {:<9}  {}\n", "name", "kind", "units", "workers", "isa", "DRAM read",
                "from", "machine");
  Json list = Json::array();
  for (std::size_t i = 0; i < machines.size(); ++i) {
    const sim::Machine& m = machines[i];
    const double bandwidth = dram_bandwidth(m);
    context.print("{:<20} {:<5} {:>5} {:>7}  {:<8} {:>10}  {:<9}  {}\n", names[i], m.kind, m.units, m.threads, m.isa,
                  bandwidth > 0 ? rate_text(bandwidth) : "-", sim::to_string(m.read_bandwidth_kind), m.title);
    list.push_back({{"name", names[i]},
                    {"title", m.title},
                    {"kind", m.kind},
                    {"date", m.date},
                    {"units", m.units},
                    {"threads", m.threads},
                    {"isa", m.isa},
                    {"read_bandwidth_Bps", bandwidth > 0 ? Json(bandwidth) : Json(nullptr)},
                    {"read_bandwidth_kind", sim::to_string(m.read_bandwidth_kind)}});
  }
  note_uncalibrated_host(context);
  if (const Status status = write_json(context, {{"hardware", std::move(list)}}); !status) return status;
  return ExitCode::done;
}

void print_row(const Context& context, std::string_view what, const std::string& value, sim::Kind kind,
               std::string_view source) {
  context.print("  {:<34} {:>12}  {:<9}  {}\n", what, value, sim::to_string(kind), source);
}

void print_costs(const Context& context, std::string_view name, const std::vector<sim::ThreadCost>& costs) {
  for (const sim::ThreadCost& cost : costs) {
    print_row(context, fmt::format("{}, {} thread(s)", name, cost.threads), time_text(cost.seconds.value), cost.seconds.kind,
              cost.seconds.source);
  }
}

/// What is one worker of this machine called?
const char* worker(const sim::Machine& m) { return m.kind == "gpu" ? "block" : "thread"; }
const char* unit(const sim::Machine& m) { return m.kind == "gpu" ? "multiprocessor" : "core"; }

void print_row(const Context& context, std::string_view what, const std::string& value, const sim::Provenance& from) {
  print_row(context, what, value, from.kind, from.source);
}

std::string plain_text(const sim::Quantity& quantity) {
  if (quantity.unit == "s") return time_text(quantity.value);
  if (quantity.unit == "B") return bytes_text(quantity.value);
  if (quantity.unit == "B/s") return rate_text(quantity.value);
  return fmt::format("{:.4g}", quantity.value);
}

void print_row(const Context& context, std::string_view what, const sim::Quantity& quantity) {
  print_row(context, what, plain_text(quantity), quantity.kind, quantity.source);
}

void print_level(const Context& context, const sim::Machine& m, const sim::CacheLevel& level) {
  print_row(context, fmt::format("{} capacity, per {} {}(s)", level.name, level.shared_by_units, unit(m)), level.capacity_bytes);
  if (level.ways > 0) {
    print_row(context, fmt::format("{} lines per set, {}", level.name, sim::to_string(level.policy)),
              fmt::format("{}", level.ways), level.ways_from);
  }
  if (level.latency_s) print_row(context, fmt::format("{} latency{}", level.name, level.latency_far_s ? ", near" : ""), *level.latency_s);
  if (level.latency_far_s) print_row(context, fmt::format("{} latency, far", level.name), *level.latency_far_s);
}

/// All have one source, which is told with the first.
void print_read_bandwidth(const sim::Machine& m, const Context& context) {
  std::string_view source = m.read_bandwidth_source;
  for (const sim::BandwidthPoint& point : m.read_bandwidth) {
    print_row(context, fmt::format("read {}, {} {}(s)", bytes_text(point.working_set_bytes), point.threads, worker(m)),
              rate_text(point.bytes_per_s), m.read_bandwidth_kind, source);
    source = "as above";
  }
}

void print_machine(const sim::Machine& m, const Context& context) {
  context.print("{}: {}\n{}, {} {}(s), {} {}(s), {}{}\n\n", m.name, m.title, m.kind, m.units, unit(m), m.threads, worker(m), m.isa,
                m.date.empty() ? "" : ", " + m.date);
  print_row(context, fmt::format("{}s", unit(m)), fmt::format("{}", m.units), m.units_from);
  print_row(context, fmt::format("{}s that predictions assume", worker(m)), fmt::format("{}", m.threads), m.threads_from);
  print_row(context, "clock", fmt::format("{:.2f} GHz", m.clock_hz.value * 1e-9), m.clock_hz.kind, m.clock_hz.source);
  for (const sim::CacheLevel& level : m.levels) print_level(context, m, level);
  print_read_bandwidth(m, context);
  print_costs(context, "barrier", m.barrier_s);
  print_costs(context, "fork and join", m.fork_join_s);
  for (const auto& [name, quantity] : m.figures) print_row(context, name, quantity);
  for (const sim::Rate& rate : m.rates) {
    print_row(context, fmt::format("{} {}, one {}", rate.isa, rate.name, worker(m)),
              fmt::format("{:.2f} G/s", rate.per_s.value * 1e-9), rate.per_s.kind, rate.per_s.source);
  }
  for (const auto& [name, quantity] : m.model) {
    print_row(context, name, fmt::format("{:.4g}", quantity.value), quantity.kind, quantity.source);
  }
  print_row(context, "noise, relative", fmt::format("{:.3g}", m.noise_cv), m.noise_from);
}

Result<ExitCode> show_machine(const std::string& name, const Context& context) {
  const Result<sim::Machine> machine = sim::find_machine(name);
  if (!machine) return machine.status();
  print_machine(*machine, context);
  if (name == "host") note_uncalibrated_host(context);
  if (const Status status = write_json(context, Json::parse(sim::to_json(*machine))); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_hardware(CLI::App& app, Context& context) {
  auto name = std::make_shared<std::string>();
  CLI::App& command = add_command(
      app, "hardware", "List the machine profiles, or show the numbers of one and where they come from",
      "Without NAME a list; --json then has the list, with NAME the profile itself.\n\n"
      "Examples:\n"
      "  signsplit hardware\n"
      "  signsplit hardware host\n"
      "  signsplit hardware my-machine.json --json -");
  command.add_option("name", *name, "host, a name of the list, or a profile (.json)")->type_name("NAME|FILE");
  add_json_option(command, context);
  on_run(command, context, [name, &context] { return name->empty() ? list_machines(context) : show_machine(*name, context); });
}

}  // namespace signsplit::tools
