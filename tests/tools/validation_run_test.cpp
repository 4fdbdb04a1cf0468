// The order of a validation: predictions are on disk before the first measurement; then both are joined.
#include <doctest/doctest.h>

#include <cmath>

#include "command_runner.hpp"
#include "scratch_directory.hpp"
#include "signsplit/sim/calibrate.hpp"
#include "tools/trial.hpp"
#include "tools/turns.hpp"
#include "tools/validation_run.hpp"

using namespace signsplit;
using namespace signsplit::tools;
using signsplit::test::read_text;
using signsplit::test::ScratchDirectory;

namespace {

const sim::ValidationCase kSmall{.problem = {.d_model = 96, .d_ff = 160}, .active = 0.3, .residency = sim::Residency::warm};

ValidationOptions short_options() {
  ValidationOptions options;
  options.measure.threads = 1;
  options.measure.budget_s = 0;
  options.measure.min_rounds = 1;
  return options;
}

}  // namespace

TEST_CASE("predictions are written before anything is measured, and are those that are scored") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch / "predictions.json";
  std::string written_before;
  const auto run = run_validation({&kSmall, 1}, sim::detect_host(), file, short_options(),
                                  [&](double fraction, const std::string&) {
                                    if (fraction == 0) written_before = read_text(file);
                                  });
  REQUIRE_MESSAGE(run.ok(), run.message());
  CHECK_FALSE(written_before.empty());
  CHECK(read_text(file) == written_before);
  const Json json = Json::parse(written_before);
  REQUIRE(json["groups"].size() == 1);
  const Json& cases = json["groups"][0]["cases"];
  REQUIRE(run->points.size() == default_plans(kSmall.problem, false).size());
  REQUIRE(cases.size() == run->points.size());
  for (std::size_t i = 0; i < run->points.size(); ++i) {
    CHECK(cases[i]["label"] == run->points[i].label);
    CHECK(cases[i]["time_s"] == run->points[i].predicted_s);
    CHECK(run->points[i].group == group_name(kSmall));
    CHECK(run->points[i].measured_s > 0);
    CHECK(run->points[i].terms.total() == run->points[i].predicted_s);
  }
  CHECK(run->problems.empty());
  CHECK(run->summary.points == static_cast<int>(run->points.size()));
}

namespace {

sim::Reading reading_with(double fork_join_s) {
  sim::Reading reading;
  reading.threads = 2;
  reading.isa = "scalar";
  reading.fork_join_s = fork_join_s;
  reading.barrier_s = 1e-7;
  reading.fma_per_s = 1e9;
  reading.read_bandwidth = {{1e9, 2, 5e9, 0}};
  return reading;
}

}  // namespace

TEST_CASE("with a probe a case is predicted for the machine as it is, on disk before it is timed, and again when it changed") {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch / "predictions.json";
  sim::Machine machine = sim::detect_host();
  machine.read_bandwidth = {{1e9, 1, 10e9, 0}, {1e9, 2, 10e9, 0}};
  machine.fork_join_s = {{1, {1e-6, "s", sim::Kind::measured, "by hand", 0}}, {2, {1e-6, "s", sim::Kind::measured, "by hand", 0}}};
  ValidationOptions options = short_options();
  options.measure.threads = 2;
  options.keep = scratch / "kept.json";
  const double forks[] = {1e-6, 3e-6};
  std::size_t asked = 0;
  options.probe.read = [&] {
    REQUIRE(asked < std::size(forks));
    // Before a measurement only what was predicted for those before it is on disk.
    CHECK(Json::parse(read_text(file))["groups"][0].value("as_of_now", Json::array()).size() == asked);
    return reading_with(forks[asked++]);
  };
  options.probe.still = [&](const sim::Reading& reading, bool with_memory) {  // while the first is measured it has changed
    CHECK_FALSE(with_memory);  // weights in a cache
    CHECK(reading.fork_join_s == forks[asked - 1]);
    return asked > 1;
  };
  const auto run = run_validation({&kSmall, 1}, machine, file, options);
  REQUIRE_MESSAGE(run.ok(), run.message());
  CHECK(asked == 2);
  CHECK(run->groups[0].repeats == 1);
  CHECK(run->groups[0].measured.turns_left_out == 0);
  CHECK(run->steadiness.repeated == 1);
  CHECK(run->steadiness.mostly_unsteady == 0);
  const Json written = Json::parse(read_text(file));
  const Json& now = written["groups"][0]["as_of_now"];
  REQUIRE(now.size() == 2);
  CHECK(now[1]["reading"]["fork_join_s"] == 3e-6);
  const sim::Machine then = sim::as_of_now(machine, reading_with(3e-6));
  REQUIRE(now[1]["cases"].size() == run->points.size());
  for (std::size_t i = 0; i < run->points.size(); ++i) {
    CHECK(now[1]["cases"][i]["time_s"] == run->points[i].predicted_s);
    CHECK(run->points[i].predicted_s == run->groups[0].predictions_now[i].prediction.time_s);
    CHECK(run->points[i].predicted_s > run->groups[0].predictions[i].prediction.time_s);  // main memory at half, forks at three times
    CHECK(written["groups"][0]["cases"][i]["time_s"] == run->groups[0].predictions[i].prediction.time_s);
  }
  const auto kept = read_measurements(options.keep);
  REQUIRE_MESSAGE(kept.ok(), kept.message());
  CHECK(kept->groups[0].repeats == 1);
  const auto points = replay(*kept, kept->machine), by_profile = replay(*kept, kept->machine, Knows::profile);
  for (std::size_t i = 0; i < points.size(); ++i) {
    CHECK(points[i].predicted_s == run->points[i].predicted_s);
    CHECK(by_profile[i].predicted_s == run->groups[0].predictions[i].prediction.time_s);
  }
  CHECK(run->summary.mape != run->profile_summary.mape);
  // Going on with it asks nothing again, and finds the same; and what all turns took, which is scored beside.
  Measurements slower = *kept;
  for (CaseResult& one : slower.groups[0].measured.cases) one.all_turns_median_s = 1e3 * one.median_s;
  REQUIRE(write_measurements(options.keep, slower).ok());
  options.probe.read = [] { return sim::Reading{}; };
  const auto again = run_validation({&kSmall, 1}, machine, file, options);
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(again->points.size() == run->points.size());
  CHECK(again->points[0].predicted_s == run->points[0].predicted_s);
  CHECK(again->summary.mape == run->summary.mape);
  CHECK(again->all_turns_summary.bias < again->summary.bias);
}

TEST_CASE("a machine that never is what it was is measured three times, and then as it is") {
  const ScratchDirectory scratch;
  sim::ValidationCase cold = kSmall;
  cold.residency = sim::Residency::cold;
  ValidationOptions options = short_options();
  int read = 0;
  options.probe.read = [&] {
    ++read;
    return reading_with(1e-6);
  };
  options.probe.still = [](const sim::Reading&, bool with_memory) { return !with_memory; };
  const auto run = run_validation({&cold, 1}, sim::detect_host(), scratch / "p.json", options);
  REQUIRE_MESSAGE(run.ok(), run.message());
  CHECK(read == 3);
  CHECK(run->steadiness.repeated == 2);
  CHECK(run->steadiness.mostly_unsteady == 1);
  CHECK(run->steadiness.turns_left_out == 1.0);
  CHECK(run->points.size() == run->groups[0].plans.size());
  CHECK(run->all_turns_summary.mape == run->summary.mape);
}

TEST_CASE("turns count between two answers that are yes, and measured times of all turns are kept beside") {
  std::vector<bool> answers{true, true, false, true, true};
  std::size_t asked = 0;
  Watch watch([&] { return answers.at(asked++); });
  Turns turns;
  for (int i = 0; i < 5; ++i) {
    watch.ask();
    if (i == 4) break;
    turns.add(4.0 - i, watch, static_cast<std::size_t>(2 * i));
    turns.add(14.0 - i, watch, static_cast<std::size_t>(2 * i + 1));
  }
  CHECK(turns.size() == 8);
  CHECK(turns.unsteady(watch) == 4);
  CHECK(turns.counted(watch) == std::vector<double>{1, 4, 11, 14});
  CHECK(turns.all() == std::vector<double>{1, 2, 3, 4, 11, 12, 13, 14});
  Turns last;  // nobody asked after them
  for (const double seconds : {3.0, 1.0, 2.0, 5.0}) last.add(seconds, watch, last.size());
  CHECK(last.unsteady(watch) == 4);
  CHECK(last.counted(watch) == std::vector<double>{1, 2, 3, 5});  // all, when fewer than three count
  const Watch nobody({});
  CHECK(turns.unsteady(nobody) == 0);
  CHECK(turns.counted(nobody) == turns.all());

  MeasuredGroup group{.request = kSmall, .measured = {}};
  CaseResult one;
  one.plan = default_plan(kSmall.problem, Strategy::row_fused);
  one.label = label(*one.plan);
  one.median_s = one.p10_s = one.p90_s = 2e-6;
  one.all_turns_median_s = 3e-6;
  one.paired_s = 2.1e-6;
  one.paired_ci90_s = 1e-7;
  group.measured.cases = {one};
  group.measured.turns_left_out = 0.25;
  const Measurements kept{"quick", "today", "scalar", 1, sim::detect_host(), {group}};
  const ScratchDirectory scratch;
  REQUIRE(write_measurements(scratch / "m.json", kept).ok());
  const auto read = read_measurements(scratch / "m.json");
  REQUIRE_MESSAGE(read.ok(), read.message());
  CHECK(read->groups[0].measured.turns_left_out == 0.25);
  CHECK(replay(*read, read->machine)[0].measured_s == 2e-6);
  CHECK(replay(*read, read->machine)[0].paired_s == 2.1e-6);
  CHECK(replay(*read, read->machine)[0].paired_ci90_s == 1e-7);
  CHECK(replay(*read, read->machine, Knows::reading, TurnsOf::all)[0].measured_s == 3e-6);
}

TEST_CASE("medians beside each other are without what a whole round took, and their interval is one of order statistics") {
  const Watch nobody({});
  const double level[] = {1, 4, 1, 2, 1, 8, 1};  // how slow the machine was
  Turns a, b, c, few;
  for (std::size_t round = 0; round < 7; ++round) {
    a.add(10 * level[round], nobody, round);
    b.add(20 * level[round], nobody, round);
    if (round % 2 == 1) c.add(30 * level[round], nobody, round);  // only while it was slow
    if (round < 2) few.add(5, nobody, round);
  }
  const Turns* const cases[] = {&a, &b, &c, &few};
  const auto paired = paired_medians(cases, nobody);
  REQUIRE(paired.size() == 4);
  CHECK(paired[0].seconds == 10);
  CHECK(paired[1].seconds == 20);
  CHECK(paired[0].ci90_s == 0);
  // By itself c has the median 120, at a level of 4. The round at level 2 takes 0.5 of that and twice the others' medians: the level of all
  // three is 2; and so on.
  CHECK(paired[2].seconds == 30);
  CHECK(paired[3].seconds == 0);  // two turns
  CHECK(paired[3].ci90_s == 0);

  Turns alone;  // every round is as fast as its only case: nothing is left but the median
  for (const double seconds : {5.0, 1.0, 9.0}) alone.add(seconds, nobody, alone.size());
  const Turns* const one[] = {&alone};
  CHECK(paired_medians(one, nobody)[0].seconds == 5);
  Turns noisy, calm, calm_too;
  for (std::size_t round = 0; round < 16; ++round) {
    noisy.add(static_cast<double>((round * 7) % 16 + 1), nobody, round);  // 1 to 16
    calm.add(1, nobody, round);
    calm_too.add(1, nobody, round);
  }
  const Turns* const three[] = {&noisy, &calm, &calm_too};
  const auto medians = paired_medians(three, nobody);
  CHECK(medians[0].seconds == 8.5);
  CHECK(medians[0].ci90_s == 0.5 * (12 - 5));  // of 16 the fifth and the twelfth: 8 ∓ 0.8225·4 is 4.71
  CHECK(medians[1].ci90_s == 0);

  std::vector<bool> answers{true, true, false, false};
  std::size_t asked = 0;
  Watch watch([&] { return answers.at(asked++); });
  watch.ask();
  Turns half;
  for (std::size_t round = 0; round < 3; ++round) half.add(2, watch, round);
  watch.ask();
  for (std::size_t round = 3; round < 9; ++round) half.add(100, watch, round);  // the machine was another one
  watch.ask();
  watch.ask();
  const Turns* const these[] = {&half};
  CHECK(half.counted_in(1, watch) == 2);
  CHECK(half.counted_in(4, watch) == 0);
  CHECK(paired_medians(these, watch)[0].seconds == 2);
}

TEST_CASE("the bandwidth beside the schedules tells drift from model, for weights from main memory only") {
  MeasuredGroup group;
  group.request = kSmall;
  group.request.residency = sim::Residency::cold;
  group.measured.read_bandwidth_Bps = 2e9;
  group.reading = reading_with(1e-6);
  sim::Machine machine = sim::detect_host();
  machine.read_bandwidth = {{1e9, 2, 10e9, 0}};
  const auto memory = [&](Knows knows) { return machine_for(machine, group, knows).read_bandwidth.back().bytes_per_s; };
  CHECK(memory(Knows::profile) == 10e9);
  CHECK(std::abs(memory(Knows::reading) - 5e9) < 1.0);
  CHECK(std::abs(memory(Knows::same_run) - 2e9) < 1.0);
  group.request.residency = sim::Residency::warm;
  CHECK(std::abs(memory(Knows::same_run) - 5e9) < 1.0);
}

TEST_CASE("a shape of the calibration cannot validate") {
  REQUIRE_FALSE(sim::calibration_shapes().empty());
  sim::ValidationCase seen = kSmall;
  seen.problem.d_model = sim::calibration_shapes().front().first;
  seen.problem.d_ff = sim::calibration_shapes().front().second;
  const ScratchDirectory scratch;
  CHECK_FALSE(run_validation({&seen, 1}, sim::detect_host(), scratch / "p.json", short_options()).ok());
  CHECK_FALSE(std::filesystem::exists(scratch / "p.json"));
}

TEST_CASE("a run goes on where another stopped, keeps what was measured, and a replay finds the same points") {
  const ScratchDirectory scratch;
  sim::ValidationCase other = kSmall;
  other.active = 0.6;
  const sim::ValidationCase both[] = {kSmall, other};
  ValidationOptions options = short_options();
  options.keep = scratch / "kept.json";
  options.limit_s = 1e-9;
  const sim::Machine machine = sim::detect_host();
  const auto first = run_validation(both, machine, scratch / "p.json", options);
  REQUIRE_MESSAGE(first.ok(), first.message());
  CHECK(first->pending == 2);  // the limit was over before the first
  CHECK(first->points.empty());
  options.limit_s = 0;
  const auto one = run_validation({both, 1}, machine, scratch / "one.json", options);
  CHECK(one->pending == 0);
  std::filesystem::copy_file(scratch / "p.json", scratch / "q.json");
  const auto rest = run_validation(both, machine, scratch / "q.json", options);
  REQUIRE_MESSAGE(rest.ok(), rest.message());
  REQUIRE(rest->points.size() == 2 * one->points.size());
  for (std::size_t i = 0; i < one->points.size(); ++i) CHECK(rest->points[i].measured_s == one->points[i].measured_s);

  const auto kept = read_measurements(options.keep);
  REQUIRE_MESSAGE(kept.ok(), kept.message());
  const auto points = replay(*kept, kept->machine);
  REQUIRE(points.size() == rest->points.size());
  for (std::size_t i = 0; i < points.size(); ++i) {
    CHECK(points[i].group == rest->points[i].group);
    CHECK(points[i].label == rest->points[i].label);
    CHECK(points[i].predicted_s == rest->points[i].predicted_s);
    CHECK(points[i].measured_s == rest->points[i].measured_s);
    CHECK(points[i].candidate == rest->points[i].candidate);
  }
  sim::Machine faster = machine;
  for (sim::BandwidthPoint& point : faster.read_bandwidth) point.bytes_per_s *= 2;
  CHECK_FALSE(run_validation(both, faster, scratch / "q.json", options).ok());  // not the predictions that were written
  CHECK_FALSE(read_measurements(scratch / "p.json").ok());
}

TEST_CASE("nothing is measured when the predictions cannot be written") {
  const ScratchDirectory scratch;
  bool measured = false;
  const auto run = run_validation({&kSmall, 1}, sim::detect_host(), scratch / "no/such/p.json", short_options(),
                                  [&](double, const std::string&) { measured = true; });
  CHECK_FALSE(run.ok());
  CHECK_FALSE(measured);
}

TEST_CASE("a trial times the plan it was asked for") {
  const auto trial = trial_runner(cpu::Isa::scalar);
  const Problem& problem = kSmall.problem;
  sim::TrialRequest request{problem, {default_plan(problem, Strategy::row_fused), default_plan(problem, Strategy::unfused)}, 0.3,
                            sim::Residency::warm, 1, 0.0};
  const auto results = trial(request);
  REQUIRE_MESSAGE(results.ok(), results.message());
  REQUIRE(results->size() == 2);
  for (const sim::TrialResult& result : *results) {
    CHECK(result.median_s > 0);
    CHECK(result.p10_s <= result.median_s);
    CHECK(result.median_s <= result.p90_s);
    CHECK(result.statistics.bytes_up == static_cast<std::uint64_t>(weight_bytes(problem)) / 2);
  }
  CHECK(results->back().statistics.bytes_h > 0);
  request.plans.front().k_tile = 100;
  CHECK_FALSE(trial(request).ok());
}
