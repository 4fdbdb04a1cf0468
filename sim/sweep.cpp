#include "signsplit/sim/sweep.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "cost_model.hpp"
#include "lookup.hpp"
#include "signsplit/sim/planner.hpp"

namespace signsplit::sim {
namespace {

Status check(const SweepRequest& request, std::span<const Machine> machines) {
  if (machines.empty()) return invalid_argument("sweep: needs at least one machine");
  const std::pair<const char*, bool> axes[] = {{"shapes", request.shapes.empty()}, {"batches", request.batches.empty()},
                                               {"dtypes", request.dtypes.empty()}, {"actives", request.actives.empty()}};
  for (const auto& [name, empty] : axes) {
    if (empty) return invalid_argument(std::string("sweep: ") + name + " must not be empty");
  }
  if (request.activity_of && request.actives.size() != 1) return invalid_argument("sweep: with activity_of, actives must have one element");
  return {};
}

/// The axes' values of the point with a number: the last axis varies fastest.
SweepPoint point_at(std::size_t number, const SweepRequest& request) {
  const auto next = [&number](std::size_t extent) {
    const std::size_t index = number % extent;
    number /= extent;
    return index;
  };
  SweepPoint point;
  point.active = request.actives[next(request.actives.size())];
  const auto [d_model, d_ff] = request.shapes[next(request.shapes.size())];
  point.d_model = d_model;
  point.d_ff = d_ff;
  point.batch = request.batches[next(request.batches.size())];
  point.dtype = request.dtypes[next(request.dtypes.size())];
  point.machine = number;
  return point;
}

Problem problem_of(const SweepPoint& point, const SweepRequest& request) {
  Problem problem;
  problem.d_model = point.d_model;
  problem.d_ff = point.d_ff;
  problem.batch = point.batch;
  problem.dtype = point.dtype;
  problem.activation = request.activation;
  problem.gated = request.gated;
  return problem;
}

/// The faster of two, by strategy and skip.
struct Best {
  Plan plan;
  std::optional<Prediction> prediction;
  void offer(const Plan& other, const Prediction& time) {
    if (prediction && prediction->time_s <= time.time_s) return;
    plan = other;
    prediction = time;
  }
};

Status evaluate(SweepPoint& point, const SweepRequest& request, const Machine& machine) {
  const Problem problem = problem_of(point, request);
  Best fused, unfused;
  for (const Plan& standard : lossless_default_plans(problem)) {
    Plan plan = plan_on(machine, problem, standard);
    if (!is_fused(plan)) plan.launch = request.unfused_launch;
    const Activity activity = request.activity_of ? request.activity_of(plan, problem) : Activity{.active = point.active};
    const Result<Prediction> prediction =
        predict_time({problem, plan, activity, request.residency, request.threads, {}, request.launch_mode}, machine);
    if (!prediction.ok()) return prediction.status();
    (is_fused(plan) ? fused : unfused).offer(plan, *prediction);
  }
  if (!fused.prediction || !unfused.prediction) return invalid_argument("sweep: no plans for " + describe(problem));
  point.fused = to_string(fused.plan.strategy);
  point.unfused = to_string(unfused.plan.strategy);
  point.fused_skips = fused.plan.skip;
  point.unfused_skips = unfused.plan.skip;
  point.fused_s = fused.prediction->time_s;
  point.unfused_s = unfused.prediction->time_s;
  point.uncertainty_s = gap_uncertainty_s(*fused.prediction, *unfused.prediction, machine);
  const double gap = point.unfused_s - point.fused_s;
  if (std::abs(gap) > point.uncertainty_s) point.verdict = gap > 0.0 ? Verdict::fuse : Verdict::keep_unfused;
  return {};
}

void append(std::string& text, double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::general, 6).ptr;
  text.append(buffer.data(), end);
}

/// In quotes when CSV needs it: a machine is named by whoever wrote its profile.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? "\"\"" : std::string(1, c));
  return quoted + "\"";
}

}  // namespace

Result<std::vector<SweepPoint>> sweep(const SweepRequest& request, std::span<const Machine> machines) {
  try {
    if (Status status = check(request, machines); !status.ok()) return status;
    const std::size_t count = machines.size() * request.shapes.size() * request.batches.size() * request.dtypes.size() *
                              request.actives.size();
    std::vector<SweepPoint> points(count);
    Status failure;
    const auto total = static_cast<std::int64_t>(count);
#pragma omp parallel for schedule(dynamic, 256)
    for (std::int64_t i = 0; i < total; ++i) {
      SweepPoint& point = points[static_cast<std::size_t>(i)];
      point = point_at(static_cast<std::size_t>(i), request);
      if (Status status = evaluate(point, request, machines[point.machine]); !status.ok()) {
#pragma omp critical(signsplit_sweep)
        failure = status;
      }
    }
    if (!failure.ok()) return failure;
    return points;
  } catch (const std::exception& error) {
    return io_error(std::string("sweep: ") + error.what());
  }
}

std::string to_csv(std::span<const SweepPoint> points, std::span<const Machine> machines) {
  std::string csv = "machine,d_model,d_ff,batch,dtype,active,fused,unfused,fused_s,unfused_s,ratio,uncertainty_s,verdict\n";
  for (const SweepPoint& p : points) {
    csv.append(csv_field(machines[p.machine].name)).append(",").append(std::to_string(p.d_model)).append(",");
    csv.append(std::to_string(p.d_ff)).append(",").append(std::to_string(p.batch)).append(",").append(to_string(p.dtype));
    csv += ",";
    append(csv, p.active);
    csv.append(",").append(p.fused).append(p.fused_skips ? "+skip," : ",");
    csv.append(p.unfused).append(p.unfused_skips ? "+skip" : "");
    for (const double value : {p.fused_s, p.unfused_s, p.unfused_s / p.fused_s, p.uncertainty_s}) {
      csv += ",";
      append(csv, value);
    }
    csv.append(",").append(to_string(p.verdict)).append("\n");
  }
  return csv;
}

}  // namespace signsplit::sim
