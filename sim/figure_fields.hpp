// The named quantities of a profile, by section, and which of them a prediction for a GPU cannot do without (docs/gpu-model.md).
#pragma once

#include <string_view>

namespace signsplit::sim {

struct FigureField {
  std::string_view section, name, base_unit;
  bool gpu_needs;
};

inline constexpr std::string_view kFigureSections[] = {"dram", "concurrency", "overheads", "sync"};

inline constexpr FigureField kFigureFields[] = {
    {"dram", "bandwidth_peak", "B/s", false},          // as the data sheet says; for people, and for the roofline
    {"dram", "latency", "s", true},                    // of a read: bytes in flight over the bandwidth they give, when they are few
    {"dram", "saturation", "1", false},                // how sharply bandwidth stops growing with bytes in flight; absent: 2
    {"concurrency", "smem_per_unit", "B", false},      // shared memory that one block may have
    {"concurrency", "inflight_per_unit", "B", true},   // that the kernels' staged copies keep in flight
    {"concurrency", "read_per_unit", "B/s", true},     // that one multiprocessor can take in at most
    {"concurrency", "read_at_1_line", "B/s", false},   // of one core of a CPU, from memory, with one line in flight,
    {"concurrency", "read_at_2_lines", "B/s", false},  // two, ...
    {"concurrency", "read_at_4_lines", "B/s", false},
    {"concurrency", "read_at_8_lines", "B/s", false},
    {"concurrency", "read_at_16_lines", "B/s", false},
    {"overheads", "launch_stream", "s", true},         // a step of a chain of tiny kernels launched one by one
    {"overheads", "launch_graph", "s", true},          // the same as nodes of a graph
    {"overheads", "launch_pdl", "s", false},           // the same with programmatic dependent launch; absent: not offered
    {"overheads", "launch_cooperative", "s", true},    // the same as cooperative launches
    {"overheads", "kernel_drain", "s", true},          // last bytes to the end of a kernel, other than in an empty one
    {"sync", "grid_barrier", "s", true},               // of all blocks of a cooperative kernel
};

[[nodiscard]] constexpr const FigureField* find_figure_field(std::string_view section, std::string_view name) noexcept {
  for (const FigureField& field : kFigureFields) {
    if (field.section == section && field.name == name) return &field;
  }
  return nullptr;
}

}  // namespace signsplit::sim
