// What the operating system tells about this machine. Everything here is `assumed`: nothing has been measured.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "probes.hpp"
#include "signsplit/sim/machine.hpp"

namespace signsplit::sim {
namespace {

constexpr char kSource[] = "operating system, and typical figures";

Quantity assumed(double value, const char* unit, const char* source = kSource) {
  return {value, unit, Kind::assumed, source, 0.0};
}

std::string first_line(const std::string& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// "48K", "32M" in bytes; 0 when it is no size.
double size_in_bytes(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !(value > 0.0)) return 0.0;
  return value * (*end == 'K' ? 1024.0 : *end == 'M' ? 1048576.0 : *end == 'G' ? 1073741824.0 : 1.0);
}

/// Number of processors in a list as the kernel writes it, "0-3,8". At least 1.
int processors_in(const std::string& list) {
  int count = 0;
  std::stringstream stream(list);
  for (std::string range; std::getline(stream, range, ',');) {
    char* end = nullptr;
    const long first = std::strtol(range.c_str(), &end, 10);
    const long last = *end == '-' ? std::strtol(end + 1, nullptr, 10) : first;
    if (end != range.c_str() && last >= first) count += static_cast<int>(std::min(last - first + 1, 65536L));
  }
  return std::max(count, 1);
}

std::vector<CacheLevel> levels_from_sysfs() {
  std::vector<CacheLevel> levels;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    const std::string type = first_line(folder + "type");
    const double bytes = size_in_bytes(first_line(folder + "size"));
    if ((type != "Data" && type != "Unified") || !(bytes > 0.0)) continue;
    const double line = size_in_bytes(first_line(folder + "coherency_line_size"));
    CacheLevel level;
    level.name = "L" + first_line(folder + "level") + (type == "Data" ? "d" : "");
    level.capacity_bytes = assumed(bytes, "B", "sysfs");
    level.shared_by_units = processors_in(first_line(folder + "shared_cpu_list"));
    level.shared_from = level.line_from = {Kind::assumed, "sysfs"};
    level.line_bytes = line >= 1.0 && line <= 65536.0 ? static_cast<int>(line) : 64;
    const double ways = std::strtod(first_line(folder + "ways_of_associativity").c_str(), nullptr);
    if (ways >= 1.0 && ways <= 4096.0) level.ways = static_cast<int>(ways), level.ways_from = {Kind::assumed, "sysfs"};
    levels.push_back(level);
  }
  std::stable_sort(levels.begin(), levels.end(), [](const CacheLevel& a, const CacheLevel& b) {
    return a.capacity_bytes.value < b.capacity_bytes.value;
  });
  return levels;
}

std::vector<CacheLevel> typical_levels() {
  return {{"L1d", assumed(32768, "B"), 1, 64}, {"L2", assumed(1 << 20, "B"), 1, 64}, {"L3", assumed(16 << 20, "B"), 4, 64}};
}

/// A "key : value" line of /proc/cpuinfo; empty when there is none.
std::string cpuinfo(const std::string& key) {
  std::ifstream stream("/proc/cpuinfo");
  for (std::string line; std::getline(stream, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

double clock_hz() {
  const double megahertz = std::strtod(cpuinfo("cpu MHz").c_str(), nullptr);
  return megahertz > 100.0 && megahertz < 20000.0 ? megahertz * 1e6 : 3e9;
}

/// Typical bandwidths: bytes per cycle and core from the private caches, bytes per second and core beyond; main memory
/// saturates with a few cores. A working set of `threads` workers is `threads` times one worker's.
void add_curve(Machine& machine, int threads) {
  const double n = threads, clock = machine.clock_hz.value;
  double last = 0;
  for (std::size_t i = 0; i < machine.levels.size(); ++i) {
    const CacheLevel& level = machine.levels[i];
    const double copies = std::max(1.0, n / level.shared_by_units);
    const double per_core = i == 0 ? 48.0 * clock : i + 1 < machine.levels.size() || i == 1 ? 24.0 * clock : 25e9;
    const double working_set = 0.5 * copies * level.capacity_bytes.value;
    if (working_set <= last) continue;
    machine.read_bandwidth.push_back({working_set, threads, n * per_core, 0.0});
    last = working_set;
  }
  const double outermost = machine.levels.back().capacity_bytes.value * std::max(1.0, n / machine.levels.back().shared_by_units);
  const double memory = std::min(15e9 * n, 15e9 * (2.0 + 0.25 * n));
  machine.read_bandwidth.push_back({std::max(4.0 * outermost, 2.0 * last), threads, memory, 0.0});
}

double fma_flops_per_cycle(const std::string& isa) { return isa == "avx512" ? 64.0 : isa == "avx2" ? 32.0 : 0.4; }

}  // namespace

Machine detect_host() {
  Machine machine;
  machine.name = "host";
  machine.title = cpuinfo("model name");
  if (machine.title.empty()) machine.title = "this machine";
  machine.units = std::max(probe_threads(), 1);
  machine.threads = machine.units;
  machine.units_from = machine.threads_from = {Kind::assumed, "operating system"};
  machine.isa = "scalar";
  machine.clock_hz = assumed(clock_hz(), "Hz");
  machine.levels = levels_from_sysfs();
  if (machine.levels.empty()) machine.levels = typical_levels();
  add_curve(machine, 1);
  if (machine.units > 1) add_curve(machine, machine.units);
  machine.read_bandwidth_source = kSource;
  machine.read_bandwidth_kind = Kind::assumed;
  for (const int threads : {1, machine.units}) {
    if (!machine.barrier_s.empty() && machine.units == 1) continue;
    const double more = threads > 1 ? 1.0 + 0.1 * threads : 0.05;
    machine.barrier_s.push_back({threads, assumed(0.4e-6 * more, "s")});
    machine.fork_join_s.push_back({threads, assumed(1.0e-6 * more, "s")});
  }
  for (const std::string& isa : probe_isas()) {
    machine.rates.push_back({isa, "fma_f32", assumed(fma_flops_per_cycle(isa) * machine.clock_hz.value, "FLOP/s")});
    machine.isa = isa;
  }
  machine.noise_cv = 0.1;
  machine.noise_from = {Kind::assumed, kSource};
  return machine;
}

}  // namespace signsplit::sim
