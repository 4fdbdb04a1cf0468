// The kernels of unfused and row_fused, as programs of one warp: `fused` is both products and the reduction, `first` and
// `second` are one product each. Blocks are persistent: a block takes every ctas()-th part.
#pragma once

#include "producer.hpp"
#include "row_steps.hpp"

namespace signsplit::gpu {

/// Walks this block's parts of one phase.
template <class Block, class Steps>
SIGNSPLIT_DEVICE void walk_parts(Block& block, const KernelArguments& a, Phase phase, Steps& steps) {
  TileSchedule<Steps> schedule(steps, a.launch.lag);
  for (index_t part = block.cta(); part < a.plan.parts; part += block.ctas()) {
    walk(a.plan, a.shape, phase, part, schedule);
    schedule.finish();
  }
}

/// Every block reduces its own slices of y. The slices are as wide as the launch says: no bit depends on it.
template <class Block, class Steps>
SIGNSPLIT_DEVICE void reduce_slices(Block& block, const KernelArguments& a, Steps& steps) {
  block.sync_grid(reinterpret_cast<std::uint32_t*>(a.workspace + a.layout.barrier));
  Plan sliced = a.plan;
  sliced.reduce_tile = a.launch.reduce_tile;
  TileSchedule<Steps> schedule(steps, 0);
  const index_t slices = item_count(sliced, a.shape, Phase::reduce);
  for (index_t slice = block.cta(); slice < slices; slice += block.ctas()) {
    walk(sliced, a.shape, Phase::reduce, slice, schedule);
  }
}

template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void run_row_phase(Block& block, const KernelArguments& a, Phase phase) {
  init_barriers(block, a);
  block.launch_dependents();
  if (block.warp() == a.launch.consumer_warps) {  // weights depend on nothing: they are copied before the wait
    ProducerSteps<Block> producer(block, a);
    walk_parts(block, a, phase, producer);
    return;
  }
  block.wait_for_primary();
  ConsumerSteps<Block, Weight, T> consumer(block, a);
  if (phase != Phase::second_product) consumer.load_x();
  walk_parts(block, a, phase, consumer);
  if (phase != Phase::first_product) reduce_slices(block, a, consumer);
  consumer.write_statistics(phase == Phase::second_product);
}

template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void fused_kernel(Block& block, const KernelArguments& a) {
  run_row_phase<Block, Weight, T>(block, a, Phase::fused);
}
template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void first_kernel(Block& block, const KernelArguments& a) {
  run_row_phase<Block, Weight, T>(block, a, Phase::first_product);
}
template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void second_kernel(Block& block, const KernelArguments& a) {
  run_row_phase<Block, Weight, T>(block, a, Phase::second_product);
}

}  // namespace signsplit::gpu
