#include "signsplit/activation.hpp"

#include <charconv>
#include <cmath>

namespace signsplit {
namespace {

constexpr std::string_view kFatrelu = "fatrelu:";

std::optional<float> parse_threshold(std::string_view text) {
  float value = 0.0f;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stopped != end || !std::isfinite(value) || std::signbit(value)) return std::nullopt;
  return value;
}

/// The shortest decimal that reads back as the same float.
std::string shortest(float value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, error == std::errc{} ? end : text};
}

}  // namespace

std::string to_string(const Activation& activation, bool gated) {
  switch (activation.kind) {
    case ActivationKind::identity: return "identity";
    case ActivationKind::relu: return gated ? "reglu" : "relu";
    case ActivationKind::relu2: return "relu2";
    case ActivationKind::fatrelu: return std::string(kFatrelu) + shortest(activation.threshold);
    case ActivationKind::drelu: return "drelu";
    case ActivationKind::gelu: return gated ? "geglu" : "gelu";
    case ActivationKind::gelu_tanh: return gated ? "geglu_tanh" : "gelu_tanh";
    case ActivationKind::silu: return gated ? "swiglu" : "silu";
  }
  return {};
}

std::optional<ParsedActivation> parse_activation(std::string_view text) {
  struct Name {
    std::string_view text;
    ActivationKind kind;
    bool must_be_gated = false;
  };
  using enum ActivationKind;
  constexpr Name kNames[] = {{"identity", identity},   {"relu", relu},        {"relu2", relu2},
                             {"gelu", gelu},           {"silu", silu},        {"gelu_tanh", gelu_tanh},
                             {"reglu", relu, true},    {"drelu", drelu, true}, {"geglu", gelu, true},
                             {"swiglu", silu, true},   {"geglu_tanh", gelu_tanh, true}};
  for (const Name& name : kNames) {
    if (text == name.text) return ParsedActivation{{name.kind}, name.must_be_gated};
  }
  if (!text.starts_with(kFatrelu)) return std::nullopt;
  const std::optional<float> threshold = parse_threshold(text.substr(kFatrelu.size()));
  if (!threshold) return std::nullopt;
  return ParsedActivation{{ActivationKind::fatrelu, *threshold}};
}

}  // namespace signsplit
