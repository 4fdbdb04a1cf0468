// The cache replay: worked by hand, against a plain model of LRU, and where it refuses. Against cachegrind: cachegrind.sh.
#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <map>
#include <set>

#include "address_sink.hpp"
#include "sample_machine.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

const Problem kSmall{128, 40, 2, DType::bf16, {}, false};

std::uint64_t distinct_lines(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open) {
  std::set<index_t> lines;
  const auto touch = [&](index_t begin, index_t bytes) {
    for (index_t at = begin / 64; at <= (begin + bytes - 1) / 64; ++at) lines.insert(at);
  };
  touch_all(plan, problem, open, touch);
  return lines.size();
}

/// Misses of one fully associative LRU cache, from its definition.
std::uint64_t lru_misses(const Plan& plan, const Problem& problem, std::size_t lines) {
  std::list<index_t> used;
  std::map<index_t, std::list<index_t>::iterator> where;
  std::uint64_t misses = 0;
  const auto touch = [&](index_t begin, index_t bytes) {
    for (index_t line = begin / 64; line <= (begin + bytes - 1) / 64; ++line) {
      if (const auto found = where.find(line); found != where.end()) {
        used.erase(found->second);
      } else {
        ++misses;
        if (used.size() == lines) where.erase(used.back()), used.pop_back();
      }
      used.push_front(line);
      where[line] = used.begin();
    }
  };
  touch_all(plan, problem, {}, touch);
  return misses;
}

CacheGeometry cache(index_t bytes, index_t ways, Replacement policy = Replacement::lru) { return {"L", bytes, ways, 64, policy}; }

std::vector<ReplayCounts> replayed(const Plan& plan, const Problem& problem, std::vector<CacheGeometry> levels, int rounds = 1,
                                   std::span<const std::uint8_t> open = {}) {
  const auto counts = replay(plan, problem, open, levels, rounds);
  REQUIRE_MESSAGE(counts.ok(), counts.message());
  return *counts;
}

}  // namespace

TEST_CASE("a cache that holds everything misses every line once, then none") {
  for (const Replacement policy : {Replacement::lru, Replacement::plru}) {
    for (const Plan& plan : default_plans(kSmall)) {
      if (plan.strategy == Strategy::certified) continue;
      const CacheGeometry large = cache(1 << 20, 16, policy);
      CAPTURE(label(plan));
      CHECK(replayed(plan, kSmall, {large}, 1)[0].misses == distinct_lines(plan, kSmall, {}));
      CHECK(replayed(plan, kSmall, {large}, 2)[0].misses == 0);
    }
  }
}

TEST_CASE("what a plan touches are its weights once, but for what sign_split pushes again") {
  const Plan plan = default_plan(kSmall, Strategy::row_fused);
  const AddressMap map = address_map(plan, kSmall);
  std::uint64_t up = 0, down = 0;
  const auto touch = [&](index_t begin, index_t bytes) {
    CHECK(begin >= 0);
    CHECK(begin + bytes <= map.bytes);
    if (begin < map.down) up += static_cast<std::uint64_t>(bytes);
    if (begin >= map.down && begin < map.x) down += static_cast<std::uint64_t>(bytes);
  };
  touch_all(plan, kSmall, {}, touch);
  CHECK(up == 128u * 40 * 2);
  CHECK(down == 128u * 40 * 2);
}

TEST_CASE("closed units are not touched, of W2 nor behind a closed gate of W1") {
  Problem gated = kSmall;
  gated.gated = true;
  const Plan plan = default_plan(gated, Strategy::row_fused, true);
  const AddressMap map = address_map(plan, gated);
  std::vector<std::uint8_t> open(40, 0);
  open[7] = open[39] = 1;
  std::uint64_t up = 0, gate = 0, down = 0;
  const auto touch = [&](index_t begin, index_t bytes) {
    if (begin < map.gate) up += static_cast<std::uint64_t>(bytes);
    else if (begin < map.down) gate += static_cast<std::uint64_t>(bytes);
    else if (begin < map.x) down += static_cast<std::uint64_t>(bytes);
  };
  touch_all(plan, gated, open, touch);
  CHECK(up == 2u * 256);
  CHECK(gate == 40u * 256);
  CHECK(down == 2u * 256);
}

TEST_CASE("a fully associative cache is LRU by its definition") {
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split}) {
    const Plan plan = default_plan(kSmall, strategy);
    for (const index_t lines : {4, 16, 64, 256}) {
      CAPTURE(lines);
      CHECK(replayed(plan, kSmall, {cache(lines * 64, lines)})[0].misses == lru_misses(plan, kSmall, static_cast<std::size_t>(lines)));
    }
  }
}

TEST_CASE("a direct-mapped cache keeps the last line of every set") {
  const Plan plan = default_plan(kSmall, Strategy::row_fused);
  for (const index_t sets : {4, 32, 128}) {
    std::map<index_t, index_t> last;
    std::uint64_t misses = 0;
    const auto touch = [&](index_t begin, index_t bytes) {
      for (index_t line = begin / 64; line <= (begin + bytes - 1) / 64; ++line) {
        const auto found = last.find(line % sets);
        misses += found == last.end() || found->second != line;
        last[line % sets] = line;
      }
    };
    touch_all(plan, kSmall, {}, touch);
    CAPTURE(sets);
    CHECK(replayed(plan, kSmall, {cache(sets * 64, 1)})[0].misses == misses);
    CHECK(replayed(plan, kSmall, {cache(sets * 64, 1, Replacement::plru)})[0].misses == misses);
  }
}

TEST_CASE("pseudo-LRU of four ways, from the drawing of its tree") {
  // One set. Three bits: the half to give up next, and in each half the way.
  const Plan plan = default_plan(kSmall, Strategy::sign_split);
  index_t held[4] = {-1, -1, -1, -1};
  int half = 0, way_of_half[2] = {0, 0};
  std::uint64_t misses = 0;
  const auto touch = [&](index_t begin, index_t bytes) {
    for (index_t line = begin / 64; line <= (begin + bytes - 1) / 64; ++line) {
      auto found = std::find(std::begin(held), std::end(held), line);
      if (found == std::end(held)) {
        ++misses;
        found = std::find(std::begin(held), std::end(held), index_t{-1});
        if (found == std::end(held)) found = held + 2 * half + way_of_half[half];
        *found = line;
      }
      const auto used = static_cast<int>(found - held);
      half = 1 - used / 2;
      way_of_half[used / 2] = 1 - used % 2;
    }
  };
  touch_all(plan, kSmall, {}, touch);
  CHECK(replayed(plan, kSmall, {cache(4 * 64, 4, Replacement::plru)})[0].misses == misses);
  // The streams above hit little in so small a cache; x and y of a narrow layer hit much.
  const Problem narrow{64, 40, 1, DType::bf16, {}, false};
  const Plan tall = default_plan(narrow, Strategy::row_fused);
  std::fill(std::begin(held), std::end(held), -1);
  half = way_of_half[0] = way_of_half[1] = 0;
  misses = 0;
  touch_all(tall, narrow, {}, touch);
  CHECK(replayed(tall, narrow, {cache(4 * 64, 4, Replacement::plru)})[0].misses == misses);
}

TEST_CASE("a loop that is longer than an LRU cache hits nothing; a pseudo-LRU keeps some") {
  // One worker's second pass over weights a quarter larger than the cache: the well-known cliff. x and y stay.
  const Problem problem{64, 320, 1, DType::f32, {}, false};
  const Plan plan = default_plan(problem, Strategy::unfused);
  const std::uint64_t weights = 2u * 64 * 320 * 4 / 64;
  CHECK(replayed(plan, problem, {cache(1 << 17, 16)}, 2)[0].misses >= weights);
  CHECK(replayed(plan, problem, {cache(1 << 17, 16, Replacement::plru)}, 2)[0].misses < weights);
  CHECK(replayed(plan, problem, {cache(1 << 19, 16)}, 2)[0].misses == 0);
}

TEST_CASE("levels: the second sees what the first misses, and a larger cache misses no more") {
  const Plan plan = default_plan(kSmall, Strategy::row_fused);
  const auto counts = replayed(plan, kSmall, {cache(2048, 4), cache(16384, 8)});
  CHECK(counts[1].accesses == counts[0].misses);
  CHECK(counts[1].misses <= counts[0].misses);
  std::uint64_t before = ~0ull;
  for (const index_t ways : {2, 4, 8, 16}) {  // more ways, the same sets: LRU's stack property
    const std::uint64_t misses = replayed(plan, kSmall, {cache(ways * 8 * 64, ways)})[0].misses;
    CHECK(misses <= before);
    before = misses;
  }
}

TEST_CASE("replays refuse what they cannot do") {
  const Plan plan = default_plan(kSmall, Strategy::row_fused);
  const auto message = [&](const Plan& p, std::vector<CacheGeometry> levels, int rounds, std::vector<std::uint8_t> open = {}) {
    return replay(p, kSmall, open, levels, rounds).message();
  };
  CHECK(message(plan, {}, 1).find("at least one level") != std::string::npos);
  CHECK(message(plan, {cache(1000, 4)}, 1).find("multiple of ways") != std::string::npos);
  CHECK(message(plan, {cache(64 * 12, 12, Replacement::plru)}, 1).find("power of two") != std::string::npos);
  CHECK(message(plan, {{"L", 4096, 4, 48, Replacement::lru}}, 1).find("line_bytes") != std::string::npos);
  CHECK(message(plan, {cache(4096, 4)}, 0).find("rounds") != std::string::npos);
  CHECK(message(plan, {cache(4096, 4)}, 1, {1, 1}).find("hidden unit") != std::string::npos);
  CHECK(message(default_plan(kSmall, Strategy::certified, true), {cache(4096, 4)}, 1).find("replay") != std::string::npos);
}

TEST_CASE("the levels of a profile") {
  Machine machine = test::sample_machine();
  const auto levels = cache_geometry(machine);
  REQUIRE(levels.size() == 2);
  CHECK(levels[0].capacity_bytes == 32768);
  CHECK(levels[0].ways == 8);
  CHECK(levels[1].ways == 16);
  CHECK(levels[1].capacity_bytes == 1000000 / 1024 * 1024);
  machine.levels[0].ways = 12;
  machine.levels[0].capacity_bytes.value = 49152;
  CHECK(cache_geometry(machine)[0].ways == 12);
  CHECK(cache_geometry(machine)[0].capacity_bytes == 49152);
}
