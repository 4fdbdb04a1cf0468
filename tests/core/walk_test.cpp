// The walk: order of events of each strategy, and that its items cover the work exactly.
#include "signsplit/walk.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using namespace signsplit;

/// Writes every event down in short: up 0-3 k0-64 first.
struct Recorder {
  std::string text;

  void begin_part(index_t part, Phase phase) {
    text += "begin " + std::to_string(part) + " phase " + std::to_string(static_cast<int>(phase)) + "\n";
  }
  void certify(HiddenRange hidden) { text += "certify " + range(hidden) + "\n"; }
  void up_tile(HiddenRange hidden, KRange k) { text += "up " + range(hidden) + k_text(k) + "\n"; }
  void activate(HiddenRange hidden) { text += "activate " + range(hidden) + "\n"; }
  void push(HiddenRange hidden, KRange k) { text += "push " + range(hidden) + k_text(k) + "\n"; }
  void down_tile(HiddenRange hidden) { text += "down " + range(hidden) + "\n"; }
  void correct(HiddenRange hidden) { text += "correct " + range(hidden) + "\n"; }
  void store_h(HiddenRange hidden) { text += "store " + range(hidden) + "\n"; }
  void load_h(HiddenRange hidden) { text += "load " + range(hidden) + "\n"; }
  void reduce(ColumnRange columns) { text += "reduce " + range(columns) + "\n"; }

  template <class Range>
  static std::string range(const Range& r) {
    return std::to_string(r.begin) + "-" + std::to_string(r.end);
  }
  static std::string k_text(const KRange& k) {
    return " k" + range(k) + (k.first ? " first" : "") + (k.last ? " last" : "");
  }
};
static_assert(WalkSink<Recorder>);

std::string record(const Plan& plan, WalkShape shape) {
  Recorder recorder;
  for (int phase = 0; phase < phase_count(plan); ++phase) {
    const Phase kind = phase_at(plan, phase);
    for (index_t item = 0; item < item_count(plan, shape, kind); ++item) walk(plan, shape, kind, item, recorder);
  }
  return recorder.text;
}

/// Counts, in a constant expression, how often each hidden unit × K block is computed and each unit pushed.
struct Counter {
  index_t certified = 0, up = 0, down = 0, corrected = 0, activated = 0, stored = 0, loaded = 0, reduced = 0;
  constexpr void begin_part(index_t, Phase) {}
  constexpr void certify(HiddenRange hidden) { certified += hidden.size(); }
  constexpr void up_tile(HiddenRange hidden, KRange k) { up += hidden.size() * k.size(); }
  constexpr void activate(HiddenRange hidden) { activated += hidden.size(); }
  constexpr void push(HiddenRange, KRange) {}
  constexpr void down_tile(HiddenRange hidden) { down += hidden.size(); }
  constexpr void correct(HiddenRange hidden) { corrected += hidden.size(); }
  constexpr void store_h(HiddenRange hidden) { stored += hidden.size(); }
  constexpr void load_h(HiddenRange hidden) { loaded += hidden.size(); }
  constexpr void reduce(ColumnRange columns) { reduced += columns.size(); }
};

constexpr Counter count(const Plan& plan, WalkShape shape) {
  Counter counter;
  for (int phase = 0; phase < phase_count(plan); ++phase) {
    const Phase kind = phase_at(plan, phase);
    for (index_t item = 0; item < item_count(plan, shape, kind); ++item) walk(plan, shape, kind, item, counter);
  }
  return counter;
}

static_assert(count(Plan{.parts = 3, .hidden_tile = 2}, walk_shape({.d_model = 65, .d_ff = 10})).up == 10 * 128);

}  // namespace

TEST_CASE("row_fused: whole K reduction, activation, push, tile by tile") {
  CHECK(record({.strategy = Strategy::row_fused, .parts = 2, .hidden_tile = 2, .k_tile = 64, .reduce_tile = 64},
               walk_shape({.d_model = 100, .d_ff = 5})) ==
        "begin 0 phase 2\n"
        "up 0-2 k0-64 first\nup 0-2 k64-128 last\nactivate 0-2\ndown 0-2\n"
        "up 2-3 k0-64 first\nup 2-3 k64-128 last\nactivate 2-3\ndown 2-3\n"
        "begin 1 phase 2\n"
        "up 3-5 k0-64 first\nup 3-5 k64-128 last\nactivate 3-5\ndown 3-5\n"
        "reduce 0-64\nreduce 64-128\n");
}

TEST_CASE("unfused: all of product 1 is stored before product 2 begins") {
  CHECK(record({.strategy = Strategy::unfused, .parts = 2, .hidden_tile = 2}, walk_shape({.d_model = 64, .d_ff = 4})) ==
        "begin 0 phase 0\nup 0-2 k0-64 first last\nactivate 0-2\nstore 0-2\n"
        "begin 1 phase 0\nup 2-4 k0-64 first last\nactivate 2-4\nstore 2-4\n"
        "begin 0 phase 1\nload 0-2\ndown 0-2\n"
        "begin 1 phase 1\nload 2-4\ndown 2-4\n"
        "reduce 0-64\n");
}

TEST_CASE("sign_split: a push per K tile, and the correction at the end of the hidden tile") {
  CHECK(record({.strategy = Strategy::sign_split,
                .variant = Variant::interim,
                .repair = Repair::selective,
                .parts = 1,
                .hidden_tile = 2,
                .k_tile = 128},
               walk_shape({.d_model = 130, .d_ff = 3})) ==
        "begin 0 phase 2\n"
        "up 0-2 k0-128 first\npush 0-2 k0-128 first\ndown 0-2\n"
        "up 0-2 k128-192 last\npush 0-2 k128-192 last\ndown 0-2\ncorrect 0-2\n"
        "up 2-3 k0-128 first\npush 2-3 k0-128 first\ndown 2-3\n"
        "up 2-3 k128-192 last\npush 2-3 k128-192 last\ndown 2-3\ncorrect 2-3\n"
        "reduce 0-192\n");
}

TEST_CASE("certified: proofs before the tile's first product, then as row_fused") {
  CHECK(record({.strategy = Strategy::certified, .parts = 1, .hidden_tile = 2}, walk_shape({.d_model = 64, .d_ff = 3})) ==
        "begin 0 phase 2\n"
        "certify 0-2\nup 0-2 k0-64 first last\nactivate 0-2\ndown 0-2\n"
        "certify 2-3\nup 2-3 k0-64 first last\nactivate 2-3\ndown 2-3\n"
        "reduce 0-64\n");
}

TEST_CASE("a part cut in two: tiles end where the whole part's do") {
  const Plan plan{.strategy = Strategy::row_fused, .parts = 2, .hidden_tile = 2};
  Recorder recorder;
  for (const HiddenRange units : {HiddenRange{5, 8}, HiddenRange{8, 10}}) {
    walk_units(plan, walk_shape({.d_model = 64, .d_ff = 10}), Phase::fused, 1, units, recorder);
  }
  CHECK(recorder.text ==
        "begin 1 phase 2\n"
        "up 5-7 k0-64 first last\nactivate 5-7\ndown 5-7\n"
        "up 7-8 k0-64 first last\nactivate 7-8\ndown 7-8\n"
        "begin 1 phase 2\n"
        "up 8-9 k0-64 first last\nactivate 8-9\ndown 8-9\n"
        "up 9-10 k0-64 first last\nactivate 9-10\ndown 9-10\n");
}

TEST_CASE("parts cover the hidden units once, in order, and differ by one at most") {
  for (const index_t f : {1, 2, 3, 7, 31, 64, 97, 256, 1031}) {
    for (index_t parts = 1; parts <= f; parts += parts < 40 ? 1 : 37) {
      const Plan plan{.parts = parts};
      index_t covered = 0, longest = 0, shortest = f;
      for (index_t part = 0; part < parts; ++part) {
        const HiddenRange range = part_range(plan, {64, f}, part);
        REQUIRE(range.begin == covered);
        REQUIRE(range.size() >= 1);
        longest = range.size() > longest ? range.size() : longest;
        shortest = range.size() < shortest ? range.size() : shortest;
        covered = range.end;
      }
      REQUIRE(covered == f);
      REQUIRE(longest - shortest <= 1);
    }
  }
}

TEST_CASE("every weight is computed once, every column reduced once") {
  for (const index_t d : {1, 63, 64, 65, 200, 512, 1000}) {
    for (const index_t f : {1, 5, 37, 300}) {
      for (const index_t k_tile : {0, 64, 128, 448, 4096}) {
        const WalkShape shape = walk_shape({.d_model = d, .d_ff = f});
        Plan plan{.parts = f < 3 ? 1 : 3, .hidden_tile = 16, .k_tile = k_tile, .reduce_tile = 128};
        for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split}) {
          plan.strategy = strategy;
          const bool split = strategy == Strategy::sign_split, stored = strategy == Strategy::unfused;
          const Counter seen = count(plan, shape);
          REQUIRE(seen.up == f * shape.d_padded);
          REQUIRE(seen.down == (split ? f * k_tile_count(plan, shape) : f));
          REQUIRE(seen.activated == (split ? 0 : f));
          REQUIRE(seen.corrected == (split ? f : 0));
          REQUIRE(seen.stored == (stored ? f : 0));
          REQUIRE(seen.loaded == (stored ? f : 0));
          REQUIRE(seen.reduced == shape.d_padded);
        }
      }
    }
  }
}
