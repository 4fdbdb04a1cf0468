// The recorder that the device test compares with tells schedules apart, and the walk it records has the right shape.
#include <doctest/doctest.h>

#include <algorithm>

#include "host_walk.hpp"

namespace {

using signsplit::index_t;
using signsplit::Phase;
using signsplit::gpu::WalkEvent;
using signsplit::test::walk_cases;
using signsplit::test::walk_on_host;

index_t count_kind(const std::vector<WalkEvent>& events, WalkEvent::Kind kind) {
  return std::count_if(events.begin(), events.end(), [kind](const WalkEvent& e) { return e.kind == kind; });
}

TEST_CASE("every unit meets every K element once in product 1") {
  for (const auto& [plan, shape] : walk_cases()) {
    const auto events = walk_on_host(plan, shape, signsplit::phase_at(plan, 0));
    index_t area = 0;
    for (const WalkEvent& e : events) {
      if (e.kind == WalkEvent::Kind::up_tile) area += (e.end - e.begin) * (e.k_end - e.k_begin);
    }
    CHECK(area == shape.d_ff * shape.d_padded);
    CHECK(count_kind(events, WalkEvent::Kind::begin_part) == plan.parts);
  }
}

TEST_CASE("the reduction covers every column once") {
  for (const auto& [plan, shape] : walk_cases()) {
    index_t at = 0;
    for (const WalkEvent& e : walk_on_host(plan, shape, Phase::reduce)) {
      CHECK(e.begin == at);
      at = e.end;
    }
    CHECK(at == shape.d_padded);
  }
}

TEST_CASE("recorded sequences differ where the plans differ") {
  const auto base = walk_cases().back();
  const Phase phase = signsplit::phase_at(base.plan, 0);
  const auto reference = walk_on_host(base.plan, base.shape, phase);
  auto differs = [&](auto change) {
    auto plan = base.plan;
    change(plan);
    return walk_on_host(plan, base.shape, phase) != reference;
  };
  CHECK_FALSE(differs([](signsplit::Plan&) {}));
  CHECK(differs([](signsplit::Plan& p) { p.hidden_tile = 23; }));
  CHECK(differs([](signsplit::Plan& p) { p.k_tile = 192; }));
  CHECK(differs([](signsplit::Plan& p) { p.parts = 6; }));
  CHECK(differs([](signsplit::Plan& p) { p.strategy = signsplit::Strategy::row_fused; }));
}

TEST_CASE("one changed field makes an event another") {
  const auto base = walk_cases().back();
  const auto reference = walk_on_host(base.plan, base.shape, signsplit::phase_at(base.plan, 0));
  const auto up = std::find_if(reference.begin(), reference.end(),
                               [](const WalkEvent& e) { return e.kind == WalkEvent::Kind::up_tile; });
  REQUIRE(up != reference.end());
  WalkEvent changed = *up;
  changed.last_k ^= 1;
  CHECK(changed != *up);
  changed = *up;
  ++changed.k_end;
  CHECK(changed != *up);
}

TEST_CASE("a full recorder counts on and writes no further") {
  const auto base = walk_cases().back();
  std::vector<WalkEvent> events(4);
  const WalkEvent guard = events[3];
  signsplit::gpu::WalkRecorder recorder(events.data(), 3);
  signsplit::walk(base.plan, base.shape, signsplit::phase_at(base.plan, 0), 0, recorder);
  CHECK(recorder.count() > 3);
  CHECK(events[3] == guard);
}

}  // namespace
