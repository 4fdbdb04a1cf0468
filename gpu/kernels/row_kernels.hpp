// The kernels of unfused, row_fused and certified, as programs of one warp: `fused` is both products and the reduction, `first` and
// `second` are one product each. Blocks are persistent: a block takes every ctas()-th part.
#pragma once

#include "producer.hpp"
#include "row_steps.hpp"

namespace signsplit::gpu {

template <class Block, class Weight, int T, bool kCertified = false>
SIGNSPLIT_DEVICE void run_row_phase(Block& block, const KernelArguments& a, Phase phase) {
  init_barriers(block, a);
  block.launch_dependents();
  if (block.warp() == a.launch.consumer_warps) {  // weights depend on nothing: they are copied before the wait
    ProducerSteps<Block> producer(block, a);
    run_parts(block, a, phase, producer);
    block.finish_copies();
    return;
  }
  block.wait_for_primary();
  ConsumerSteps<Block, Weight, T, kCertified> consumer(block, a);
  if (phase != Phase::second_product) consumer.load_x();
  run_parts(block, a, phase, consumer);
  if (phase != Phase::first_product) reduce_slices(block, a, consumer);
  consumer.write_statistics(phase == Phase::second_product);
}

template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void fused_kernel(Block& block, const KernelArguments& a) {
  run_row_phase<Block, Weight, T>(block, a, Phase::fused);
}
template <class Block, class Weight, int T>
SIGNSPLIT_DEVICE void certified_kernel(Block& block, const KernelArguments& a) {
  run_row_phase<Block, Weight, T, true>(block, a, Phase::fused);
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
