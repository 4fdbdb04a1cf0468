// gpu-fit, layer, replay, and predict for GPUs, from end to end.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "command_json.hpp"
#include "command_runner.hpp"
#include "scratch_directory.hpp"
#include "signsplit/sim/gpu_fit.hpp"
#include "tools/json_output.hpp"

using namespace signsplit;
using namespace signsplit::test;
using namespace signsplit::tools;

namespace {

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary);
  stream << text;
}

/// Tables of an imaginary GPU; every other step is `late` times as long as the model says.
void write_tables(const std::filesystem::path& folder, double late) {
  const sim::StepModel model{1.2e-6, 2e-6, 2e6, 2.0, {{4e12, 4e7, 8.0}}, 1.5e12};
  std::string steps = "gpu,step_mode,bytes_per_step,median_GBps_over_block_sizes,us_per_step\n";
  double scale = 1.0;
  for (double bytes = 65536; bytes < 1e9; bytes = std::floor(bytes * 1.07)) {
    const double us = sim::step_time_s(model, bytes) * 1e6 * scale;
    steps += fmt::format("imaginary,graph,{:.0f},{:.3f},{:.6f}\n", bytes, bytes / us * 1e-3, us);
    scale = scale == 1.0 ? late : 1.0;
  }
  write_text(folder / "gpu_small_steps.csv", steps);
  std::string flight = "gpu,block_size,threads_resident,occupancy_percent,init_GBps,read_GBps,scale_GBps,triad_GBps\n";
  std::string footprint = "gpu,bytes_per_block,total_bytes,read_GBps\n";
  for (int i = 1; i <= 20; ++i) {
    flight += fmt::format("imaginary,32,{},1,1,{:.3f},1,1\n", 1000 * i, sim::saturated_Bps({3e-7, 1e11, 2.0}, 8000.0 * i) * 1e-9);
    footprint += fmt::format("imaginary,1,{},{:.3f}\n", 4000000 * i, sim::footprint_Bps({{5e12, 4e7, 5.0}, 1e12}, 4e6 * i) * 1e-9);
  }
  write_text(folder / "gpu_stream_vs_occupancy.csv", flight);
  write_text(folder / "gpu_read_vs_footprint.csv", footprint);
  write_text(folder / "fused_pairs.csv",
             "model,batch,gpu,measured_unfused_ms,measured_fused_ms,neusight_unfused_ms,neusight_fused_ms\nM,4,G,100,80,110,100\n");
}

/// Where the published tables lie, if they do: $SIGNSPLIT_PUBLISHED, else shared/data/published beside the sources.
std::filesystem::path published() {
  if (const char* folder = std::getenv("SIGNSPLIT_PUBLISHED")) return folder;
  return std::filesystem::path(__FILE__).parent_path() / "../../../shared/data/published";
}

}  // namespace

TEST_CASE("gpu-fit predicts the half it has not seen, and fails when that half is different") {
  const ScratchDirectory scratch;
  write_tables(scratch.path(), 1.0);
  const std::vector<std::string> words{"gpu-fit", "--data", ".", "--json", "-"};
  const Json good = json_of(scratch, words, 0);
  CHECK(good["limits_met"] == true);
  REQUIRE(good["steps"].size() == 1);
  CHECK(good["steps"][0]["errors"]["p95"].get<double>() < 0.02);
  CHECK(good["curves"].size() == 2);
  CHECK(good["curves"][0]["model"]["latency_s"].get<double>() == doctest::Approx(3e-7).scale(0.0).epsilon(0.02));
  CHECK(good["fused_pairs"][0]["gain_ms"] == 20.0);
  CHECK(good["fused_pairs"][0]["predicted_gain_ms"] == 10.0);
  CHECK(good["fused_pairs"][0]["gain_error"] == -0.5);
  write_tables(scratch.path(), 1.3);
  const Json bad = json_of(scratch, words, 1);
  CHECK(bad["limits_met"] == false);
  CHECK(bad["steps"][0]["errors"]["median"].get<double>() > 0.05);
}

TEST_CASE("gpu-fit names the file, the line and the rule") {
  const ScratchDirectory scratch;
  const auto refused = [&](const std::string& what) {
    const CommandResult result = run_signsplit(scratch.path(), {"gpu-fit", "--data", "."});
    CHECK(result.exit_code == 2);
    CHECK_MESSAGE(result.err.find(what) != std::string::npos, result.err);
  };
  refused("gpu_small_steps.csv: no such file");
  write_tables(scratch.path(), 1.0);
  write_text(scratch.path() / "gpu_small_steps.csv", "a,b\n");
  refused("gpu_small_steps.csv: line 1 must be gpu,step_mode");
  const std::string header = "gpu,step_mode,bytes_per_step,median_GBps_over_block_sizes,us_per_step\n";
  write_text(scratch.path() / "gpu_small_steps.csv", header + "g,m,65536,1,1\ng,m,65536\n");
  refused("line 3 must have 5 cells");
  write_text(scratch.path() / "gpu_small_steps.csv", header + "g,m,65536,1,-1\n");
  refused("line 2, cell 5 must be a positive number");
  write_text(scratch.path() / "gpu_small_steps.csv", header + "g,m,65536,1,1\n");
  refused("needs as many points");
}

TEST_CASE("published measurements: every GPU and mode within the limits") {
  const auto folder = std::filesystem::weakly_canonical(published());
  if (!std::filesystem::exists(folder / "gpu_small_steps.csv")) {
    MESSAGE("skipped: the published tables are not there (SIGNSPLIT_PUBLISHED names their folder)");
    return;
  }
  const ScratchDirectory scratch;
  const Json fit = json_of(scratch, {"gpu-fit", "--data", folder.string(), "--json", "-"}, 0);
  CHECK(fit["steps"].size() == 22);
  for (const Json& series : fit["steps"]) {
    CAPTURE(series.dump());
    CHECK(series["errors"]["median"].get<double>() <= 0.05);
    CHECK(series["errors"]["p95"].get<double>() <= 0.12);
  }
}

TEST_CASE("layer: bytes, times and the context at which the cache weighs as much as the FFN") {
  const ScratchDirectory scratch;
  const Json json = json_of(scratch, {"layer", "--model", "opt-6.7b", "--hardware", "h200", "--context", "1024,16384", "--json", "-"}, 0);
  CHECK(json["break_even_context"] == 16384.0);
  REQUIRE(json["points"].size() == 2);
  const Json &low = json["points"][0], &high = json["points"][1];
  CHECK(low["bytes"]["ffn"] == 2u * 4096 * 16384 * 2);
  CHECK(high["bytes"]["kv_cache"] == high["bytes"]["ffn"]);
  CHECK(low["ffn_share"].get<double>() > high["ffn_share"].get<double>());
  CHECK(low["layer_gain"].get<double>() > high["layer_gain"].get<double>());
  CHECK(high["layer_gain"].get<double>() >= 1.0);
  for (const auto& [option, value] : {std::pair{"--context", "10,x"}, {"--context", "0"}, {"--kv-width", "-1"}, {"--launch", "slowly"}}) {
    const CommandResult result = run_signsplit(scratch.path(), {"layer", "--model", "opt-6.7b", "--hardware", "h200", option, value});
    CHECK(result.exit_code == 2);
    CHECK_MESSAGE(result.err.find(option) != std::string::npos, result.err);
  }
}

TEST_CASE("replay: a layer that fits the last cache is read from memory once") {
  const ScratchDirectory scratch;
  const std::vector<std::string> words{"replay", "--shape", "256x1024", "--hardware", "epyc-zen5-vm", "--active", "0.1", "--json", "-", "--rounds"};
  for (const char* rounds : {"1", "2"}) {
    std::vector<std::string> all = words;
    all.emplace_back(rounds);
    const Json json = json_of(scratch, all, 0);
    REQUIRE(json["cases"].size() == 4);
    const auto weights = [&](std::size_t i) { return json["cases"][i]["memory_bytes"].get<std::uint64_t>(); };
    CHECK((rounds[0] == '1') == (weights(0) > 2u * 256 * 1024 * 2));
    CHECK((rounds[0] == '1') == (weights(1) < weights(0)));  // skip
    CHECK((rounds[0] == '2') == (weights(0) == 0));
  }
  const CommandResult gpu = run_signsplit(scratch.path(), {"replay", "--shape", "256x1024", "--hardware", "h200"});
  CHECK(gpu.exit_code == 2);
  CHECK(gpu.err.find("h200") != std::string::npos);
  CHECK(run_signsplit(scratch.path(), {"replay", "--shape", "256x1024", "--rounds", "0"}).exit_code == 2);
}

TEST_CASE("predict answers for a GPU by launch mode") {
  const ScratchDirectory scratch;
  double before = 0;
  for (const char* mode : {"graph", "stream"}) {
    const Json json = json_of(scratch, {"predict", "--model", "opt-125m", "--hardware", "h200", "--launch", mode, "--json", "-"}, 0);
    const double seconds = json["cases"][0]["time_s"].get<double>();
    CHECK(seconds > before);
    CHECK(json["cases"][0]["terms"]["launch"].get<double>() > 0.0);
    CHECK(json["decision"]["verdict"].is_string());
    before = seconds;
  }
  const CommandResult refused = run_signsplit(scratch.path(), {"predict", "--model", "opt-125m", "--hardware", "l40s", "--launch", "programmatic"});
  CHECK(refused.exit_code == 2);
  CHECK(refused.err.find("launch_pdl") != std::string::npos);
}
