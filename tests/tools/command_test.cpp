// The built command from end to end, all but `run`: what it prints and writes, and that it agrees with `run`.
#include <doctest/doctest.h>

#include <cmath>
#include <sstream>

#include "command_json.hpp"
#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/plan.hpp"

using namespace signsplit;
using namespace signsplit::test;

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

TEST_CASE("bench tells distances in full up to a million ulps, and beyond that their size") {
  const ScratchDirectory scratch;
  const CommandResult result = run_signsplit(scratch.path(), {"bench", "--shape", "256x512", "--residency", "warm", "--budget", "0", "--only",
                                                              "row_fused,sign_split/ignore", "--json", "-"});
  const Json json = Json::parse(result.out);
  int far = 0;
  for (const Json& one : json["cases"]) {
    const auto ulp = one["max_ulp"].get<std::uint64_t>();
    CHECK((result.err.find(" " + std::to_string(ulp) + "\n") != std::string::npos) == (ulp < 1'000'000));
    far += ulp >= 1'000'000;
  }
  CHECK(far == 1);  // ignore, which is wrong on purpose
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

TEST_CASE("explain names what can change the gap in short lines, and only counts the rest") {
  const ScratchDirectory scratch;
  const CommandResult result = run_signsplit(scratch.path(), {"explain", "--hardware", "h200", "--model", "opt-6.7b", "--json", "-"});
  const Json json = Json::parse(result.out);
  CHECK(json["unused"].size() > 20);
  CHECK(result.err.find(std::to_string(json["unused"].size()) + " other parameters do not matter here") != std::string::npos);
  for (const Json& name : json["no_flip"]) CHECK(result.err.find(name.get<std::string>()) != std::string::npos);
  for (const Json& name : json["unused"]) CHECK(result.err.find(name.get<std::string>()) == std::string::npos);
  std::istringstream lines(result.err);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() < 120);
}

TEST_CASE("sweep shows a letter for every point, and none where they would not fit a screen") {
  const ScratchDirectory scratch;
  const auto sweep = [&](const char* active) {
    return run_signsplit(scratch.path(), {"sweep", "--shape", "512x2048,4096x16384", "--batch", "1,4", "--active", active, "--hardware",
                                          "epyc-zen5-vm,epyc-turin-9355p", "--json", "-"});
  };
  const CommandResult result = sweep("0.01:1:13");
  const Json points = Json::parse(result.out)["points"];
  REQUIRE(points.size() == 2 * 2 * 2 * 13);
  for (std::size_t row = 0; row < 8; ++row) {
    std::string letters;
    for (std::size_t i = 0; i < 13; ++i) letters += points[13 * row + i]["verdict"] == "fuse" ? 'F' : points[13 * row + i]["verdict"] == "keep unfused" ? 'u' : '.';
    const Json& first = points[13 * row];
    const std::string shape = std::to_string(first["d_model"].get<int>()) + "x" + std::to_string(first["d_ff"].get<int>());
    bool shown = false;
    std::istringstream lines(result.err);
    for (std::string line; std::getline(lines, line);) {
      shown = shown || (line.starts_with(first["machine"].get<std::string>() + " ") && line.ends_with(" " + shape + "  " + letters) &&
                        line.find("batch " + std::to_string(first["batch"].get<int>()) + " ") != std::string::npos);
    }
    CHECK_MESSAGE(shown, shape, " ", letters);
  }
  for (const char* active : {"0.1", "0.01:1:65"}) CHECK(sweep(active).err.find("too close to call") == std::string::npos);
  const Words rows{"sweep", "--shape", "models", "--batch", "1,4", "--active", "0.1,0.2", "--hardware", "epyc-zen5-vm", "--json", "-"};  // more than 40
  CHECK(run_signsplit(scratch.path(), rows).err.find("too close to call") == std::string::npos);
}

TEST_CASE("hardware tells the source of a bandwidth curve once") {
  const ScratchDirectory scratch;
  const CommandResult result = run_signsplit(scratch.path(), {"hardware", "h200", "--json", "-"});
  const std::string source = Json::parse(result.out)["read_bandwidth"]["source"];
  const std::size_t first = result.err.find(source);
  CHECK(first != std::string::npos);
  CHECK(result.err.find(source, first + 1) == std::string::npos);
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

TEST_CASE("a vendor's matrix products are weighed for large batches, and not for an activation that they cannot express") {
  const ScratchDirectory scratch;
  const auto weighed = [&](const char* activation, const char* batch) {
    const Json json = json_of(scratch, {"predict", "--shape", "512x2048", "--dtype", "f32", "--batch", batch, "--activation", activation, "--json", "-"});
    return json["auto"]["gemm_s"].get<double>() > 0;
  };
  if (!weighed("relu", "64")) return;  // a build without a vendor's library
  CHECK_FALSE(weighed("relu", "16"));
  CHECK_FALSE(weighed("fatrelu:0.1", "64"));
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
