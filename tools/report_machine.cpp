// The machine that was measured, and how to reproduce the report.
#include <algorithm>

#include <fmt/format.h>

#include "tools/quantity_text.hpp"
#include "tools/report_sections.hpp"
#include "tools/report_text.hpp"

namespace signsplit::tools {
namespace {

std::string spread_text(double value, double half_width) {
  return half_width > 0 && value > 0 ? "±" + share_text(half_width / value) : "";
}

void add_quantity(Table& table, const std::string& name, const std::string& value, const sim::Quantity& quantity) {
  table.row({text(name), text(value), text(spread_text(quantity.value, quantity.ci90)), text(sim::to_string(quantity.kind)),
             element("span", text(quantity.source), "wrap")});
}

void add_costs(Table& table, std::string_view name, const std::vector<sim::ThreadCost>& costs) {
  for (const sim::ThreadCost& cost : costs) {
    add_quantity(table, fmt::format("{}, {} thread{}", name, cost.threads, cost.threads == 1 ? "" : "s"),
                 time_text(cost.seconds.value), cost.seconds);
  }
}

/// The last point of the curve of each number of threads: far beyond the caches.
void add_memory_bandwidth(Table& table, const sim::Machine& machine) {
  for (std::size_t i = 0; i < machine.read_bandwidth.size(); ++i) {
    const sim::BandwidthPoint& point = machine.read_bandwidth[i];
    const bool last = i + 1 == machine.read_bandwidth.size() || machine.read_bandwidth[i + 1].threads != point.threads;
    if (!last) continue;
    table.row({text(fmt::format("Read bandwidth, {} thread{}, {}", point.threads, point.threads == 1 ? "" : "s",
                                capacity_text(point.working_set_bytes))),
               text(rate_text(point.bytes_per_s)), text(spread_text(point.bytes_per_s, point.ci90)),
               text(sim::to_string(machine.read_bandwidth_kind)), element("span", text(machine.read_bandwidth_source), "wrap")});
  }
}

std::string rate_value(const sim::Rate& rate) {
  const bool flops = rate.name.starts_with("fma");
  return fmt::format("{} G{}/s", significant_text(rate.per_s.value / 1e9, 3), flops ? "FLOP" : " weights");
}

Table facts_table(const char* caption) { return {caption, {{"What", false}, {"Value"}, {"90 %"}, {"Kind", false}, {"Source", false}}}; }

/// What every kernel does per second: some fifty rows, folded away.
Html rates(const sim::Machine& machine) {
  Table table = facts_table("Rates of the arithmetic and of the kernels, one thread");
  std::size_t count = 0;
  for (const sim::Rate& rate : machine.rates) {
    if (rate.isa != machine.isa) continue;
    add_quantity(table, fmt::format("{} ({})", rate.name, rate.isa), rate_value(rate), rate.per_s);
    ++count;
  }
  if (table.empty()) return {};
  return collapsible(text("Rates of the arithmetic and of the kernels"), fmt::format("{} numbers, of one thread", count), table.html(), false);
}

Html facts(const sim::Machine& machine) {
  Table table = facts_table("Machine profile");
  if (machine.clock_hz.value > 0) {
    add_quantity(table, "Clock", significant_text(machine.clock_hz.value / 1e9, 3) + " GHz", machine.clock_hz);
  }
  for (const sim::CacheLevel& level : machine.levels) {
    const std::string shared = level.shared_by_units > 1 ? fmt::format(", shared by {}", level.shared_by_units) : "";
    add_quantity(table, level.name + shared, capacity_text(level.capacity_bytes.value), level.capacity_bytes);
  }
  add_memory_bandwidth(table, machine);
  add_costs(table, "Barrier", machine.barrier_s);
  add_costs(table, "Fork and join", machine.fork_join_s);
  return (table.empty() ? element("p", text("The profile holds no numbers."), "missing") : table.html()) + rates(machine);
}

void add_fact(Html& list, std::string_view name, std::string_view value) {
  if (!value.empty()) list += element("dt", text(name)) + element("dd", text(value));
}

/// Whether the system granted huge pages, group by group.
std::string huge_page_text(const ValidationRun& run) {
  std::size_t measured = 0, granted = 0;
  for (const ValidationGroup& group : run.groups) {
    if (group.measured.cases.empty()) continue;
    ++measured;
    granted += group.measured.huge_pages;
  }
  if (measured == 0) return {};
  if (granted == measured) return "granted for the weights in every case";
  return granted == 0 ? std::string("not granted") : fmt::format("granted in {} of {} cases", granted, measured);
}

}  // namespace

Html machine_section(const ReportData& data, Plotter& plotter) {
  const sim::Machine& machine = data.machine;
  Html section = element(
      "p", text(fmt::format("{}: {} core{}, {} thread{} used, {}. Profile: {}{}.", machine.title, machine.units,
                            machine.units == 1 ? "" : "s", data.threads, data.threads == 1 ? "" : "s", data.isa,
                            data.machine_origin, machine.date.empty() ? "" : ", of " + machine.date)));
  const Result<std::string> plot = plotter.bandwidth(machine);
  if (plot.ok()) {
    section += element("figure", element("figcaption", text("Read bandwidth against working set")) + markup(*plot));
  } else {
    section += element("p", text("Plot left out: " + plot.message() + "."), "missing");
  }
  return section + facts(machine);
}

Html reproduce_section(const ReportData& data, const Plotter& plotter) {
  Html list;
  add_fact(list, "signsplit", data.version);
  for (const auto& [name, value] : data.environment) add_fact(list, name, value);
  const std::string gnuplot = plotter.version();
  add_fact(list, "Plots", gnuplot.empty() ? "none: gnuplot was not found (Debian, Ubuntu: gnuplot-nox)" : gnuplot);
  add_fact(list, "Threads and instruction set", fmt::format("{}, {}", data.threads, data.isa));
  add_fact(list, "Huge pages", huge_page_text(data.run));
  add_fact(list, "Seed of the synthetic layers", fmt::format("{}", data.seed));
  add_fact(list, "Time", fmt::format("{} to {} ({})", data.started, data.finished, time_text(data.duration_s)));
  Html section = element("pre", text(data.command)) + element("dl", list, "facts");
  if (!data.predictions_file.empty()) {
    section += element("p", text("The predictions were written to ") + element("code", text(data.predictions_file)) +
                                text(fmt::format(" at {}, before the first measurement. Its SHA-256 was then ", data.predictions_written)) +
                                element("code", text(data.predictions_sha256)) + text("; compare with ") +
                                element("code", text("sha256sum " + data.predictions_file)) +
                                text(". Just before each measurement the machine was read for a tenth to a sixth of a second and the problem predicted anew; these "
                                     "predictions, which the tables show, are in ") +
                                element("code", text("predictions-as-of-now.json")) + text(", each with its time."));
  }
  return section + element("p", text("Times depend on the machine and on what else it does; the bits of the results do not."), "note");
}

}  // namespace signsplit::tools
