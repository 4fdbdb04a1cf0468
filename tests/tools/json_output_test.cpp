// The JSON and the text that the command prints.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "command_runner.hpp"
#include "scratch_directory.hpp"
#include "signsplit/npy.hpp"
#include "tools/activity_source.hpp"
#include "tools/analysis_json.hpp"
#include "tools/json_output.hpp"
#include "tools/prediction_json.hpp"
#include "tools/progress.hpp"
#include "tools/quantity_text.hpp"
#include "tools/validation_run.hpp"

using namespace signsplit;
using namespace signsplit::tools;
using signsplit::test::read_text;
using signsplit::test::ScratchDirectory;

namespace {

std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("every counter is printed under its own name") {
  Statistics statistics;
  std::uint64_t next = 0;
  for (const Counter& counter : kCounters) statistics.*counter.field = ++next;
  static_assert(sizeof(Statistics) == std::size(kCounters) * sizeof(std::uint64_t), "a counter is missing in kCounters");
  const Json json = statistics_json(statistics);
  CHECK(keys(json) == Names{"bytes_up", "bytes_gate", "bytes_down", "bytes_plane", "bytes_scales", "bytes_up_again",
                            "bytes_down_again", "bytes_x", "bytes_h", "bytes_y", "tiles", "active", "active_union",
                            "pushed_rows", "repaired", "redone", "rechecked", "certified", "refined"});
  std::uint64_t expected = 0;
  for (const auto& item : json.items()) CHECK(item.value() == ++expected);
}

TEST_CASE("a printed plan reads back") {
  const Plan plan = default_sign_split_plan({.d_model = 512, .d_ff = 2048}, Variant::streams, Repair::redo, true);
  const auto back = plan_from_json(plan_json(plan).dump());
  REQUIRE(back.ok());
  CHECK(*back == plan);
}

TEST_CASE("predictions and decisions have exactly the promised keys") {
  const Json prediction = prediction_json(Plan{}, sim::Prediction{});
  CHECK(keys(prediction) == Names{"strategy", "variant", "repair", "skip", "label", "time_s", "low_s", "high_s", "terms",
                                  "bytes"});
  CHECK(keys(decision_json(sim::Decision{})) == Names{"winner", "loser", "gap_s", "uncertainty_s", "verdict"});
  CHECK(decision_json(std::nullopt).is_null());
}

TEST_CASE("a validation has exactly the promised keys") {
  ValidationRun run;
  run.points.push_back({});
  const Json json = validation_json(run);
  CHECK(keys(json) == Names{"points", "summary"});
  CHECK(keys(json["points"][0]) == Names{"group", "label", "fused", "predicted_s", "low_s", "high_s", "measured_s",
                                         "measured_p10_s", "measured_p90_s", "paired_s", "paired_ci90_s", "roofline_s", "roofline_launch_s"});
  CHECK(keys(json["summary"]) == Names{"points", "groups", "decided", "decision_accuracy", "abstain_rate", "abstain_where_measurable", "mape", "p95_ape", "bias",
                                       "gap_median_abs_s", "coverage_90", "any_two_schedules", "regret_mean", "regret_worst",
                                       "strategies", "naive", "without_probe", "same_run_bandwidth", "all_turns", "steadiness"});
  CHECK(json["summary"]["without_probe"].size() + 4 == json["summary"].size());  // the same keys
  CHECK(keys(json["summary"]["same_run_bandwidth"]) == Names{"mape", "p95_ape", "bias", "coverage_90"});
  CHECK(keys(json["summary"]["all_turns"]) == Names{"mape", "p95_ape", "bias", "coverage_90"});
  CHECK(keys(json["summary"]["steadiness"]) == Names{"repeated_measurements", "mostly_unsteady", "turns_left_out"});
  CHECK(keys(json["summary"]["naive"]) == Names{"roofline", "roofline_launch", "always_fuse", "never_fuse", "roofline_any_two",
                                                "roofline_launch_any_two", "regret_row_fused_skip"});
}

TEST_CASE("JSON text is valid whatever is in it") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string text = json_text({{"nan", nan}, {"bytes", "\xff\n"}});
  CHECK(text.back() == '\n');
  CHECK(Json::parse(text)["nan"].is_null());
}

TEST_CASE("a JSON file is written whole, and none without --json") {
  const ScratchDirectory scratch;
  Context context;
  CHECK(write_json(context, {{"a", 1}}).ok());
  context.json_target = scratch / "result.json";
  REQUIRE(write_json(context, {{"a", 1}}).ok());
  CHECK(Json::parse(read_text(context.json_target)) == Json{{"a", 1}});
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) == 1);
  context.json_target = scratch / "no/such/result.json";
  CHECK_FALSE(write_json(context, {}).ok());
}

TEST_CASE("outputs that cannot be written are known beforehand") {
  const ScratchDirectory scratch;
  CHECK(check_output(scratch / "new.npy", "--output").ok());
  CHECK_FALSE(check_output(scratch / "no/such/new.npy", "--output").ok());
  CHECK_FALSE(check_output(scratch.path(), "--output").ok());
  CHECK_FALSE(check_output("/dev/null", "--output").ok());
  CHECK_FALSE(check_output("", "--output").ok());
  CHECK(check_output("plain-name.npy", "--output").ok());
}

TEST_CASE("messages stay on one line") { CHECK(one_line("a\nb\rc\td\x1b[2J µ") == "a?b?c?d?[2J µ"); }

TEST_CASE("quantities have the unit of their size") {
  CHECK(time_text(0) == "0 ns");
  CHECK(time_text(12.34e-9) == "12.3 ns");
  CHECK(time_text(999.9e-9) == "1.00 µs");
  CHECK(time_text(850.4e-6) == "850 µs");
  CHECK(time_text(5.678e-3) == "5.68 ms");
  CHECK(time_text(-2e-6) == "-2.00 µs");
  CHECK(time_text(61) == "61.0 s");
  CHECK(time_text(std::nan("")) == "?");
  CHECK(bytes_text(33554432) == "33.6 MB");
  CHECK(bytes_text(999) == "999 B");
  CHECK(rate_text(43.14e9) == "43.1 GB/s");
  CHECK(percent_text(0.1) == "10.0 %");
}

TEST_CASE("progress that is no terminal has a line for each new thing") {
  const ScratchDirectory scratch;
  std::FILE* file = std::fopen((scratch / "progress").c_str(), "w");
  {
    Progress progress("test", file);
    progress.update(0.0, "first");
    progress.update(0.25, "first");
    progress.update(0.5, "second");
    progress.update(7.0, "third");
  }
  std::fclose(file);
  CHECK(read_text(scratch / "progress") == "test:   0 %  first\ntest:  50 %  second\ntest: 100 %  third\n");
}

TEST_CASE("reports of activity come back from their JSON: every layer, every number under its own key") {
  std::vector<ActivityReport> written(2);
  Json document{{"layers", Json::array()}};
  double next = 0;
  const auto fraction = [&next] { return (next += 1) / 32; };
  for (ActivityReport& report : written) {
    report.units = 100 + static_cast<index_t>(next);
    report.tokens = 7 + static_cast<index_t>(next);
    report.active = fraction();
    for (const index_t group : {64, 128}) {
      PlaneRate plane{.bits = group == 64 ? 8 : 6, .group = group};
      plane.proven = fraction();
      plane.proven_of_dead = fraction();
      plane.false_survivors = fraction();
      plane.executed = fraction();
      report.planes.push_back(plane);
    }
    for (const index_t tiles : {2, 8}) report.crossings.push_back({tiles, fraction(), 1.0 + fraction()});
    document["layers"].push_back(activity_json(report));
  }
  const auto read = activity_from_json(document.dump());
  REQUIRE_MESSAGE(read.ok(), read.message());
  REQUIRE(read->size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    const ActivityReport &got = (*read)[i], &expected = written[i];
    CHECK(got.units == expected.units);
    CHECK(got.tokens == expected.tokens);
    CHECK(got.active == expected.active);
    REQUIRE(got.planes.size() == 2);
    REQUIRE(got.crossings.size() == 2);
    for (std::size_t k = 0; k < 2; ++k) {
      CHECK(got.planes[k].bits == expected.planes[k].bits);
      CHECK(got.planes[k].group == expected.planes[k].group);
      CHECK(got.planes[k].executed == expected.planes[k].executed);
      CHECK(got.crossings[k].k_tiles == expected.crossings[k].k_tiles);
      CHECK(got.crossings[k].wrong == expected.crossings[k].wrong);
      CHECK(got.crossings[k].pushed == expected.crossings[k].pushed);
    }
  }
  const auto refusal = [&](const auto& spoil) {
    Json bad = document;
    spoil(bad["layers"][1]);
    return activity_from_json(bad.dump()).message();
  };
  const auto says = [](const std::string& message, const char* what) { return message.find(what) != std::string::npos; };
  CHECK(says(refusal([](Json& layer) { layer["crossings"][1]["wrong"] = 1.5; }), "layers[1].crossings[1]: \"wrong\" must be from 0 to 1"));
  CHECK(says(refusal([](Json& layer) { layer["crossings"][0]["pushed"] = 2.5; }), "layers[1].crossings[0]: \"pushed\" must be from 0 to 2"));
  CHECK(says(refusal([](Json& layer) { layer["planes"][0]["bits"] = 9; }), "layers[1].planes[0]: \"bits\" must be from 2 to 8"));
  CHECK(says(refusal([](Json& layer) { layer["planes"] = 3; }), "layers[1]: \"planes\" must be an array"));
  CHECK(says(refusal([](Json& layer) { layer["tokens"] = 0; }), "layers[1]: \"tokens\" must be from 1"));
  CHECK(says(refusal([](Json& layer) { layer = 5; }), "layers[1]: must be an object"));
}

TEST_CASE("a recorded mask is of zeros and ones, has a token, and fits its FFN") {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "mask.npy").string();
  const auto read = [&](const std::vector<float>& values, index_t rows) {
    REQUIRE(write_npy(file, values, rows, 4).ok());
    return read_activity(file);
  };
  const auto mask = read({1, 0, 0, 1, 0, 0, 0, 1}, 2);
  REQUIRE_MESSAGE(mask.ok(), mask.message());
  CHECK(mask->active == 3.0 / 8.0);
  CHECK(mask->open_units(1) == std::vector<std::uint8_t>{1, 0, 0, 1});
  CHECK(read({1, 0, 0, 1, 0, 1, 0, 1}, 2)->open_units(2) == std::vector<std::uint8_t>{1, 1, 0, 1});
  const Problem fits{64, 4, 2, DType::f32, {}, false}, three{64, 4, 3, DType::f32, {}, false}, wide{64, 5, 1, DType::f32, {}, false};
  CHECK(mask->fits(fits).ok());
  CHECK(mask->fits(three).message() == "the mask has 2 tokens, a call 3");
  CHECK(mask->fits(wide).message() == "the mask has 4 columns, the FFN 5 hidden units");
  CHECK(mask->of(default_plan(fits, Strategy::row_fused, true), fits).active_union == 2.0 / 4.0);
  CHECK(read({1, 0, 0, 0.5f}, 1).message() == file + ": a mask is [tokens, units] of 0 and 1");
  CHECK(read({}, 0).message() == file + ": has no rows");
}
