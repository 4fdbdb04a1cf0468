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
  }
  return {};
}

std::optional<ParsedActivation> parse_activation(std::string_view text) {
  if (text == "identity") return ParsedActivation{{ActivationKind::identity}};
  if (text == "relu") return ParsedActivation{{ActivationKind::relu}};
  if (text == "relu2") return ParsedActivation{{ActivationKind::relu2}};
  if (text == "reglu") return ParsedActivation{{ActivationKind::relu}, true};
  if (text == "drelu") return ParsedActivation{{ActivationKind::drelu}, true};
  if (!text.starts_with(kFatrelu)) return std::nullopt;
  const std::optional<float> threshold = parse_threshold(text.substr(kFatrelu.size()));
  if (!threshold) return std::nullopt;
  return ParsedActivation{{ActivationKind::fatrelu, *threshold}};
}

}  // namespace signsplit
