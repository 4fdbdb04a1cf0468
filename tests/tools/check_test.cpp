// signsplit golden and signsplit check from end to end: files, keys, exit statuses, refusals.
#include <doctest/doctest.h>

#include "command_json.hpp"
#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/safetensors.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

/// A folder `golden` of a small layer.
struct GoldenFiles : ScratchDirectory {
  explicit GoldenFiles(const Words& more = {"--shape", "40x70", "--batch", "3"}) {
    Words words{"golden", "--out", "golden", "--json", "-"};
    words.insert(words.end(), more.begin(), more.end());
    const CommandResult result = run_signsplit(path(), words);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    json = Json::parse(result.out);
  }
  [[nodiscard]] Golden read() const {
    auto golden = read_golden(path() / "golden");
    REQUIRE_MESSAGE(golden.ok(), golden.message());
    return std::move(*golden);
  }
  void write(const std::vector<float>& y, index_t rows, index_t columns) const {
    REQUIRE(write_npy(path() / "y.npy", y, rows, columns).ok());
  }
  [[nodiscard]] CommandResult check(const Words& more = {}) const {
    Words words{"check", "--golden", "golden", "--output", "y.npy"};
    words.insert(words.end(), more.begin(), more.end());
    return run_signsplit(path(), words);
  }
  Json json;
};

}  // namespace

TEST_CASE("golden says what it wrote, and the same seed writes the same bytes") {
  const GoldenFiles files({"--shape", "40x70", "--batch", "3", "--seed", "9"}), again({"--shape", "40x70", "--batch", "3", "--seed", "9"});
  CHECK(keys(files.json) == Words{"out", "files", "set", "seed", "d_model", "d_ff", "batch", "dtype", "activation", "gated",
                                  "accumulation", "active_fraction", "relative_bound", "version"});
  CHECK(files.json["seed"] == 9);
  for (const Json& file : files.json["files"]) {
    CHECK(read_text(files / file.get<std::string>()) == read_text(again / file.get<std::string>()));
  }
}

TEST_CASE("check passes the exact outputs and prints the promised keys") {
  const GoldenFiles files;
  files.write(files.read().y_staged, 3, 40);
  const CommandResult result = files.check({"--json", "-"});
  CHECK_MESSAGE(result.exit_code == 0, result.err);
  const Json json = Json::parse(result.out);
  CHECK(keys(json) == Words{"passed", "within_bound", "max_ulp", "max_ulp_staged", "worst_index", "worst", "counts",
                            "distribution", "where", "hint"});
  CHECK(json["passed"] == true);
  CHECK(json["within_bound"] == true);
  CHECK(json["hint"].is_null());
  CHECK(json["max_ulp_staged"] == 0);
  CHECK(json["counts"]["elements"] == 120);
}

TEST_CASE("check fails with exit status 1, names the element and the cause") {
  const GoldenFiles files;
  const Golden golden = files.read();
  std::vector<float> y = golden.y;
  const auto bias = golden.input.weights.down_bias();
  for (std::size_t i = 0; i < y.size(); ++i) y[i] -= bias[i % 40];
  files.write(y, 3, 40);
  const CommandResult result = files.check({"--json", "report.json"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.empty());
  CHECK(result.out.find("FAILED") != std::string::npos);
  CHECK(result.out.find("the down bias is missing") != std::string::npos);
  const Json json = Json::parse(read_text(files / "report.json"));
  CHECK(json["passed"] == false);
  CHECK(json["hint"]["cause"] == "missing_down_bias");
  CHECK(json["hint"]["proven"] == true);
  CHECK(Json::parse(files.check({"--json", "-", "--no-hint"}).out)["hint"].is_null());
}

TEST_CASE("outputs of every schedule of `run` pass, on data that `golden` took from files") {
  for (const bool gated : {false, true}) {
    const ScratchDirectory scratch;
    write_layer(scratch, "layer.safetensors", gated);
    write_input(scratch);
    const auto run = [&](const Words& words) { return run_signsplit(scratch.path(), words); };
    const CommandResult made = run({"golden", "--weights", "layer.safetensors", "--input", "x.npy", "--out", "g.safetensors"});
    REQUIRE_MESSAGE(made.exit_code == 0, made.err);
    for (const char* strategy : {"row_fused", "unfused", "reference", "reference_composite"}) {
      // The golden file is a weights file and an input file too.
      const CommandResult ran = run({"run", "--weights", "g.safetensors", "--input", "g.safetensors", "--output", "y.npy",
                                     "--strategy", strategy});
      REQUIRE_MESSAGE(ran.exit_code == 0, ran.err);
      const CommandResult checked = run({"check", "--golden", "g.safetensors", "--output", "y.npy"});
      CHECK_MESSAGE(checked.exit_code == 0, checked.out);
    }
    CHECK(run({"run", "--weights", "g.safetensors", "--input", "g.safetensors", "--output", "y.npy", "--activation",
               gated ? "drelu" : "identity"}).exit_code == 0);
    CHECK(run({"check", "--golden", "g.safetensors", "--output", "y.npy"}).exit_code == 1);
  }
}

TEST_CASE("safetensors outputs: the tensor y, the only one, or one by name; BF16 may be rounded") {
  const GoldenFiles files;
  const Golden golden = files.read();
  std::vector<std::uint16_t> narrow;
  for (const float v : golden.y) narrow.push_back(to_bf16(v).bits);
  const auto write = [&](const char* name, const char* second) {
    REQUIRE(write_safetensors(files.path() / "y.safetensors",
                              {{name, {"F32", {3, 40}, std::as_bytes(std::span(golden.y))}},
                               {second, {"BF16", {3, 40}, std::as_bytes(std::span(narrow))}}})
                .ok());
  };
  const auto status = [&](const Words& more) {
    Words words{"check", "--golden", "golden", "--output", "y.safetensors"};
    words.insert(words.end(), more.begin(), more.end());
    return run_signsplit(files.path(), words);
  };
  write("y", "narrow");
  CHECK(status({}).exit_code == 0);
  CHECK(status({"--tensor", "narrow"}).exit_code == 0);
  write("a", "b");
  CHECK(broken_refusal(status({}), "--tensor") == "");
  std::vector<float> wide;
  for (const float v : golden.y) wide.push_back(to_float(to_bf16(v)));
  files.write(wide, 3, 40);
  const CommandResult refused = files.check();
  CHECK(refused.exit_code == 1);
  CHECK(refused.out.find("rounded to bf16") != std::string::npos);
  CHECK(files.check({"--allow-bf16-output"}).exit_code == 0);
}

TEST_CASE("an output in one row passes, one of another shape is refused") {
  const GoldenFiles files;
  const Golden golden = files.read();
  files.write(golden.y, 1, 120);
  CHECK(files.check().exit_code == 0);
  files.write(golden.y, 40, 3);
  CHECK(broken_refusal(files.check(), "needs [B, D] = [3, 40]") == "");
}

TEST_CASE("bad usage is refused in one line") {
  const GoldenFiles files;
  write_layer(files);
  write_input(files);
  struct Refusal {
    Words words;
    std::string fragment;
  };
  for (const Refusal& refusal : std::vector<Refusal>{
           {{"golden", "--out", "g"}, "needs --shape DxF or --model NAME"},
           {{"golden", "--out", "g", "--shape", "8x8", "--set", "given"}, "--set 'given'"},
           {{"golden", "--out", "g", "--shape", "8x8", "--seed", "-1"}, "--seed '-1'"},
           {{"golden", "--out", "g", "--shape", "8x8", "--accumulate", "f16"}, "--accumulate 'f16'"},
           {{"golden", "--out", "g", "--shape", "8x8", "--input", "x.npy"}, "--input needs --weights"},
           {{"golden", "--out", "g", "--shape", "8x8", "--weights", "layer.safetensors"}, "--weights brings the layer"},
           {{"golden", "--out", "x.npy", "--shape", "8x8"}, "is not a directory"},
           {{"golden", "--out", "absent/g.safetensors", "--shape", "8x8"}, "--out"},
           {{"golden", "--out", "g", "--weights", "absent.safetensors"}, "absent.safetensors"},
           {{"check", "--golden", "absent", "--output", "x.npy"}, "absent"},
           {{"check", "--golden", "layer.safetensors", "--output", "x.npy"}, "not golden data"},
           {{"check", "--golden", "golden", "--output", "absent.npy"}, "absent.npy"},
           {{"check", "--golden", "golden", "--output", "x.npy", "--tensor", "y"}, "--tensor"}}) {
    CAPTURE(refusal.fragment);
    CHECK(broken_refusal(run_signsplit(files.path(), refusal.words), refusal.fragment) == "");
  }
}
