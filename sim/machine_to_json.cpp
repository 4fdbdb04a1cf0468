// Writing profiles as JSON: what machine_json.cpp reads, every number in SI base units.
#include <nlohmann/json.hpp>

#include "signsplit/sim/machine.hpp"

namespace signsplit::sim {
namespace {

using Json = nlohmann::ordered_json;

Json write(const Quantity& quantity) {
  Json json = {{"value", quantity.value}, {"unit", quantity.unit}, {"kind", to_string(quantity.kind)},
               {"source", quantity.source}};
  if (quantity.ci90 > 0.0) json["ci90"] = quantity.ci90;
  return json;
}

Json write(int count, const char* unit, const Provenance& from) {
  return {{"value", count}, {"unit", unit}, {"kind", to_string(from.kind)}, {"source", from.source}};
}

Json write(const CacheLevel& level) {
  Json json = {{"name", level.name},
               {"capacity", write(level.capacity_bytes)},
               {"shared_by_units", write(level.shared_by_units, "1", level.shared_from)},
               {"line_bytes", write(level.line_bytes, "B", level.line_from)}};
  if (level.ways > 0) json["ways"] = write(level.ways, "1", level.ways_from);
  if (level.policy != Replacement::lru) json["policy"] = to_string(level.policy);
  if (level.latency_s) json["latency"] = write(*level.latency_s);
  if (level.latency_far_s) json["latency_far"] = write(*level.latency_far_s);
  return json;
}

Json write(const std::vector<ThreadCost>& costs) {
  Json list = Json::array();
  for (const ThreadCost& cost : costs) {
    Json entry = {{"threads", cost.threads}};
    entry.update(write(cost.seconds));
    list.push_back(std::move(entry));
  }
  return list;
}

Json write_bandwidth(const Machine& machine) {
  Json points = Json::array();
  for (const BandwidthPoint& point : machine.read_bandwidth) {
    Json entry = {{"threads", point.threads}, {"working_set", point.working_set_bytes}, {"value", point.bytes_per_s}};
    if (point.ci90 > 0.0) entry["ci90"] = point.ci90;
    points.push_back(std::move(entry));
  }
  return {{"unit", "B/s"}, {"working_set_unit", "B"}, {"kind", to_string(machine.read_bandwidth_kind)},
          {"source", machine.read_bandwidth_source}, {"points", std::move(points)}};
}

Json write(const Machine& machine) {
  Json json;
  json["meta"] = {{"name", machine.name}, {"title", machine.title}, {"kind", machine.kind}, {"date", machine.date}};
  json["units"] = write(machine.units, "1", machine.units_from);
  json["threads"] = write(machine.threads, "1", machine.threads_from);
  json["isa"] = machine.isa;
  json["clock"] = write(machine.clock_hz);
  json["levels"] = Json::array();
  for (const CacheLevel& level : machine.levels) json["levels"].push_back(write(level));
  json["read_bandwidth"] = write_bandwidth(machine);
  if (!machine.barrier_s.empty()) json["barrier"] = write(machine.barrier_s);
  if (!machine.fork_join_s.empty()) json["fork_join"] = write(machine.fork_join_s);
  json["rates"] = Json::array();
  for (const Rate& rate : machine.rates) {
    Json entry = {{"isa", rate.isa}, {"name", rate.name}};
    entry.update(write(rate.per_s));
    json["rates"].push_back(std::move(entry));
  }
  for (const auto& [path, quantity] : machine.figures) {
    const std::size_t dot = path.find('.');
    json[path.substr(0, dot)][path.substr(dot + 1)] = write(quantity);
  }
  json["model"] = Json::object();
  for (const auto& [name, quantity] : machine.model) json["model"][name] = write(quantity);
  json["noise"]["cv"] = {{"value", machine.noise_cv}, {"unit", "1"}, {"kind", to_string(machine.noise_from.kind)},
                         {"source", machine.noise_from.source}};
  return json;
}

}  // namespace

std::string to_json(const Machine& machine) {
  // Strings of a Machine filled in by hand may hold broken UTF-8: replaced, not thrown at the caller.
  return write(machine).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace signsplit::sim
