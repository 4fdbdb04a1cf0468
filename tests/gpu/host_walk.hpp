// The plans and shapes on which the tests of the device's walk run, and the walk on the host.
#pragma once

#include <vector>

#include "walk_recorder.hpp"

namespace signsplit::test {

/// The events of all items of a phase, item after item.
inline std::vector<gpu::WalkEvent> walk_on_host(const Plan& plan, WalkShape shape, Phase phase) {
  std::vector<gpu::WalkEvent> all;
  for (index_t item = 0; item < item_count(plan, shape, phase); ++item) {
    gpu::WalkRecorder counter(nullptr, 0);
    walk(plan, shape, phase, item, counter);
    const std::size_t before = all.size();
    all.resize(before + static_cast<std::size_t>(counter.count()));
    gpu::WalkRecorder recorder(all.data() + before, counter.count());
    walk(plan, shape, phase, item, recorder);
  }
  return all;
}

struct WalkCase {
  Plan plan;
  WalkShape shape;
};

/// Every strategy, with and without K tiles, on shapes with tails: units that do not fill the parts or the tiles, K
/// tiles and column slices that do not divide D, fewer units than a tile.
inline std::vector<WalkCase> walk_cases() {
  std::vector<WalkCase> cases;
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split, Strategy::certified}) {
    for (const WalkShape shape : {WalkShape{64, 1}, WalkShape{320, 97}, WalkShape{1024, 4096}}) {
      for (const index_t k_tile : {index_t{0}, index_t{128}}) {
        Plan plan;
        plan.strategy = strategy;
        if (strategy == Strategy::sign_split) {
          plan.variant = Variant::interim;
          plan.repair = Repair::selective;
        }
        plan.parts = shape.d_ff < 7 ? 1 : 7;
        plan.hidden_tile = 24;
        plan.k_tile = k_tile;
        plan.reduce_tile = 192;
        cases.push_back({plan, shape});
      }
    }
  }
  return cases;
}

}  // namespace signsplit::test
