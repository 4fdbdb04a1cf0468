// The built command from end to end: what it writes, and that what it writes is right.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"
#include "tools/vendor.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

Words keys(const Json& object) {
  Words names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

struct LayerFiles : ScratchDirectory {
  explicit LayerFiles(bool gated = false) {
    write_layer(*this, "layer.safetensors", gated);
    write_input(*this);
  }
};

/// Runs and returns the JSON that stdout holds, and nothing else.
Json run_json(const LayerFiles& scratch, const Words& more) {
  Words words{"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy", "--json", "-"};
  words.insert(words.end(), more.begin(), more.end());
  const CommandResult result = run_signsplit(scratch.path(), words);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  return Json::parse(result.out);
}

FloatMatrix matrix(const std::string& file) {
  auto read = read_matrix(file);
  REQUIRE_MESSAGE(read.ok(), read.message());
  return *read;
}

Json json_of(const ScratchDirectory& scratch, const Words& words) {
  const CommandResult result = run_signsplit(scratch.path(), words);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  return Json::parse(result.out);
}

}  // namespace

TEST_CASE("run prints exactly the promised keys, and writes [N, D]") {
  const LayerFiles scratch;
  const Json json = run_json(scratch, {"--strategy", "row_fused"});
  CHECK(keys(json) == Words{"strategy", "plan", "time_s", "stats"});
  CHECK(keys(json["stats"]) == Words{"bytes_up", "bytes_gate", "bytes_down", "bytes_plane", "bytes_scales", "bytes_up_again",
                                     "bytes_down_again", "bytes_x", "bytes_h", "bytes_y", "tiles", "active", "active_union", "pushed_rows", "repaired",
                                     "redone", "rechecked", "certified", "refined"});
  CHECK(json["strategy"] == "row_fused");
  CHECK(plan_from_json(json["plan"].dump()).ok());
  CHECK(json["time_s"].get<double>() > 0);
  CHECK(json["stats"]["bytes_up"] == kTokens * kF * 128 * 2);  // rows padded to 128 elements of bf16, once per call
  const FloatMatrix y = matrix(scratch / "y.npy");
  CHECK(y.rows == kTokens);
  CHECK(y.columns == kD);
}

TEST_CASE("unfused, row_fused and skip give the same file, whatever the threads, the tokens per call and the ISA") {
  for (const bool gated : {false, true}) {
    const LayerFiles scratch(gated);
    run_json(scratch, {"--strategy", "row_fused"});
    const std::string expected = read_text(scratch / "y.npy");
    for (const Words& words : std::vector<Words>{{"--strategy", "row_fused", "--skip"},
                                                 {"--strategy", "unfused"},
                                                 {"--strategy", "unfused", "--skip"},
                                                 {"--strategy", "certified"},
                                                 {"--strategy", "certified", "--placement", "residual"},
                                                 {"--strategy", "certified", "--placement", "residual", "--batch", "2", "--isa", "scalar"},
                                                 {"--strategy", "row_fused", "--threads", "3"},
                                                 {"--strategy", "row_fused", "--batch", "2"},
                                                 {"--strategy", "row_fused", "--batch", "1000"},
                                                 {"--strategy", "row_fused", "--isa", "scalar"}}) {
      CAPTURE(words.back());
      run_json(scratch, words);
      CHECK(read_text(scratch / "y.npy") == expected);
    }
  }
}

TEST_CASE("placement residual runs without the first matrix: fewer bytes read, less memory, and the text says so") {
  const LayerFiles scratch(true);
  const Json beside = run_json(scratch, {"--strategy", "certified"}), restored = run_json(scratch, {"--strategy", "certified", "--placement", "residual"});
  CHECK(restored["plan"]["placement"] == "residual");
  CHECK(restored["stats"]["refined"] == beside["stats"]["refined"]);
  CHECK(restored["stats"]["bytes_gate"] < beside["stats"]["bytes_gate"]);
  CHECK(restored["stats"]["bytes_up"] == beside["stats"]["bytes_up"]);
  const CommandResult text = run_signsplit(scratch.path(), {"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy",
                                                            "--strategy", "certified", "--placement", "residual"});
  CHECK(text.out.find("plane and residual in place of the first matrix") != std::string::npos);
}

TEST_CASE("every schedule is inside its bound, and its active units are the exact ones") {
  for (const bool gated : {false, true}) {
    const LayerFiles scratch(gated);
    const auto weights = load_weights(scratch / "layer.safetensors");
    REQUIRE(weights.ok());
    const FloatMatrix x = matrix(scratch / "x.npy");
    const Json exact_json = run_json(scratch, {"--strategy", "reference_composite", "--mask", "mask.npy"});
    CHECK(exact_json["strategy"] == "reference_composite");
    CHECK(exact_json["plan"].is_null());
    const FloatMatrix exact = matrix(scratch / "y.npy"), exact_mask = matrix(scratch / "mask.npy");
    CHECK(exact_mask.columns == kF);
    for (const Plan& plan : default_plans(weights->problem())) {
      CAPTURE(label(plan));
      const Json json = run_json(scratch, {"--plan", to_json(plan), "--mask", "mask.npy"});
      CHECK(json["strategy"] == to_string(plan.strategy));
      CHECK(*plan_from_json(json["plan"].dump()) == plan);
      CHECK(json["stats"]["active"] == exact_json["stats"]["active"]);
      CHECK(matrix(scratch / "mask.npy").values == exact_mask.values);
      const auto bound = error_bound(plan, *weights, x.values, kTokens);
      REQUIRE_MESSAGE(bound.ok(), bound.message());
      const FloatMatrix y = matrix(scratch / "y.npy");
      REQUIRE(y.values.size() == exact.values.size());
      for (std::size_t i = 0; i < y.values.size(); ++i) {
        const double slack = std::ldexp(std::fabs(exact.values[i]), -24) + 0x1p-150;  // the reference's own rounding
        CHECK(std::fabs(double{y.values[i]} - exact.values[i]) <= (*bound)[i] + slack);
      }
    }
  }
}

TEST_CASE("--exact-mask: the units open in real numbers where f32 loses the sign, beside the same y, and its time") {
  const ScratchDirectory scratch;
  constexpr index_t d = 192, f = 3;
  // In f32 2^24 + 1 is 2^24: unit 0 is open by 1 and its z is 0. Unit 1 is closed by 1, unit 2 open beyond doubt.
  std::vector<float> up(d * f, 0.0f), down(d * f, 1.0f);
  for (const auto& [unit, sign] : {std::pair<index_t, float>{0, 1.0f}, {1, -1.0f}}) {
    up[static_cast<std::size_t>(unit * d)] = sign * 0x1p24f;
    up[static_cast<std::size_t>(unit * d + 64)] = sign;
    up[static_cast<std::size_t>(unit * d + 128)] = -sign * 0x1p24f;
  }
  up[2 * d] = 1.0f;
  const auto bytes = [](const std::vector<float>& values) { return std::as_bytes(std::span(values)); };
  LayerTensors layer;
  layer.d_model = d;
  layer.d_ff = f;
  layer.dtype = DType::f32;
  layer.up = bytes(up);
  layer.down = bytes(down);
  const auto weights = Weights::pack(layer);
  REQUIRE_MESSAGE(weights.ok(), weights.message());
  REQUIRE(save_weights(scratch / "layer.safetensors", *weights));
  REQUIRE(write_npy(scratch / "x.npy", std::vector<float>(2 * d, 1.0f), 2, d));
  for (const char* strategy : {"unfused", "row_fused", "certified", "sign_split", "auto"}) {
    CAPTURE(strategy);
    const Json json = json_of(scratch, {"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy", "--strategy",
                                        strategy, "--mask", "mask.npy", "--exact-mask", "exact.npy", "--json", "-"});
    const bool split = std::string(strategy) == "sign_split";  // exact without being asked
    CHECK(keys(json) == Words{"strategy", "plan", "time_s", "stats", "exact_mask_s", "exact_mask_stats"});
    CHECK(matrix(scratch / "exact.npy").values == std::vector<float>{1, 0, 1, 1, 0, 1});
    CHECK(matrix(scratch / "mask.npy").values == (split ? std::vector<float>{1, 0, 1, 1, 0, 1} : std::vector<float>{0, 0, 1, 0, 0, 1}));
    CHECK(json["exact_mask_s"].get<double>() > 0);
    CHECK(json["exact_mask_stats"]["active"] == 4);
    CHECK(json["exact_mask_stats"]["rechecked"].get<int>() >= 2);
    if (!split) CHECK(json["stats"]["rechecked"] == 0);
    const std::string y = read_text(scratch / "y.npy");
    const CommandResult alone = run_signsplit(scratch.path(), {"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output",
                                                               "y.npy", "--plan", json["plan"].dump()});
    CHECK_MESSAGE(alone.exit_code == 0, alone.err);
    CHECK(read_text(scratch / "y.npy") == y);
  }
}

TEST_CASE("bench --exact-mask times every lossless schedule twice") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"bench", "--shape", "64x96", "--residency", "warm", "--budget", "0", "--only",
                                      "row_fused+skip,certified,sign_split/telescoping", "--exact-mask", "--json", "-"});
  Words labels;
  for (const Json& one : json["cases"]) {
    labels.push_back(one["label"]);
    CHECK(one["exact_mask"] == (labels.back().find("exact mask") != std::string::npos));
    if (one["strategy"] != "sign_split") CHECK(one["same_bits_as_row_fused"] == true);
    CHECK(one["stats"]["active"] == json["cases"][0]["stats"]["active"]);
  }
  CHECK(labels == Words{"row_fused+skip", "row_fused+skip, exact mask", "certified", "certified, exact mask", "sign_split/telescoping"});
}

TEST_CASE("bench rotates through as many layers as it is told, two at least") {
  const ScratchDirectory scratch;
  const auto layers = [&](const char* mib, const char* shape) {
    return json_of(scratch, {"bench", "--shape", shape, "--rotation", mib, "--budget", "0", "--only", "row_fused", "--json", "-"})["layers"].get<int>();
  };
  CHECK(layers("1", "64x128") == 32);  // 2 · 64 · 128 weights of 2 bytes: 32 KiB
  CHECK(layers("3", "64x128") == 96);
  CHECK(layers("1", "512x1024") == 2);  // 2 MiB
}

TEST_CASE("auto chooses a plan, and does what it promises") {
  const LayerFiles scratch;
  const Json json = run_json(scratch, {});
  const std::string chosen = read_text(scratch / "y.npy");
  run_json(scratch, {"--plan", json["plan"].dump()});
  CHECK(read_text(scratch / "y.npy") == chosen);
  CHECK(run_json(scratch, {"--activation", "identity"})["plan"]["skip"] == false);  // no unit is closed
  CHECK(run_json(scratch, {"--activation", "identity", "--skip"})["plan"]["skip"] == true);
}

TEST_CASE("auto gives calls of many tokens to oneDNN, inside the bound of any order of sums; a named schedule and a mask stay ours") {
  const LayerFiles scratch;
  constexpr int kMany = 70;  // two calls of 32 and a rest
  test::write_input(scratch, "x.npy", kMany);
  // What is measured decides, and is remembered: here the memory is told what to say.
  const Json measured = run_json(scratch, {"--batch", "32", "--planner", "measure"});
  Json wisdom = Json::parse(read_text(scratch / "wisdom.json"));
  REQUIRE(wisdom["plans"].size() == 1);
  Json& entry = wisdom["plans"].front();
  if (tools::vendor_names().empty()) {
    MESSAGE("skipped: no oneDNN");
    return;
  }
  REQUIRE(entry.contains("gemm"));
  CHECK(measured["plan"].is_null() == entry["gemm"].get<bool>());
  const auto remember = [&](bool gemm) {
    entry["gemm"] = gemm;
    std::ofstream(scratch / "wisdom.json") << wisdom.dump();
  };
  remember(false);
  CHECK_FALSE(run_json(scratch, {"--batch", "32"})["plan"].is_null());
  remember(true);
  CHECK(run_json(scratch, {"--batch", "32", "--strategy", "row_fused"})["strategy"] == "row_fused");
  CHECK_FALSE(run_json(scratch, {"--batch", "32", "--mask", "mask.npy"})["plan"].is_null());
  CHECK_FALSE(run_json(scratch, {"--batch", "16"})["plan"].is_null());
  const Json json = run_json(scratch, {"--batch", "32"});
  const FloatMatrix y = matrix(scratch / "y.npy");
  CHECK(json["strategy"] == "onednn");
  CHECK(json["plan"].is_null());
  auto weights = load_weights(scratch / "layer.safetensors");
  REQUIRE(weights.ok());
  const auto golden = make_golden({std::move(*weights), matrix(scratch / "x.npy").values, kMany}, {}, Accumulation::f32);
  REQUIRE_MESSAGE(golden.ok(), golden.message());
  const auto report = check(*golden, y.values);
  REQUIRE(report.ok());
  CHECK_MESSAGE(report->passed, report->where);
}

TEST_CASE("--activation replaces the file's") {
  const LayerFiles scratch;
  run_json(scratch, {"--strategy", "reference_composite"});
  const auto relu = matrix(scratch / "y.npy").values;
  run_json(scratch, {"--strategy", "reference_composite", "--activation", "relu2"});
  CHECK(matrix(scratch / "y.npy").values != relu);
}

TEST_CASE("the summary for people goes to stdout, or to stderr when stdout holds JSON") {
  const LayerFiles scratch;
  const Words words{"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy", "--strategy", "unfused"};
  const CommandResult plain = run_signsplit(scratch.path(), words);
  CHECK(plain.exit_code == 0);
  CHECK(plain.err.empty());
  CHECK(plain.out.find("unfused") != std::string::npos);
  Words to_file = words;
  to_file.insert(to_file.end(), {"--json", "result.json"});
  const CommandResult with_file = run_signsplit(scratch.path(), to_file);
  CHECK(with_file.out.find("unfused") != std::string::npos);
  CHECK(Json::parse(read_text(scratch / "result.json"))["strategy"] == "unfused");
}

TEST_CASE("predict prints exactly the promised keys") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"predict", "--hardware", "host", "--shape", "2048x8192", "--dtype", "bf16", "--json", "-"});
  CHECK(keys(json) == Words{"cases", "decision", "auto"});
  CHECK(json["cases"].size() == 21);
  for (const Json& one : json["cases"]) {
    CHECK(keys(one) == Words{"strategy", "variant", "repair", "skip", "label", "time_s", "low_s", "high_s", "terms", "bytes"});
    double sum = 0;
    for (const auto& term : one["terms"].items()) sum += term.value().get<double>();
    CHECK(sum == one["time_s"].get<double>());
    CHECK(one["low_s"] <= one["time_s"]);
    CHECK(one["time_s"] <= one["high_s"]);
  }
  CHECK(keys(json["decision"]) == Words{"winner", "loser", "gap_s", "uncertainty_s", "verdict"});
}

TEST_CASE("explain prints the promised keys, with terms that add up to the gap") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"explain", "--hardware", "epyc-turin-9355p", "--shape", "512x2048", "--residency", "warm", "--json", "-"});
  for (const char* key : {"terms_fused", "terms_unfused", "flips", "winner", "verdict"}) CHECK(json.contains(key));
  CHECK(json["flips"].size() > 0);
  for (const Json& flip : json["flips"]) {
    for (const char* key : {"parameter", "value", "factor"}) CHECK(flip.contains(key));
  }
  double fused = 0, unfused = 0;
  for (const auto& term : json["terms_fused"].items()) fused += term.value().get<double>();
  for (const auto& term : json["terms_unfused"].items()) unfused += term.value().get<double>();
  CHECK(std::abs(unfused - fused) == json["gap_s"].get<double>());
}

TEST_CASE("sweep writes CSV, JSON and a page, with every point") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"sweep", "--shape", "512x2048,4096x16384", "--dtype", "f32,bf16", "--active", "0.01:1:5", "--batch",
                                      "1,4", "--hardware", "epyc-turin-9355p,avx2-laptop", "--csv", "s.csv", "--html", "s.html", "--json", "-"});
  REQUIRE(json["points"].size() == 2 * 2 * 5 * 2 * 2);
  CHECK(json["points"][4]["active"] == 1.0);
  const std::string csv = read_text(scratch / "s.csv"), page = read_text(scratch / "s.html");
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 81);
  std::size_t cells = 0;
  for (std::size_t at = page.find("<rect"); at != std::string::npos; at = page.find("<rect", at + 1)) ++cells;
  CHECK(cells == 80);
}

TEST_CASE("trace writes a simulated and a measured timeline of every worker") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"trace", "--shape", "128x512", "--residency", "warm", "--threads", "2", "--strategy", "unfused", "-o",
                                      "t.json", "--json", "-"});
  CHECK(json["measured_s"].get<double>() > 0);
  const Json trace = Json::parse(read_text(scratch / "t.json"));
  int measured_parts = 0, simulated = 0;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    CHECK(event["dur"].get<double>() >= 0);
    (event["pid"] == 2 ? measured_parts : simulated) += 1;
  }
  const Plan plan = default_plan({.d_model = 128, .d_ff = 512}, Strategy::unfused);
  CHECK(measured_parts == 2 * plan.parts + 1);  // both products of every part, and one slice of the reduction
  CHECK(simulated >= measured_parts);
}

TEST_CASE("auto is one: what predict says is what run does, and what was measured is remembered by both") {
  const LayerFiles scratch;
  const Json estimated = run_json(scratch, {"--strategy", "auto"});
  CHECK(estimated["strategy"] != "sign_split");
  const Json measured = run_json(scratch, {"--strategy", "auto", "--planner", "measure"});
  CHECK(run_json(scratch, {"--strategy", "auto"})["plan"] == measured["plan"]);
  CHECK(read_text(scratch / "y.npy").size() > 0);
}

TEST_CASE("auto is a case of bench, whose plan is the planner's, and trace and explain know it") {
  const ScratchDirectory scratch;
  const Words shape{"--shape", "96x256", "--residency", "warm", "--active", "0.25", "--json", "-"};
  const auto with = [&](Words words, const Words& more) {
    words.insert(words.end(), shape.begin(), shape.end());
    words.insert(words.end(), more.begin(), more.end());
    return json_of(scratch, words);
  };
  const Json predicted = with({"predict"}, {}), explained = with({"explain"}, {});
  CHECK(explained["auto"] == predicted["auto"]);
  const Json bench = with({"bench"}, {"--budget", "0", "--only", "row_fused,auto"});
  REQUIRE(bench["cases"].size() == 2);
  const Json& automatic = bench["cases"][1];
  CHECK(automatic["strategy"] == "auto");
  CHECK(automatic["label"] == "auto");
  CHECK(automatic["chosen"] == predicted["auto"]);
  CHECK(automatic["plan"] == predicted["auto"]["plan"]);
  CHECK(automatic["same_bits_as_row_fused"] == true);
  CHECK(automatic["samples"] == bench["cases"][0]["samples"]);
  CHECK(automatic["regret"] == automatic["median_s"].get<double>() / bench["cases"][0]["median_s"].get<double>() - 1);
  CHECK_FALSE(bench["cases"][0].contains("regret"));
  const Json traced = with({"trace"}, {"--strategy", "auto", "-o", "auto.json", "--simulated-only"});
  const Json named = with({"trace"}, {"--plan", predicted["auto"]["plan"].dump(), "-o", "named.json", "--simulated-only"});
  CHECK(traced["simulated_s"] == named["simulated_s"]);
  CHECK(read_text(scratch / "auto.json") == read_text(scratch / "named.json"));
}

TEST_CASE("predictions from a recorded mask have the bytes of the run that recorded it; reports of activity are taken over") {
  const LayerFiles scratch;
  const std::string shape = std::to_string(kD) + "x" + std::to_string(kF), tokens = std::to_string(kTokens);
  const Words about{"--shape", shape, "--batch", tokens, "--json", "-"};
  const auto with = [&](Words words, const Words& more) {
    words.insert(words.end(), about.begin(), about.end());
    words.insert(words.end(), more.begin(), more.end());
    return json_of(scratch, words);
  };
  const Json predicted_without = with({"predict"}, {});
  for (const char* strategy : {"row_fused", "unfused"}) {
    const Json run = run_json(scratch, {"--strategy", strategy, "--skip", "--batch", tokens, "--mask", "mask.npy"});
    const Json predicted = with({"predict"}, {"--activity", "mask.npy"});
    for (const Json& one : predicted["cases"]) {
      if (one["label"] == std::string(strategy) + "+skip") CHECK(one["bytes"] == run["stats"]);
    }
    CHECK(predicted["cases"] != predicted_without["cases"]);
  }
  const Json mask_trace = with({"trace"}, {"--activity", "mask.npy", "--strategy", "row_fused", "--skip", "--simulated-only", "-o", "t.json"});
  const CommandResult measured_trace = run_signsplit(scratch.path(), {"trace", "--shape", shape, "--batch", tokens, "--activity", "mask.npy", "-o", "none.json"});
  CHECK(measured_trace.exit_code == 2);  // nothing of the mask's layer can be measured
  CHECK(measured_trace.err.find("--simulated-only") != std::string::npos);
  const Json mean_trace = with({"trace"}, {"--strategy", "row_fused", "--skip", "--simulated-only", "-o", "t.json"});
  CHECK(mask_trace["simulated_s"] != mean_trace["simulated_s"]);

  const Words measure{"activity", "--weights", "layer.safetensors", "--input", "x.npy", "--json", "a.json"};
  REQUIRE(run_signsplit(scratch.path(), measure).exit_code == 0);
  const Json report = Json::parse(read_text(scratch / "a.json"))["layers"][0];
  const Json cases = json_of(scratch, {"predict", "--shape", shape, "--activity", "a.json", "--json", "-"})["cases"];
  for (const Json& one : cases) {
    CHECK(one["bytes"]["active"] == std::lround(report["active"].get<double>() * kF));
    if (one["strategy"] == "certified") CHECK(one["bytes"]["certified"] == std::lround(report["planes"][0]["executed"].get<double>() * kF));
  }
  const Json point = json_of(scratch, {"sweep", "--shape", shape, "--activity", "a.json", "--json", "-"})["points"];
  REQUIRE(point.size() == 1);
  CHECK(point[0]["active"] == report["active"]);
  CHECK(json_of(scratch, {"explain", "--shape", shape, "--activity", "a.json", "--json", "-"}).contains("flips"));
}

TEST_CASE("predict says that the host is not calibrated") {
  const ScratchDirectory scratch;
  const CommandResult result = run_signsplit(scratch.path(), {"predict", "--shape", "512x2048"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.find("signsplit calibrate") != std::string::npos);
}

TEST_CASE("ignore, which computes something else, wins no decision") {
  const ScratchDirectory scratch;
  for (const char* shape : {"512x2048", "4096x16384"}) {
    const Json json = json_of(scratch, {"predict", "--shape", shape, "--active", "0.01", "--json", "-"});
    CHECK(json["decision"]["winner"].get<std::string>().find("ignore") == std::string::npos);
    CHECK(json["decision"]["loser"].get<std::string>().find("ignore") == std::string::npos);
  }
}

TEST_CASE("models and hardware list what the options take") {
  const ScratchDirectory scratch;
  const Json models = json_of(scratch, {"models", "--json", "-"});
  CHECK(models["models"].size() > 3);
  for (const Json& model : models["models"]) {
    const CommandResult result = run_signsplit(scratch.path(), {"predict", "--model", model["name"]});
    CHECK_MESSAGE(result.exit_code == 0, result.err);
  }
  const Json hardware = json_of(scratch, {"hardware", "--json", "-"});
  CHECK(hardware["hardware"].size() > 1);
  for (const Json& machine : hardware["hardware"]) {
    const CommandResult result = run_signsplit(scratch.path(), {"hardware", machine["name"]});
    CHECK_MESSAGE(result.exit_code == 0, result.err);
    const CommandResult predicted =
        run_signsplit(scratch.path(), {"predict", "--shape", "512x2048", "--hardware", machine["name"]});
    CHECK_MESSAGE(predicted.exit_code == 0, predicted.err);
  }
}

TEST_CASE("--help teaches every command, with examples") {
  const ScratchDirectory scratch;
  const std::string help = run_signsplit(scratch.path(), {"--help"}).out;
  for (const char* name : {"report", "run", "bench", "predict", "explain", "sweep", "trace", "calibrate", "validate", "models", "hardware",
                           "gpu-fit", "layer", "replay"}) {
    CAPTURE(name);
    CHECK(help.find(name) != std::string::npos);
    const CommandResult result = run_signsplit(scratch.path(), {name, "--help"});
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    CHECK(result.out.find(std::string("signsplit ") + name) != std::string::npos);
    CHECK(result.out.find("--json") != std::string::npos);
    CHECK(result.out.find("Examples:") != std::string::npos);
  }
  for (const char* later : {"folded"}) CHECK(help.find(later) == std::string::npos);
  CHECK(run_signsplit(scratch.path(), {"--version"}).out.rfind("signsplit ", 0) == 0);
}

TEST_CASE("activity and overflow print their keys, and what they count is what run counts") {
  const LayerFiles scratch;
  const Json exact = run_json(scratch, {"--strategy", "reference"});
  const Json activity = json_of(scratch, {"activity", "--weights", "layer.safetensors", "--input", "x.npy", "--plane-bits",
                                          "8", "4", "--k-tiles", "2", "--json", "-"});
  CHECK(keys(activity) == Words{"layers"});
  const Json& layer = activity["layers"][0];
  CHECK(keys(layer) == Words{"weights", "input", "units", "tokens", "active", "never_active", "always_active", "z_mean",
                             "z_sigma", "near_threshold", "z_quantiles", "z_histogram", "planes", "crossings"});
  CHECK(keys(layer["planes"][1]) ==
        Words{"bits", "group", "proven", "proven_of_dead", "false_survivors", "proven_open", "executed"});
  CHECK(std::lround(layer["active"].get<double>() * kF * kTokens) == exact["stats"]["active"]);
  const Json overflow =
      json_of(scratch, {"overflow", "--weights", "layer.safetensors", "--input", "x.npy", "--json", "-"});
  CHECK(keys(overflow) == Words{"weights", "input", "tokens", "float", "w8a8", "cancelled_bits_median", "cancelled_bits_p99",
                                "sign_in_doubt_fp16", "sign_in_doubt_bf16"});
  CHECK(keys(overflow["w8a8"]) == Words{"x_bound", "p", "n", "z", "accumulators"});
  CHECK(overflow["w8a8"]["accumulators"].size() == 4);
  const Json bounded = json_of(scratch, {"overflow", "--weights", "layer.safetensors", "--x-bound", "8", "--json", "-"});
  CHECK(bounded["float"]["p"]["observed"].is_null());
}
