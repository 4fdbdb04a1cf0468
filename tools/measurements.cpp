#include "tools/measurements.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

#include <fmt/format.h>

#include "signsplit/atomic_file.hpp"
#include "tools/cpu_options.hpp"

namespace signsplit::tools {
namespace {

constexpr char kFormat[] = "signsplit measurements 1";

Json case_json(const CaseResult& one) {
  Json json{{"label", one.label},
            {"median_s", one.median_s},
            {"p10_s", one.p10_s},
            {"p90_s", one.p90_s},
            {"samples", one.samples},
            {"same_bits", one.same_bits_as_row_fused},
            {"plan", one.plan ? plan_json(*one.plan) : Json(nullptr)}};
  if (one.paired_s > 0) json["paired_s"] = one.paired_s, json["paired_ci90_s"] = one.paired_ci90_s;
  if (one.all_turns_median_s != one.median_s) json["all_turns_median_s"] = one.all_turns_median_s;
  if (!one.error.empty()) json["error"] = one.error;
  return json;
}

Json group_json(const MeasuredGroup& group) {
  Json cases = Json::array();
  for (const CaseResult& one : group.measured.cases) cases.push_back(case_json(one));
  Json json{{"problem", problem_json(group.request.problem)},
          {"active", group.request.active},
          {"residency", to_string(group.request.residency)},
          {"read_bandwidth_Bps", group.measured.read_bandwidth_Bps},
          {"layers", group.measured.layers},
          {"huge_pages", group.measured.huge_pages},
          {"cases", std::move(cases)}};
  if (group.reading.threads > 0) json["reading"] = reading_json(group.reading);
  if (group.repeats > 0) json["repeats"] = group.repeats;
  if (group.measured.turns_left_out > 0) json["turns_left_out"] = group.measured.turns_left_out;
  return json;
}

/// Throws what nlohmann::json throws, or std::runtime_error with a rule: read_measurements catches both.
[[noreturn]] void refuse(const std::string& rule) { throw std::runtime_error(rule); }

Problem problem_from(const Json& json) {
  Problem problem;
  problem.d_model = json.at("d_model").get<index_t>();
  problem.d_ff = json.at("d_ff").get<index_t>();
  problem.batch = json.at("batch").get<index_t>();
  const auto dtype = parse_dtype(json.at("dtype").get<std::string>());
  const auto activation = parse_activation(json.at("activation").get<std::string>());
  if (!dtype) refuse("unknown dtype");
  if (!activation) refuse("unknown activation");
  problem.dtype = *dtype;
  problem.activation = activation->activation;
  problem.gated = json.at("gated").get<bool>();
  problem.group = json.value("group", index_t{0});
  problem.arithmetic = json.value("arithmetic", "f32") == "w8a8" ? Arithmetic::w8a8 : Arithmetic::f32;
  if (const Status status = validate(problem); !status) refuse(status.message());
  return problem;
}

CaseResult case_from(const Json& json, const Problem& problem) {
  CaseResult one;
  one.label = json.at("label").get<std::string>();
  one.median_s = json.at("median_s").get<double>();
  one.p10_s = json.at("p10_s").get<double>();
  one.p90_s = json.at("p90_s").get<double>();
  one.samples = json.at("samples").get<int>();
  one.all_turns_median_s = json.value("all_turns_median_s", one.median_s);
  one.paired_s = json.value("paired_s", 0.0);
  one.paired_ci90_s = json.value("paired_ci90_s", 0.0);
  one.same_bits_as_row_fused = json.at("same_bits").get<bool>();
  one.error = json.value("error", "");
  if (json.at("plan").is_null()) return one;
  const Result<Plan> plan = plan_from_json(json.at("plan").dump());
  if (!plan) refuse(plan.message());
  if (const Status status = validate(*plan, problem); !status) refuse(status.message());
  one.plan = *plan;
  return one;
}

sim::Reading reading_from(const Json& json) {
  sim::Reading reading;
  reading.threads = json.at("threads").get<int>();
  reading.isa = json.at("isa").get<std::string>();
  for (const Json& point : json.at("read_bandwidth")) {
    reading.read_bandwidth.push_back({point.at("working_set_bytes").get<double>(), reading.threads, point.at("Bps").get<double>(), 0.0});
  }
  reading.fork_join_s = json.at("fork_join_s").get<double>();
  reading.barrier_s = json.at("barrier_s").get<double>();
  reading.fma_per_s = json.at("fma_per_s").get<double>();
  return reading;
}

MeasuredGroup group_from(const Json& json) {
  MeasuredGroup group;
  group.request.problem = problem_from(json.at("problem"));
  group.request.active = json.at("active").get<double>();
  const Result<sim::Residency> residency = parse_residency(json.at("residency").get<std::string>());
  if (!residency) refuse(residency.message());
  group.request.residency = *residency;
  group.measured.read_bandwidth_Bps = json.at("read_bandwidth_Bps").get<double>();
  group.measured.layers = json.at("layers").get<int>();
  group.measured.huge_pages = json.at("huge_pages").get<bool>();
  if (json.contains("reading")) group.reading = reading_from(json.at("reading"));
  group.repeats = json.value("repeats", 0);
  group.measured.turns_left_out = json.value("turns_left_out", 0.0);
  for (const Json& one : json.at("cases")) group.measured.cases.push_back(case_from(one, group.request.problem));
  return group;
}

}  // namespace

const MeasuredGroup* Measurements::find(const sim::ValidationCase& request) const {
  for (const MeasuredGroup& group : groups) {
    const sim::ValidationCase& one = group.request;
    if (one.problem == request.problem && one.active == request.active && one.residency == request.residency) return &group;
  }
  return nullptr;
}

Json problem_json(const Problem& problem) {
  Json json{{"d_model", problem.d_model},
            {"d_ff", problem.d_ff},
            {"batch", problem.batch},
            {"dtype", to_string(problem.dtype)},
            {"activation", to_string(problem.activation, problem.gated)},
            {"gated", problem.gated}};
  if (problem.group != 0) json["group"] = problem.group;
  if (problem.arithmetic == Arithmetic::w8a8) json["arithmetic"] = "w8a8";
  return json;
}

Status write_measurements(const std::filesystem::path& file, const Measurements& m) {
  const Json head{{"format", kFormat}, {"suite", m.suite},     {"date", m.date},
                  {"isa", m.isa},      {"threads", m.threads}, {"machine", Json::parse(sim::to_json(m.machine))}};
  std::string text = head.dump();
  text.pop_back();
  text += ",\n\"groups\":[";
  for (std::size_t i = 0; i < m.groups.size(); ++i) text += (i == 0 ? "\n" : ",\n") + group_json(m.groups[i]).dump();
  return write_file(file, text + "\n]}\n");
}

Result<Measurements> read_measurements(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return not_found(name + ": cannot be opened");
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  try {
    const Json json = Json::parse(text);
    if (!json.is_object() || !json.contains("format") || json["format"] != kFormat) refuse(std::string("\"format\" must be \"") + kFormat + "\"");
    Measurements m;
    m.suite = json.at("suite").get<std::string>();
    m.date = json.at("date").get<std::string>();
    m.isa = json.at("isa").get<std::string>();
    m.threads = json.at("threads").get<int>();
    Result<sim::Machine> machine = sim::parse_machine(json.at("machine").dump(), name);
    if (!machine) return machine.status();
    m.machine = std::move(*machine);
    for (const Json& group : json.at("groups")) m.groups.push_back(group_from(group));
    return m;
  } catch (const Json::parse_error& error) {
    return corrupt_file(fmt::format("{}: not JSON (at byte {})", name, error.byte));
  } catch (const std::exception& error) {
    return corrupt_file(name + ": " + error.what());
  }
}

Json reading_json(const sim::Reading& reading) {
  Json points = Json::array();
  for (const sim::BandwidthPoint& point : reading.read_bandwidth) {
    points.push_back({{"working_set_bytes", point.working_set_bytes}, {"Bps", point.bytes_per_s}});
  }
  return {{"threads", reading.threads},         {"isa", reading.isa},
          {"read_bandwidth", std::move(points)}, {"fork_join_s", reading.fork_join_s},
          {"barrier_s", reading.barrier_s},      {"fma_per_s", reading.fma_per_s}};
}

sim::Machine machine_for(const sim::Machine& profile, const MeasuredGroup& group, Knows knows) {
  if (knows == Knows::profile) return profile;
  sim::Reading reading = group.reading;
  const bool beside = knows == Knows::same_run && group.request.residency == sim::Residency::cold && group.measured.read_bandwidth_Bps > 0;
  if (beside && !reading.read_bandwidth.empty()) reading.read_bandwidth.back().bytes_per_s = group.measured.read_bandwidth_Bps;
  return sim::as_of_now(profile, reading);
}

std::vector<sim::ValidationPoint> replay(const Measurements& m, const sim::Machine& profile, Knows knows, TurnsOf turns) {
  std::vector<sim::ValidationPoint> points;
  for (const MeasuredGroup& group : m.groups) {
    const sim::Machine machine = machine_for(profile, group, knows);
    for (const CaseResult& measured : group.measured.cases) {
      if (!measured.plan || !measured.error.empty()) continue;
      const sim::Scenario scenario{.problem = group.request.problem,
                                   .plan = *measured.plan,
                                   .activity = {.active = group.request.active},
                                   .residency = group.request.residency,
                                   .threads = m.threads,
                                   .isa = m.isa};
      const Result<sim::Prediction> predicted = sim::predict(scenario, machine);
      if (predicted) points.push_back(validation_point(group_name(group.request), scenario, *predicted, profile, measured, turns));
    }
  }
  return points;
}

}  // namespace signsplit::tools
