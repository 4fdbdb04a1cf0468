// The command, C++ and C: the same weights and input, the same bits; the same question, the same prediction.
#include <doctest/doctest.h>

#include "c_layer.hpp"
#include "command_runner.hpp"
#include "layer_files.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

/// y of all tokens in one call, by C.
std::vector<float> run_c(const std::string& file, const char* plan, const FloatMatrix& x) {
  signsplit_weights* weights = nullptr;
  REQUIRE(signsplit_weights_load(file.c_str(), nullptr, &weights) == SIGNSPLIT_OK);
  const Handle<signsplit_weights> weights_owner(weights);
  signsplit_ffn* ffn = nullptr;
  REQUIRE_MESSAGE(signsplit_ffn_create(weights, x.rows, plan, 0, nullptr, &ffn) == SIGNSPLIT_OK, signsplit_last_error());
  const Handle<signsplit_ffn> ffn_owner(ffn);
  std::vector<float> y(x.values.size());
  REQUIRE(signsplit_ffn_run(ffn, x.values.data(), x.values.size(), y.data(), y.size(), nullptr, 0) == SIGNSPLIT_OK);
  return y;
}

std::vector<float> run_cpp(const std::string& file, Strategy strategy, const FloatMatrix& x) {
  const auto weights = load_weights(file);
  REQUIRE(weights.ok());
  auto ffn = cpu::Ffn::create(*weights, default_plan(weights->problem(x.rows), strategy), x.rows);
  REQUIRE(ffn.ok());
  std::vector<float> y(x.values.size());
  REQUIRE(ffn->run(x.values, y).ok());
  return y;
}

std::vector<float> run_command(const ScratchDirectory& scratch, const std::string& strategy) {
  const CommandResult result = run_signsplit(scratch.path(), {"run", "--weights", "layer.safetensors", "--input", "x.npy",
                                                              "--output", "y.npy", "--batch", std::to_string(kTokens),
                                                              "--strategy", strategy});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  const auto y = read_matrix(scratch / "y.npy");
  REQUIRE(y.ok());
  return y->values;
}

}  // namespace

TEST_CASE("the command, C++ and C give the same bits") {
  for (const bool gated : {false, true}) {
    const ScratchDirectory scratch;
    write_layer(scratch, "layer.safetensors", gated);
    write_input(scratch);
    const auto x = read_matrix(scratch / "x.npy");
    REQUIRE(x.ok());
    const std::string file = scratch / "layer.safetensors";
    for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split}) {
      const std::string name(to_string(strategy));
      CAPTURE(name);
      const auto by_c = bits(run_c(file, name.c_str(), *x));
      CHECK(by_c == bits(run_cpp(file, strategy, *x)));
      CHECK(by_c == bits(run_command(scratch, name)));
    }
  }
}

TEST_CASE("the exact reference of the command and of C have the same bits") {
  const ScratchDirectory scratch;
  write_layer(scratch);
  write_input(scratch);
  const auto x = read_matrix(scratch / "x.npy");
  REQUIRE(x.ok());
  signsplit_weights* weights = nullptr;
  REQUIRE(signsplit_weights_load((scratch / "layer.safetensors").c_str(), nullptr, &weights) == SIGNSPLIT_OK);
  const Handle<signsplit_weights> owner(weights);
  for (const signsplit_reference_mode mode : {SIGNSPLIT_STAGED, SIGNSPLIT_COMPOSITE}) {
    const std::string name = mode == SIGNSPLIT_STAGED ? "reference" : "reference_composite";
    signsplit_reference* exact = nullptr;
    REQUIRE(signsplit_reference_create(weights, mode, kTokens, x->values.data(), x->values.size(), 0, &exact) == SIGNSPLIT_OK);
    const Handle<signsplit_reference> exact_owner(exact);
    CHECK(bits({signsplit_reference_y(exact), x->values.size()}) == bits(run_command(scratch, name)));
  }
}

TEST_CASE("predictions through C are those of the command, to the byte") {
  const ScratchDirectory scratch;
  const CommandResult command =
      run_signsplit(scratch.path(), {"predict", "--hardware", "ryzen-7840u", "--shape", "1024x4096", "--active", "0.25",
                                     "--batch", "2", "--dtype", "f32", "--residency", "warm", "--threads", "2", "--json",
                                     "p.json"});
  REQUIRE_MESSAGE(command.exit_code == 0, command.err);
  char* answer = nullptr;
  REQUIRE_MESSAGE(signsplit_predict(R"({"hardware": "ryzen-7840u", "d_model": 1024, "d_ff": 4096, "active": 0.25, "batch": 2,
                                        "dtype": "f32", "residency": "warm", "threads": 2})",
                                    &answer) == SIGNSPLIT_OK,
                  signsplit_last_error());
  const Handle<char> owner(answer);
  CHECK(std::string(answer) == read_text(scratch.path() / "p.json"));
}

TEST_CASE("predictions for a GPU through C are those of the command, launch mode included") {
  const ScratchDirectory scratch;
  const CommandResult command = run_signsplit(
      scratch.path(), {"predict", "--hardware", "h200", "--shape", "1024x4096", "--active", "0.25", "--launch", "stream", "--json", "p.json"});
  REQUIRE_MESSAGE(command.exit_code == 0, command.err);
  char* answer = nullptr;
  REQUIRE_MESSAGE(signsplit_predict(R"({"hardware": "h200", "d_model": 1024, "d_ff": 4096, "active": 0.25, "launch_mode": "stream"})",
                                    &answer) == SIGNSPLIT_OK,
                  signsplit_last_error());
  const Handle<char> owner(answer);
  CHECK(std::string(answer) == read_text(scratch.path() / "p.json"));
}

TEST_CASE("named plans are predicted in their order, and `ignore` takes no part in the decision") {
  char* answer = nullptr;
  REQUIRE(signsplit_predict(R"({"hardware": "ryzen-7840u", "d_model": 256, "d_ff": 1024,
                                "plans": ["sign_split/ignore", {"strategy": "unfused", "parts": 3}]})",
                            &answer) == SIGNSPLIT_OK);
  const Handle<char> owner(answer);
  const std::string text = answer;
  CHECK(text.find("\"decision\": null") != std::string::npos);
  CHECK(text.find("\"sign_split/ignore\"") < text.find("\"unfused\""));
}

TEST_CASE("questions that cannot be answered are refused with the reason") {
  const auto refused = [](const char* request, const char* fragment, signsplit_status code = SIGNSPLIT_INVALID_ARGUMENT) {
    char* answer = nullptr;
    CHECK(signsplit_predict(request, &answer) == code);
    CHECK(answer == nullptr);
    CHECK_MESSAGE(std::string(signsplit_last_error()).find(fragment) != std::string::npos, signsplit_last_error());
  };
  refused(nullptr, "request is NULL");
  refused("", "JSON object");
  refused("[1", "JSON object");
  refused(R"({"d_model": 64})", "d_ff");
  refused(R"({"d_model": 64, "d_ff": -1})", "d_ff");
  refused(R"({"d_model": 64, "d_ff": 1e3})", "d_ff");
  refused(R"({"d_model": 64, "d_ff": 64, "active": 0})", "active");
  refused(R"({"d_model": 64, "d_ff": 64, "colour": 1})", "colour");
  refused(R"({"d_model": 64, "d_ff": 64, "activation": "drelu", "plans": ["sign_split/streams"]})", "telescoping");
  refused(R"({"d_model": 64, "d_ff": 64, "plans": ["fused"]})", "unknown plan");
  refused(R"({"d_model": 64, "d_ff": 64, "launch_mode": "slowly"})", "launch_mode");
  refused(R"({"d_model": 64, "d_ff": 64, "hardware": "no-such-machine"})", "no-such-machine", SIGNSPLIT_NOT_FOUND);
}
