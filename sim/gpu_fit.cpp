// The fits of docs/gpu-model.md.
#include "signsplit/sim/gpu_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "least_squares.hpp"
#include "signsplit/sim/predict.hpp"

namespace signsplit::sim {
namespace {

constexpr double kRobustScale = 0.03;  // relative: runs of the published files scatter by one to three per cent
constexpr int kIterations = 200;

double hit_share(const CacheModel& cache, double bytes) {
  const double x = 3.0 * std::min(cache.sharpness, 100.0) * std::log(bytes / cache.capacity_bytes);
  return x > 60.0 ? std::exp(-x / 3.0) : std::pow(1.0 + std::exp(x), -1.0 / 3.0);
}

/// The parameters in a row, as logarithms: empty, full, fill, steepness, memory, then three per cache.
StepModel steps_from(const std::vector<double>& logs) {
  StepModel model;
  model.empty_s = std::exp(logs[0]);
  model.full_s = std::exp(logs[1]);
  model.fill_bytes = std::exp(logs[2]);
  model.fill_steepness = std::exp(logs[3]);
  model.memory_Bps = std::exp(logs[4]);
  for (std::size_t i = 5; i + 2 < logs.size(); i += 3) {
    model.caches.push_back({std::exp(logs[i]), std::exp(logs[i + 1]), std::exp(logs[i + 2])});
  }
  return model;
}

std::vector<double> logs_of(const StepModel& model) {
  std::vector<double> logs{std::log(model.empty_s), std::log(model.full_s), std::log(model.fill_bytes), std::log(model.fill_steepness),
                           std::log(model.memory_Bps)};
  for (const CacheModel& cache : model.caches) {
    for (const double value : {cache.Bps, cache.capacity_bytes, cache.sharpness}) logs.push_back(std::log(value));
  }
  return logs;
}

/// Places to start from: what the ends of the curve tell, and a few sizes of the caches.
std::vector<StepModel> starts(std::span<const StepPoint> points, int caches) {
  const auto [least, most] = std::minmax_element(points.begin(), points.end(), [](const StepPoint& a, const StepPoint& b) { return a.bytes < b.bytes; });
  const double memory = most->bytes / most->seconds;
  std::vector<StepModel> list;
  for (const double capacity : {5e6, 3e7, 1.2e8}) {
    for (const double full : {0.2, 2.0}) {
      StepModel model{least->seconds, full * least->seconds, 1e6, 1.5, {}, memory};
      if (caches == 2) model.caches.push_back({6.0 * memory, 4e6, 2.0});
      model.caches.push_back({(caches == 2 ? 3.0 : 5.0) * memory, capacity, 4.0});
      list.push_back(model);
    }
  }
  return list;
}

/// Fits from every start and keeps the best. `model_at(logs, i)` is the prediction of point i, `measured(i)` the value. A weak
/// pull towards the start (0.003 per factor of e) settles parameters that the points say nothing about.
template <class Predicted, class Measured>
LeastSquaresFit best_fit(const std::vector<std::vector<double>>& log_starts, std::size_t count, Predicted predicted, Measured measured) {
  std::optional<LeastSquaresFit> best;
  for (const std::vector<double>& start : log_starts) {
    const Residuals residuals = [&](const std::vector<double>& logs, std::vector<double>& out) {
      out.clear();
      predicted(logs, out);
      for (std::size_t i = 0; i < count; ++i) out[i] = std::log(out[i] / measured(i));
      for (std::size_t i = 0; i < logs.size(); ++i) out.push_back(0.003 * (logs[i] - start[i]));
    };
    LeastSquaresFit fit = minimise(residuals, start, kRobustScale, kIterations);
    if (!best || fit.cost < best->cost) best = std::move(fit);
  }
  return *best;
}

template <class Point>
Status check(std::span<const Point> points, std::size_t parameters, double Point::*x, double Point::*y) {
  if (points.size() < parameters) {
    return invalid_argument("a fit of " + std::to_string(parameters) + " parameters needs as many points (got " + std::to_string(points.size()) + ")");
  }
  for (const Point& point : points) {
    if (!(point.*x > 0.0 && point.*y > 0.0 && std::isfinite(point.*x) && std::isfinite(point.*y))) {
      return invalid_argument("points of a fit must be positive and finite");
    }
  }
  return {};
}

}  // namespace

double step_time_s(const StepModel& model, double bytes) {
  const double fill = std::pow(bytes / model.fill_bytes, model.fill_steepness);
  double seconds = model.empty_s + (std::isinf(fill) ? model.full_s : model.full_s * fill / (1.0 + fill));
  double inner = 0;  // share of the bytes that an inner cache has answered for
  for (const CacheModel& cache : model.caches) {
    const double share = std::max(inner, hit_share(cache, bytes));
    seconds += bytes * (share - inner) / cache.Bps;
    inner = share;
  }
  return seconds + bytes * (1.0 - inner) / model.memory_Bps;
}

Result<StepModel> fit_steps(std::span<const StepPoint> points, int caches) {
  if (caches != 1 && caches != 2) return invalid_argument("fit_steps: caches must be 1 or 2 (got " + std::to_string(caches) + ")");
  if (Status status = check(points, 5 + 3 * static_cast<std::size_t>(caches), &StepPoint::bytes, &StepPoint::seconds); !status.ok()) return status;
  std::vector<std::vector<double>> log_starts;
  for (const StepModel& start : starts(points, caches)) log_starts.push_back(logs_of(start));
  const LeastSquaresFit fit = best_fit(
      log_starts, points.size(),
      [&](const std::vector<double>& logs, std::vector<double>& out) {
        const StepModel model = steps_from(logs);
        for (const StepPoint& point : points) out.push_back(step_time_s(model, point.bytes));
      },
      [&](std::size_t i) { return points[i].seconds; });
  return steps_from(fit.log_parameters);
}

double saturated_Bps(const SaturationModel& model, double inflight) {
  return saturating(inflight, model.latency_s, model.full_Bps, model.sharpness);
}

Result<SaturationModel> fit_saturation(std::span<const SaturationPoint> points) {
  if (Status status = check(points, 3, &SaturationPoint::inflight, &SaturationPoint::Bps); !status.ok()) return status;
  double steepest = 0, full = 0;
  for (const SaturationPoint& point : points) {
    steepest = std::max(steepest, point.Bps / point.inflight);
    full = std::max(full, point.Bps);
  }
  const auto model_from = [](const std::vector<double>& logs) {
    return SaturationModel{std::exp(logs[0]), std::exp(logs[1]), std::exp(std::min(logs[2], 4.0))};
  };
  const LeastSquaresFit fit = best_fit(
      {{-std::log(steepest), std::log(full), std::log(2.0)}, {-std::log(steepest), std::log(1.5 * full), std::log(6.0)}}, points.size(),
      [&](const std::vector<double>& logs, std::vector<double>& out) {
        for (const SaturationPoint& point : points) out.push_back(saturated_Bps(model_from(logs), point.inflight));
      },
      [&](std::size_t i) { return points[i].Bps; });
  return model_from(fit.log_parameters);
}

double footprint_Bps(const FootprintModel& model, double bytes) {
  const double share = hit_share(model.cache, bytes);
  return 1.0 / (share / model.cache.Bps + (1.0 - share) / model.memory_Bps);
}

Result<FootprintModel> fit_footprint(std::span<const FootprintPoint> points) {
  if (Status status = check(points, 4, &FootprintPoint::bytes, &FootprintPoint::Bps); !status.ok()) return status;
  const auto [low, high] = std::minmax_element(points.begin(), points.end(), [](const FootprintPoint& a, const FootprintPoint& b) { return a.Bps < b.Bps; });
  const auto model_from = [](const std::vector<double>& logs) {
    return FootprintModel{{std::exp(logs[0]), std::exp(logs[1]), std::exp(logs[2])}, std::exp(logs[3])};
  };
  std::vector<std::vector<double>> log_starts;
  for (const double capacity : {1e7, 4e7, 1e8}) log_starts.push_back({std::log(high->Bps), std::log(capacity), std::log(4.0), std::log(low->Bps)});
  const LeastSquaresFit fit = best_fit(
      log_starts, points.size(),
      [&](const std::vector<double>& logs, std::vector<double>& out) {
        for (const FootprintPoint& point : points) out.push_back(footprint_Bps(model_from(logs), point.bytes));
      },
      [&](std::size_t i) { return points[i].Bps; });
  return model_from(fit.log_parameters);
}

ErrorSummary summarise_errors(std::span<const double> predicted, std::span<const double> measured) {
  ErrorSummary summary;
  std::vector<double> errors;
  for (std::size_t i = 0; i < std::min(predicted.size(), measured.size()); ++i) {
    const double error = std::abs(predicted[i] / measured[i] - 1.0);
    errors.push_back(std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
    if (errors.back() > summary.worst) summary.worst = errors.back(), summary.worst_index = i;
  }
  summary.points = errors.size();
  if (errors.empty()) return summary;
  std::sort(errors.begin(), errors.end());
  const auto at = [&](double share) { return errors[std::min(errors.size() - 1, static_cast<std::size_t>(share * static_cast<double>(errors.size())))]; };
  summary.median = at(0.5);
  summary.p95 = at(0.95);
  return summary;
}

}  // namespace signsplit::sim
