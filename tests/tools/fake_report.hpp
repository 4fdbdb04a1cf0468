// A report with made-up numbers: two cases that ran, one of them cold, and everything a page can show.
#pragma once

#include <cmath>
#include <string>

#include "tools/report_data.hpp"

namespace signsplit::test {

using namespace signsplit::tools;

inline sim::Quantity quantity(double value, sim::Kind kind = sim::Kind::measured) {
  return {value, "1", kind, "signsplit calibrate, 2 threads", 0.03 * value};
}

inline sim::Machine fake_machine() {
  sim::Machine machine;
  machine.name = "host";
  machine.title = "Imaginary Nine 9009 with 2 cores";
  machine.date = "2026-03-01";
  machine.units = machine.threads = 2;
  machine.isa = "avx512";
  machine.clock_hz = quantity(3.7e9, sim::Kind::datasheet);
  machine.levels = {{"L1d", quantity(48 * 1024.0, sim::Kind::datasheet), 1, 64},
                    {"L2", quantity(1024 * 1024.0, sim::Kind::datasheet), 1, 64},
                    {"L3", quantity(32 * 1024 * 1024.0, sim::Kind::datasheet), 2, 64}};
  for (const int threads : {1, 2}) {
    for (double bytes = 16 * 1024; bytes <= 512.0 * 1024 * 1024; bytes *= 2) {
      const double speed = bytes <= 48 * 1024.0 ? 320e9 : bytes <= 1e6 ? 190e9 : bytes <= 3.2e7 ? 118e9 : 41e9 / threads + 2e9;
      machine.read_bandwidth.push_back({bytes, threads, speed * threads, 0.04 * speed});
    }
  }
  machine.read_bandwidth_kind = sim::Kind::measured;
  machine.read_bandwidth_source = "signsplit calibrate, read probe";
  machine.barrier_s = {{1, quantity(12e-9)}, {2, quantity(310e-9)}};
  machine.fork_join_s = {{1, quantity(80e-9)}, {2, quantity(1.34e-6)}};
  machine.rates = {{"avx512", "fma_f32", quantity(118e9)}, {"avx512", "up_bf16", quantity(31.2e9)}, {"scalar", "up_bf16", quantity(1e9)}};
  return machine;
}

/// Multiples of the time of unfused, so that every schedule has a place of its own.
inline double fake_factor(const Plan& plan) {
  double factor = plan.strategy == Strategy::unfused ? 1.0 : plan.strategy == Strategy::row_fused ? 0.96 : 1.31;
  if (plan.strategy == Strategy::sign_split) {
    factor += 0.13 * static_cast<double>(plan.variant) + 0.21 * static_cast<double>(plan.repair);
  }
  return plan.skip ? factor * 0.61 : factor;
}

inline CaseResult fake_case(const Plan& plan, double unfused_s, const Problem& problem) {
  CaseResult result;
  result.plan = plan;
  result.label = label(plan);
  result.median_s = unfused_s * fake_factor(plan);
  result.p10_s = result.median_s * 0.97;
  result.p90_s = result.median_s * 1.06;
  result.samples = 41;
  result.statistics.bytes_up = static_cast<std::uint64_t>(problem.d_ff * problem.d_model * 2);
  result.statistics.bytes_down = plan.skip ? result.statistics.bytes_up / 10 : result.statistics.bytes_up;
  result.statistics.bytes_x = 4096;
  result.statistics.bytes_y = 65536;
  result.bytes = weight_bytes(result.statistics);
  result.same_bits_as_row_fused = plan.strategy != Strategy::sign_split;
  result.max_ulp = 37;
  return result;
}

inline ValidationGroup fake_group(index_t d_model, index_t d_ff, sim::Residency residency, double unfused_s, double bias) {
  ValidationGroup group;
  group.request = {{.d_model = d_model, .d_ff = d_ff}, 0.1, residency};
  group.name = group_name(group.request);
  group.plans = default_plans(group.request.problem, false);
  for (const Plan& plan : group.plans) {
    const CaseResult result = fake_case(plan, unfused_s, group.request.problem);
    // A wobble of the predictions that is the same in every run.
    const double time = result.median_s * (bias + 0.05 * std::sin(7.0 * fake_factor(plan)));
    group.predictions.push_back({result.label, is_fused(plan), {time, time * 0.9, time * 1.12, {}, result.statistics}});
    group.measured.cases.push_back(result);
  }
  group.decision = sim::Decision{"row_fused+skip", "unfused+skip", unfused_s * 0.03, unfused_s * 0.008, sim::Verdict::fuse};
  CaseResult vendor;
  vendor.label = "onednn";
  vendor.median_s = unfused_s * 1.08, vendor.p10_s = unfused_s * 1.05, vendor.p90_s = unfused_s * 1.2;
  vendor.samples = 41;
  group.measured.cases.push_back(vendor);
  group.measured.read_bandwidth_Bps = 44.7e9;
  group.measured.huge_pages = true;
  return group;
}

inline RealLayer fake_real_layer() {
  RealLayer layer{"layer0-relu.safetensors", "layer0-x.npy", "512x2048 bf16 relu, batch 1", 16, 0.0998, 3.14, {}};
  for (const Plan& plan : default_plans({.d_model = 512, .d_ff = 2048})) {
    RealLayerCase result;
    result.plan = plan;
    result.label = label(plan);
    result.median_s = 31e-6 * fake_factor(plan);
    result.prediction = sim::Prediction{result.median_s * 1.04, result.median_s * 0.9, result.median_s * 1.2, {}, {}};
    result.same_bits_as_row_fused = plan.strategy != Strategy::sign_split;
    result.max_ulp = plan.variant == Variant::ignore ? 2'000'000'123 : 41;
    result.worst_error = 1.2e-6;
    result.worst_bound_fraction = 0.013;
    result.within_bound = result.active_set_exact = true;
    result.statistics.repaired = plan.repair == Repair::none ? 0 : 8191;
    result.statistics.rechecked = 3;
    layer.cases.push_back(result);
  }
  return layer;
}

inline void add_points(ValidationRun& run) {
  for (const ValidationGroup& group : run.groups) {
    for (std::size_t i = 0; i < group.predictions.size(); ++i) {
      const sim::Prediction& p = group.predictions[i].prediction;
      const CaseResult& m = group.measured.cases[i];
      run.points.push_back({group.name, m.label, group.predictions[i].fused, p.time_s, p.low_s, p.high_s, p.time_s * 1.3,
                            p.time_s * 1.4, m.median_s, m.p10_s, m.p90_s});
    }
  }
}

inline ReportData fake_report() {
  ReportData data;
  data.version = "0.1.0";
  data.command = "signsplit report --out report";
  data.started = "2026-03-01T10:00:00Z";
  data.finished = "2026-03-01T10:03:12Z";
  data.duration_s = 192;
  data.threads = 2;
  data.isa = "avx512";
  data.environment = {{"System", "Linux 6.1"}, {"Compiler", "gcc 12.2"}, {"oneDNN", "2.6.3"}};
  data.machine_origin = "calibrated in this run";
  data.predictions_file = "predictions.json";
  data.predictions_written = "2026-03-01T10:00:58Z";
  data.predictions_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  data.machine = fake_machine();
  data.run.groups = {fake_group(2048, 8192, sim::Residency::cold, 1.52e-3, 1.0),
                     fake_group(768, 3072, sim::Residency::cold, 233e-6, 0.93),
                     fake_group(768, 3072, sim::Residency::warm, 57e-6, 1.1),
                     fake_group(512, 2048, sim::Residency::warm, 31e-6, 1.04)};
  data.run.groups[2].decision->verdict = sim::Verdict::too_close;
  data.run.groups[3].decision->verdict = sim::Verdict::keep_unfused;
  add_points(data.run);
  data.run.problems = {"2048x5632 bf16 reglu, batch 1, active 10.0 %, cold: not enough memory"};
  sim::ValidationSummary& summary = data.run.summary;
  summary.points = static_cast<int>(data.run.points.size());
  summary.groups = summary.decided = 4;
  summary.decision_accuracy = 0.667, summary.abstain_rate = 0.25;
  summary.mape = 0.087, summary.p95_ape = 0.21, summary.gap_median_abs_s = 4.1e-6, summary.coverage_90 = 0.875;
  summary.naive.roofline = summary.naive.roofline_launch = {0, 1};
  summary.naive.always_fuse = {1, 0}, summary.naive.never_fuse = {0, 0};
  summary.naive.roofline_mape = 0.341, summary.naive.roofline_launch_mape = 0.298;
  for (const ValidationGroup& group : data.run.groups) {
    for (const CaseResult& result : group.measured.cases) {
      if (result.plan) data.bytes.push_back({group.name, result.label, result.statistics, result.statistics, result.statistics});
    }
  }
  data.real_layer = fake_real_layer();
  data.no_gpu = "this build has no CUDA";
  return data;
}

}  // namespace signsplit::test
