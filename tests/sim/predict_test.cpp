// Level 0 and 1: terms that add up, hand-worked cases, monotonicity, refusals.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "hand_worked.hpp"
#include "lookup.hpp"
#include "sample_machine.hpp"
#include "seed.hpp"
#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

using namespace signsplit;
using namespace signsplit::sim;
using test::check_close, test::dense, test::predicted, test::two_parts;

namespace {

double time_s(const Scenario& scenario, const Machine& machine) {
  const auto prediction = predict(scenario, machine);
  REQUIRE_MESSAGE(prediction.ok(), prediction.message());
  return prediction->time_s;
}

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
  CHECK(p->terms.barrier == 1e-6);  // between the products
  CHECK(p->terms.repair == 0.0);
  CHECK(p->terms.imbalance == 0.0);
  const double moved = static_cast<double>(p->bytes.bytes_y + p->bytes.bytes_h + p->bytes.bytes_x);
  // And x is copied, and what the other core wrote fetched, at rates that the sample machine has next to free.
  const double fetched = 0.5 * (1024 * 4 + 0.5 * static_cast<double>(p->bytes.bytes_h)) + 1024 * 4;
  check_close(p->terms.reduction, moved / 200e9 + 1024 * 4 / 1e18 + fetched / 1e18);
}

TEST_CASE("a resident layer is bound by arithmetic") {
  const Problem problem = dense(256, 256, DType::bf16);
  const auto p = predict({problem, two_parts(problem, Strategy::row_fused), {}, Residency::warm, 2, {}}, test::sample_machine());
  REQUIRE(p.ok());
  const double busy = 2.0 * 256 * 256 / 20e9, stream = 2.0 * 256 * 256 * 2 / 200e9;
  check_close(p->terms.stream, stream);
  check_close(p->terms.compute, busy - stream);
  CHECK(p->terms.barrier == 0.0);
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

TEST_CASE("of three parts on two threads one is cut, but under sign_split, where one thread waits for the last") {
  const Problem problem = dense(1024, 3 * 1024, DType::bf16);
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    Plan plan = two_parts(problem, strategy);
    plan.parts = 3;
    CHECK(predicted(problem, plan, test::sample_machine()).terms.imbalance == 0.0);
  }
  Plan plan = default_sign_split_plan(problem, Variant::telescoping, Repair::none, false);
  plan.parts = 3;
  const Terms terms = predicted(problem, plan, test::sample_machine()).terms;
  // The last part is streamed by one thread at half of the bandwidth: a third of the bytes takes twice as long.
  check_close(terms.imbalance, (terms.stream + terms.compute) / 3.0);
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
