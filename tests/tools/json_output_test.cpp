// The JSON and the text that the command prints.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "command_runner.hpp"
#include "scratch_directory.hpp"
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
                                         "measured_p10_s", "measured_p90_s", "roofline_s", "roofline_launch_s"});
  CHECK(keys(json["summary"]) == Names{"points", "groups", "decided", "decision_accuracy", "abstain_rate", "mape", "p95_ape", "bias",
                                       "gap_median_abs_s", "coverage_90", "any_two_schedules", "regret_mean", "regret_worst",
                                       "strategies", "naive", "without_probe", "same_run_bandwidth", "repeated_measurements"});
  CHECK(json["summary"]["without_probe"].size() + 3 == json["summary"].size());  // the same keys
  CHECK(keys(json["summary"]["same_run_bandwidth"]) == Names{"mape", "p95_ape", "bias", "coverage_90"});
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
