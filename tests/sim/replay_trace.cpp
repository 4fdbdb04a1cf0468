// A program that touches the addresses of a walk and nothing else, to be run under valgrind's cachegrind; and what the replay
// says of the same. replay_trace touch|idle CASE; replay_trace predict CASE D1 WAYS LL WAYS.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "address_sink.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

struct Case {
  const char* name;
  Problem problem;
  Strategy strategy;
  bool skip;
};
constexpr Case kCases[] = {
    {"unfused", {512, 160, 1, DType::f32, {}, false}, Strategy::unfused, false},
    {"row_fused", {320, 192, 2, DType::bf16, {}, false}, Strategy::row_fused, false},
    {"row_fused+skip", {512, 160, 1, DType::f32, {}, true}, Strategy::row_fused, true},
    {"sign_split", {384, 128, 1, DType::bf16, {}, false}, Strategy::sign_split, false},
    {"resident", {128, 96, 1, DType::bf16, {}, false}, Strategy::row_fused, false},
};
constexpr int kRounds = 2;

const Case& find_case(const char* name) {
  for (const Case& known : kCases) {
    if (std::strcmp(known.name, name) == 0) return known;
  }
  std::fprintf(stderr, "replay_trace: no case %s\n", name);
  std::exit(2);
}

/// Every third unit is open.
std::vector<std::uint8_t> open_units(const Problem& problem) {
  std::vector<std::uint8_t> open(static_cast<std::size_t>(problem.d_ff));
  for (std::size_t j = 0; j < open.size(); ++j) open[j] = j % 3 == 0;
  return open;
}

/// Reads a byte of every line of a range, of a buffer whose start is congruent to address 0 in any cache up to 1 MiB.
struct Toucher {
  const volatile char* base;
  void operator()(index_t begin, index_t bytes) {
    for (index_t at = begin / 64 * 64; at < begin + bytes; at += 64) static_cast<void>(base[at]);
  }
};

[[noreturn]] void touch(const Case& chosen, bool really) {
  const Plan plan = default_plan(chosen.problem, chosen.strategy, chosen.skip);
  constexpr std::size_t kAlignment = std::size_t{1} << 20;
  const std::size_t bytes = (static_cast<std::size_t>(address_map(plan, chosen.problem).bytes) / kAlignment + 1) * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, bytes);
  const std::vector<std::uint8_t> open = open_units(chosen.problem);
  Toucher toucher{static_cast<const volatile char*>(memory)};
  for (int round = 0; really && round < kRounds; ++round) touch_all(plan, chosen.problem, open, toucher);
  std::_Exit(0);  // no way out that would miss what the touching has driven from the caches
}

/// Misses of all rounds, as cachegrind counts them: those of round r are what `replay` says of the last of r rounds.
int predict(const Case& chosen, char** sizes) {
  const auto number = [](const char* text) { return static_cast<index_t>(std::strtol(text, nullptr, 10)); };
  const CacheGeometry levels[] = {{"D1", number(sizes[0]), number(sizes[1]), 64, Replacement::lru},
                                  {"LL", number(sizes[2]), number(sizes[3]), 64, Replacement::lru}};
  const Plan plan = default_plan(chosen.problem, chosen.strategy, chosen.skip);
  std::uint64_t misses[2] = {};
  for (int rounds = 1; rounds <= kRounds; ++rounds) {
    const auto counts = replay(plan, chosen.problem, open_units(chosen.problem), levels, rounds);
    if (!counts.ok()) {
      std::fprintf(stderr, "replay_trace: %s\n", counts.message().c_str());
      return 2;
    }
    for (int i = 0; i < 2; ++i) misses[i] += (*counts)[static_cast<std::size_t>(i)].misses;
  }
  std::printf("%llu %llu\n", static_cast<unsigned long long>(misses[0]), static_cast<unsigned long long>(misses[1]));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "touch") == 0) touch(find_case(argv[2]), true);
  if (argc == 3 && std::strcmp(argv[1], "idle") == 0) touch(find_case(argv[2]), false);
  if (argc == 7 && std::strcmp(argv[1], "predict") == 0) return predict(find_case(argv[2]), argv + 3);
  std::fprintf(stderr, "usage: replay_trace touch|idle CASE; replay_trace predict CASE D1 WAYS LL WAYS\n");
  return 2;
}
