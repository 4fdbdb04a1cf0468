// `signsplit run` from end to end: what it writes, and that what it writes is right.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "command_json.hpp"
#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"
#include "tools/vendor.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

FloatMatrix matrix(const std::string& file) {
  auto read = read_matrix(file);
  REQUIRE_MESSAGE(read.ok(), read.message());
  return *read;
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
