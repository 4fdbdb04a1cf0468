// The table of published models.
#include "signsplit/models.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

using namespace signsplit;

TEST_CASE("every model is a valid problem under a name of its own") {
  std::set<std::string_view> names;
  for (const Model& model : models()) {
    CAPTURE(std::string(model.name));
    CHECK(names.insert(model.name).second);
    CHECK(model.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") == std::string_view::npos);
    CHECK(
        validate(Problem{.d_model = model.d_model, .d_ff = model.d_ff, .activation = model.activation, .gated = model.gated})
            .message() == "");
    CHECK(model.reported_zeros >= 0.0);
    CHECK(model.reported_zeros < 1.0);
    CHECK_FALSE(model.source.empty());
    // Every published shape here is made of whole 64-element blocks: a slip of a digit would hardly be.
    CHECK(model.d_model % 64 == 0);
    CHECK(model.d_ff % 64 == 0);
  }
  CHECK(names.size() == 28);
}

TEST_CASE("models are found by their exact name") {
  for (const Model& model : models()) CHECK(find_model(model.name)->name == model.name);
  CHECK(find_model("opt-6.7b")->d_ff == 16384);
  CHECK(find_model("prosparse-7b")->activation.threshold == 0.01f);
  CHECK(find_model("turbosparse-mistral-7b")->activation.kind == ActivationKind::drelu);
  CHECK(find_model("llama-3-8b")->activation.kind == ActivationKind::silu);
  CHECK(find_model("llama-3-8b")->gated);
  CHECK(find_model("gpt2-xl")->activation.kind == ActivationKind::gelu_tanh);
  CHECK_FALSE(find_model("OPT-6.7B"));
  CHECK_FALSE(find_model(""));
}
