// The corrections of the cost model, each worked out by hand on the machine with round numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "hand_worked.hpp"
#include "lookup.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

using namespace signsplit;
using namespace signsplit::sim;
using test::check_close, test::dense, test::kElements, test::predicted, test::sample_with, test::two_parts;

TEST_CASE("costs of having more than one thread: imbalance, and the wait that an empty loop does not show") {
  const Problem problem = dense(512, 512, DType::bf16);  // in a cache
  const Plan plan = two_parts(problem, Strategy::row_fused);
  const Machine machine = sample_with({{"imbalance", 0.1}, {"thread_wait_s", 5e-6}});
  const Terms two = predicted(problem, plan, machine, {}, Residency::warm).terms, one = predicted(problem, plan, machine, {}, Residency::warm, 1).terms;
  check_close(two.imbalance, 0.1 * (two.stream + two.compute));
  CHECK(one.imbalance == 0.0);
  check_close(two.launch, 2e-6 + 5e-6);
  check_close(one.launch, 1e-6);
}

TEST_CASE("intervals are as wide up as down, as factors, and hold the machine's noise") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  const Plan plan = two_parts(problem, Strategy::row_fused);
  Machine machine = test::sample_machine();
  const Prediction quiet = predicted(problem, plan, machine);
  check_close(quiet.low_s * quiet.high_s, quiet.time_s * quiet.time_s);
  machine.noise_cv = 0.5;
  const Prediction noisy = predicted(problem, plan, machine);
  const double before = quiet.high_s / quiet.time_s - 1.0, after = noisy.high_s / noisy.time_s - 1.0;
  CHECK(test::within(after * after - before * before, 0.5 * 0.5 - 0.01 * 0.01, 1e-9));
}

TEST_CASE("rows that are read again cost for every matrix of product 1") {
  const Problem problem{1024, 1024, 1, DType::bf16, {}, true};
  Plan plan = default_sign_split_plan(problem, Variant::telescoping, Repair::none);
  plan.parts = 2;
  Activity activity;
  activity.redone = 0.5;
  activity.rechecked = 2.0 / 1024;
  check_close(predicted(problem, plan, test::sample_machine(), activity).terms.repair,
              2.0 * 512 * 1024 / 20e9 + 2.0 * 2.0 * 1024 / 2e8);
}

TEST_CASE("stalls where the address stream jumps: between tiles, and behind every hole") {
  const double rows = 4096, gap = 256;
  const Activity quarter{.active = 0.25};
  for (const bool gated : {false, true}) {
    const Problem problem{1024, 4096, 1, DType::bf16, {}, gated};
    const double up_matrices = gated ? 2 : 1;
    for (const double allowed_rows : {1e6, 0.01}) {  // of 2048 bytes: the gap as it is, or 20.48 bytes
      const Machine machine = sample_with({{"gather_gap_bytes", gap}, {"gather_gap_rows", allowed_rows}});
      const double each = std::min(gap, allowed_rows * 2048);
      const Plan dense_plan = two_parts(problem, Strategy::row_fused), skipping = two_parts(problem, Strategy::row_fused, true);
      const Structure structure = structure_of(dense_plan, problem);
      const double up = static_cast<double>(structure.up_jumps), down = static_cast<double>(structure.down_jumps);
      check_close(predicted(problem, dense_plan, machine).terms.stream,
                  (2.0 * kElements * (up_matrices + 1) + (up_matrices * up + down) * each) / 20e9);
      const double read = 0.25 * rows, holes = read * 0.75;  // holes of W2, and of a gated layer's W1
      check_close(predicted(problem, skipping, machine, quarter).terms.stream,
                  (2.0 * kElements * (1.0 + up_matrices * 0.25) + (up + up_matrices * holes) * each) / 20e9);
    }
  }
}

TEST_CASE("tokens: a rate for blocks of one, two, four and eight, three between two and four, and the largest block first") {
  Machine machine = test::sample_machine();
  for (Rate& rate : machine.rates) {
    if (rate.name == "up_bf16_2") rate.per_s.value = 8e9;
    if (rate.name == "up_bf16_4") rate.per_s.value = 2e9;
    if (rate.name == "down_bf16_8") rate.per_s.value = 1e9;
  }
  const auto busy = [&](index_t tokens) {
    Problem problem = dense(256, 256, DType::bf16);
    problem.batch = tokens;
    const Terms terms = predicted(problem, two_parts(problem, Strategy::row_fused), machine, {}, Residency::warm).terms;
    return (terms.compute + terms.stream) * 20e9 / (256 * 256);  // in elements at 10 Gelem/s, of both products
  };
  CHECK(test::within(busy(1), 1 + 1, 1e-12));
  CHECK(test::within(busy(2), 1.25 + 2, 1e-12));
  CHECK(test::within(busy(3), 0.5 * (1.25 + 5) + 3, 1e-12));
  CHECK(test::within(busy(4), 5 + 4, 1e-12));
  CHECK(test::within(busy(7), (5 + 0.5 * (1.25 + 5)) + (4 + 3), 1e-12));
  CHECK(test::within(busy(8), 8 + 10, 1e-12));
  CHECK(test::within(busy(22), (2 * 8 + 5 + 1.25) + (2 * 10 + 4 + 2), 1e-12));
  std::erase_if(machine.rates, [](const Rate& rate) { return rate.name == "up_bf16_2"; });
  CHECK(test::within(busy(2), 1 + 10 / (0.5 * 0.65 * 32) + 2, 1e-12));  // derived: a further token takes its share of the FMA rate
}

TEST_CASE("a thread reads main memory no faster than its kernels ask for it; a cache it does") {
  // 20 GB/s, of two threads: where they may read r each, 20 / (1 + (20 / 2r)^4)^(1/4).
  const Machine machine = sample_with({{"batch_read_rate", 1e9}}), fast = sample_with({{"batch_read_rate", 1e13}, {"row_read_rate", 1e10}});
  Problem problem = dense(1024, 4096, DType::bf16);
  const auto stream = [&](const Machine& m, Residency residency) { return predicted(problem, two_parts(problem, Strategy::row_fused), m, {}, residency).terms.stream; };
  const auto close = [](double value, double expected) { CHECK(test::within(value, expected, 1e-12)); };
  close(stream(machine, Residency::cold), 4.0 * kElements / 20e9);  // one token
  close(stream(fast, Residency::cold), 4.0 * kElements / 20e9 * std::pow(2.0, 0.25));
  problem.batch = 2;
  close(stream(machine, Residency::cold), 4.0 * kElements / 20e9 * std::pow(1.0 + 1e4, 0.25));
  close(stream(fast, Residency::cold), 4.0 * kElements / 20e9);
  problem = dense(256, 256, DType::bf16);
  problem.batch = 2;
  close(stream(machine, Residency::warm), 4.0 * 256 * 256 / 200e9);
}

TEST_CASE("a layer called again: all of it must fit, and the parts that the cores' own caches hold come from there") {
  Machine machine = test::sample_machine();
  machine.levels = {{"L2", {1e6, "B", Kind::measured, "by hand", 0.0}, 1, 64}, {"L3", {8e6, "B", Kind::measured, "by hand", 0.0}, 2, 64}};
  const double weights = 16e6;
  const Problem problem = dense(1000, 2000, DType::f32);  // rows are padded to 1024: 16.384 MB
  const double layer = weights * 1.024;
  const auto curve_at = [](double footprint) { return 200e9 * std::pow(0.1, std::log(footprint / 2e6) / std::log(1e8 / 2e6)); };
  const double curve = curve_at(layer);
  const auto stream = [&](Strategy strategy, index_t parts, bool skip) {
    Plan plan = default_plan(problem, strategy, skip);
    plan.parts = parts;
    return predicted(problem, plan, machine, {.active = 0.5}, Residency::warm).terms.stream;
  };
  // Of parts of 0.512 MB each core finds the last one again but for what half of its cache does not cover, and not the one before.
  const double found = 2.0 * 2.0 * (1.0 - 0.512 * 1.0);
  CHECK(test::within(stream(Strategy::row_fused, 32, false), layer * (found / 32 / 200e9 + (1.0 - found / 32) / curve), 1e-9));
  const double found_of_64 = 2.0 * (1.0 + 2.0 * (1.0 - 0.512) + 2.0 * (1.0 - 0.768));
  CHECK(test::within(stream(Strategy::row_fused, 64, false), layer * (found_of_64 / 64 / 200e9 + (1.0 - found_of_64 / 64) / curve), 1e-9));
  // Three quarters are read; other tokens have opened other rows, half of the rest counts.
  const double of_448 = 2.0 * (1.0 + 2.0 * (1.0 - 0.896));
  CHECK(test::within(stream(Strategy::row_fused, 32, true), 0.75 * layer * (of_448 / 32 / 200e9 + (1.0 - of_448 / 32) / curve_at(0.875 * layer)), 1e-9));
  CHECK(test::within(stream(Strategy::row_fused, 16, false), layer / curve, 1e-12));  // none of 1.024 MB
  CHECK(test::within(stream(Strategy::unfused, 32, false), layer / curve, 1e-12));    // W1 follows W2
}

TEST_CASE("sign_split has rates of its own for pieces of rows, and its streams for every token anew") {
  Problem problem = dense(256, 256, DType::bf16);
  const auto busy = [&](Variant variant, const char* rate, double value) {
    Machine machine = test::sample_machine();
    for (Rate& one : machine.rates) {
      if (one.name == rate) one.per_s.value = value;
    }
    Plan plan = default_sign_split_plan(problem, variant, variant == Variant::telescoping ? Repair::none : Repair::selective, false, 1);
    plan.parts = 2;
    const Terms terms = predicted(problem, plan, machine, {.active = 1.0, .pushed = 1.0, .down_again = 0.0, .repaired = 0.0}, Residency::warm).terms;
    return (terms.compute + terms.stream) * 20e9 / (256 * 256);
  };
  CHECK(test::within(busy(Variant::interim, "none", 0), 1 + 1, 1e-12));
  CHECK(test::within(busy(Variant::interim, "pieces_bf16", 5e9), 2 + 1, 1e-12));
  CHECK(test::within(busy(Variant::telescoping, "pieces_bf16", 5e9), 2 + 1, 1e-12));
  CHECK(test::within(busy(Variant::streams, "pieces_bf16", 5e9), 1 + 1, 1e-12));
  CHECK(test::within(busy(Variant::streams, "streams_bf16", 5e9), 2 + 1, 1e-12));
  CHECK(test::within(busy(Variant::interim, "push_bf16", 5e9), 1 + 2, 1e-12));
  problem.batch = 4;
  CHECK(test::within(busy(Variant::streams, "streams_bf16", 5e9), 4 * 2 + 4, 1e-12));
  CHECK(test::within(busy(Variant::interim, "pieces_bf16", 5e9), 4 + 1 + 4, 1e-12));  // the difference is of loading, once
}

TEST_CASE("overheads of pieces, rows and units, of which a schedule pays its own") {
  Problem problem = dense(256, 256, DType::bf16);
  const auto busy = [&](const Plan& plan, std::initializer_list<std::pair<const char*, double>> model) {
    const auto p = predicted(problem, plan, sample_with(model), {.active = 0.5}, Residency::warm);
    return 2.0 * (p.terms.compute + p.terms.stream);  // of both threads; arithmetic hides the stream
  };
  const auto more = [&](const Plan& plan, const char* name, double value) { return busy(plan, {{name, value}}) - busy(plan, {}); };
  const auto close = [](double value, double expected) { CHECK(test::within(value, expected, 1e-9)); };
  const auto split = [&](Variant variant, bool skip) {
    Plan plan = default_sign_split_plan(problem, variant, variant == Variant::telescoping ? Repair::none : Repair::selective, skip, 1);
    plan.parts = 2;
    return plan;
  };
  const Plan dense_plan = two_parts(problem, Strategy::row_fused), skipping = two_parts(problem, Strategy::row_fused, true);
  close(more(dense_plan, "row_overhead_s", 1e-6), 256e-6);
  close(more(skipping, "row_overhead_s", 1e-6), 128e-6);
  close(more(skipping, "skip_overhead_s", 1e-6), 128e-6);
  CHECK(more(dense_plan, "skip_overhead_s", 1e-6) == 0.0);
  close(more(dense_plan, "piece_overhead_s", 1e-6), 256e-6);
  CHECK(more(dense_plan, "piece_batch_s", 1e-6) == 0.0);  // one token
  CHECK(more(split(Variant::interim, false), "piece_overhead_s", 1e-6) == 0.0);
  close(more(split(Variant::interim, false), "push_overhead_s", 1e-6), 256e-6);
  close(more(split(Variant::streams, false), "streams_overhead_s", 1e-6), 256e-6);
  CHECK(more(split(Variant::streams, false), "push_overhead_s", 1e-6) == 0.0);
  close(busy(split(Variant::telescoping, false), {{"push_overhead_s", 1e-6}, {"telescoping_share", 0.5}}) - busy(split(Variant::telescoping, false), {}), 128e-6);
  close(more(two_parts(problem, Strategy::certified, true), "certify_overhead_s", 1e-6), 256e-6);
  CHECK(more(dense_plan, "certify_overhead_s", 1e-6) == 0.0);
  problem.batch = 4;
  close(more(dense_plan, "piece_batch_s", 1e-6), 256e-6);
  close(more(dense_plan, "piece_overhead_s", 1e-6), 4 * 256e-6);
  close(more(split(Variant::interim, false), "push_token_s", 1e-6), 4 * 256e-6);
  close(more(split(Variant::streams, false), "streams_token_s", 1e-6), 4 * 256e-6);
  CHECK(more(split(Variant::interim, false), "push_overhead_s", 1e-6) == 0.0);  // of one token
  close(more(split(Variant::interim, false), "push_batch_s", 1e-6), 256e-6);
  close(more(split(Variant::streams, false), "streams_batch_s", 1e-6), 256e-6);
  problem.gated = true;
  close(more(dense_plan, "piece_batch_s", 1e-6), 2 * 256e-6);  // every row of a gate too
  close(more(split(Variant::telescoping, false), "push_batch_s", 1e-6), 1.6 * 0.8 * 256e-6);
  problem.batch = 1;
  close(more(dense_plan, "piece_overhead_s", 1e-6), 1.2 * 256e-6);  // a gate's row adds a fifth
}

TEST_CASE("pieces of sign_split wait for main memory, where nothing asked for them, and for no cache") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  Plan plan = default_sign_split_plan(problem, Variant::interim, Repair::none, false, 1);
  plan.variant = Variant::telescoping;
  plan.parts = 2;
  const auto compute = [&](const char* name, Residency residency) {
    return predicted(problem, plan, sample_with({{name, 1e-6}}), {}, residency).terms.compute;
  };
  CHECK(test::within(compute("split_miss_s", Residency::cold) - compute("streams_miss_s", Residency::cold), 4096 * 1e-6 / 2, 1e-9));
  // And for bytes at a rate, beside the arithmetic and so beside the stream: 16.8 MB at 5 GB/s and two threads take longer than that.
  const auto p = predicted(problem, plan, sample_with({{"split_stall_rate", 5e9}}));
  CHECK(test::within(p.terms.stream + p.terms.compute, (2.0 * kElements / 10e9 + 4.0 * kElements / 5e9) / 2, 1e-9));
  Plan streams = default_sign_split_plan(problem, Variant::streams, Repair::selective, false, 1);
  streams.parts = 2;
  const auto q = predicted(problem, streams, sample_with({{"streams_stall_rate", 5e9}}), {.active = 1.0, .pushed = 1.0, .down_again = 0.0, .repaired = 0.0});
  // Of the streams for product 1 alone: product 2 is as long as its stream.
  CHECK(test::within(q.terms.stream + q.terms.compute, (kElements / 10e9 + 2.0 * kElements / 5e9) / 2 + 2.0 * kElements / 20e9, 1e-9));
  const auto r = predicted(problem, streams, sample_with({{"split_stall_rate", 5e9}}), {.active = 1.0, .pushed = 1.0, .down_again = 0.0, .repaired = 0.0});
  CHECK(test::within(r.terms.stream + r.terms.compute, q.terms.stream + q.terms.compute, 1e-9));
  const Problem small = dense(256, 256, DType::bf16);
  Plan cached = default_sign_split_plan(small, Variant::telescoping, Repair::none, false, 1);
  cached.parts = 2;
  CHECK(predicted(small, cached, sample_with({{"split_miss_s", 1e-6}, {"split_stall_rate", 1.0}}), {}, Residency::warm).terms.compute ==
        predicted(small, cached, test::sample_machine(), {}, Residency::warm).terms.compute);
}

TEST_CASE("several tokens from main memory: rows are waited for, and so are jumps, beside which no arithmetic goes on") {
  Problem problem = dense(1024, 4096, DType::bf16);
  const auto time = [&](std::initializer_list<std::pair<const char*, double>> model, bool skip, Residency residency = Residency::cold) {
    const auto p = predicted(problem, two_parts(problem, Strategy::row_fused, skip), sample_with(model), skip ? Activity{.active = 0.25, .pushed = 0.25} : Activity{}, residency);
    return p.terms.stream + p.terms.compute;
  };
  const auto more = [&](const char* name, double value, bool skip) { return time({{name, value}}, skip) - time({}, skip); };
  CHECK(more("batch_miss_s", 1e-6, false) == 0.0);  // one token
  const double gap = more("gather_gap_bytes", 256, true);
  problem.batch = 8;  // arithmetic takes four times as long as the stream: more of that would not show
  CHECK(test::within(more("batch_miss_s", 1e-6, false), 2.0 * 4096 * 1e-6 / 2, 1e-9));
  CHECK(test::within(more("batch_miss_s", 1e-6, true), 1.25 * 4096 * 1e-6 / 2, 1e-9));
  CHECK(test::within(more("gather_gap_bytes", 256, true), gap, 1e-9));
  problem = dense(256, 256, DType::bf16);
  problem.batch = 8;
  CHECK(time({{"batch_miss_s", 1e-6}, {"gather_gap_bytes", 256}}, false, Residency::warm) == time({}, false, Residency::warm));
}

TEST_CASE("what one core wrote and another reads, and x quantized for a certificate") {
  const Problem problem = dense(1024, 1024, DType::bf16);
  const auto reduction = [&](const Plan& plan, const char* name, double value) {
    return predicted(problem, plan, sample_with({{name, value}})).terms.reduction;
  };
  const Plan plan = two_parts(problem, Strategy::row_fused);
  Plan alone = plan;
  alone.parts = 1;
  const double fetched = 0.5 * 1024 * 4 + 1024 * 4;
  CHECK(test::within(reduction(plan, "exchange_rate", 1e9) - reduction(plan, "exchange_rate", 1e18), fetched * (1e-9 - 1e-18), 1e-9));
  CHECK(reduction(alone, "exchange_rate", 1e9) == reduction(alone, "exchange_rate", 1e18));
  Plan four = plan;
  four.parts = 4;  // two of a worker's own meet first
  CHECK(test::within(reduction(four, "exchange_rate", 1e9) - reduction(four, "exchange_rate", 1e18), fetched * (1e-9 - 1e-18), 1e-9));
  const auto of_four_workers = [&](double rate) { return predicted(problem, four, sample_with({{"exchange_rate", rate}}), {}, Residency::cold, 4).terms.reduction; };
  CHECK(test::within(of_four_workers(1e9) - of_four_workers(1e18), (0.75 * 1024 * 4 + 2.0 * 1024 * 4) * (1e-9 - 1e-18), 1e-9));
  const Plan certified = two_parts(problem, Strategy::certified, true);
  CHECK(test::within(reduction(certified, "quantize_rate", 1e9) - reduction(certified, "quantize_rate", 1e18), 1024 * 4 * (1e-9 - 1e-18), 1e-9));
  CHECK(reduction(plan, "quantize_rate", 1e9) == reduction(plan, "quantize_rate", 1e18));
}

TEST_CASE("overlap: stream and arithmetic add up by a power that the loss gives; rows pushed again come on top") {
  Problem problem = dense(1024, 4096, DType::bf16);
  const double busy = 2.0 * kElements / 20e9, read = 4.0 * kElements / 20e9, right_angle = std::sqrt(2.0) - 1.0;  // the power 2
  const auto compute = [&](const char* loss, double value, Strategy strategy) {
    return predicted(problem, two_parts(problem, strategy, strategy == Strategy::certified), sample_with({{loss, value}}), {.active = 1.0, .refined = 1.0}).terms.compute;
  };
  CHECK(test::within(compute("overlap_loss", right_angle, Strategy::row_fused), std::hypot(busy, read) - read, 1e-12));
  CHECK(test::within(compute("overlap_loss", 1.0, Strategy::row_fused), busy, 1e-12));  // the power 1: nothing is hidden
  CHECK(compute("batch_overlap_loss", 1.0, Strategy::row_fused) == 0.0);
  problem.batch = 2;  // arithmetic takes as long as the stream
  CHECK(test::within(compute("batch_overlap_loss", right_angle, Strategy::row_fused), (std::sqrt(2.0) - 1.0) * read, 1e-12));
  CHECK(test::within(compute("overlap_loss", 1.0, Strategy::row_fused), 0.0, 1e-12));
  problem.batch = 1;
  const Problem small = dense(256, 256, DType::bf16);  // in a cache another loss counts, here of the stream
  const double in_cache = 2.0 * 256 * 256 / 20e9, stream = 4.0 * 256 * 256 / 200e9;
  CHECK(test::within(predicted(small, two_parts(small, Strategy::row_fused), sample_with({{"overlap_loss", 0.7}, {"cache_overlap_loss", right_angle}}), {}, Residency::warm).terms.compute,
                     std::hypot(in_cache, stream) - stream, 1e-12));
  Plan split = default_sign_split_plan(problem, Variant::interim, Repair::selective);  // two K tiles: W2 twice
  split.parts = 2;
  Activity activity;
  activity.repaired = 0.0;
  check_close(predicted(problem, split, test::sample_machine(), activity).terms.compute, kElements / 20e9);
}

TEST_CASE("efficiencies: of main memory, of a cache, and by what a call reads anew") {
  const Machine machine = sample_with({{"stream_efficiency", 0.5}, {"cache_efficiency", 0.8}});
  const Problem large = dense(1024, 4096, DType::bf16), small = dense(256, 256, DType::bf16);
  check_close(predicted(large, two_parts(large, Strategy::row_fused), machine).terms.stream, 4.0 * kElements / (0.5 * 20e9));
  check_close(predicted(small, two_parts(small, Strategy::row_fused), machine, {}, Residency::warm).terms.stream,
              4.0 * 256 * 256 / (0.8 * 200e9));
  // Warm, between the caches and main memory: what is read twice takes room once.
  Plan split = default_sign_split_plan(large, Variant::interim, Repair::selective);
  split.parts = 2;
  Activity activity;
  activity.repaired = 0.0;
  const Terms terms = predicted(large, split, test::sample_machine(), activity, Residency::warm).terms;
  const double weights = 4.0 * kElements;
  CHECK(test::within(terms.stream, weights / bandwidth(test::sample_machine(), 2, weights), 1e-12));
}

TEST_CASE("matrices too small for a huge page come from main memory more slowly, and from a cache as ever") {
  const Machine machine = sample_with({{"small_page_efficiency", 0.5}});
  const auto stream = [&](index_t rows, Residency residency) {
    const Problem problem = dense(256, rows, DType::f32);  // 1 KiB a row
    return predicted(problem, two_parts(problem, Strategy::row_fused), machine, {}, residency).terms.stream;
  };
  check_close(stream(2048, Residency::cold), 2.0 * 2048 * 1024 / 20e9);  // 2 MiB each
  check_close(stream(2047, Residency::cold), 2.0 * 2047 * 1024 / 10e9);
  check_close(stream(64, Residency::warm), 2.0 * 64 * 1024 / 200e9);
}

TEST_CASE("a certificate's plane takes arithmetic for every element") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  const Plan plan = default_plan(problem, Strategy::certified, true);
  Machine slow = test::sample_machine(), fast = slow;
  slow.rates.push_back({"avx2", "certify", {1e8, "elem/s", Kind::measured, "by hand", 0.0}});
  fast.rates.push_back({"avx2", "certify", {2e8, "elem/s", Kind::measured, "by hand", 0.0}});
  const double difference = predicted(problem, plan, slow).terms.compute - predicted(problem, plan, fast).terms.compute;
  CHECK(test::within(difference, kElements * (1e-8 - 0.5e-8) / 2.0, 1e-12));
}

TEST_CASE("looking up: a quarter of the way in the logarithms, and shares of the FMA rate") {
  Machine machine = test::sample_machine();
  CHECK(test::within(bandwidth(machine, 1, std::pow(10.0, 6.5)), std::pow(100e9, 0.75) * std::pow(10e9, 0.25), 1e-12));
  std::erase_if(machine.rates, [](const Rate& rate) { return rate.name != "fma_f32"; });
  CHECK(kernel_rate(machine, "avx2", "up_f32")->value == 0.5 * 0.36 * 32e9);
  CHECK(kernel_rate(machine, "avx2", "up_f32")->kind == Kind::assumed);
}
