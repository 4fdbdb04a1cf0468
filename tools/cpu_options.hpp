// --threads, --isa, --residency: how plans run on a CPU, and where their weights lie.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "signsplit/cpu.hpp"
#include "signsplit/sim/predict.hpp"
#include "signsplit/status.hpp"

namespace signsplit::tools {

struct CpuOptions {
  std::string threads = "0";
  std::string isa = {};
};

inline constexpr int kMaxThreads = 4096;

void add_cpu_options(CLI::App& command, CpuOptions& options);
/// The executor's options with the instruction set filled in (--isa, else $SIGNSPLIT_ISA, else the best supported);
/// or why this machine cannot. threads 0 stays 0: all.
[[nodiscard]] Result<cpu::Options> resolve(const CpuOptions& options);

/// --threads alone: 0 (all) or a number up to kMaxThreads.
[[nodiscard]] Result<int> parse_threads(const std::string& text);
/// --isa alone, without asking whether this machine has it; empty for empty.
[[nodiscard]] Result<std::optional<cpu::Isa>> parse_isa_option(const std::string& text);

void add_residency_option(CLI::App& command, std::string& residency);
/// "cold" or "warm".
[[nodiscard]] Result<sim::Residency> parse_residency(const std::string& text);
[[nodiscard]] std::string_view to_string(sim::Residency residency) noexcept;

}  // namespace signsplit::tools
