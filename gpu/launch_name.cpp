// The names of the launch modes: the same in every build.
#include <array>
#include <utility>

#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

namespace {
constexpr std::array<std::pair<Launch, std::string_view>, 4> kNames{{{Launch::stream, "stream"},
                                                                     {Launch::graph, "graph"},
                                                                     {Launch::programmatic, "programmatic"},
                                                                     {Launch::cooperative, "cooperative"}}};
}  // namespace

std::string_view to_string(Launch launch) noexcept {
  for (const auto& [value, name] : kNames) {
    if (value == launch) return name;
  }
  return {};
}

std::optional<Launch> parse_launch(std::string_view text) noexcept {
  for (const auto& [value, name] : kNames) {
    if (name == text) return value;
  }
  return std::nullopt;
}

}  // namespace signsplit::gpu
