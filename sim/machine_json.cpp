// Profiles as JSON. Every refusal names the file, the field's path and the rule.
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>

#include "figure_fields.hpp"
#include "lookup.hpp"
#include "model_fields.hpp"
#include "signsplit/sim/machine.hpp"
#include "units.hpp"

namespace signsplit::sim {
namespace {

using Json = nlohmann::ordered_json;

/// Thrown and caught in this file only: the reader is a chain of checks, and every one may end it.
struct Refusal {
  std::string path, rule;
};

[[noreturn]] void refuse(const std::string& path, const std::string& rule) { throw Refusal{path, rule}; }

/// A JSON value and the path that leads to it.
struct Field {
  const Json* json;
  std::string path;

  [[nodiscard]] bool has(const char* key) const { return json->contains(key); }
  [[nodiscard]] Field at(const char* key) const {
    const std::string inner = path.empty() ? key : path + "." + key;
    if (!has(key)) refuse(inner, "is missing");
    return {&json->at(key), inner};
  }
  [[nodiscard]] Field at(std::size_t index) const { return {&json->at(index), path + "[" + std::to_string(index) + "]"}; }

  const Field& object(std::initializer_list<std::string_view> known) const {
    if (!json->is_object()) refuse(path.empty() ? "the profile" : path, "must be an object");
    for (const auto& [key, value] : json->items()) {
      bool found = false;
      for (const std::string_view name : known) found = found || name == key;
      if (!found) refuse(path.empty() ? key : path + "." + key, "is not a field of a profile");
    }
    return *this;
  }
  [[nodiscard]] std::size_t array() const {
    if (!json->is_array()) refuse(path, "must be an array");
    return json->size();
  }
  [[nodiscard]] std::string text() const {
    if (!json->is_string()) refuse(path, "must be a string");
    return json->get<std::string>();
  }
  [[nodiscard]] double number() const {
    if (!json->is_number()) refuse(path, "must be a number");
    return json->get<double>();
  }
  [[nodiscard]] int count() const {  // a whole number from 1 to a million
    if (!json->is_number_integer()) refuse(path, "must be a whole number");
    const auto value = json->get<std::int64_t>();
    if (value < 1 || value > 1'000'000) refuse(path, "must be between 1 and 1000000 (got " + json->dump() + ")");
    return static_cast<int>(value);
  }
};

enum class Sign { positive, not_negative };

void check_sign(const Field& field, double value, Sign sign) {
  if (sign == Sign::positive && !(value > 0.0)) refuse(field.path, "must be positive (got " + field.json->dump() + ")");
  if (!(value >= 0.0)) refuse(field.path, "must not be negative (got " + field.json->dump() + ")");
}

Kind read_kind(const Field& field) {
  const std::string text = field.text();
  for (const Kind kind : {Kind::measured, Kind::fitted, Kind::datasheet, Kind::assumed}) {
    if (text == to_string(kind)) return kind;
  }
  refuse(field.path, "must be measured, fitted, datasheet or assumed (got \"" + text + "\")");
}

std::string read_source(const Field& field) {
  std::string text = field.text();
  if (text.empty()) refuse(field.path, "must name a document or a command");
  return text;
}

std::string read_unit(const Field& field, std::string_view base) {
  std::string unit = field.text();
  const std::optional<UnitScale> scale = find_unit(unit);
  if (!scale) refuse(field.path, to_si(0.0, unit).message());
  if (scale->base != base) refuse(field.path, "must be a unit of " + std::string(base) + " (got \"" + unit + "\")");
  return unit;
}

double in_si(double value, const std::string& unit) { return *to_si(value, unit); }

/// `extra`: fields that stand beside the quantity's own, as "threads" does.
Quantity read_quantity(const Field& field, std::string_view base, Sign sign,
                       std::initializer_list<std::string_view> extra = {}) {
  if (!field.json->is_object()) refuse(field.path, "must be an object {value, unit, kind, source, ci90}");
  for (const auto& [key, value] : field.json->items()) {
    bool found = key == "value" || key == "unit" || key == "kind" || key == "source" || key == "ci90";
    for (const std::string_view name : extra) found = found || name == key;
    if (!found) refuse(field.path + "." + key, "is not a field of a quantity");
  }
  const double value = field.at("value").number();
  check_sign(field.at("value"), value, sign);
  const std::string unit = read_unit(field.at("unit"), base);
  Quantity quantity;
  quantity.value = in_si(value, unit);
  quantity.unit = base;
  quantity.kind = read_kind(field.at("kind"));
  quantity.source = read_source(field.at("source"));
  if (field.has("ci90")) {
    check_sign(field.at("ci90"), field.at("ci90").number(), Sign::not_negative);
    quantity.ci90 = in_si(field.at("ci90").number(), unit);
  }
  if (!std::isfinite(quantity.value) || !std::isfinite(quantity.ci90)) refuse(field.path, "is too large");
  return quantity;
}

/// A whole number from 1 to a million, as {value, unit "1" or "B", kind, source}.
int read_count(const Field& field, std::string_view base, Provenance& from) {
  const Quantity quantity = read_quantity(field, base, Sign::positive);
  const Field value = field.at("value");
  if (quantity.value != std::floor(quantity.value)) refuse(value.path, "must be a whole number (got " + value.json->dump() + ")");
  if (quantity.value > 1e6) refuse(value.path, "must be between 1 and 1000000 (got " + value.json->dump() + ")");
  from = {quantity.kind, quantity.source};
  return static_cast<int>(quantity.value);
}

Replacement read_policy(const Field& field, int ways) {
  const std::string text = field.text();
  if (text == to_string(Replacement::lru)) return Replacement::lru;
  if (text != to_string(Replacement::plru)) refuse(field.path, "must be lru or plru (got \"" + text + "\")");
  if (ways < 1 || (ways & (ways - 1)) != 0) refuse(field.path, "plru needs ways that are a power of two");
  return Replacement::plru;
}

CacheLevel read_level(const Field& field) {
  field.object({"name", "capacity", "shared_by_units", "line_bytes", "ways", "policy", "latency", "latency_far"});
  CacheLevel level;
  level.name = field.at("name").text();
  level.capacity_bytes = read_quantity(field.at("capacity"), "B", Sign::positive);
  level.shared_by_units = read_count(field.at("shared_by_units"), "1", level.shared_from);
  level.line_bytes = read_count(field.at("line_bytes"), "B", level.line_from);
  if (field.has("ways")) level.ways = read_count(field.at("ways"), "1", level.ways_from);
  if (field.has("policy")) level.policy = read_policy(field.at("policy"), level.ways);
  if (field.has("latency")) level.latency_s = read_quantity(field.at("latency"), "s", Sign::positive);
  if (field.has("latency_far")) level.latency_far_s = read_quantity(field.at("latency_far"), "s", Sign::positive);
  return level;
}

void read_bandwidth(const Field& field, Machine& machine) {
  field.object({"unit", "working_set_unit", "kind", "source", "points"});
  const std::string unit = read_unit(field.at("unit"), "B/s");
  const std::string size_unit = read_unit(field.at("working_set_unit"), "B");
  machine.read_bandwidth_kind = read_kind(field.at("kind"));
  machine.read_bandwidth_source = read_source(field.at("source"));
  const Field points = field.at("points");
  if (points.array() == 0) refuse(points.path, "must have at least one point");
  for (std::size_t i = 0; i < points.array(); ++i) {
    const Field entry = points.at(i);
    entry.object({"threads", "working_set", "value", "ci90"});
    check_sign(entry.at("working_set"), entry.at("working_set").number(), Sign::positive);
    check_sign(entry.at("value"), entry.at("value").number(), Sign::positive);
    BandwidthPoint point;
    point.threads = entry.at("threads").count();
    point.working_set_bytes = in_si(entry.at("working_set").number(), size_unit);
    point.bytes_per_s = in_si(entry.at("value").number(), unit);
    if (entry.has("ci90")) {
      check_sign(entry.at("ci90"), entry.at("ci90").number(), Sign::not_negative);
      point.ci90 = in_si(entry.at("ci90").number(), unit);
    }
    if (!std::isfinite(point.working_set_bytes) || !std::isfinite(point.bytes_per_s) || !std::isfinite(point.ci90)) {
      refuse(entry.path, "is too large");
    }
    if (!machine.read_bandwidth.empty()) {
      const BandwidthPoint& last = machine.read_bandwidth.back();
      const bool sorted = point.threads > last.threads ||
                          (point.threads == last.threads && point.working_set_bytes > last.working_set_bytes);
      if (!sorted) refuse(entry.path, "must come after the point before it: sorted by threads, then by working set");
    }
    machine.read_bandwidth.push_back(point);
  }
}

std::vector<ThreadCost> read_thread_costs(const Field& field) {
  std::vector<ThreadCost> costs;
  if (field.array() == 0) refuse(field.path, "must have at least one entry");
  for (std::size_t i = 0; i < field.array(); ++i) {
    const Field entry = field.at(i);
    ThreadCost cost;
    cost.seconds = read_quantity(entry, "s", Sign::not_negative, {"threads"});
    cost.threads = entry.at("threads").count();
    if (!costs.empty() && cost.threads <= costs.back().threads) refuse(entry.path + ".threads", "must be sorted, each once");
    costs.push_back(std::move(cost));
  }
  return costs;
}

std::string read_isa(const Field& field) {
  std::string isa = field.text();
  for (const char* known : {"scalar", "avx2", "avx512", "neon", "gpu"}) {
    if (isa == known) return isa;
  }
  refuse(field.path, "must be scalar, avx2, avx512, neon or gpu (got \"" + isa + "\")");
}

bool is_rate_name(std::string_view name) {
  for (const char* known : {"fma_f32", "certify", "exact", "dot_int8", "convert_bf16", "convert_f16", "convert_int8"}) {
    if (name == known) return true;
  }
  for (const std::string_view prefix : {"up_", "down_token_", "down_", "pieces_", "push_", "streams_", "token_"}) {
    if (!name.starts_with(prefix)) continue;
    const bool by_tokens = prefix == "up_" || prefix == "down_";
    const std::string_view rest = name.substr(prefix.size()), type = by_tokens && tokens_of_rate(rest) > 1 ? rest.substr(0, rest.size() - 2) : rest;
    for (const char* known : {"f32", "bf16", "f16", "int8", "w8a8"}) {
      if (type == known) return true;
    }
  }
  return false;
}

Rate read_rate(const Field& field) {
  Rate rate;
  if (!field.json->is_object()) refuse(field.path, "must be an object");
  rate.isa = read_isa(field.at("isa"));
  rate.name = field.at("name").text();
  if (!is_rate_name(rate.name)) refuse(field.at("name").path, "is not a rate of the model (got \"" + rate.name + "\")");
  rate.per_s = read_quantity(field, rate.name == "fma_f32" ? "FLOP/s" : "elem/s", Sign::positive, {"isa", "name"});
  return rate;
}

void read_meta(const Field& field, Machine& machine) {
  field.object({"name", "title", "kind", "date"});
  machine.name = field.at("name").text();
  if (machine.name.empty()) refuse(field.at("name").path, "must not be empty");
  machine.title = field.at("title").text();
  machine.kind = field.at("kind").text();
  if (machine.kind != "cpu" && machine.kind != "gpu") {
    refuse(field.at("kind").path, "must be cpu or gpu (got \"" + machine.kind + "\")");
  }
  if (field.has("date")) machine.date = field.at("date").text();
}

void read_rates(const Field& field, Machine& machine) {
  for (std::size_t i = 0; i < field.array(); ++i) {
    Rate rate = read_rate(field.at(i));
    for (const Rate& other : machine.rates) {
      if (other.isa == rate.isa && other.name == rate.name) refuse(field.at(i).path, "repeats " + rate.isa + " " + rate.name);
    }
    machine.rates.push_back(std::move(rate));
  }
}

void read_model(const Field& field, Machine& machine) {
  if (!field.json->is_object()) refuse(field.path, "must be an object");
  for (const auto& [key, value] : field.json->items()) {
    const ModelField* known = find_model_field(key);
    if (known == nullptr) refuse(field.path + "." + key, "is not a correction of the model");
    machine.model[key] = read_quantity({&value, field.path + "." + key}, known->base_unit, Sign::not_negative);
  }
}

/// Sections of named quantities. All are optional but those that predictions for a GPU need.
void read_figures(const Field& root, Machine& machine) {
  for (const std::string_view section : kFigureSections) {
    const std::string name(section);
    if (!root.has(name.c_str())) continue;
    const Field field = root.at(name.c_str());
    if (!field.json->is_object()) refuse(field.path, "must be an object");
    for (const auto& [key, value] : field.json->items()) {
      const FigureField* known = find_figure_field(section, key);
      if (known == nullptr) refuse(field.path + "." + key, "is not a figure of this section");
      machine.figures[name + "." + key] = read_quantity({&value, field.path + "." + key}, known->base_unit, Sign::not_negative);
    }
  }
  for (const FigureField& known : kFigureFields) {
    const std::string path = std::string(known.section) + "." + std::string(known.name);
    if (known.gpu_needs && machine.kind == "gpu" && machine.figures.count(path) == 0) refuse(path, "is missing: a GPU needs it");
  }
}

/// What the two kinds of machine have apart.
void read_boundaries(const Field& root, Machine& machine) {
  const bool gpu = machine.kind == "gpu";
  if (gpu != (machine.isa == "gpu")) refuse("isa", "must be gpu for a GPU, and for nothing else (got \"" + machine.isa + "\")");
  for (const char* key : {"barrier", "fork_join"}) {
    if (gpu && root.has(key)) refuse(key, "is for CPUs: a GPU has overheads and sync");
  }
  if (gpu) return;
  machine.barrier_s = read_thread_costs(root.at("barrier"));
  machine.fork_join_s = read_thread_costs(root.at("fork_join"));
}

void read_noise(const Field& field, Machine& machine) {
  field.object({"cv"});
  const Quantity cv = read_quantity(field.at("cv"), "1", Sign::not_negative);
  if (cv.value > 10.0) refuse("noise.cv.value", "must be at most 10");
  machine.noise_cv = cv.value;
  machine.noise_from = {cv.kind, cv.source};
}

Machine read_machine(const Field& root) {
  root.object({"meta", "units", "threads", "isa", "clock", "levels", "read_bandwidth", "barrier", "fork_join",
               "rates", "dram", "concurrency", "overheads", "sync", "model", "noise"});
  Machine machine;
  read_meta(root.at("meta"), machine);
  machine.units = read_count(root.at("units"), "1", machine.units_from);
  machine.threads = read_count(root.at("threads"), "1", machine.threads_from);
  machine.isa = read_isa(root.at("isa"));
  machine.clock_hz = read_quantity(root.at("clock"), "Hz", Sign::positive);
  const Field levels = root.at("levels");
  for (std::size_t i = 0; i < levels.array(); ++i) {
    machine.levels.push_back(read_level(levels.at(i)));
    if (i > 0 && machine.levels[i].capacity_bytes.value < machine.levels[i - 1].capacity_bytes.value) {
      refuse(levels.at(i).path, "must not be smaller than the level before it");
    }
  }
  read_bandwidth(root.at("read_bandwidth"), machine);
  read_boundaries(root, machine);
  read_rates(root.at("rates"), machine);
  read_figures(root, machine);
  if (root.has("model")) read_model(root.at("model"), machine);
  read_noise(root.at("noise"), machine);
  return machine;
}

/// Parses, refusing an object that has a key twice: the parser by itself would keep the last silently.
Json parse_unique(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&keys](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      refuse(parsed.get<std::string>(), "appears twice in one object");
    }
    return true;
  };
  return Json::parse(text, watch);
}

}  // namespace

Result<Machine> parse_machine(std::string_view json, std::string_view file_name) {
  const std::string file(file_name);
  try {
    const Json parsed = parse_unique(json);
    return read_machine({&parsed, ""});
  } catch (const Refusal& refusal) {
    return corrupt_file(file + ": " + refusal.path + " " + refusal.rule);
  } catch (const Json::parse_error& failure) {
    return corrupt_file(file + ": not JSON (at byte " + std::to_string(failure.byte) + ")");
  } catch (const Json::exception&) {
    return corrupt_file(file + ": not JSON that can be represented");
  } catch (const std::exception& failure) {
    return io_error(file + ": " + failure.what());
  }
}

}  // namespace signsplit::sim
