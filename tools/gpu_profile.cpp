#include "tools/gpu_profile.hpp"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

using sim::Kind;
using sim::Quantity;

constexpr double kKiB = 1024.0;
/// Of one multiprocessor and clock, on all that this project runs on (CUDA programming guide, throughput of arithmetic).
constexpr double kFmaPerClock = 64;
constexpr double kMostFmaPerClock = 128;  // from compute capability 8.6 on

std::string command_of(const gpu::Device& device) { return fmt::format("signsplit calibrate --device cuda:{}", device.index); }

Quantity measured(const gpu::Device& device, double value, const char* unit, const char* how) {
  return {value, unit, Kind::measured, fmt::format("{}: {}", command_of(device), how), 0};
}

Quantity told(double value, const char* unit) { return {value, unit, Kind::datasheet, "the driver, of this device", 0}; }

double fma_per_clock(const gpu::Device& device) {
  return device.compute_major == 8 && device.compute_minor == 0 ? kFmaPerClock : kMostFmaPerClock;
}

void add_levels(sim::Machine& machine, const gpu::Device& device) {
  sim::CacheLevel l2;
  l2.name = "L2";
  l2.capacity_bytes = told(static_cast<double>(device.l2_bytes), "B");
  l2.shared_by_units = device.multiprocessors;
  l2.shared_from = {Kind::datasheet, "the driver, of this device"};
  l2.line_bytes = 128;
  l2.line_from = {Kind::assumed, "usual for this maker"};
  machine.levels.push_back(l2);
}

/// The curve over footprints, and as its last point what reading far more than the L2 gave.
void add_bandwidth(sim::Machine& machine, const gpu::DeviceFigures& figures) {
  const int workers = figures.device.multiprocessors;
  for (const auto& [bytes, rate] : figures.read_by_footprint_bytes) {
    machine.read_bandwidth.push_back({.working_set_bytes = bytes, .threads = workers, .bytes_per_s = rate, .ci90 = 0});
  }
  machine.read_bandwidth.push_back(
      {.working_set_bytes = 1024 * kKiB * kKiB, .threads = workers, .bytes_per_s = figures.read_Bps, .ci90 = 0});
  machine.read_bandwidth_kind = Kind::measured;
  machine.read_bandwidth_source = fmt::format("{}: reading a footprint over and over, the last point once; a copy moved {:.0f} GB/s",
                                              command_of(figures.device), figures.copy_Bps / 1e9);
}

/// The least bytes in flight that gave 97 % of the best: more would not show.
double enough_inflight_bytes(const gpu::DeviceFigures& figures) {
  for (const auto& [bytes, rate] : figures.read_by_inflight_bytes) {
    if (rate >= 0.97 * figures.read_Bps) return bytes;
  }
  return figures.read_by_inflight_bytes.empty() ? 0 : figures.read_by_inflight_bytes.back().first;
}

/// Little's law at the fewest bytes in flight, where the memory is far from busy.
double loaded_latency_s(const gpu::DeviceFigures& figures) {
  if (figures.read_by_inflight_bytes.empty()) return figures.memory_latency_s;
  const auto& [bytes, rate] = figures.read_by_inflight_bytes.front();
  return bytes * figures.device.multiprocessors / rate;
}

void add_figures(sim::Machine& machine, const gpu::DeviceFigures& figures) {
  const gpu::Device& device = figures.device;
  auto& at = machine.figures;
  if (device.memory_peak_Bps > 0) at["dram.bandwidth_peak"] = told(device.memory_peak_Bps, "B/s");
  at["dram.latency"] = {loaded_latency_s(figures), "s", Kind::fitted,
                        fmt::format("{}: bytes in flight over the bandwidth they gave, when they were few; one dependent load took {:.0f} ns",
                                    command_of(device), figures.memory_latency_s * 1e9),
                        0};
  at["concurrency.smem_per_unit"] = told(static_cast<double>(device.shared_bytes_per_block), "B");
  const double ring = std::max(static_cast<double>(device.shared_bytes_per_block) - 64 * kKiB, 16 * kKiB);
  at["concurrency.inflight_per_unit"] = {
      ring, "B", Kind::assumed,
      fmt::format("shared memory less 64 KiB for x and y; {:.0f} KiB gave 97 % of the bandwidth in {}",
                  enough_inflight_bytes(figures) / kKiB, command_of(device)),
      0};
  at["concurrency.read_per_unit"] = measured(device, figures.read_per_multiprocessor_Bps, "B/s", "one block alone");
  at["overheads.launch_stream"] = measured(device, figures.launch_stream_s, "s", "a chain of empty kernels");
  at["overheads.launch_graph"] = measured(device, figures.launch_graph_s, "s", "a graph of empty kernels");
  if (figures.launch_programmatic_s > 0) {
    at["overheads.launch_pdl"] = measured(device, figures.launch_programmatic_s, "s", "a graph of dependent launches");
  }
  at["overheads.launch_cooperative"] = measured(device, figures.launch_cooperative_s, "s", "a graph of cooperative launches");
  at["overheads.kernel_drain"] = {std::max(0.0, figures.first_byte_s - figures.memory_latency_s), "s", Kind::fitted,
                                  command_of(device) + ": a cold load per thread, less an empty kernel and the latency", 0};
  at["sync.grid_barrier"] = measured(device, figures.atomic_barrier_s, "s", "a counter in device memory, as the kernels use");
}

}  // namespace

std::string profile_name(const gpu::Device& device) {
  std::string name = device.name.rfind("NVIDIA ", 0) == 0 ? device.name.substr(7) : device.name;
  for (char& c : name) {
    const auto letter = static_cast<unsigned char>(c);
    c = std::isalnum(letter) != 0 ? static_cast<char>(std::tolower(letter)) : '-';
  }
  return name;
}

sim::Machine gpu_profile(const gpu::DeviceFigures& figures, const std::string& date) {
  const gpu::Device& device = figures.device;
  sim::Machine machine;
  machine.name = profile_name(device);
  machine.title = device.name;
  machine.kind = "gpu";
  machine.date = date;
  machine.units = machine.threads = device.multiprocessors;
  machine.units_from = {Kind::datasheet, "the driver, of this device"};
  machine.threads_from = {Kind::assumed, "one block per multiprocessor, as the kernels are launched"};
  machine.isa = "gpu";
  machine.clock_hz = told(device.clock_hz, "Hz");
  add_levels(machine, device);
  add_bandwidth(machine, figures);
  machine.rates.push_back({"gpu", "fma_f32",
                           {2 * fma_per_clock(device) * device.clock_hz, "FLOP/s", Kind::datasheet,
                            "CUDA programming guide: FMAs per clock and multiprocessor, at the highest clock", 0}});
  add_figures(machine, figures);
  machine.noise_cv = 0.03;
  machine.noise_from = {Kind::assumed, "repeated runs on a GPU of one's own"};
  return machine;
}

}  // namespace signsplit::tools
