// What sets fused and unfused apart, near the capacity of a cache and with many tokens: each correction by hand on the machine with round
// numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>

#include "hand_worked.hpp"
#include "lookup.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/predict.hpp"

using namespace signsplit;
using namespace signsplit::sim;
using test::dense, test::kElements, test::predicted, test::sample_with, test::two_parts;

TEST_CASE("reading begins anew: at changes of the matrix, at tiles of gathered rows that nothing asked for, in main memory") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  const auto more = [&](const char* name, Strategy strategy, bool skip, Residency residency = Residency::cold) {
    Plan plan = two_parts(problem, strategy, skip);
    plan.hidden_tile = 256;  // eight tiles in each part
    const auto compute = [&](const Machine& machine) { return predicted(problem, plan, machine, {.active = 0.5}, residency).terms.compute; };
    return compute(sample_with({{name, 1e-6}})) - compute(test::sample_machine());
  };
  CHECK(test::within(more("switch_s", Strategy::row_fused, false), 2 * 8e-6, 1e-9));  // to W2 and back, side by side in both parts
  CHECK(test::within(more("switch_s", Strategy::row_fused, true), 2 * 8e-6, 1e-9));
  CHECK(more("switch_s", Strategy::unfused, false) == 0.0);
  CHECK(test::within(more("unannounced_s", Strategy::unfused, true), 8e-6, 1e-9));
  CHECK(more("unannounced_s", Strategy::unfused, false) == 0.0);
  CHECK(more("unannounced_gated_s", Strategy::unfused, true) == 0.0);
  CHECK(more("unannounced_s", Strategy::row_fused, true) == 0.0);
  CHECK(more("switch_s", Strategy::row_fused, false, Residency::warm) < 0.8 * 2 * 8e-6);  // 16 MB: some of it from the cache
}

TEST_CASE("what rows read by a list, and two matrices in turns, lose of main memory's stream") {
  Problem problem = dense(1024, 4096, DType::bf16);
  const auto lost = [&](const char* name, Strategy strategy, bool skip, Residency residency = Residency::cold) {
    const Plan plan = two_parts(problem, strategy, skip);
    const auto stream = [&](const Machine& machine) {
      return predicted(problem, plan, machine, {.active = 0.5, .refined = 0.25, .refined_read = 0.25}, residency).terms.stream;
    };
    return (stream(sample_with({{name, 0.125}})) - stream(test::sample_machine())) * 20e9 / 0.125;  // bytes that count twice as often as they are
  };
  const double matrix = 2 * kElements;
  CHECK(test::within(lost("skip_lost_share", Strategy::unfused, true), 0.5 * matrix, 1e-9));
  CHECK(test::within(lost("skip_lost_share", Strategy::row_fused, true), 0.5 * matrix, 1e-9));
  CHECK(lost("skip_lost_share", Strategy::row_fused, false) == 0.0);
  CHECK(lost("skip_batch_lost_share", Strategy::unfused, true) == 0.0);
  CHECK(lost("fused_lost_share", Strategy::row_fused, false) == 0.0);  // rows of 2 KiB
  problem.d_model = 1088;  // and of 2176 bytes
  const double wider = matrix * 1088 / 1024;
  CHECK(test::within(lost("fused_lost_share", Strategy::row_fused, false), 2 * wider, 1e-9));
  CHECK(test::within(lost("fused_lost_share", Strategy::row_fused, true), 1.5 * wider, 1e-9));
  CHECK(lost("fused_lost_share", Strategy::unfused, true) == 0.0);
  CHECK(lost("fused_lost_share", Strategy::row_fused, false, Residency::warm) < 2 * wider);  // 16 MB: some of it from the cache
  CHECK(lost("fused_batch_lost_share", Strategy::row_fused, false) == 0.0);
  problem.dtype = DType::f32;  // of which one token's kernels ask for nothing
  CHECK(lost("fused_lost_share", Strategy::row_fused, false) == 0.0);
  problem.batch = 2;
  CHECK(lost("fused_lost_share", Strategy::row_fused, false) == 0.0);
  CHECK(test::within(lost("fused_batch_lost_share", Strategy::row_fused, false), 4 * wider, 1e-9));
  CHECK(lost("fused_batch_lost_share", Strategy::unfused, false) == 0.0);
  CHECK(lost("skip_batch_lost_share", Strategy::unfused, true) > 0.5 * matrix);
  CHECK(lost("skip_lost_share", Strategy::unfused, true) == 0.0);
  problem = dense(1024, 4096, DType::bf16);
  CHECK(test::within(lost("survivor_lost_share", Strategy::certified, true), 0.25 * matrix, 1e-9));
  CHECK(lost("survivor_lost_share", Strategy::row_fused, true) == 0.0);
  problem.gated = true;  // W1 is read by a list too
  CHECK(test::within(lost("skip_lost_share", Strategy::unfused, true), matrix, 1e-9));
}

TEST_CASE("more than four tokens, skip: unfused takes longer for each row of W2, of short rows from main memory more so") {
  Problem problem = dense(1024, 4096, DType::bf16);
  const auto more = [&](Strategy strategy, bool skip, const char* name = "batch_row_wait_s", Residency residency = Residency::cold) {
    const Plan plan = two_parts(problem, strategy, skip);
    const auto compute = [&](const Machine& machine) { return predicted(problem, plan, machine, {.active = 0.5}, residency).terms.compute; };
    return compute(sample_with({{name, 1e-6}})) - compute(test::sample_machine());
  };
  problem.batch = 5;
  CHECK(test::within(more(Strategy::unfused, true), (1 - 1.0 / 32) * 2048e-6, 1e-9));  // units that one token opens at least
  CHECK(more(Strategy::unfused, true, "batch_row_s", Residency::warm) > 0.8 * 2048e-6);  // but for what the stream hides
  CHECK(more(Strategy::unfused, true, "batch_row_s", Residency::warm) < 2048e-6);
  CHECK(more(Strategy::unfused, false, "batch_row_s", Residency::warm) == 0.0);
  CHECK(more(Strategy::row_fused, true, "batch_row_s", Residency::warm) == 0.0);
  CHECK(more(Strategy::unfused, false) == 0.0);
  CHECK(more(Strategy::row_fused, true) == 0.0);
  problem.batch = 4;
  CHECK(more(Strategy::unfused, true) == 0.0);
  problem.batch = 5, problem.d_model = 2048;  // rows of a page
  CHECK(more(Strategy::unfused, true) == 0.0);
}

TEST_CASE("early requests from main memory: f32 rows of one token are not asked for, short int8 rows cost nothing, longer ones stop the stream") {
  const auto more = [&](const char* name, const Problem& problem, Strategy strategy, Residency residency = Residency::cold) {
    Plan plan = two_parts(problem, strategy, true);
    plan.hidden_tile = 256;  // eight tiles in each part
    const auto time = [&](const Machine& machine) { return predicted(problem, plan, machine, {.active = 0.5}, residency).time_s; };
    return time(sample_with({{name, 1e-6}})) - time(test::sample_machine());
  };
  Problem f32 = dense(1024, 4096);
  CHECK(test::within(more("unasked_s", f32, Strategy::row_fused), 8e-6, 1e-9));
  CHECK(more("unasked_s", f32, Strategy::unfused) == 0.0);
  CHECK(more("unasked_s", dense(1024, 4096, DType::bf16), Strategy::row_fused) == 0.0);
  f32.batch = 2;
  CHECK(more("unasked_s", f32, Strategy::row_fused) == 0.0);
  const double units = 4096 * 1e-6 / 2;
  CHECK(more("guess_overhead_s", dense(1984, 4096, DType::int8), Strategy::row_fused) == 0.0);
  CHECK(more("guess_overhead_s", dense(1984, 4096, DType::int8), Strategy::row_fused, Residency::warm) > 0.0);
  CHECK(more("guess_overhead_s", dense(2048, 4096, DType::int8), Strategy::row_fused) > 1.001 * units);  // waits, and beside the stream as ever
  CHECK(more("guess_overhead_s", dense(2048, 4096, DType::bf16), Strategy::row_fused) < 1.001 * units);
}

TEST_CASE("who asks early for open rows finds out early which they are") {
  Problem problem = dense(256, 256, DType::bf16);
  const auto more = [&](Strategy strategy, bool skip, const char* name = "guess_overhead_s") {
    const Plan plan = two_parts(problem, strategy, skip);
    const auto compute = [&](const Machine& machine) { return predicted(problem, plan, machine, {.active = 0.5}, Residency::warm).terms.compute; };
    return compute(sample_with({{name, 1e-6}})) - compute(test::sample_machine());
  };
  CHECK(test::within(more(Strategy::row_fused, true), 128e-6, 1e-9));
  CHECK(more(Strategy::row_fused, false) == 0.0);
  CHECK(more(Strategy::unfused, true) == 0.0);
  problem.gated = true;  // then it is about rows of W1, in either
  CHECK(test::within(more(Strategy::row_fused, true), 128e-6, 1e-9));
  CHECK(test::within(more(Strategy::unfused, true), 128e-6, 1e-9));
  CHECK(more(Strategy::unfused, true, "guess_batch_s") == 0.0);
  problem.batch = 4;
  CHECK(test::within(more(Strategy::unfused, true, "guess_batch_s"), 128e-6, 1e-9));
  CHECK(more(Strategy::unfused, true) == 0.0);
  problem.batch = 2;
  CHECK(test::within(more(Strategy::unfused, true), 128e-6, 1e-9));
}

TEST_CASE("more tokens than a kernel takes at once go over the rows again; certificates of several tokens") {
  Problem problem = dense(256, 256, DType::bf16);
  const auto more = [&](const char* name, double value, Strategy strategy, index_t batch) {
    problem.batch = batch;
    const Plan plan = two_parts(problem, strategy, strategy == Strategy::certified);
    const auto compute = [&](const Machine& machine) { return predicted(problem, plan, machine, {.active = 1.0, .refined = 0.0, .refined_read = 0.0}, Residency::warm).terms.compute; };
    return compute(sample_with({{name, value}})) - compute(test::sample_machine());
  };
  for (const index_t batch : {1, 2, 3, 4, 8}) CHECK(more("further_block_s", 1e-6, Strategy::row_fused, batch) == 0.0);
  for (const index_t batch : {5, 6, 7, 9, 16}) CHECK(test::within(more("further_block_s", 1e-6, Strategy::row_fused, batch), 2 * 128e-6, 1e-9));
  CHECK(test::within(more("further_block_s", 1e-6, Strategy::row_fused, 15), 2 * 2 * 128e-6, 1e-9));  // 8, 4 and 3
  CHECK(more("certify_batch_s", 1e-6, Strategy::certified, 1) == 0.0);
  CHECK(test::within(more("certify_batch_s", 1e-6, Strategy::certified, 4), 128e-6, 1e-9));
  CHECK(more("certify_token_share", 2.0, Strategy::certified, 1) == 0.0);
  const double token = 256.0 * 256 / kernel_rate(test::sample_machine(), "avx2", "certify")->value / 2;
  CHECK(test::within(more("certify_token_share", 2.0, Strategy::certified, 4), 3 * token, 1e-9));
}

TEST_CASE("between a cache and main memory the lines of both are mixed: shares by the curve, and waits where they are equal") {
  // 200 GB/s up to 2 MB, 20 GB/s at 100 MB.
  const Machine machine = test::sample_machine();
  const Problem problem = dense(1024, 4096, DType::bf16);
  const double bytes = 4.0 * kElements, curve = bandwidth(machine, 2, bytes), missed = (1 / curve - 1 / 200e9) / (1 / 20e9 - 1 / 200e9);
  REQUIRE(missed > 0.1);
  REQUIRE(missed < 0.9);
  const auto terms = [&](std::initializer_list<std::pair<const char*, double>> model) {
    return predicted(problem, two_parts(problem, Strategy::row_fused), sample_with(model), {}, Residency::warm).terms;
  };
  CHECK(test::within(terms({{"stream_efficiency", 0.5}}).stream, bytes * (missed / 10e9 + (1 - missed) / 200e9), 1e-9));
  CHECK(test::within(terms({{"cache_efficiency", 0.5}}).stream, bytes * (missed / 20e9 + (1 - missed) / 100e9), 1e-9));
  CHECK(test::within(terms({{"mixed_rate", 1e10}}).compute - terms({}).compute, std::sqrt(missed * (1 - missed)) * bytes * (1e-10 - 1e-18) / 2, 1e-9));
  CHECK(predicted(problem, two_parts(problem, Strategy::row_fused), sample_with({{"mixed_rate", 1e10}})).terms.compute == 0.0);  // cold
}

TEST_CASE("in a cache two phases wait for the slowest worker longer than one of their time; a barrier between them waits besides") {
  const Problem problem = dense(512, 512, DType::bf16);  // 1 MB
  const Machine machine = sample_with({{"imbalance", 0.01}, {"barrier_wait_s", 3e-6}});
  const auto terms = [&](Strategy strategy, Residency residency) { return predicted(problem, two_parts(problem, strategy), machine, {}, residency).terms; };
  const Terms fused = terms(Strategy::row_fused, Residency::warm), unfused = terms(Strategy::unfused, Residency::warm);
  CHECK(test::within(fused.imbalance, 0.01 * (fused.stream + fused.compute), 1e-12));
  CHECK(test::within(unfused.imbalance, 0.01 * std::sqrt(2.0) * (unfused.stream + unfused.compute), 1e-12));
  CHECK(fused.barrier == 0.0);
  CHECK(test::within(unfused.barrier, 1e-6 + 3e-6, 1e-12));
  CHECK(terms(Strategy::unfused, Residency::cold).imbalance == 0.0);  // who is done leaves main memory to the others
  const Machine waits = sample_with({{"memory_wait_s", 2e-6}});
  const auto barrier = [&](Strategy strategy, Residency residency) { return predicted(problem, two_parts(problem, strategy), waits, {}, residency).terms.barrier; };
  CHECK(test::within(barrier(Strategy::unfused, Residency::cold), 1e-6 + 2e-6, 1e-12));
  CHECK(test::within(barrier(Strategy::unfused, Residency::warm), 1e-6, 1e-12));
  CHECK(barrier(Strategy::row_fused, Residency::cold) == 0.0);
}

TEST_CASE("a curve that falls by less than a twentieth is still the cache's") {
  const Problem problem = dense(1024, 1024, DType::bf16);  // 4 MB
  Machine machine = sample_with({{"stream_efficiency", 0.5}});
  const auto stream_with = [&](double at_the_next_point) {
    machine.read_bandwidth.insert(machine.read_bandwidth.end() - 1, {4.5e6, 2, at_the_next_point, 0.0});
    const double stream = predicted(problem, two_parts(problem, Strategy::row_fused), machine, {}, Residency::warm).terms.stream;
    machine.read_bandwidth.erase(machine.read_bandwidth.end() - 2);
    return stream * bandwidth(machine, 2, 2e6);
  };
  const double bytes = 4.0 * 1024 * 1024;
  CHECK(test::within(stream_with(200e9), bytes, 1e-9));
  CHECK(stream_with(191e9) < bytes * 200 / 191);  // nothing from main memory, which takes twice as long here
  CHECK(stream_with(170e9) > bytes * 200 / 170);
}

TEST_CASE("an unfused product goes on from part to part, but for the calls that take them backwards") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  const auto more = [&](Strategy strategy, index_t parts) {
    Plan plan = default_plan(problem, strategy);
    plan.parts = parts;
    plan.hidden_tile = 4096 / parts;
    const auto stream = [&](const Machine& machine) { return predicted(problem, plan, machine).terms.stream; };
    return stream(sample_with({{"gather_gap_bytes", 2e4}})) - stream(test::sample_machine());
  };
  CHECK(test::within(more(Strategy::unfused, 16), 2 * 8 * 2e4 / 20e9, 1e-9));
  CHECK(test::within(more(Strategy::row_fused, 16), 2 * 16 * 2e4 / 20e9, 1e-9));
}
