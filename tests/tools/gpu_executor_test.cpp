// The command's GPU executor, its measurements and the report's GPU section, on imaginary GPUs (tests/gpu/fake_machine.hpp);
// and the whole command with --device, whose results are to have the form of the CPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "command_runner.hpp"
#include "cpu/random_layer.hpp"
#include "gpu/fake_machine.hpp"
#include "layer_files.hpp"
#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/synthetic.hpp"
#include "tools/auto_plan.hpp"
#include "tools/device_options.hpp"
#include "tools/json_output.hpp"
#include "tools/measure.hpp"
#include "tools/report_gpu.hpp"

using namespace signsplit;
using namespace signsplit::test;
using namespace signsplit::tools;
using sim::Residency;

namespace {

/// Equal but for the roundings of a float of milliseconds and a division.
bool same_time(double got, double expected) { return std::abs(got - expected) <= 1e-6 * expected; }

Plan small_plan(const Problem& problem, Strategy strategy) {
  Plan plan = default_plan(problem, strategy);
  plan.parts = 4;
  plan.hidden_tile = 8;
  return plan;
}

std::vector<float> cpu_output(const Weights& weights, const Plan& plan, const std::vector<float>& x) {
  auto ffn = cpu::Ffn::create(weights, plan, weights.problem(1).batch);
  REQUIRE(ffn.ok());
  std::vector<float> y(x.size());
  REQUIRE(ffn->run(x, y).ok());
  return y;
}

/// Every path of keys in it; arrays by their first element.
void collect_keys(const Json& json, const std::string& path, std::set<std::string>& keys) {
  keys.insert(path);
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) collect_keys(value, path + "." + key, keys);
  } else if (json.is_array() && !json.empty()) {
    collect_keys(json.front(), path + "[]", keys);
  }
}
std::set<std::string> keys_of(const std::string& text) {
  std::set<std::string> keys;
  collect_keys(Json::parse(text), "", keys);
  return keys;
}

}  // namespace

TEST_CASE("the executor describes the device that was asked for") {
  reset_fake_machine();
  fake_machine().gpus[1].l2_bytes = std::size_t{100} << 20;
  const auto executor = make_executor({.device = "cuda:1", .launch = "stream"}, {});
  REQUIRE_MESSAGE(executor.ok(), executor.message());
  CHECK((*executor)->device() == "cuda:1");
  CHECK((*executor)->description() == "NVIDIA Imaginary Five, sm_90, stream launches");
  CHECK((*executor)->isa() == "sm_90");
  CHECK((*executor)->workers() == 5);
  CHECK((*executor)->profile() == "imaginary-five");
  CHECK((*executor)->launch_mode() == sim::LaunchMode::stream);
  CHECK((*executor)->rotation_bytes() == 400.0 * 1024 * 1024);
  CHECK((*executor)->memory_left_bytes() == 0.6 * static_cast<double>(std::size_t{64} << 20));
  CHECK((*make_executor({.device = "cuda"}, {}))->rotation_bytes() == 240.0 * 1024 * 1024);
  CHECK((*make_executor({.device = "cuda"}, {}))->launch_mode() == sim::LaunchMode::graph);
  CHECK(make_executor({.device = "cuda:2"}, {}).message() ==
        "--device cuda:2: this machine has 2 CUDA device(s), numbered from 0: no device 2");
}

TEST_CASE("plans suit the device: a part for every multiprocessor, tiles that fit") {
  reset_fake_machine();
  fake_machine().gpus[0].multiprocessors = 132;
  fake_machine().gpus[0].shared_bytes_per_block = 232448;
  const auto executor = make_executor({.device = "cuda:0"}, {});
  REQUIRE(executor.ok());
  for (const index_t batch : {index_t{1}, index_t{16}}) {
    const Problem problem{.d_model = 2048, .d_ff = 8192, .batch = batch};
    for (const Plan& plan : default_plans(problem)) {
      INFO(label(plan), " ", batch);
      const Plan suited = (*executor)->suited(plan, problem);
      CHECK(suited.parts == 132);
      CHECK(gpu::can_run(suited, problem, {}).ok());
      CHECK(suited.skip == plan.skip);
    }
  }
  // Few blocks have long parts, and the tiles that are made for them are too large for the state of 16 tokens.
  fake_machine().gpus[0].multiprocessors = 3;
  const auto few = make_executor({.device = "cuda:0"}, {});
  const Problem wide{.d_model = 2048, .d_ff = 8192, .batch = 16};
  const Plan large = default_plan(wide, Strategy::certified), fitting = (*few)->suited(large, wide);
  REQUIRE_FALSE(gpu::can_run(large, wide, {}).ok());
  CHECK(gpu::can_run(fitting, wide, {}).ok());
  CHECK(fitting.hidden_tile < large.hidden_tile);

  fake_machine().gpus[0].shared_bytes_per_block = 4096;  // what fits with no tile keeps its reason
  const auto tiny = make_executor({.device = "cuda:0"}, {});
  const Problem problem{.d_model = 2048, .d_ff = 8192};
  const Plan plan = (*tiny)->suited(default_plan(problem, Strategy::row_fused), problem);
  CHECK(gpu::can_run(plan, problem, {}).message().find("shared memory") != std::string::npos);
}

TEST_CASE("auto on a GPU takes plans that fit it, and asks them which units are open by one that fits") {
  reset_fake_machine();
  FakeGpu& gpu = fake_machine().gpus[0];
  gpu.name = "NVIDIA H200";  // whose profile there is
  gpu.multiprocessors = 132;
  gpu.shared_bytes_per_block = 232448;
  const auto executor = make_executor({.device = "cuda:0"}, {});
  REQUIRE(executor.ok());
  const ProblemChoice large{{.d_model = 9216, .d_ff = 36864, .batch = 16, .gated = true}, 0.1};
  Plan unsuited = sim::plan_on(*sim::find_machine("h200"), large.problem, default_plan(large.problem, Strategy::row_fused, true));
  REQUIRE_FALSE((*executor)->can_run(unsuited, large.problem).ok());
  const auto chosen = plan_for_executor(large, Residency::cold, **executor, {});
  REQUIRE_MESSAGE(chosen.ok(), chosen.message());
  CHECK((*executor)->can_run(chosen->plan, large.problem).ok());

  gpu.multiprocessors = 4;
  gpu.shared_bytes_per_block = 16 * 1024;
  std::mt19937_64 rng(seed());
  const Problem problem{.d_model = 64, .d_ff = 512, .batch = 5};
  const Weights weights = gaussian_layer(problem, true, rng).pack();
  const auto small = make_executor({.device = "cuda:0"}, {});
  REQUIRE_FALSE((*small)->can_run(default_plan(problem, Strategy::row_fused), problem).ok());
  const auto for_layer = plan_for_layer(weights, gaussian_input(problem, rng), 5, **small, {}, sim::PlanMode::estimate, false);
  REQUIRE_MESSAGE(for_layer.ok(), for_layer.message());
  CHECK((*small)->can_run(for_layer->plan, problem).ok());
}

TEST_CASE("a turn: chained or isolated, cold or warm, and what of it is timed") {
  std::mt19937_64 rng(seed());
  const Problem problem{.d_model = 64, .d_ff = 32, .dtype = DType::f32};
  const Weights first = gaussian_layer(problem, true, rng).pack(), second = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  for (const Strategy strategy : {Strategy::row_fused, Strategy::unfused}) {
    const Plan plan = small_plan(problem, strategy);
    const std::size_t kernels = strategy == Strategy::unfused ? 2 : 1;
    for (const bool chained : {true, false}) {
      for (const Residency residency : {Residency::cold, Residency::warm}) {
        INFO(label(plan), chained ? " chained" : " isolated", residency == Residency::cold ? " cold" : " warm");
        reset_fake_machine();
        const auto executor = make_executor({.device = "cuda:0", .timing = chained ? "chained" : "isolated", .keep_in_l2 = chained}, {});
        REQUIRE(executor.ok());
        Rotation rotation;
        rotation.layers.push_back((*executor)->load(first).value());
        if (residency == Residency::cold) rotation.layers.push_back((*executor)->load(second).value());
        auto ffn = (*executor)->create(*rotation.layers.front(), plan, 1);
        REQUIRE_MESSAGE(ffn.ok(), ffn.message());
        std::vector<float> y(x.size());
        REQUIRE((*ffn)->run(x, y).ok());
        CHECK(same_bits(y, cpu_output(first, plan, x)));
        const std::size_t calls = chained ? (residency == Residency::cold ? 2 : 32) : residency == Residency::cold ? 1 : 3;
        for (int turn = 0; turn < 3; ++turn) {
          fake_machine().launches.clear();
          std::fill(y.begin(), y.end(), NAN);
          const auto seconds = (*ffn)->timed_turn(rotation, residency, x, y);
          REQUIRE_MESSAGE(seconds.ok(), seconds.message(), "; ", fake_machine().error);
          CHECK(same_time(*seconds, kFakeKernelSeconds * static_cast<double>(kernels)));
          for (const FakeLaunch& launch : fake_machine().launches) CHECK(launch.evict_first != chained);
          const bool warms_up = chained && turn == 0;
          CHECK(fake_machine().launches.size() == calls * kernels * (warms_up ? 2 : 1));
          const bool on_second = residency == Residency::cold && (chained || turn % 2 == 1);
          CHECK(same_bits(y, cpu_output(on_second ? second : first, plan, x)));
          CHECK((*ffn)->statistics().bytes_down == static_cast<std::uint64_t>(32 * 64 * 4));
        }
        CHECK((*executor)->timed_read(rotation, residency).value() > 0);
      }
    }
  }
  CHECK(fake_bytes_in_use(0) == 0);
}

TEST_CASE("measure() on a GPU: every default plan, checked against row_fused and counted") {
  reset_fake_machine();
  const auto executor = make_executor({.device = "cuda:1", .timing = "isolated"}, {});
  REQUIRE(executor.ok());
  const Problem problem{.d_model = 96, .d_ff = 60};
  MeasureOptions options;
  options.executor = executor->get();
  options.threads = 1;
  options.residency = Residency::warm;
  options.budget_s = 0;
  options.min_rounds = 1;
  std::vector<CaseRequest> cases;
  for (const Plan& plan : default_plans(problem)) cases.push_back({(*executor)->suited(plan, problem), {}});
  cases.push_back({std::nullopt, "cublaslt"});  // whose module is not beside a test
  const auto measured = measure(problem, 0.3, cases, options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->device == "cuda:1");
  CHECK(measured->threads == 5);
  CHECK(measured->read_bandwidth_Bps == doctest::Approx(1e12).scale(0.0).epsilon(1e-6));
  for (const CaseResult& one : measured->cases) {
    CAPTURE(one.label);
    if (!one.plan) {
      CHECK(one.error.find("cublaslt") != std::string::npos);
      continue;
    }
    CHECK(one.error == "");
    CHECK(same_time(one.median_s, kFakeKernelSeconds * (one.plan->strategy == Strategy::unfused ? 2 : 1)));
    CHECK(one.bytes == weight_bytes(one.statistics));
    if (one.plan->strategy != Strategy::sign_split) CHECK(one.same_bits_as_row_fused);
  }
}

TEST_CASE("the report's GPU: the first, the one asked for, none, or why it cannot be used") {
  reset_fake_machine();
  CHECK(choose_gpu("")->chosen->index == 0);
  CHECK(choose_gpu("")->found.size() == 2);
  CHECK(choose_gpu("cuda:1")->chosen->name == "NVIDIA Imaginary Five");
  CHECK_FALSE(choose_gpu("cpu")->chosen.has_value());
  CHECK(choose_gpu("cpu")->found.size() == 2);
  CHECK(choose_gpu("cuda:2").message() == "--device cuda:2: this machine has 2 CUDA device(s), numbered from 0: no device 2");
  CHECK(choose_gpu("gpu").status().code() == StatusCode::invalid_argument);
  fake_machine().gpus.clear();
  CHECK_FALSE(choose_gpu("")->chosen.has_value());
  CHECK_FALSE(choose_gpu("")->none.empty());
  CHECK(choose_gpu("cuda:0").message().rfind("--device cuda:0: ", 0) == 0);
}

TEST_CASE("the report's GPU run: calibrated, predicted, written down, measured") {
  reset_fake_machine();
  fake_machine().gpus[1].multiprocessors = 1;  // thousands of calls: each as short as can be
  const ScratchDirectory scratch;
  const Problem problem{.d_model = 64, .d_ff = 8};
  const std::vector<sim::ValidationCase> cases{{problem, 0.2, Residency::warm}};
  bool written = false;  // when the first kernel ran
  const GpuRun run = run_on_gpu(*choose_gpu("cuda:1")->chosen, cases, scratch.path(), 0.0, [&](double, const std::string&) {
    if (fake_machine().launches.empty()) written = std::filesystem::exists(scratch / "gpu-predictions.json");
  });
  CHECK(run.error == "");
  CHECK(run.device.index == 1);
  CHECK(written);
  CHECK(run.machine.name == "imaginary-five");
  CHECK(sim::parse_machine(read_text(scratch / "gpu-machine.json"), "gpu-machine.json")->name == "imaginary-five");
  CHECK(run.predictions_file == "gpu-predictions.json");
  REQUIRE(run.run.groups.size() == 1);
  CHECK(run.run.points.size() == run.run.groups[0].plans.size());
  for (const FakeLaunch& launch : fake_machine().launches) {
    CHECK(launch.device == 1);
    CHECK_FALSE(launch.cooperative);
  }

  const gpu::Device gone = *choose_gpu("")->chosen;
  fake_machine().gpus[0].memory_bytes = 1000;
  const GpuRun full = run_on_gpu(gone, cases, scratch.path(), 0.0, {});
  CHECK(full.error.find("out of memory") != std::string::npos);
  fake_machine().gpus.clear();
  CHECK(run_on_gpu(gone, cases, scratch.path(), 0.0, {}).error.find("CUDA") != std::string::npos);
}

// ---- the whole command ----

TEST_CASE("run --device writes what the CPU writes, and says it in the same form") {
  const ScratchDirectory scratch;
  write_layer(scratch);
  write_input(scratch);
  for (const char* strategy : {"row_fused", "unfused", "sign_split", "certified"}) {
    CAPTURE(strategy);
    std::vector<std::string> results;
    for (const char* device : {"cpu", "cuda:0", "cuda:1"}) {
      const std::string y = std::string(device) + ".npy", mask = std::string(device) + "-mask.npy";
      const CommandResult result =
          run_signsplit(scratch.path(), {"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", y, "--mask", mask,
                                         "--strategy", strategy, "--skip", "--parts", "5", "--device", device, "--json", "-"});
      REQUIRE_MESSAGE(result.exit_code == 0, result.err);
      CHECK(read_text(scratch / y) == read_text(scratch / "cpu.npy"));
      CHECK(read_text(scratch / mask) == read_text(scratch / "cpu-mask.npy"));
      CHECK(keys_of(result.out) == keys_of(results.empty() ? result.out : results.front()));
      results.push_back(result.out);
      CHECK(Json::parse(result.out)["stats"] == Json::parse(results.front())["stats"]);
      CHECK(Json::parse(result.out)["plan"] == Json::parse(results.front())["plan"]);
    }
  }
}

TEST_CASE("bench --device reports what it reports of the CPU") {
  const ScratchDirectory scratch;
  const auto bench = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"bench", "--shape", "96x80", "--budget", "0", "--residency", "warm", "--only", "unfused,row_fused+skip,certified",
                                   "--json", "-"};
    words.insert(words.end(), more.begin(), more.end());
    const CommandResult result = run_signsplit(scratch.path(), words);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    return result.out;
  };
  const std::string on_cpu = bench({});
  for (const char* launch : {"graph", "programmatic"}) {
    const std::string on_gpu = bench({"--device", "cuda:1", "--timing", "isolated", "--launch", launch});
    CHECK(keys_of(on_gpu) == keys_of(on_cpu));
    const Json json = Json::parse(on_gpu);
    CHECK(json["device"] == "cuda:1");
    for (const Json& one : json["cases"]) CHECK(one["same_bits_as_row_fused"] == true);
  }
}

TEST_CASE("calibrate --device writes a profile that predict takes") {
  const ScratchDirectory scratch;
  CHECK(broken_refusal(run_signsplit(scratch.path(), {"calibrate", "--device", "cuda:1"}), "--output") == "");
  const CommandResult calibrated = run_signsplit(scratch.path(), {"calibrate", "--device", "cuda:1", "--output", "gpu.json", "--json", "-"});
  REQUIRE_MESSAGE(calibrated.exit_code == 0, calibrated.err);
  CHECK(Json::parse(calibrated.out) == Json::parse(read_text(scratch / "gpu.json")));
  CHECK(sim::parse_machine(calibrated.out, "gpu.json")->name == "imaginary-five");
  const CommandResult predicted = run_signsplit(scratch.path(), {"predict", "--shape", "256x1024", "--hardware", "gpu.json", "--json", "-"});
  REQUIRE_MESSAGE(predicted.exit_code == 0, predicted.err);
  CHECK(Json::parse(predicted.out)["cases"][0]["time_s"].get<double>() > 0);
}

TEST_CASE("validate --device predicts with the GPU's profile and writes it down before anything is measured") {
  const ScratchDirectory scratch;
  const std::vector<std::string> words{"validate", "--device", "cuda:1", "--keep", "kept.json", "--limit", "1e-9"};
  CHECK(broken_refusal(run_signsplit(scratch.path(), words), "imaginary-five") == "");  // there is no such profile yet
  CHECK(std::filesystem::is_empty(scratch.path()));
  std::vector<std::string> with_profile = words;
  with_profile.insert(with_profile.end(), {"--profile", "h200"});
  const CommandResult result = run_signsplit(scratch.path(), with_profile);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(result.out.find("0 of 12 problems measured") != std::string::npos);
  const Json written = Json::parse(read_text(scratch / "kept.predictions.json"));
  CHECK(written["machine"]["meta"]["name"] == "h200");
  for (const Json& group : written["groups"]) {
    for (const Json& one : group["cases"]) {
      CHECK(one["time_s"].get<double>() > 0);
      CHECK(one["terms"]["launch"].get<double>() > 0);
      CHECK(one["label"].get<std::string>().find("residual") == std::string::npos);  // no GPU runs it
    }
  }
  CHECK_FALSE(std::filesystem::exists(scratch / "kept.json"));
  with_profile[2] = "cuda:0";  // with fewer multiprocessors: other plans suit it
  REQUIRE(run_signsplit(scratch.path(), with_profile).exit_code == 0);
  CHECK(Json::parse(read_text(scratch / "kept.predictions.json"))["groups"] != written["groups"]);
}

TEST_CASE("the exact mask and the rotation are the CPU's: refused on a GPU before anything runs or is written") {
  const ScratchDirectory scratch;
  write_layer(scratch);
  write_input(scratch);
  CHECK(broken_refusal(run_signsplit(scratch.path(), {"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy", "--strategy",
                                                      "row_fused", "--exact-mask", "m.npy", "--device", "cuda:1"}),
                       "--exact-mask needs --device cpu (got cuda:1)") == "");
  CHECK(broken_refusal(run_signsplit(scratch.path(), {"bench", "--shape", "64x64", "--exact-mask", "--device", "cuda:0"}), "--exact-mask") == "");
  CHECK(broken_refusal(run_signsplit(scratch.path(), {"bench", "--shape", "64x64", "--rotation", "64", "--device", "cuda:0"}), "--rotation") == "");
  CHECK_FALSE(std::filesystem::exists(scratch / "y.npy"));
  CHECK_FALSE(std::filesystem::exists(scratch / "m.npy"));
}

TEST_CASE("a device that is not there: one line before anything is written") {
  const ScratchDirectory scratch;
  const std::vector<std::vector<std::string>> commands{{"report", "--out", "r"}, {"validate", "--out", "p.json"}, {"calibrate", "--output", "g.json"},
                                                       {"bench", "--shape", "64x64", "--json", "b.json"}};
  for (std::vector<std::string> words : commands) {
    CAPTURE(words[0]);
    words.insert(words.end(), {"--device", "cuda:2"});
    CHECK(broken_refusal(run_signsplit(scratch.path(), words), "--device cuda:2: this machine has 2 CUDA device(s)") == "");
  }
  CHECK(std::filesystem::is_empty(scratch.path()));
}
