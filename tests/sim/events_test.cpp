// Level 2: equal to level 1 where nothing but the formula's own effects is at work, and different where tiles matter.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "sample_machine.hpp"
#include "signsplit/sim/events.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// One worker for one part after the other, or several for as many parts each: level 1 knows no waiting then.
Scenario even(Strategy strategy, bool skip, index_t parts, int threads) {
  const Problem problem{1024, 4096, 1, DType::bf16, {}, false};
  Plan plan = default_plan(problem, strategy, skip);
  plan.parts = parts;
  return {problem, plan, {.active = 0.25}, Residency::cold, threads, {}};
}

double sum_of(const Timeline& timeline, Slice::What what) {
  double seconds = 0;
  for (const Slice& slice : timeline.slices) seconds += slice.what == what ? slice.end_s - slice.begin_s : 0.0;
  return seconds;
}

}  // namespace

TEST_CASE("workers with equal work take as long as level 1 says") {
  Machine machine = test::sample_machine();
  machine.model["first_byte_s"].value = 1e-6;
  machine.model["prefetch_bytes"] = {0.0, "B", Kind::measured, "by hand", 0.0};
  for (const int threads : {1, 2, -1, -2}) {
    // Stalls make the products' shares of stream and arithmetic differ, of which level 1 hides the sum and level 2 each.
    machine.model["gather_gap_bytes"].value = threads > 0 ? 256 : 0;
    machine.model["overlap_loss"].value = threads > 0 ? 0.0 : 0.2;
    for (const Strategy strategy : {Strategy::row_fused, Strategy::unfused}) {
      for (const bool skip : {false, true}) {
        for (const Launch launch : {Launch::one_region, Launch::region_per_phase}) {
          Scenario scenario = even(strategy, skip, 16, std::abs(threads));
          scenario.plan.launch = launch;
          const auto level1 = predict(scenario, machine);
          const auto level2 = simulate(scenario, machine);
          REQUIRE(level1.ok());
          REQUIRE_MESSAGE(level2.ok(), level2.message());
          // The same sum of at most 10 000 terms in another order.
          CHECK(std::abs(level2->time_s - level1->time_s) <= 1e4 * 0x1p-52 * level1->time_s);
        }
      }
    }
  }
}

TEST_CASE("what several tokens and sign_split wait for is the same in both levels") {
  Machine machine = test::sample_machine();
  machine.model["prefetch_bytes"] = {0.0, "B", Kind::measured, "by hand", 0.0};
  machine.model["gather_gap_bytes"].value = 256;
  machine.model["batch_miss_s"].value = 1e-8;
  machine.model["split_stall_rate"].value = 5e9;
  Scenario batch = even(Strategy::row_fused, false, 16, 2), split = batch;
  batch.problem.batch = 2;  // arithmetic takes as long as the stream
  split.plan = default_sign_split_plan(split.problem, Variant::telescoping, Repair::none, false, 1);
  split.plan.parts = 16;
  for (const Scenario& scenario : {batch, split}) {
    const auto level1 = predict(scenario, machine);
    const auto level2 = simulate(scenario, machine);
    REQUIRE_MESSAGE(level1.ok(), level1.message());
    REQUIRE_MESSAGE(level2.ok(), level2.message());
    CHECK(std::abs(level2->time_s - level1->time_s) <= 1e4 * 0x1p-52 * level1->time_s);
  }
}

TEST_CASE("a part too many is waited for, and takes the bandwidth that is left to itself") {
  Machine machine = test::sample_machine();
  const Scenario scenario = even(Strategy::row_fused, false, 3, 2);  // 2 workers, 3 parts: the last one alone
  const auto level2 = simulate(scenario, machine);
  REQUIRE(level2.ok());
  // Every worker reads 10 GB/s alone or with the other: two rounds of a third of the bytes each.
  const double bytes = static_cast<double>(weight_bytes(scenario.problem)), stream = 2.0 / 3.0 * bytes / 10e9;
  const Terms terms = predict(scenario, machine)->terms;
  const double ends = terms.launch + terms.barrier + terms.reduction;
  CHECK(test::within(level2->time_s, stream + ends, 2e-3));  // parts of 1366 and 1365 units
  CHECK(test::within(sum_of(*level2, Slice::What::wait), stream / 2, 4e-3));
  for (BandwidthPoint& point : machine.read_bandwidth) point.bytes_per_s = 20e9;  // whether one or two
  const auto shared = simulate(scenario, machine);
  REQUIRE(shared.ok());
  CHECK(test::within(shared->time_s, bytes / 20e9 + ends, 2e-2));
}

TEST_CASE("in both levels arithmetic of one product does not hide behind the stream of the other") {
  Machine machine = test::sample_machine();
  for (Rate& rate : machine.rates) {
    if (rate.name == "up_bf16") rate.per_s.value = 1e9;    // slower than memory
    if (rate.name == "down_bf16") rate.per_s.value = 1e12;  // free
  }
  const Scenario scenario = even(Strategy::row_fused, false, 16, 2);
  const Prediction level1 = *predict(scenario, machine);
  const double elements = 0.5 * static_cast<double>(weight_bytes(scenario.problem)) / 2.0;
  CHECK(test::within(level1.terms.stream + level1.terms.compute, elements / 1e9 / 2 + 2.0 * elements / 20e9, 1e-12));
  CHECK(std::abs(simulate(scenario, machine)->time_s - level1.time_s) <= 1e4 * 0x1p-52 * level1.time_s);
}

TEST_CASE("a recorded mask decides the rows of every tile") {
  const Machine machine = test::sample_machine();
  Scenario scenario = even(Strategy::row_fused, true, 2, 2);
  std::vector<std::uint8_t> clustered(4096, 0), spread(4096, 0);
  for (std::size_t j = 0; j < clustered.size(); ++j) {
    clustered[j] = j < 1024;
    spread[j] = j % 4 == 0;
  }
  const auto even_time = simulate(scenario, machine, spread), uneven = simulate(scenario, machine, clustered), none = simulate(scenario, machine);
  REQUIRE(uneven.ok());
  CHECK(test::within(even_time->time_s, none->time_s, 1e-9));
  CHECK(uneven->time_s > 1.1 * even_time->time_s);  // all open units are the first worker's
  CHECK_FALSE(simulate(scenario, machine, std::vector<std::uint8_t>(7)).ok());
  scenario.plan.skip = false;  // then every row is read, open or not
  CHECK(simulate(scenario, machine, clustered)->time_s == simulate(scenario, machine)->time_s);
}

TEST_CASE("a tile is a slice, and very many tiles are fewer slices of the same time") {
  const Machine machine = test::sample_machine();
  Scenario scenario = even(Strategy::row_fused, false, 2, 2);
  const auto slices_of = [](const Timeline& timeline, Slice::What what) {
    return std::count_if(timeline.slices.begin(), timeline.slices.end(), [what](const Slice& slice) { return slice.what == what; });
  };
  for (const index_t tile : {1, 256}) {
    scenario.plan.hidden_tile = tile;
    const auto timeline = simulate(scenario, machine);
    REQUIRE_MESSAGE(timeline.ok(), timeline.message());
    CHECK(slices_of(*timeline, Slice::What::up) == (tile == 1 ? 4096 / 4 : 16));  // 2 · 4096 · 2 / 2048 = 8 tiles, of both kinds, for a pair of slices
    CHECK(slices_of(*timeline, Slice::What::down) == slices_of(*timeline, Slice::What::up));
    CHECK(test::within(timeline->time_s, predict(scenario, machine)->time_s, 1e-9));
  }
}

TEST_CASE("a worker that is done takes items from the others") {
  const Machine machine = test::sample_machine();
  const Scenario scenario = even(Strategy::row_fused, true, 16, 2);
  std::vector<std::uint8_t> clustered(4096, 0);
  std::fill(clustered.begin(), clustered.begin() + 2048, std::uint8_t{1});  // all of them the first worker's
  const auto timeline = simulate(scenario, machine, clustered);
  REQUIRE(timeline.ok());
  bool taken = false;
  double ends[2] = {}, longest = 0;
  std::vector<double> item_s(16, 0.0);
  for (const Slice& slice : timeline->slices) {
    if (slice.phase != 0 || (slice.what != Slice::What::up && slice.what != Slice::What::down)) continue;
    taken = taken || (slice.worker == 1 && slice.item < 8);
    ends[slice.worker] = std::max(ends[slice.worker], slice.end_s);
    longest = std::max(longest, item_s[static_cast<std::size_t>(slice.item)] += slice.end_s - slice.begin_s);
  }
  CHECK(taken);
  CHECK(std::abs(ends[0] - ends[1]) <= longest);
}

TEST_CASE("repairs take the time that level 1 gives them") {
  const Machine machine = test::sample_machine();
  Scenario scenario = even(Strategy::row_fused, false, 16, 2);
  scenario.plan = default_sign_split_plan(scenario.problem, Variant::interim, Repair::selective);
  scenario.activity.repaired = 0.0;
  const double without = simulate(scenario, machine)->time_s;
  scenario.activity.repaired = 0.5;
  CHECK(test::within(simulate(scenario, machine)->time_s - without, predict(scenario, machine)->terms.repair, 1e-9));
}

TEST_CASE("who waits at a barrier loads ahead") {
  Machine machine = test::sample_machine();
  const Scenario scenario = even(Strategy::unfused, false, 3, 2);
  machine.model["prefetch_bytes"] = {0.0, "B", Kind::measured, "by hand", 0.0};
  const double without = simulate(scenario, machine)->time_s;
  machine.model["prefetch_bytes"].value = 65536;
  CHECK(simulate(scenario, machine)->time_s < without);
  Scenario balanced = even(Strategy::unfused, false, 16, 2);  // where nobody waits, nobody loads ahead
  const double with = simulate(balanced, machine)->time_s;
  machine.model["prefetch_bytes"].value = 0.0;
  CHECK(test::within(with, simulate(balanced, machine)->time_s, 1e-9));
}

TEST_CASE("slices of a worker do not overlap, cover every item once, and are written for a trace viewer") {
  const Machine machine = test::sample_machine();
  const Scenario scenario = even(Strategy::unfused, false, 5, 3);
  const auto timeline = simulate(scenario, machine);
  REQUIRE(timeline.ok());
  CHECK(timeline->workers == 3);
  for (int worker = 0; worker < timeline->workers; ++worker) {
    std::vector<Slice> mine;
    for (const Slice& slice : timeline->slices) {
      if (slice.worker == worker) mine.push_back(slice);
    }
    std::sort(mine.begin(), mine.end(), [](const Slice& a, const Slice& b) { return a.begin_s < b.begin_s; });
    for (std::size_t i = 1; i < mine.size(); ++i) CHECK(mine[i].begin_s >= mine[i - 1].end_s);
    for (const Slice& slice : mine) CHECK_FALSE((slice.what == Slice::What::fork_join && slice.phase == 2));  // no barrier before the reduction
    for (const Slice& slice : mine) CHECK(slice.end_s > slice.begin_s);
    CHECK(mine.back().end_s <= timeline->time_s);
  }
  const NamedTimeline named[] = {{"simulated", &*timeline}, {"measured", &*timeline}};
  const auto json = nlohmann::json::parse(trace_json(named));
  std::size_t slices = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    const std::size_t index = slices++ % timeline->slices.size();
    const Slice& slice = timeline->slices[index];
    CHECK(event["pid"] == (slices <= timeline->slices.size() ? 1 : 2));
    CHECK(event["tid"] == slice.worker);
    CHECK(event["ts"] == slice.begin_s * 1e6);
    CHECK(event["dur"] == (slice.end_s - slice.begin_s) * 1e6);
  }
  CHECK(slices == 2 * timeline->slices.size());
}
