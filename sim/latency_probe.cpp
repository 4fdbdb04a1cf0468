// Latency: chains of addresses through a working set.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "probes.hpp"

namespace signsplit::sim {
namespace {

constexpr int kMostChains = 16;
constexpr std::size_t kLine = static_cast<std::size_t>(kLineBytes);

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// One cycle through `lines` lines from line `first` on (Sattolo's shuffle): line i holds the offset of the next.
void link(std::byte* memory, std::size_t first, std::size_t lines, std::vector<std::uint32_t>& order, std::uint64_t& random) {
  order.resize(lines);
  for (std::size_t i = 0; i < lines; ++i) order[i] = static_cast<std::uint32_t>(i);
  for (std::size_t i = lines; i-- > 1;) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    std::swap(order[i], order[random % i]);
  }
  for (std::size_t i = 0; i < lines; ++i) {
    const std::uint64_t next = (first + order[i]) * kLine;
    std::memcpy(memory + (first + i) * kLine, &next, sizeof next);
  }
}

/// Some steps of every chain; `at` is where each has come to, so that the next call goes on to lines that were not read yet.
template <int Chains>
void follow(const std::byte* memory, std::uint64_t* at, std::int64_t steps) {
  std::uint64_t here[Chains];
  std::copy_n(at, Chains, here);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (int c = 0; c < Chains; ++c) std::memcpy(&here[c], memory + here[c], sizeof here[c]);
  }
  std::copy_n(here, Chains, at);
}

void follow_some(int chains, const std::byte* memory, std::uint64_t* at, std::int64_t steps) {
  switch (chains) {
    case 1: return follow<1>(memory, at, steps);
    case 2: return follow<2>(memory, at, steps);
    case 4: return follow<4>(memory, at, steps);
    case 8: return follow<8>(memory, at, steps);
    default: return follow<kMostChains>(memory, at, steps);
  }
}

}  // namespace

Result<ChaseProbe> ChaseProbe::make(double largest_bytes) {
  ChaseProbe probe;
  probe.memory_ = AlignedBuffer(static_cast<std::size_t>(largest_bytes) / kLine * kLine);
  if (probe.memory_.data() == nullptr) return io_error("latency: no memory for " + std::to_string(largest_bytes) + " bytes");
  return probe;
}

Sampled ChaseProbe::latency(double bytes, int chains, int repetitions) const {
  // Each chain has its own part of the working set.
  const std::size_t lines = std::max<std::size_t>(static_cast<std::size_t>(std::min(bytes, this->bytes())) / kLine / static_cast<std::size_t>(chains), 2);
  std::vector<std::uint64_t> at;
  std::vector<std::uint32_t> order;
  std::uint64_t random = 0x9e3779b97f4a7c15u;
  for (int c = 0; c < chains; ++c) {
    const std::size_t first = lines * static_cast<std::size_t>(c);
    link(memory_.data(), first, lines, order, random);
    at.push_back(first * kLine);
  }
  // A set that a cache holds is walked once before: 2^16 lines are 4 MiB.
  const auto round = static_cast<std::int64_t>(std::min<std::size_t>(lines, 1u << 16));
  follow_some(chains, memory_.data(), at.data(), round);
  constexpr std::int64_t kSteps = 10'000;
  std::vector<double> samples;
  for (int i = 0; i < repetitions; ++i) {
    const double start = now_s();
    follow_some(chains, memory_.data(), at.data(), kSteps);
    samples.push_back((now_s() - start) / static_cast<double>(kSteps));
  }
  return summarise_samples(std::move(samples));
}

}  // namespace signsplit::sim
