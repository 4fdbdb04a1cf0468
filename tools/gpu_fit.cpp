// signsplit gpu-fit: fits the GPU model to half of published measurements, predicts the other half, and says how wrong it is.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <memory>

#include "tools/command.hpp"
#include "tools/gnuplot.hpp"
#include "tools/json_output.hpp"
#include "tools/published_points.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

constexpr double kMedianLimit = 0.05, kP95Limit = 0.12;

struct FitOptions {
  std::string data, plots;
};

/// How points are dealt to the two halves: every other one, or blocks of eight, so that a point's neighbours are left out too.
constexpr std::size_t kInterleaved = 1, kBlocks = 8;

template <class Point>
std::vector<Point> half(const std::vector<Point>& points, std::size_t block, bool fitted) {
  std::vector<Point> chosen;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if ((i / block % 2 == 0) == fitted) chosen.push_back(points[i]);
  }
  return chosen;
}

/// The errors of a model on points that it has not seen.
template <class Point>
sim::ErrorSummary errors_on(const std::vector<Point>& points, double Point::*x, double Point::*y, const std::function<double(double)>& predicted) {
  std::vector<double> a, b;
  for (const Point& point : points) a.push_back(predicted(point.*x)), b.push_back(point.*y);
  return sim::summarise_errors(a, b);
}

Json errors_json(const sim::ErrorSummary& errors) {
  return {{"points", errors.points}, {"median", errors.median}, {"p95", errors.p95}, {"worst", errors.worst}};
}

struct StepResult {
  const StepSeries* series;
  sim::StepModel model;
  sim::ErrorSummary errors, block_errors;
  double worst_bytes = 0;
  [[nodiscard]] bool met() const { return errors.median <= kMedianLimit && errors.p95 <= kP95Limit; }
};

/// The RX 6900 XT has two caches that a step can live in, 4 MB and 128 MB; the others one.
int caches_of(const std::string& gpu) { return gpu == "rx6900xt" ? 2 : 1; }

Result<StepResult> fit_series(const StepSeries& series) {
  StepResult result{&series, {}, {}, {}, 0};
  for (const std::size_t block : {kBlocks, kInterleaved}) {
    const Result<sim::StepModel> model = sim::fit_steps(half(series.points, block, true), caches_of(series.gpu));
    if (!model) return model.status();
    const std::vector<sim::StepPoint> unseen = half(series.points, block, false);
    const sim::ErrorSummary errors =
        errors_on(unseen, &sim::StepPoint::bytes, &sim::StepPoint::seconds, [&](double bytes) { return sim::step_time_s(*model, bytes); });
    (block == kBlocks ? result.block_errors : result.errors) = errors;
    result.model = *model;
    if (errors.points > 0) result.worst_bytes = unseen[errors.worst_index].bytes;
  }
  return result;
}

Json step_json(const StepResult& result) {
  Json caches = Json::array();
  for (const sim::CacheModel& cache : result.model.caches) {
    caches.push_back({{"Bps", cache.Bps}, {"capacity_bytes", cache.capacity_bytes}, {"sharpness", cache.sharpness}});
  }
  return {{"gpu", result.series->gpu}, {"mode", result.series->mode}, {"fitted_points", result.series->points.size() - result.errors.points},
          {"errors", errors_json(result.errors)}, {"worst_bytes", result.worst_bytes}, {"errors_in_blocks", errors_json(result.block_errors)},
          {"met", result.met()},
          {"model", {{"empty_s", result.model.empty_s}, {"full_s", result.model.full_s}, {"fill_bytes", result.model.fill_bytes},
                     {"fill_steepness", result.model.fill_steepness}, {"caches", std::move(caches)}, {"memory_Bps", result.model.memory_Bps}}}};
}

void print_steps(const std::vector<StepResult>& results, const Context& context) {
  context.print("Steps: half of the points fitted, errors on the other half. Limits: median {}, p95 {}.\n"
                "In blocks: eight neighbours at a time left out.\n\n", percent_text(kMedianLimit), percent_text(kP95Limit));
  context.print("{:<10} {:<15} {:>6} {:>8} {:>8} {:>8} {:>10}  {:>8} {:>8}  {}\n", "GPU", "mode", "points", "median", "p95", "worst", "at",
                "blocks", "p95", "");
  for (const StepResult& r : results) {
    context.print("{:<10} {:<15} {:>6} {:>8} {:>8} {:>8} {:>10}  {:>8} {:>8}  {}\n", r.series->gpu, r.series->mode, r.errors.points,
                  percent_text(r.errors.median), percent_text(r.errors.p95), percent_text(r.errors.worst), bytes_text(r.worst_bytes),
                  percent_text(r.block_errors.median), percent_text(r.block_errors.p95), r.met() ? "" : "MISSED");
  }
  context.print("\n{:<10} {:<15} {:>9} {:>9} {:>10} {:>11} {:>10} {:>11}\n", "GPU", "mode", "empty", "full", "filled at", "cache", "holds", "memory");
  for (const StepResult& r : results) {
    for (const sim::CacheModel& cache : r.model.caches) {
      context.print("{:<10} {:<15} {:>9} {:>9} {:>10} {:>11} {:>10} {:>11}\n", r.series->gpu, r.series->mode, time_text(r.model.empty_s),
                    time_text(r.model.full_s), bytes_text(r.model.fill_bytes), rate_text(cache.Bps), bytes_text(cache.capacity_bytes),
                    rate_text(r.model.memory_Bps));
    }
  }
}

Result<Json> fit_curves(const PublishedPoints& points, const Context& context) {
  Json list = Json::array();
  context.print("\nBandwidth against bytes in flight, and against footprint: every other point fitted, errors on the others\n\n");
  context.print("{:<10} {:<10} {:>6} {:>8} {:>8} {:>8}  {}\n", "GPU", "curve", "points", "median", "p95", "worst", "model");
  const auto report = [&](const std::string& gpu, const char* curve, const sim::ErrorSummary& errors, const std::string& text, Json model) {
    context.print("{:<10} {:<10} {:>6} {:>8} {:>8} {:>8}  {}\n", gpu, curve, errors.points, percent_text(errors.median),
                  percent_text(errors.p95), percent_text(errors.worst), text);
    list.push_back({{"gpu", gpu}, {"curve", curve}, {"errors", errors_json(errors)}, {"model", std::move(model)}});
  };
  for (const auto& [gpu, all] : points.reads_in_flight) {
    const Result<sim::SaturationModel> model = sim::fit_saturation(half(all, kInterleaved, true));
    if (!model) return model.status();
    const auto errors = errors_on(half(all, kInterleaved, false), &sim::SaturationPoint::inflight, &sim::SaturationPoint::Bps,
                                  [&](double bytes) { return sim::saturated_Bps(*model, bytes); });
    report(gpu, "in flight", errors, fmt::format("latency {}, {} at most, sharpness {:.1f}", time_text(model->latency_s), rate_text(model->full_Bps), model->sharpness),
           {{"latency_s", model->latency_s}, {"full_Bps", model->full_Bps}, {"sharpness", model->sharpness}});
  }
  for (const auto& [gpu, all] : points.footprints) {
    const Result<sim::FootprintModel> model = sim::fit_footprint(half(all, kInterleaved, true));
    if (!model) return model.status();
    const auto errors = errors_on(half(all, kInterleaved, false), &sim::FootprintPoint::bytes, &sim::FootprintPoint::Bps,
                                  [&](double bytes) { return sim::footprint_Bps(*model, bytes); });
    report(gpu, "footprint", errors, fmt::format("{} up to {}, then {}", rate_text(model->cache.Bps), bytes_text(model->cache.capacity_bytes), rate_text(model->memory_Bps)),
           {{"cache_Bps", model->cache.Bps}, {"capacity_bytes", model->cache.capacity_bytes}, {"sharpness", model->cache.sharpness}, {"memory_Bps", model->memory_Bps}});
  }
  return list;
}

Json compare_pairs(const std::vector<FusedPair>& pairs, const Context& context) {
  Json list = Json::array();
  context.print("\nPublished pairs, not fused and fused (elementwise fusion): the gain measured, and the gain another simulator predicted\n\n");
  context.print("{:<12} {:>5} {:<10} {:>9} {:>9} {:>11} {:>11}  {}\n", "model", "batch", "GPU", "gain", "predicted", "total off by", "gain off by", "gain as launches of 2.5 us");
  for (const FusedPair& p : pairs) {
    const double gain = p.measured_unfused_ms - p.measured_fused_ms, predicted = p.predicted_unfused_ms - p.predicted_fused_ms;
    const double total_error = p.predicted_fused_ms / p.measured_fused_ms - 1.0, gain_error = predicted / gain - 1.0;
    context.print("{:<12} {:>5} {:<10} {:>6.1f} ms {:>6.1f} ms {:>10.0f} % {:>9.0f} %  {:>8.0f}\n", p.model, p.batch, p.gpu, gain, predicted,
                  100.0 * total_error, 100.0 * gain_error, gain / 2.5e-3);
    list.push_back({{"model", p.model}, {"batch", p.batch}, {"gpu", p.gpu}, {"gain_ms", gain}, {"predicted_gain_ms", predicted},
                    {"total_error", total_error}, {"gain_error", gain_error}});
  }
  return list;
}

/// Signed errors of the points left out, against the bytes of a step: one picture per GPU.
std::string error_plot(const std::string& gpu, const std::vector<StepResult>& results) {
  std::string data, plot;
  int block = 0;
  for (const StepResult& r : results) {
    if (r.series->gpu != gpu) continue;
    data += fmt::format("$d{} << E\n", block);
    for (const sim::StepPoint& point : half(r.series->points, kInterleaved, false)) {
      data += fmt::format("{:.0f} {:.3f}\n", point.bytes, 100.0 * (sim::step_time_s(r.model, point.bytes) / point.seconds - 1.0));
    }
    data += "E\n";
    std::string title = r.series->mode;
    std::replace(title.begin(), title.end(), '_', ' ');
    plot += fmt::format("{}$d{} using 1:2 with points pt {} ps 0.4 title '{}'", block == 0 ? "plot " : ", ", block, 5 + 2 * block, title);
    ++block;
  }
  return fmt::format("set terminal svg size 640,260 font 'sans,11' background 'white'\nset logscale x\nset format x '10^{{%T}}'\nset yrange [-25:25]\nset grid\n"
                     "set key outside right\nset xlabel 'bytes per step'\nset ylabel 'predicted / measured - 1, %'\nset title '{}, points not fitted' noenhanced\n{}{}\n",
                     gpu, data, plot);
}

Status write_plots(const std::string& folder, const std::vector<StepResult>& results) {
  std::string last;
  for (const StepResult& result : results) {
    const std::string& gpu = result.series->gpu;
    if (gpu == last) continue;
    last = gpu;
    const Result<std::string> svg = run_gnuplot("gnuplot", error_plot(gpu, results));
    if (!svg) return svg.status();
    const std::string file = fmt::format("{}/errors-{}.svg", folder, gpu);
    std::ofstream stream(file, std::ios::binary);
    stream << *svg;
    if (!stream.flush()) return io_error(fmt::format("{}: cannot be written", file));
  }
  return {};
}

Result<ExitCode> fit(const FitOptions& options, const Context& context) {
  const Result<PublishedPoints> points = read_published(options.data);
  if (!points) return points.status();
  std::vector<StepResult> results;
  bool all_met = true;
  Json steps = Json::array();
  for (const StepSeries& series : points->steps) {
    Result<StepResult> result = fit_series(series);
    if (!result) return result.status();
    all_met = all_met && result->met();
    steps.push_back(step_json(*result));
    results.push_back(std::move(*result));
  }
  print_steps(results, context);
  Result<Json> curves = fit_curves(*points, context);
  if (!curves) return curves.status();
  Json pairs = compare_pairs(points->pairs, context);
  if (!options.plots.empty()) {
    if (const Status status = write_plots(options.plots, results); !status) return status;
  }
  const Json document = {{"steps", std::move(steps)}, {"curves", std::move(*curves)}, {"fused_pairs", std::move(pairs)}, {"limits_met", all_met}};
  if (const Status status = write_json(context, document); !status) return status;
  return all_met ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

void add_gpu_fit(CLI::App& app, Context& context) {
  auto options = std::make_shared<FitOptions>();
  CLI::App& command = add_command(
      app, "gpu-fit", "Fit the GPU model to half of published measurements, and predict the other half",
      "DIR holds gpu_small_steps.csv, gpu_stream_vs_occupancy.csv, gpu_read_vs_footprint.csv and fused_pairs.csv (docs/gpu-model.md).\n"
      "Exit status 1 when a GPU in a mode misses the limits, 5 % median and 12 % at the 95th percentile.\n\n"
      "Examples:\n"
      "  signsplit gpu-fit --data published\n"
      "  signsplit gpu-fit --data published --plots docs/gpu --json fit.json");
  command.add_option("--data", options->data, "Folder of the tables")->type_name("DIR")->required();
  command.add_option("--plots", options->plots, "Folder for SVG plots of the errors (needs gnuplot)")->type_name("DIR");
  add_json_option(command, context);
  on_run(command, context, [options, &context] { return fit(*options, context); });
}

}  // namespace signsplit::tools
