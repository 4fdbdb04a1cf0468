// report.json: everything that the page shows, as data.
#include <cmath>

#include "tools/cpu_options.hpp"
#include "tools/prediction_json.hpp"
#include "tools/report_data.hpp"
#include "tools/report_findings.hpp"

namespace signsplit::tools {
namespace {

Json label_json(const CaseResult* result) { return result == nullptr ? Json(nullptr) : Json(result->label); }

Json case_json(const ValidationGroup& group, const CaseResult& result) {
  const sim::Prediction* prediction = prediction_of(group, result);
  Json json{{"strategy", result.plan ? Json(to_string(result.plan->strategy)) : Json(result.label)},
            {"label", result.label},
            {"plan", result.plan ? plan_json(*result.plan) : Json(nullptr)},
            {"median_s", result.median_s},
            {"p10_s", result.p10_s},
            {"p90_s", result.p90_s},
            {"samples", result.samples},
            {"bytes", result.bytes},
            {"stats", statistics_json(result.statistics)},
            {"same_bits_as_row_fused", result.same_bits_as_row_fused},
            {"max_ulp", result.max_ulp},
            {"detail", result.detail},
            {"prediction", prediction ? prediction_json(*result.plan, *prediction) : Json(nullptr)}};
  json["error"] = result.error.empty() ? Json(nullptr) : Json(result.error);
  return json;
}

Json group_json(const GroupFindings& found) {
  const ValidationGroup& group = *found.group;
  const Problem& problem = group.request.problem;
  Json cases = Json::array();
  for (const CaseResult& result : group.measured.cases) cases.push_back(case_json(group, result));
  return {{"group", group.name},
          {"d_model", problem.d_model},
          {"d_ff", problem.d_ff},
          {"batch", problem.batch},
          {"dtype", to_string(problem.dtype)},
          {"activation", to_string(problem.activation, problem.gated)},
          {"gated", problem.gated},
          {"active", group.request.active},
          {"residency", to_string(group.request.residency)},
          {"read_bandwidth_Bps", group.measured.read_bandwidth_Bps},
          {"layers", group.measured.layers},
          {"layer_bytes", group.measured.layer_bytes},
          {"huge_pages", group.measured.huge_pages},
          {"decision", decision_json(group.decision)},
          {"outcome", to_string(found.outcome)},
          {"fastest", label_json(found.best)},
          {"fastest_fused", label_json(found.best_fused)},
          {"fastest_unfused", label_json(found.best_unfused)},
          {"fastest_sign_split", label_json(found.best_sign_split)},
          {"fastest_other", label_json(found.best_other)},
          {"cases", std::move(cases)}};
}

Json real_case_json(const RealLayerCase& result) {
  Json json{{"label", result.label},
            {"plan", plan_json(result.plan)},
            {"median_s", result.median_s},
            {"p10_s", result.p10_s},
            {"p90_s", result.p90_s},
            {"prediction", result.prediction ? prediction_json(result.plan, *result.prediction) : Json(nullptr)},
            {"stats", statistics_json(result.statistics)},
            {"same_bits_as_row_fused", result.same_bits_as_row_fused},
            {"max_ulp", result.max_ulp},
            {"worst_error", result.worst_error},
            {"worst_bound_fraction", result.worst_bound_fraction},
            {"within_bound", result.within_bound},
            {"active_set_exact", result.active_set_exact}};
  json["error"] = result.error.empty() ? Json(nullptr) : Json(result.error);
  return json;
}

Json real_layer_json(const ReportData& data) {
  if (!data.real_layer) return {{"missing", data.real_layer_missing}};
  const RealLayer& layer = *data.real_layer;
  Json cases = Json::array();
  for (const RealLayerCase& result : layer.cases) cases.push_back(real_case_json(result));
  return {{"weights_file", layer.weights_file}, {"input_file", layer.input_file}, {"problem", layer.problem},
          {"tokens", layer.tokens},             {"active", layer.active},         {"largest_output", layer.largest_output},
          {"cases", std::move(cases)}};
}

Json bytes_json(const std::vector<ByteCheck>& checks) {
  Json list = Json::array();
  for (const ByteCheck& check : checks) {
    list.push_back({{"group", check.group},
                    {"label", check.label},
                    {"equal", check.equal()},
                    {"predicted", statistics_json(check.predicted)},
                    {"executed", statistics_json(check.executed)},
                    {"recounted", statistics_json(check.recounted)}});
  }
  return list;
}

Json gpus_json(const std::vector<gpu::Device>& devices) {
  Json list = Json::array();
  for (const gpu::Device& device : devices) {
    list.push_back({{"index", device.index},
                    {"name", device.name},
                    {"compute_major", device.compute_major},
                    {"compute_minor", device.compute_minor},
                    {"multiprocessors", device.multiprocessors},
                    {"memory_bytes", device.memory_bytes}});
  }
  return list;
}

/// points[] and summary{} as of the CPU; null without a GPU.
Json gpu_run_json(const std::optional<GpuRun>& gpu) {
  if (!gpu) return nullptr;
  Json json{{"device", gpu->device.name},
            {"index", gpu->device.index},
            {"predictions", gpu->predictions_file},
            {"error", gpu->error},
            {"problems", gpu->run.problems}};
  if (!gpu->error.empty()) return json;
  json["machine"] = Json::parse(sim::to_json(gpu->machine), nullptr, false);
  json.update(validation_json(gpu->run));
  return json;
}

}  // namespace

Json report_json(const ReportData& data) {
  Json environment = Json::object();
  for (const auto& [name, value] : data.environment) environment[name] = value;
  Json groups = Json::array();
  for (const GroupFindings& found : findings(data.run)) groups.push_back(group_json(found));
  Json json{{"version", data.version},
            {"command", data.command},
            {"started", data.started},
            {"finished", data.finished},
            {"duration_s", data.duration_s},
            {"quick", data.quick},
            {"seed", data.seed},
            {"threads", data.threads},
            {"isa", data.isa},
            {"environment", std::move(environment)},
            {"predictions",
             {{"file", data.predictions_file}, {"written", data.predictions_written}, {"sha256", data.predictions_sha256}}},
            {"machine_origin", data.machine_origin},
            {"machine", Json::parse(sim::to_json(data.machine), nullptr, false)}};
  json.update(validation_json(data.run));  // points, summary
  json["groups"] = std::move(groups);
  json["bytes"] = bytes_json(data.bytes);
  json["real_layer"] = real_layer_json(data);
  json["gpus"] = gpus_json(data.gpus);
  json["no_gpu"] = data.gpus.empty() ? Json(data.no_gpu) : Json(nullptr);
  json["gpu_run"] = gpu_run_json(data.gpu_run);
  json["problems"] = data.run.problems;
  return json;
}

}  // namespace signsplit::tools
