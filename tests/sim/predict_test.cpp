// Level 0 and 1: terms that add up, hand-worked cases, monotonicity, refusals.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "lookup.hpp"
#include "sample_machine.hpp"
#include "seed.hpp"
#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

Problem dense(index_t d, index_t f, DType dtype = DType::f32) { return {d, f, 1, dtype, {}, false}; }

Plan two_parts(const Problem& problem, Strategy strategy, bool skip = false) {
  Plan plan = default_plan(problem, strategy, skip);
  plan.parts = 2;
  return plan;
}

double time_s(const Scenario& scenario, const Machine& machine) {
  const auto prediction = predict(scenario, machine);
  REQUIRE_MESSAGE(prediction.ok(), prediction.message());
  return prediction->time_s;
}

/// A few units in the last place: the expected value is the same formula in another order of operations.
void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 16 * 0x1p-52 * std::abs(expected)); }

}  // namespace

TEST_CASE("terms add up to the time, bit for bit, in their order") {
  std::mt19937_64 random(test::seed());
  for (const std::string& name : machine_names()) {
    const auto machine = find_machine(name);
    REQUIRE(machine.ok());
    for (int i = 0; i < 200; ++i) {
      const Problem problem{static_cast<index_t>(1 + random() % 5000), static_cast<index_t>(1 + random() % 5000),
                            static_cast<index_t>(1 + random() % 8), random() % 2 ? DType::f32 : DType::bf16, {}, random() % 2 == 0};
      const Plan plan = default_plan(problem, static_cast<Strategy>(random() % 3), random() % 2 == 0);
      const Activity activity{static_cast<double>(random() % 101) / 100.0, {}, {}, {}, {}, {}, {}, {}};
      const auto p = predict({problem, plan, activity, random() % 2 ? Residency::cold : Residency::warm, static_cast<int>(random() % 9), {}}, *machine);
      REQUIRE_MESSAGE(p.ok(), p.message());
      double sum = 0;
      for (const auto& term : p->terms.named()) {
        CHECK_MESSAGE(term.second >= 0.0, term.first);
        sum += term.second;
      }
      CHECK(p->time_s == p->terms.total());
      CHECK(p->time_s == sum);
      CHECK(p->low_s <= p->time_s);
      CHECK(p->time_s <= p->high_s);
      CHECK(p->low_s > 0.0);
      CHECK(p->bytes == count(plan, problem, activity));
    }
  }
}

TEST_CASE("a layer streamed from main memory, by hand") {
  const Problem problem = dense(1024, 4096, DType::bf16);  // 2 · 8 MiB
  const auto p = predict({problem, two_parts(problem, Strategy::unfused), {}, Residency::cold, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  const double bytes = 2.0 * 1024 * 4096 * 2;
  check_close(p->terms.stream, bytes / 20e9);
  CHECK(p->terms.compute == 0.0);  // 8.4 M elements at 2 · 10 Gelem/s take 0.42 ms, hidden behind 0.84 ms of stream
  CHECK(p->terms.launch == 2e-6);
  CHECK(p->terms.barrier == 2e-6);
  CHECK(p->terms.repair == 0.0);
  CHECK(p->terms.imbalance == 0.0);
  const double moved = static_cast<double>(p->bytes.bytes_y + p->bytes.bytes_h + p->bytes.bytes_x);
  // And x is copied, and what the other core wrote fetched, at rates that the sample machine has next to free.
  const double fetched = 0.5 * (1024 * 4 + 0.5 * static_cast<double>(p->bytes.bytes_y + p->bytes.bytes_h));
  check_close(p->terms.reduction, moved / 200e9 + 1024 * 4 / 1e18 + fetched / 1e18);
}

TEST_CASE("a resident layer is bound by arithmetic") {
  const Problem problem = dense(256, 256, DType::bf16);
  const auto p = predict({problem, two_parts(problem, Strategy::row_fused), {}, Residency::warm, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  const double busy = 2.0 * 256 * 256 / 20e9, stream = 2.0 * 256 * 256 * 2 / 200e9;
  check_close(p->terms.stream, stream);
  check_close(p->terms.compute, busy - stream);
  CHECK(p->terms.barrier == 1e-6);
}

TEST_CASE("two regions: a fork and join for each phase, and no barrier") {
  const Problem problem = dense(256, 256);
  Plan plan = two_parts(problem, Strategy::unfused);
  plan.launch = Launch::region_per_phase;
  const auto p = predict({problem, plan, {}, Residency::warm, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  CHECK(p->terms.launch == 3 * 2e-6);
  CHECK(p->terms.barrier == 0.0);
}

TEST_CASE("three parts on two threads wait for the last") {
  const Problem problem = dense(1024, 3 * 1024, DType::bf16);
  Plan plan = two_parts(problem, Strategy::row_fused);
  plan.parts = 3;
  const auto p = predict({problem, plan, {}, Residency::cold, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  // The last part is streamed by one thread at half of the bandwidth: a third of the bytes takes twice as long.
  check_close(p->terms.imbalance, p->terms.stream / 3.0);
}

TEST_CASE("repairs: rows of W2 again, and exact decisions") {
  const Problem problem = dense(1024, 1024, DType::bf16);
  const Plan plan = [&] {
    Plan one = default_sign_split_plan(problem, Variant::interim, Repair::selective);
    one.parts = 2;
    return one;
  }();
  Activity activity;
  activity.repaired = 0.5;
  activity.rechecked = 2.0 / 1024;
  const auto p = predict({problem, plan, activity, Residency::cold, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  check_close(p->terms.repair, 512.0 * 1024 / 20e9 + 2.0 * 1024 / 2e8);
  activity.repaired = activity.rechecked = 0.0;
  CHECK(predict({problem, plan, activity, Residency::cold, 2, {}}, test::sample_machine())->terms.repair == 0.0);
}

TEST_CASE("more to read takes longer") {
  for (const std::string& name : machine_names()) {
    const Machine machine = *find_machine(name);
    CAPTURE(name);
    for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split}) {
      double before = 0;
      for (index_t f = 512; f <= 65536; f *= 2) {
        const Problem problem = dense(1024, f, DType::bf16);
        Plan plan = default_plan(problem, strategy);
        plan.parts = 4;
        const double now = time_s({problem, plan, {}, Residency::cold, 0, {}}, machine);
        CHECK(now > before);
        before = now;
      }
    }
    const Problem problem = dense(2048, 8192, DType::bf16);
    double before = 0;
    for (const double active : {0.0, 0.05, 0.2, 0.5}) {
      const double now = time_s({problem, default_plan(problem, Strategy::row_fused, true), {active, {}, {}, {}, {}, {}, {}, {}}, Residency::cold, 0, {}}, machine);
      CHECK(now > before);
      before = now;
    }
    const Problem wide = dense(2048, 8192, DType::f32);
    CHECK(time_s({wide, default_plan(wide, Strategy::row_fused), {}, Residency::cold, 0, {}}, machine) >
          time_s({problem, default_plan(problem, Strategy::row_fused), {}, Residency::cold, 0, {}}, machine));
    CHECK(time_s({problem, default_plan(problem, Strategy::row_fused), {}, Residency::cold, 0, {}}, machine) >=
          time_s({problem, default_plan(problem, Strategy::row_fused), {}, Residency::warm, 0, {}}, machine));
  }
}

TEST_CASE("what cannot be predicted is refused in words") {
  const Machine machine = test::sample_machine();
  const Problem problem = dense(64, 64);
  const Plan plan = two_parts(problem, Strategy::row_fused);
  const auto message = [](const Scenario& scenario, const Machine& m) { return predict(scenario, m).message(); };
  CHECK(message({problem, plan, {}, Residency::cold, 2, {}}, machine).empty());
  Plan broken = plan;
  broken.parts = 0;
  CHECK(message({problem, broken, {}, Residency::cold, 2, {}}, machine).find("parts") != std::string::npos);
  CHECK(message({dense(0, 64), plan, {}, Residency::cold, 2, {}}, machine).find("d_model") != std::string::npos);
  CHECK(message({problem, plan, {}, Residency::cold, -1, {}}, machine).find("threads") != std::string::npos);
  CHECK(message({problem, plan, {}, Residency::cold, 2, "avx512"}, machine).find("avx512") != std::string::npos);
  Activity activity;
  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    activity.active = bad;
    CHECK(message({problem, plan, activity, Residency::cold, 2, {}}, machine).find("activity.active") != std::string::npos);
  }
  activity = {};
  activity.repaired = std::nan("");
  CHECK(message({problem, plan, activity, Residency::cold, 2, {}}, machine).find("activity.repaired") != std::string::npos);
  CHECK(message({problem, plan, {}, Residency::cold, 2, {}}, Machine{}).find("read_bandwidth") != std::string::npos);
}

TEST_CASE("a rate that the profile lacks is derived from the FMA rate") {
  Machine machine = test::sample_machine();
  std::erase_if(machine.rates, [](const Rate& rate) { return rate.name != "fma_f32"; });
  const Problem problem = dense(256, 256);
  CHECK(predict({problem, two_parts(problem, Strategy::row_fused), {}, Residency::warm, 1, {}}, machine).ok());
  machine.rates.clear();
  CHECK_FALSE(predict({problem, two_parts(problem, Strategy::row_fused), {}, Residency::warm, 1, {}}, machine).ok());
}

TEST_CASE("rooflines: dense bytes over the main-memory bandwidth") {
  const Machine machine = test::sample_machine();
  const Problem problem = dense(1024, 4096, DType::bf16);
  const Scenario fused{problem, two_parts(problem, Strategy::row_fused, true), {0.1, {}, {}, {}, {}, {}, {}, {}}, Residency::warm, 2, {}};
  Scenario unfused = fused;
  unfused.plan = two_parts(problem, Strategy::unfused);
  const double bytes = 2.0 * 1024 * 4096 * 2;
  CHECK(roofline_s(fused, machine) == bytes / 20e9);
  CHECK(roofline_s(unfused, machine) == (bytes + 2 * 4 * 4096) / 20e9);
  CHECK(roofline_launch_s(fused, machine) == bytes / 20e9 + 2e-6);
  CHECK(roofline_launch_s(unfused, machine) == (bytes + 2 * 4 * 4096) / 20e9 + 4e-6);
}

// One correction of the model at a time, each worked out by hand on the machine with round numbers.

namespace {

Prediction predicted(const Problem& problem, const Plan& plan, const Machine& machine, const Activity& activity = {},
                     Residency residency = Residency::cold, int threads = 2) {
  const auto p = predict({problem, plan, activity, residency, threads, {}}, machine);
  REQUIRE_MESSAGE(p.ok(), p.message());
  return *p;
}

Machine sample_with(std::initializer_list<std::pair<const char*, double>> values) {
  Machine machine = test::sample_machine();
  for (const auto& [name, value] : values) machine.model[name].value = value;
  return machine;
}

constexpr double kElements = 1024.0 * 4096.0;  // of one matrix of dense(1024, 4096)

}  // namespace

TEST_CASE("costs of having more than one thread: imbalance, and the wait that an empty loop does not show") {
  const Problem problem = dense(1024, 4096, DType::bf16);
  const Plan plan = two_parts(problem, Strategy::row_fused);
  const Machine machine = sample_with({{"imbalance", 0.1}, {"thread_wait_s", 5e-6}});
  const Terms two = predicted(problem, plan, machine).terms, one = predicted(problem, plan, machine, {}, Residency::cold, 1).terms;
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

TEST_CASE("tokens: a rate for one, two, four and eight, between them a line, and beyond in proportion") {
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
  CHECK(test::within(busy(6), 0.5 * (5 + 8) + 0.5 * (4 + 10), 1e-12));
  CHECK(test::within(busy(12), 1.5 * (8 + 10), 1e-12));
  std::erase_if(machine.rates, [](const Rate& rate) { return rate.name == "up_bf16_2"; });
  CHECK(test::within(busy(2), 1 + 10 / (0.5 * 0.65 * 32) + 2, 1e-12));  // derived: a further token takes its share of the FMA rate
}

TEST_CASE("several tokens read main memory no faster than their kernels ask for it; a cache they do") {
  const Machine machine = sample_with({{"batch_read_rate", 4e9}}), fast = sample_with({{"batch_read_rate", 4e10}});
  Problem problem = dense(1024, 4096, DType::bf16);
  const auto stream = [&](const Machine& m, Residency residency) { return predicted(problem, two_parts(problem, Strategy::row_fused), m, {}, residency).terms.stream; };
  check_close(stream(machine, Residency::cold), 4.0 * kElements / 20e9);  // one token
  problem.batch = 2;
  check_close(stream(machine, Residency::cold), 4.0 * kElements / 8e9);
  check_close(stream(fast, Residency::cold), 4.0 * kElements / 20e9);
  problem = dense(256, 256, DType::bf16);
  problem.batch = 2;
  check_close(stream(machine, Residency::warm), 4.0 * 256 * 256 / 200e9);
}

TEST_CASE("a layer called again: all of it must fit, and what the cores' own caches hold comes from there") {
  Machine machine = test::sample_machine();
  machine.levels = {{"L2", {1e6, "B", Kind::measured, "by hand", 0.0}, 1, 64}, {"L3", {8e6, "B", Kind::measured, "by hand", 0.0}, 2, 64}};
  const double weights = 16e6, own = 2e6;
  const Problem problem = dense(1000, 2000, DType::f32);  // rows are padded to 1024: 16.384 MB
  const double layer = weights * 1.024;
  const double curve = 200e9 * std::pow(0.1, std::log(layer / 2e6) / std::log(1e8 / 2e6));
  const double seconds_per_byte = own / layer / 200e9 + (1.0 - own / layer) / curve;
  const auto stream = [&](bool skip) { return predicted(problem, two_parts(problem, Strategy::row_fused, skip), machine, {.active = 0.5}, Residency::warm).terms.stream; };
  CHECK(test::within(stream(false), layer * seconds_per_byte, 1e-12));
  CHECK(test::within(stream(true), 0.75 * layer * seconds_per_byte, 1e-12));  // another token may open any of the rows
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
  const Problem small = dense(256, 256, DType::bf16);
  Plan cached = default_sign_split_plan(small, Variant::telescoping, Repair::none, false, 1);
  cached.parts = 2;
  CHECK(predicted(small, cached, sample_with({{"split_miss_s", 1e-6}}), {}, Residency::warm).terms.compute ==
        predicted(small, cached, test::sample_machine(), {}, Residency::warm).terms.compute);
}

TEST_CASE("what one core wrote and another reads, and x quantized for a certificate") {
  const Problem problem = dense(1024, 1024, DType::bf16);
  const auto reduction = [&](const Plan& plan, const char* name, double value) {
    return predicted(problem, plan, sample_with({{name, value}})).terms.reduction;
  };
  const Plan plan = two_parts(problem, Strategy::row_fused);
  Plan alone = plan;
  alone.parts = 1;
  const auto p = predicted(problem, plan, test::sample_machine());
  const double fetched = 0.5 * (1024 * 4 + 0.5 * static_cast<double>(p.bytes.bytes_y));
  CHECK(test::within(reduction(plan, "exchange_rate", 1e9) - reduction(plan, "exchange_rate", 1e18), fetched * (1e-9 - 1e-18), 1e-9));
  CHECK(reduction(alone, "exchange_rate", 1e9) == reduction(alone, "exchange_rate", 1e18));
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
  const double weights = 4.0 * kElements, own = 65536;  // which are in the first-level caches
  CHECK(test::within(terms.stream, own / 200e9 + (weights - own) / bandwidth(test::sample_machine(), 2, weights), 1e-12));
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
