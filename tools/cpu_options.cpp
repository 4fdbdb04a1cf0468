#include "tools/cpu_options.hpp"

#include <fmt/format.h>

#include "tools/problem_options.hpp"

namespace signsplit::tools {
void add_cpu_options(CLI::App& command, CpuOptions& options) {
  const std::string group = "The machine";
  command.add_option("--threads", options.threads, "Threads; 0: all cores")->type_name("N")->capture_default_str()->group(group);
  command
      .add_option("--isa", options.isa,
                  "Instruction set: scalar, avx2, avx512; default: $SIGNSPLIT_ISA, else the best of the machine")
      ->type_name("I")
      ->group(group);
}

Result<int> parse_threads(const std::string& text) {
  const std::optional<index_t> threads = parse_count(text);
  if (!threads || *threads > kMaxThreads) {
    return invalid_argument(fmt::format("--threads '{}' must be 0 (all) or a whole number up to {}", text, kMaxThreads));
  }
  return static_cast<int>(*threads);
}

Result<std::optional<cpu::Isa>> parse_isa_option(const std::string& text) {
  if (text.empty()) return std::optional<cpu::Isa>{};
  const std::optional<cpu::Isa> isa = cpu::parse_isa(text);
  if (!isa) return invalid_argument(fmt::format("--isa '{}' is not known; known are scalar, avx2, avx512", text));
  return isa;
}

Result<cpu::Options> resolve(const CpuOptions& options) {
  const Result<int> threads = parse_threads(options.threads);
  if (!threads) return threads.status();
  const Result<std::optional<cpu::Isa>> asked = parse_isa_option(options.isa);
  if (!asked) return asked.status();
  const Result<cpu::Isa> isa = cpu::select_isa(*asked);
  if (!isa) return isa.status();
  return cpu::Options{*threads, *isa};
}

void add_residency_option(CLI::App& command, std::string& residency) {
  command
      .add_option("--residency", residency,
                  "Where the weights are: cold (beyond the last-level cache, as in decoding) or warm (the same layer again)")
      ->type_name("cold|warm")
      ->capture_default_str()
      ->group("The machine");
}

Result<sim::Residency> parse_residency(const std::string& text) {
  if (text == "cold") return sim::Residency::cold;
  if (text == "warm") return sim::Residency::warm;
  return invalid_argument(fmt::format("--residency '{}' must be cold or warm", text));
}

std::string_view to_string(sim::Residency residency) noexcept {
  return residency == sim::Residency::cold ? "cold" : "warm";
}

}  // namespace signsplit::tools
