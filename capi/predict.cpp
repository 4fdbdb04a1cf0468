// signsplit_predict: a question to the simulator in JSON, its answer in JSON; and the plan of a layer on this machine.
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "guard.hpp"
#include "handles.hpp"
#include "plan_text.hpp"
#include "signsplit/auto.hpp"

namespace signsplit::capi {
namespace {

using Json = nlohmann::ordered_json;

struct Question {
  Problem problem;
  double active = 1.0;
  std::string hardware = "host", isa;
  sim::Residency residency = sim::Residency::cold;
  sim::LaunchMode launch_mode = sim::LaunchMode::graph;
  int threads = 0;
  std::vector<std::string> plans;  // texts; empty: all
};

Status broken(const std::string& key, const char* rule) {
  return invalid_argument("request: \"" + key + "\" must be " + rule);
}

Status read(const std::string& key, const Json& value, std::string& field) {
  if (!value.is_string()) return broken(key, "a string");
  field = value.get<std::string>();
  return {};
}

Status read(const std::string& key, const Json& value, index_t most, index_t& field) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
    return invalid_argument("request: \"" + key + "\" must be a whole number from 0 to " + std::to_string(most));
  }
  field = value.get<index_t>();
  return {};
}

Status read_dtype(const Json& value, DType& field) {
  std::string name;
  if (Status status = read("dtype", value, name); !status) return status;
  const std::optional<DType> dtype = parse_dtype(name);
  if (!dtype) return broken("dtype", "f32, bf16, f16 or int8");
  field = *dtype;
  return {};
}

Status read_activation(const Json& value, Problem& problem) {
  std::string name;
  if (Status status = read("activation", value, name); !status) return status;
  const auto parsed = parse_activation(name);
  if (!parsed) return broken("activation", kActivationNames);
  problem.activation = parsed->activation;
  problem.gated = problem.gated || parsed->must_be_gated;
  return {};
}

Status read_residency(const Json& value, sim::Residency& field) {
  std::string name;
  if (Status status = read("residency", value, name); !status) return status;
  if (name != "cold" && name != "warm") return broken("residency", "cold or warm");
  field = name == "warm" ? sim::Residency::warm : sim::Residency::cold;
  return {};
}

Status read_launch_mode(const Json& value, sim::LaunchMode& field) {
  std::string name;
  if (Status status = read("launch_mode", value, name); !status) return status;
  const std::optional<sim::LaunchMode> mode = sim::parse_launch_mode(name);
  if (!mode) return broken("launch_mode", "stream, graph, programmatic or cooperative");
  field = *mode;
  return {};
}

Status read_plans(const Json& value, std::vector<std::string>& plans) {
  if (!value.is_array() || value.empty()) return broken("plans", "an array of names or plan objects, not empty");
  for (const Json& plan : value) {
    if (!plan.is_string() && !plan.is_object()) return broken("plans", "an array of names or plan objects, not empty");
    plans.push_back(plan.is_string() ? plan.get<std::string>() : plan.dump());
  }
  return {};
}

Status read_field(const std::string& key, const Json& value, Question& question) {
  constexpr index_t kMostThreads = 1024;
  if (key == "d_model") return read(key, value, kMaxExtent, question.problem.d_model);
  if (key == "d_ff") return read(key, value, kMaxExtent, question.problem.d_ff);
  if (key == "batch") return read(key, value, kMaxExtent, question.problem.batch);
  if (key == "dtype") return read_dtype(value, question.problem.dtype);
  if (key == "activation") return read_activation(value, question.problem);
  if (key == "residency") return read_residency(value, question.residency);
  if (key == "launch_mode") return read_launch_mode(value, question.launch_mode);
  if (key == "hardware") return read(key, value, question.hardware);
  if (key == "isa") return read(key, value, question.isa);
  if (key == "plans") return read_plans(value, question.plans);
  if (key == "gated") {
    if (!value.is_boolean()) return broken(key, "true or false");
    question.problem.gated = question.problem.gated || value.get<bool>();
    return {};
  }
  if (key == "active") {
    if (!value.is_number()) return broken(key, "a number above 0 and up to 1");
    question.active = value.get<double>();
    return question.active > 0.0 && question.active <= 1.0 ? Status{} : broken(key, "a number above 0 and up to 1");
  }
  if (key == "threads") {
    index_t threads = 0;
    const Status status = read(key, value, kMostThreads, threads);
    question.threads = static_cast<int>(threads);
    return status;
  }
  return invalid_argument("request: unknown key \"" + key + "\"");
}

Result<Question> parse_question(std::string_view text) {
  const Json request = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object()) return invalid_argument("request: must be a JSON object");
  Question question;
  for (const auto& [key, value] : request.items()) {
    if (Status status = read_field(key, value, question); !status) return status;
  }
  for (const char* key : {"d_model", "d_ff"}) {
    if (!request.contains(key)) return invalid_argument("request: \"" + std::string(key) + "\" is missing");
  }
  if (Status status = validate(question.problem); !status) return status;
  if (!closes_units(question.problem.activation) && question.active != 1.0) {
    return invalid_argument("request: \"active\" must be 1 for " + to_string(question.problem.activation, question.problem.gated) +
                            ", which closes no unit");
  }
  return question;
}

Result<std::vector<Plan>> plans_of(const Question& question, const sim::Machine& machine) {
  std::vector<Plan> plans;
  if (question.plans.empty()) {
    for (const Plan& plan : default_plans(question.problem)) plans.push_back(sim::plan_on(machine, question.problem, plan));
  }
  for (const std::string& text : question.plans) {
    const Result<Plan> plan = parse_plan(text.c_str(), question.problem);
    if (!plan) return plan.status();
    if (Status status = validate(*plan, question.problem); !status) return status;
    plans.push_back(*plan);
  }
  return plans;
}

/// Plans that the machine's profile cannot answer for are left out, as the command does; unless that leaves none.
Result<Json> predict_all(const Question& question) {
  const Result<sim::Machine> machine = sim::find_machine(question.hardware);
  if (!machine) return machine.status();
  const Result<std::vector<Plan>> plans = plans_of(question, *machine);
  if (!plans) return plans.status();
  Json cases = Json::array();
  std::vector<sim::LabelledPrediction> labelled;
  Status first_failure;
  for (const Plan& plan : *plans) {
    const auto prediction =
        sim::predict({question.problem, plan, sim::expected_activity(question.active, plan, question.problem),
                      question.residency, question.threads, question.isa, question.launch_mode},
                     *machine);
    if (!prediction) {
      if (first_failure.ok()) first_failure = prediction.status();
      continue;
    }
    cases.push_back(Json::parse(sim::to_json(plan, *prediction)));
    if (plan.variant != Variant::ignore) {  // computes something else, and takes no part in the decision
      labelled.push_back({label(plan), is_fused(plan), *prediction});
    }
  }
  if (cases.empty() && !first_failure.ok()) return first_failure;
  const Result<sim::ChosenPlan> chosen = sim::plan_for(
      {question.problem, {.active = question.active}, question.residency, question.threads, question.isa, question.launch_mode}, *machine,
      {.wisdom = sim::wisdom_path()});
  if (!chosen) return chosen.status();
  return Json{{"cases", std::move(cases)},
              {"decision", Json::parse(sim::to_json(sim::decide(labelled, *machine)))},
              {"auto", Json::parse(sim::to_json(*chosen))}};
}

Status hand_out(const std::string& text, char** answer) {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  *answer = copy;
  return {};
}

}  // namespace
}  // namespace signsplit::capi

using namespace signsplit;
using namespace signsplit::capi;

extern "C" {

signsplit_status signsplit_predict(const char* request, char** answer) {
  return guarded([&]() -> Status {
    if (Status status = require(answer, "answer"); !status) return status;
    *answer = nullptr;
    if (Status status = require(request, "request"); !status) return status;
    const Result<Question> question = parse_question(request);
    if (!question) return question.status();
    const Result<Json> document = predict_all(*question);
    if (!document) return document.status();
    return hand_out(document->dump(2, ' ', false, Json::error_handler_t::replace) + '\n', answer);
  });
}

signsplit_status signsplit_choose_plan(const signsplit_weights* weights, int64_t batch, const float* x, size_t x_count, const char* mode,
                                       int threads, const char* isa, char** plan) {
  return guarded([&]() -> Status {
    if (Status status = require(plan, "plan"); !status) return status;
    *plan = nullptr;
    if (Status status = require(weights, "weights"); !status) return status;
    if (Status status = require(x, "x"); !status) return status;
    const std::optional<sim::PlanMode> parsed = sim::parse_plan_mode(mode != nullptr ? mode : "estimate");
    if (!parsed) return invalid_argument("mode \"" + std::string(mode) + "\" is unknown: known are estimate, measure");
    const Result<cpu::Options> options = executor_options(threads, isa);
    if (!options) return options.status();
    const Result<sim::ChosenPlan> chosen = choose_plan(*weights->layer, {x, x_count}, batch, {.cpu = *options, .mode = *parsed});
    return chosen ? hand_out(to_json(chosen->plan), plan) : chosen.status();
  });
}

void signsplit_string_destroy(char* string) { std::free(string); }

}  // extern "C"
