// Bad usage and bad input: exit status 2, exactly one line on stderr, nothing on stdout, no output file, no crash.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/gpu.hpp"
#include "signsplit/npy.hpp"

using namespace signsplit::test;
using signsplit::write_npy;

namespace {

using Words = std::vector<std::string>;

/// `run` on the sound layer and input, with options replaced or added.
Words run_words(const std::map<std::string, std::string>& options) {
  std::map<std::string, std::string> all{
      {"--weights", "layer.safetensors"}, {"--input", "x.npy"}, {"--output", "y.npy"}, {"--json", "result.json"}};
  for (const auto& [name, value] : options) all[name] = value;
  Words words{"run"};
  for (const auto& [name, value] : all) words.insert(words.end(), {name, value});
  return words;
}

void check_run_refused(const ScratchDirectory& scratch, const std::map<std::string, std::string>& options,
                       const std::string& fragment, const std::map<std::string, std::string>& environment = {}) {
  CAPTURE(fragment);
  const CommandResult result = run_signsplit(scratch.path(), run_words(options), environment);
  CHECK(broken_refusal(result, fragment) == "");
  CHECK_FALSE(std::filesystem::exists(scratch / "y.npy"));
  CHECK_FALSE(std::filesystem::exists(scratch / "result.json"));
}

/// Header of a layer file with the sound shapes and the byte ranges of f32 tensors, `up` and `down` replaced.
std::string header(const std::string& up, const std::string& down) {
  return R"({"__metadata__": {"activation": "relu"}, "up.weight": )" + up + R"(, "down.weight": )" + down + "}";
}

constexpr std::size_t kMatrix = sizeof(float) * kD * kF;
const std::string kUp = R"({"dtype": "F32", "shape": [160, 96], "data_offsets": [0, 61440]})";
const std::string kDown = R"({"dtype": "F32", "shape": [96, 160], "data_offsets": [61440, 122880]})";
static_assert(kMatrix == 61440);

}  // namespace

TEST_CASE("the checker of refusals sees every way to break one") {
  const std::string line = "signsplit run: bad shape\n";
  CHECK(broken_refusal({2, "", line}, "shape") == "");
  CHECK(broken_refusal({0, "", line}, "shape") != "");
  CHECK(broken_refusal({1, "", line}, "shape") != "");
  CHECK(broken_refusal({-1, "", line}, "shape") != "");
  CHECK(broken_refusal({2, "x", line}, "shape") != "");
  CHECK(broken_refusal({2, "", ""}, "shape") != "");
  CHECK(broken_refusal({2, "", line + line}, "shape") != "");
  CHECK(broken_refusal({2, "", "signsplit run: bad shape"}, "shape") != "");
  CHECK(broken_refusal({2, "", line}, "dtype") != "");
}

TEST_CASE("what the bad cases change is what makes them bad") {
  const LayerFiles scratch;
  const CommandResult result = run_signsplit(scratch.path(), run_words({}));
  CHECK_MESSAGE(result.exit_code == 0, result.err);
  CHECK(std::filesystem::exists(scratch / "y.npy"));
  write_raw_safetensors(scratch / "raw.safetensors", header(kUp, kDown), 2 * kMatrix);
  const CommandResult raw = run_signsplit(scratch.path(), run_words({{"--weights", "raw.safetensors"}}));
  CHECK_MESSAGE(raw.exit_code == 0, raw.err);
}

TEST_CASE("files that are not there, cut off, or something else") {
  const LayerFiles scratch;
  check_run_refused(scratch, {{"--weights", "missing.safetensors"}}, "missing.safetensors");
  check_run_refused(scratch, {{"--weights", "two\nlines.safetensors"}}, "two?lines.safetensors");
  check_run_refused(scratch, {{"--weights", "."}}, ".");
  check_run_refused(scratch, {{"--weights", "x.npy"}}, "x.npy");
  check_run_refused(scratch, {{"--input", "missing.npy"}}, "missing.npy");
  check_run_refused(scratch, {{"--input", "."}}, ".");
  const auto whole = static_cast<std::size_t>(std::filesystem::file_size(scratch / "layer.safetensors"));
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100}, whole / 2, whole - 1}) {
    CAPTURE(bytes);
    write_truncated(scratch / "layer.safetensors", scratch / "cut.safetensors", bytes);
    check_run_refused(scratch, {{"--weights", "cut.safetensors"}}, "cut.safetensors");
  }
  const auto input = static_cast<std::size_t>(std::filesystem::file_size(scratch / "x.npy"));
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{5}, std::size_t{9}, std::size_t{40}, input - 1}) {
    CAPTURE(bytes);
    write_truncated(scratch / "x.npy", scratch / "cut.npy", bytes);
    check_run_refused(scratch, {{"--input", "cut.npy"}}, "cut.npy");
  }
}

TEST_CASE("hostile safetensors") {
  const LayerFiles scratch;
  const auto refused = [&](const std::string& text, std::size_t payload, const std::string& fragment,
                           std::uint64_t length = 0) {
    CAPTURE(text);
    write_raw_safetensors(scratch / "bad.safetensors", text, payload, length);
    check_run_refused(scratch, {{"--weights", "bad.safetensors"}}, "bad.safetensors");
    check_run_refused(scratch, {{"--weights", "bad.safetensors"}}, fragment);
  };
  const std::string sound = header(kUp, kDown);
  refused(sound, 2 * kMatrix, "header", 1u << 20);
  refused(sound, 2 * kMatrix, "header", ~std::uint64_t{0});
  refused(sound, 2 * kMatrix, "header", std::uint64_t{1} << 63);
  refused("[]", 0, "bad");
  refused("{", 0, "bad");
  refused("\xff\xfe", 0, "bad");
  refused(std::string(100000, '['), 0, "bad");
  refused(sound, 2 * kMatrix - 4, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [96, 160], "data_offsets": [61436, 122876]})"), 2 * kMatrix, "weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [96, 160], "data_offsets": [122880, 61440]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [96, 160], "data_offsets": [-61440, 0]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [-96, -160], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [61440, 122880]})"),
          2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [9.6, 1600], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F33", "shape": [96, 160], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "F33");
  refused(header(kUp, R"({"dtype": "I32", "shape": [96, 160], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [160, 96], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"({"dtype": "F32", "shape": [15360], "data_offsets": [61440, 122880]})"), 2 * kMatrix, "down.weight");
  refused(header(kUp, R"("a string")"), 2 * kMatrix, "down.weight");
  refused(R"({"up.weight": )" + kUp + R"(, "up.weight": )" + kUp + "}", kMatrix, "up.weight");
  refused(R"({"__metadata__": {"activation": "relu"}, "up.weight": )" + kUp + "}", kMatrix, "down.weight");
  refused(R"({"__metadata__": {"activation": "swish"}, "up.weight": )" + kUp + R"(, "down.weight": )" + kDown + "}",
          2 * kMatrix, "swish");
  refused(R"({"__metadata__": {"activation": "reglu"}, "up.weight": )" + kUp + R"(, "down.weight": )" + kDown + "}",
          2 * kMatrix, "gate.weight");
}

TEST_CASE("inputs that do not fit, or hold nothing") {
  const LayerFiles scratch;
  const auto refused = [&](const std::string& dictionary, std::size_t payload, const std::string& fragment) {
    CAPTURE(dictionary);
    write_raw_npy(scratch / "bad.npy", dictionary, payload);
    check_run_refused(scratch, {{"--input", "bad.npy"}}, "bad.npy");
    check_run_refused(scratch, {{"--input", "bad.npy"}}, fragment);
  };
  refused("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 96), }", 0, "bad.npy");
  refused("{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }", 0, "bad.npy");
  refused("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 96), }", 768, "<f4");
  refused("{'descr': '<f4', 'fortran_order': True, 'shape': (5, 96), }", 1920, "order");
  refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 96), }", 384, "dimension");
  refused("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 96), }", 384, "bad.npy");
  refused("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 96), }", 384, "bad.npy");
  refused("nothing of the kind", 384, "bad.npy");
  write_input(scratch, "wide.npy", 2, kD + 1);
  check_run_refused(scratch, {{"--input", "wide.npy"}}, "d_model = 96");
}

TEST_CASE("options that name nothing known") {
  const LayerFiles scratch;
  check_run_refused(scratch, {{"--strategy", "magic"}},
                    "auto, unfused, row_fused, sign_split, certified, reference, reference_composite");
  check_run_refused(scratch, {{"--strategy", "sign_split"}, {"--variant", "both"}}, "--variant 'both'");
  check_run_refused(scratch, {{"--strategy", "sign_split"}, {"--repair", "later"}}, "--repair 'later'");
  check_run_refused(scratch, {{"--strategy", "row_fused"}, {"--variant", "interim"}}, "sign_split");
  check_run_refused(scratch, {{"--strategy", "row_fused"}, {"--parts", "0"}}, "--parts");
  check_run_refused(scratch, {{"--strategy", "row_fused"}, {"--k-tile", "100"}}, "multiple of 64");
  check_run_refused(scratch, {{"--plan", "{\"strategy\": 7}"}}, "--plan");
  check_run_refused(scratch, {{"--activation", "gelu?"}}, "--activation 'gelu?'");
  check_run_refused(scratch, {{"--strategy", "sign_split"}, {"--activation", "gelu"}}, "sign_split is not defined for the activation gelu");
  check_run_refused(scratch, {{"--strategy", "certified"}, {"--activation", "silu"}}, "certified is not defined for the activation silu");
  check_run_refused(scratch, {{"--strategy", "reference_composite"}, {"--activation", "gelu_tanh"}}, "use staged for activation gelu_tanh");
  check_run_refused(scratch, {{"--activation", "drelu"}}, "gate");
  check_run_refused(scratch, {{"--batch", "0"}}, "--batch '0'");
  check_run_refused(scratch, {{"--batch", "-1"}}, "--batch");
  check_run_refused(scratch, {{"--batch", "many"}}, "--batch");
  check_run_refused(scratch, {{"--threads", "-2"}}, "--threads");
  check_run_refused(scratch, {{"--no-such-option", "1"}}, "no-such-option");
  check_run_refused(scratch, {{"--strategy", "folded"}}, "docs/studies/folded.md");
}

TEST_CASE("instruction sets and devices that are not there") {
  const LayerFiles scratch;
  check_run_refused(scratch, {{"--isa", "neon"}}, "--isa 'neon'");
  check_run_refused(scratch, {{"--strategy", "certified"}, {"--placement", "residual"}, {"--plane-bits", "7"}}, "plan.plane_bits must be 8");
  for (const char* placement : {"none", "aside"}) {
    check_run_refused(scratch, {{"--strategy", "certified"}, {"--placement", placement}}, "known are beside, residual");
  }
  check_run_refused(scratch, {}, "SIGNSPLIT_ISA", {{"SIGNSPLIT_ISA", "neon"}});
  const auto supported = signsplit::cpu::supported_isas();
  for (const auto isa : {signsplit::cpu::Isa::avx2, signsplit::cpu::Isa::avx512}) {
    if (std::find(supported.begin(), supported.end(), isa) != supported.end()) continue;
    const std::string name(to_string(isa));
    check_run_refused(scratch, {{"--isa", name}}, name);
  }
  check_run_refused(scratch, {{"--device", "tpu"}}, "cpu or cuda:N");
  check_run_refused(scratch, {{"--device", "cuda:99"}}, "cuda:99");
  if (!signsplit::gpu::devices()) check_run_refused(scratch, {{"--device", "cuda:0"}}, signsplit::gpu::devices().message());
}

TEST_CASE("outputs that cannot be written, or would replace an input") {
  const LayerFiles scratch;
  check_run_refused(scratch, {{"--output", "no/such/y.npy"}}, "--output");
  check_run_refused(scratch, {{"--output", "."}}, "--output");
  check_run_refused(scratch, {{"--output", "/dev/null"}}, "not a regular file");
  check_run_refused(scratch, {{"--mask", "no/such/mask.npy"}}, "--mask");
  check_run_refused(scratch, {{"--exact-mask", "no/such/mask.npy"}}, "--exact-mask");
  check_run_refused(scratch, {{"--exact-mask", "y.npy"}}, "same file");
  check_run_refused(scratch, {{"--exact-mask", "mask.npy"}, {"--strategy", "reference"}}, "see --mask");
  check_run_refused(scratch, {{"--json", "no/such/result.json"}}, "--json");
  check_run_refused(scratch, {{"--mask", "./y.npy"}}, "same file");
  check_run_refused(scratch, {{"--json", "y.npy"}}, "same file");
  const std::string layer = read_text(scratch / "layer.safetensors"), input = read_text(scratch / "x.npy");
  CHECK(broken_refusal(run_signsplit(scratch.path(), run_words({{"--output", "./layer.safetensors"}})), "same file") == "");
  CHECK(broken_refusal(run_signsplit(scratch.path(), run_words({{"--output", "x.npy"}})), "same file") == "");
  CHECK(read_text(scratch / "layer.safetensors") == layer);
  CHECK(read_text(scratch / "x.npy") == input);
}

TEST_CASE("an older output stays as it was when the command is refused") {
  const LayerFiles scratch;
  write_input(scratch, "y.npy", 1, 3);
  const std::string before = read_text(scratch / "y.npy");
  CHECK(broken_refusal(run_signsplit(scratch.path(), run_words({{"--strategy", "magic"}})), "magic") == "");
  CHECK(read_text(scratch / "y.npy") == before);
}

TEST_CASE("bad usage of the other commands") {
  const ScratchDirectory scratch;
  const auto refused = [&](const Words& words, const std::string& fragment) {
    CAPTURE(fragment);
    CHECK(broken_refusal(run_signsplit(scratch.path(), words), fragment) == "");
  };
  refused({}, "the commands are");
  refused({"frobnicate"}, "unknown command 'frobnicate'");
  refused({"explain"}, "--shape");
  refused({"--frobnicate"}, "frobnicate");
  refused({"run"}, "--weights");
  refused({"predict"}, "--shape");
  for (const char* shape : {"2048", "0x1", "-1x5", "1x99999999999", "axb"}) refused({"predict", "--shape", shape}, "--shape");
  refused({"predict", "--model", "gpt-0"}, "--model 'gpt-0'");
  refused({"predict", "--shape", "64x64", "--hardware", "abacus"}, "abacus");
  refused({"predict", "--shape", "64x64", "--hardware", "missing.json"}, "missing.json");
  refused({"predict", "--shape", "64x64", "--active", "1.5"}, "--active");
  refused({"predict", "--shape", "64x64", "--residency", "tepid"}, "--residency");
  refused({"predict", "--shape", "64x64", "--dtype", "int4"}, "--dtype");
  refused({"bench"}, "--shape");
  refused({"hardware", "abacus"}, "abacus");
  refused({"models", "surplus"}, "surplus");
  refused({"calibrate", "--output", "no/such/p.json"}, "--output");
  for (const char* command : {"calibrate", "validate"}) refused({command, "--device", "cuda:99"}, "cuda:99");
  refused({"bench", "--shape", "64x64", "--device", "cuda:99"}, "cuda:99");
  refused({"bench", "--shape", "64x64", "--launch", "rocket"}, "rocket");
  refused({"bench", "--shape", "64x64", "--only", "row_fused,loop"}, "'loop'; the cases are unfused, unfused+skip, row_fused,");
  refused({"bench", "--shape", "64x64", "--rotation", "0"}, "--rotation '0'");
  refused({"bench", "--shape", "64x64", "--rotation", "1.5"}, "--rotation '1.5'");
  refused({"report", "--out", "r", "--device", "tpu"}, "--device 'tpu' must be cpu or cuda:N");
  refused({"report", "--out", "r", "--device", "cuda:99"}, "--device cuda:99: ");
  CHECK_FALSE(std::filesystem::exists(scratch / "r"));
  refused({"bench", "--shape", "64x64", "--dtype", "int8", "--arithmetic", "w8a8", "--exact-mask"}, "--exact-mask");
  refused({"validate", "--suite", "endless"}, "--suite");
  refused({"validate", "--profile", "missing.json"}, "missing.json");
  refused({"validate", "--out", "no/such/p.json"}, "--out");
  refused({"models", "--json", "no/such/models.json"}, "--json");
  refused({"trace", "--shape", "64x64", "--hardware", "h200", "--simulated-only", "--output", "t.json"}, "trace: the event-driven model is of CPUs, and h200 is a GPU");
}

TEST_CASE("hostile profiles") {
  const ScratchDirectory scratch;
  for (const char* text : {"", "{", "[]", "null", "{\"name\": 7}", "{\"name\": \"x\"}"}) {
    CAPTURE(text);
    std::FILE* file = std::fopen((scratch / "bad.json").c_str(), "w");
    std::fputs(text, file);
    std::fclose(file);
    const Words words{"predict", "--shape", "64x64", "--hardware", "bad.json"};
    CHECK(broken_refusal(run_signsplit(scratch.path(), words), "bad.json") == "");
  }
}

TEST_CASE("files that are to be JSON and are not, or another JSON, are refused in our words, not the parser's") {
  const ScratchDirectory scratch;
  std::ofstream(scratch / "text.json") << "{\"a\": 1,\n  # }";
  std::ofstream(scratch / "other.json") << "{\"a\": 1}";
  std::ofstream(scratch / "list.json") << "[1]";
  const Words predict{"predict", "--shape", "64x64", "--hardware"}, replay{"validate", "--replay"};
  const auto refused = [&](Words words, const std::string& file, const std::string& fragment) {
    words.push_back(file);
    CHECK(broken_refusal(run_signsplit(scratch.path(), words), file + ": " + fragment) == "");
  };
  refused(predict, "text.json", "not JSON (at byte 12)");
  refused(replay, "text.json", "not JSON (at byte 12)");
  refused(predict, "other.json", "a is not a field of a profile");
  for (const char* file : {"other.json", "list.json"}) refused(replay, file, "\"format\" must be");
}

TEST_CASE("predictions refuse activity that is none, or of another layer") {
  const LayerFiles scratch;
  const auto refused = [&](const Words& more, const std::string& fragment) {
    for (const char* command : {"predict", "sweep"}) {
      CAPTURE(fragment);
      Words words{command, "--shape", "96x300", "--activity"};
      words.insert(words.end(), more.begin(), more.end());
      CHECK(broken_refusal(run_signsplit(scratch.path(), words), fragment) == "");
    }
  };
  const auto write = [&](const std::string& text) { std::ofstream(scratch / "a.json") << text; };
  refused({"missing.json"}, "missing.json");
  refused({"missing.npy"}, "missing.npy");
  refused({"x.npy"}, "of 0 and 1");
  const std::vector<float> mask(2 * 200, 1.0f);
  REQUIRE(write_npy(scratch / "mask.npy", mask, 2, 200).ok());
  refused({"mask.npy"}, "200 columns");
  REQUIRE(write_npy(scratch / "mask.npy", std::vector<float>(2 * 300, 1.0f), 2, 300).ok());
  refused({"mask.npy", "--batch", "3"}, "2 tokens");
  refused({"mask.npy", "--active", "0.5"}, "exclude each other");
  write("{\"layers\": []}");
  refused({"a.json"}, "a.json: must be what");
  write("{\"layers\": [{\"units\": 3, \"tokens\": 1, \"active\": 1.5}]}");
  refused({"a.json"}, "layers[0]: \"active\" must be from 0 to 1");
  write("{\"layers\": [{\"units\": 3, \"tokens\": 1, \"active\": 0.5, \"planes\": [{\"bits\": 8}]}]}");
  refused({"a.json"}, "layers[0].planes[0]: needs a number \"group\"");
  write("{\"layers\": [{\"units\": 3, \"tokens\": 1, \"active\": 0.5, \"crossings\": 7}]}");
  refused({"a.json"}, "\"crossings\" must be an array");
}

TEST_CASE("activity and overflow refuse what has no answer") {
  const LayerFiles scratch;
  write_input(scratch, "wide.npy", 2, kD + 1);
  const auto refused = [&](const Words& words, const std::string& fragment) {
    CAPTURE(fragment);
    CHECK(broken_refusal(run_signsplit(scratch.path(), words), fragment) == "");
  };
  const Words activity{"activity", "--weights", "layer.safetensors", "--input"};
  const auto with = [](Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  refused(with(activity, {"wide.npy"}), "needs d_model = 96");
  refused(with(activity, {"x.npy", "x.npy"}), "one input for each layer");
  refused(with(activity, {"x.npy", "--plane-bits", "9"}), "--plane-bits");
  refused(with(activity, {"x.npy", "--plane-group", "65"}), "multiple of 64");
  refused(with(activity, {"x.npy", "--activation", "identity"}), "no closed units");
  refused(with(activity, {"x.npy", "--activation", "gelu"}), "no closed units");
  refused({"sweep", "--shape", "64x64", "--hardware", "avx2-laptop", "--activation", "swiglu", "--active", "0.1"}, "--active has no meaning for swiglu");
  refused({"overflow", "--weights", "layer.safetensors"}, "needs a bound");
  refused({"overflow", "--weights", "layer.safetensors", "--x-bound", "-1"}, "--x-bound");
  refused({"overflow", "--weights", "layer.safetensors", "--input", "wide.npy"}, "needs d_model = 96");
}
