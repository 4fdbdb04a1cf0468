// The planner: least predicted time, least measured time, wisdom.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "sample_machine.hpp"
#include "scratch_directory.hpp"
#include "signsplit/sim/planner.hpp"

using namespace signsplit;
using namespace signsplit::sim;
namespace fs = std::filesystem;

namespace {

const Problem kProblem{1024, 4096, 1, DType::bf16, {}, false};

PlanRequest request(double active) { return {kProblem, {.active = active}, Residency::cold, 0, {}}; }

/// A timer under which one plan takes 1 ms and the others 2.
PlanTimer favours(const Plan& favourite, int& calls) {
  return [favourite, &calls](const PlanRequest&, std::span<const Plan> plans) -> Result<std::vector<double>> {
    ++calls;
    std::vector<double> seconds;
    for (const Plan& plan : plans) seconds.push_back(plan == favourite ? 1e-3 : 2e-3);
    return seconds;
  };
}

}  // namespace

TEST_CASE("estimate returns the least predicted time, among plans with the same bits only") {
  const Machine machine = *find_machine("epyc-zen5-vm");
  for (const bool gated : {false, true}) {
    const Problem problem{2048, 8192, 1, DType::bf16, {}, gated};
    const auto chosen = plan_for({problem, {.active = 0.1}, Residency::cold, 0, {}}, machine);
    REQUIRE_MESSAGE(chosen.ok(), chosen.message());
    CHECK(chosen->source == ChosenPlan::Source::estimated);
    CHECK(chosen->plan.skip);
    CHECK(chosen->plan.strategy != Strategy::sign_split);
    CHECK(chosen->plan.parts == default_plan(problem, Strategy::row_fused).parts);
    for (const Plan& plan : candidate_plans(problem)) {
      const auto other = predict({problem, plan, {.active = 0.1}, Residency::cold, 0, {}}, machine);
      REQUIRE(other.ok());
      CHECK(chosen->time_s * 0.99 <= other->time_s);
    }
  }
  CHECK_FALSE(plan_for({{0, 1, 1, DType::f32, {}, false}, {}, Residency::cold, 0, {}}, machine).ok());
  CHECK_FALSE(plan_for(request(0.1), Machine{}).ok());
}

TEST_CASE("certified is chosen where its plane saves more than it costs, and not where half of the units are active") {
  const Machine machine = *find_machine("epyc-zen5-vm");
  const auto choice = [&](double active) {
    const Problem problem{4096, 16384, 1, DType::bf16, {}, false};
    return plan_for({problem, {.active = active}, Residency::cold, 0, {}}, machine)->plan.strategy;
  };
  CHECK(choice(0.5) != Strategy::certified);
  CHECK(choice(1.0) != Strategy::certified);
  CHECK(choice(0.02) == Strategy::certified);
}

TEST_CASE("the residual takes the matrix's place where restoring costs less than reading, and never on a GPU") {
  const Problem problem{4096, 16384, 1, DType::bf16, {}, false};
  const auto choice = [&](const char* name, double cost) {
    Machine machine = *find_machine(name);
    machine.model["restored_cost"] = {cost, "1", Kind::assumed, "test", 0.0};
    return plan_for({problem, {.active = 0.1}, Residency::cold, 0, {}}, machine)->plan;
  };
  CHECK(choice("epyc-zen5-vm", 0.0).placement == Placement::residual);
  CHECK(choice("epyc-zen5-vm", 100.0).placement != Placement::residual);
  CHECK(choice("h200", 0.0).placement != Placement::residual);
}

TEST_CASE("candidates that cannot run are passed over") {
  const auto refuse_skip = [](const Plan& plan) { return plan.skip ? unsupported("no skip") : Status{}; };
  const auto chosen = plan_for(request(0.05), test::sample_machine(), {.can_run = refuse_skip});
  REQUIRE(chosen.ok());
  CHECK_FALSE(chosen->plan.skip);
  int asked = 0;
  const auto refuse_all = [&](const Plan&) { return unsupported("reason " + std::to_string(asked++)); };
  CHECK(plan_for(request(0.05), test::sample_machine(), {.can_run = refuse_all}).message() == "reason 0");
  CHECK(asked > 1);
}

TEST_CASE("candidates: each once, and no hidden tile longer than a part but the default") {
  for (const index_t d_ff : {100, 4096}) {
    for (const bool gated : {false, true}) {
      const Problem problem{1024, d_ff, 1, DType::bf16, {}, gated};
      const std::vector<Plan> plans = candidate_plans(problem);
      for (auto plan = plans.begin(); plan != plans.end(); ++plan) {
        CHECK(std::count(plans.begin(), plans.end(), *plan) == 1);
        const bool standard = plan->hidden_tile == default_plan(problem, plan->strategy, plan->skip).hidden_tile;
        if (!standard) CHECK(plan->hidden_tile * plan->parts < d_ff + plan->parts);
      }
    }
  }
}

TEST_CASE("measure takes what is measured to be fastest, and remembers it") {
  const test::ScratchDirectory scratch;
  const fs::path wisdom = scratch.path() / "deep" / "wisdom.json";
  const Machine machine = test::sample_machine();
  const auto estimated = plan_for(request(1.0), machine);
  REQUIRE(estimated.ok());
  Plan favourite = default_plan(kProblem, Strategy::unfused, true);
  REQUIRE(favourite != estimated->plan);
  int calls = 0;
  const PlannerOptions measure{PlanMode::measure, favours(favourite, calls), wisdom, {}};
  const auto measured = plan_for(request(1.0), machine, measure);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->plan == favourite);
  CHECK(measured->source == ChosenPlan::Source::measured);
  CHECK(measured->time_s == 1e-3);
  CHECK(calls == 1);
  for (const fs::directory_entry& entry : fs::directory_iterator(wisdom.parent_path())) CHECK(entry.path() == wisdom);

  const PlannerOptions with_wisdom{PlanMode::estimate, {}, wisdom, {}};
  for (const PlannerOptions* options : {&measure, &with_wisdom}) {
    const auto known = plan_for(request(1.0), machine, *options);
    REQUIRE(known.ok());
    CHECK(known->source == ChosenPlan::Source::wisdom);
    CHECK(known->plan == favourite);
  }
  CHECK(calls == 1);
  // Another question is another answer: activity, threads, machine, problem, instruction set, residency.
  PlanRequest others[] = {request(0.5), request(1.0), request(1.0), request(1.0), request(1.0)};
  others[1].threads = 1;
  others[2].problem.d_ff = 2048;
  others[3].isa = "scalar";
  others[4].residency = Residency::warm;
  for (const PlanRequest& other : others) {
    Machine enough = machine;
    enough.rates.push_back({"scalar", "fma_f32", machine.rates.front().per_s});
    const auto chosen = plan_for(other, enough, with_wisdom);
    REQUIRE_MESSAGE(chosen.ok(), chosen.message());
    CHECK(chosen->source == ChosenPlan::Source::estimated);
  }
  Machine another = machine;
  another.title = "another machine";
  CHECK(plan_for(request(1.0), another, with_wisdom)->source == ChosenPlan::Source::estimated);
  Machine wider = machine;
  wider.units = 2 * machine.units;  // the same processor with more cores, of which as many threads as before are used
  CHECK(plan_for(request(1.0), wider, with_wisdom)->source == ChosenPlan::Source::estimated);
  CHECK(plan_for(request(0.96), machine, with_wisdom)->source == ChosenPlan::Source::wisdom);
  CHECK(plan_for(request(0.75), machine, with_wisdom)->source == ChosenPlan::Source::estimated);  // more than a quarter octave away
  // A second answer leaves the first, and one that cannot run is none.
  REQUIRE(plan_for(request(0.25), machine, measure).ok());
  CHECK(plan_for(request(1.0), machine, with_wisdom)->source == ChosenPlan::Source::wisdom);
  PlannerOptions refusing = with_wisdom;
  refusing.can_run = [&](const Plan& plan) { return plan == favourite ? unsupported("not this one") : Status{}; };
  CHECK(plan_for(request(1.0), machine, refusing)->source == ChosenPlan::Source::estimated);
}

TEST_CASE("estimates are not remembered") {
  const test::ScratchDirectory scratch;
  REQUIRE(plan_for(request(1.0), test::sample_machine(), {.wisdom = scratch.path() / "wisdom.json"}).ok());
  CHECK_FALSE(fs::exists(scratch.path() / "wisdom.json"));
}

TEST_CASE("measured are at most eight, and none that is predicted a third slower than the best") {
  std::vector<Plan> timed;
  const PlanTimer timer = [&](const PlanRequest&, std::span<const Plan> plans) -> Result<std::vector<double>> {
    timed.assign(plans.begin(), plans.end());
    return std::vector<double>(plans.size(), 1e-3);
  };
  for (const double active : {1.0, 0.02}) {  // all alike; skipping far ahead of the others
    const auto ranked = plan_for(request(active), test::sample_machine());
    REQUIRE(ranked.ok());
    REQUIRE(plan_for(request(active), test::sample_machine(), {PlanMode::measure, timer}).ok());
    const double best = ranked->considered.front().prediction.time_s;
    std::size_t close = 0;
    for (const RankedPlan& one : ranked->considered) close += one.prediction.time_s <= 1.3 * best;
    CHECK(timed.size() == std::min<std::size_t>(close, 8));
    CHECK(close < ranked->considered.size() + (active == 1.0 ? 1 : 0));
    if (active == 1.0) CHECK(close > 8);
    for (std::size_t i = 0; i < timed.size(); ++i) CHECK(timed[i] == ranked->considered[i].plan);
  }
}

TEST_CASE("a file that is not wisdom is refused by name, and stays as it is") {
  const test::ScratchDirectory scratch;
  const fs::path file = scratch.path() / "wisdom.json";
  int calls = 0;
  const PlannerOptions options{PlanMode::measure, favours(default_plan(kProblem, Strategy::row_fused), calls), file, {}};
  REQUIRE(plan_for(request(1.0), test::sample_machine(), options).ok());
  std::string good;
  {
    std::ifstream stream(file);
    good.assign(std::istreambuf_iterator<char>(stream), {});
  }
  std::string other_parts = good;
  const std::size_t at = other_parts.find("\"parts\": ");
  REQUIRE(at != std::string::npos);
  other_parts.insert(at + 9, "900000");
  for (const std::string& text : {std::string("{"), std::string("[]"), std::string("{\"format\":\"other\",\"plans\":{}}"), other_parts}) {
    std::ofstream(file) << text;
    const auto chosen = plan_for(request(1.0), test::sample_machine(), options);
    REQUIRE_FALSE(chosen.ok());
    CHECK(chosen.message().find("wisdom.json") != std::string::npos);
    CHECK(fs::file_size(file) == text.size());
  }
}

TEST_CASE("a timer must be there, and must answer") {
  PlannerOptions options{PlanMode::measure, {}, {}, {}};
  CHECK_FALSE(plan_for(request(1.0), test::sample_machine(), options).ok());
  options.timer = [](const PlanRequest&, std::span<const Plan>) -> Result<std::vector<double>> { return std::vector<double>{}; };
  CHECK_FALSE(plan_for(request(1.0), test::sample_machine(), options).ok());
  options.timer = [](const PlanRequest&, std::span<const Plan> plans) -> Result<std::vector<double>> {
    return std::vector<double>(plans.size() + 1, 1e-3);  // one answer too many: which is whose?
  };
  CHECK_FALSE(plan_for(request(1.0), test::sample_machine(), options).ok());
  options.timer = [](const PlanRequest&, std::span<const Plan> plans) -> Result<std::vector<double>> {
    return std::vector<double>(plans.size(), 0.0);
  };
  CHECK_FALSE(plan_for(request(1.0), test::sample_machine(), options).ok());
}

TEST_CASE("matrix products replace the plan of a large batch where they take less than 0.85 of its time") {
  Machine machine = test::sample_machine();
  const auto asked = [&](index_t batch, const PlannerOptions& options = {.gemm = true}) {
    PlanRequest question = request(1.0);
    question.problem.batch = batch;
    const auto chosen = plan_for(question, machine, options);
    REQUIRE_MESSAGE(chosen.ok(), chosen.message());
    return *chosen;
  };
  const auto set_peak = [&](double flops) {
    for (Rate& rate : machine.rates) {
      if (rate.name == "fma_f32") rate.per_s.value = flops;
    }
  };
  const auto by_hand = [&](double batch) {  // 2 threads, arithmetic alone: the sample's memory is never the limit here
    double peak = 0;
    for (const Rate& rate : machine.rates) peak = rate.name == "fma_f32" ? rate.per_s.value : peak;
    return 2.0 * 2.0 * 1024 * 4096 * (batch + 10.0) / (0.9 * 2.0 * peak);
  };
  set_peak(2e9);
  const ChosenPlan slow = asked(64);
  CHECK_FALSE(slow.gemm);
  CHECK(slow.gemm_s > by_hand(64));
  CHECK(slow.gemm_s < 1.01 * by_hand(64));
  // The crossover.
  set_peak(2e9 * slow.gemm_s / (0.85 * slow.time_s) * 0.98);
  CHECK_FALSE(asked(64).gemm);
  set_peak(2e9 * slow.gemm_s / (0.85 * slow.time_s) * 1.02);
  CHECK(asked(64).gemm);
  CHECK(asked(64).plan == slow.plan);
  CHECK_FALSE(asked(64, {}).gemm);
  CHECK(asked(64, {}).gemm_s == 0.0);
  set_peak(1e15);
  CHECK(asked(kMostDecodeTokens + 1).gemm);
  CHECK_FALSE(asked(kMostDecodeTokens).gemm);
  PlanRequest integers = request(1.0);
  integers.problem = {1024, 4096, 64, DType::int8, {}, false, 0, Arithmetic::w8a8};
  CHECK_FALSE(gemm_time_s(integers, machine).ok());
  const auto integer_plan = plan_for(integers, *find_machine("epyc-zen5-vm"), {.gemm = true});  // no products compute the same
  REQUIRE_MESSAGE(integer_plan.ok(), integer_plan.message());
  CHECK_FALSE(integer_plan->gemm);
  CHECK_FALSE(gemm_time_s(request(1.0), *find_machine("h200")).ok());
}

TEST_CASE("measured matrix products are remembered, for those who can run them") {
  const test::ScratchDirectory scratch;
  const Machine machine = test::sample_machine();
  PlanRequest question = request(1.0);
  question.problem.batch = 64;
  int calls = 0;
  const Plan favourite = default_plan(question.problem, Strategy::row_fused);
  PlannerOptions options{PlanMode::measure, favours(favourite, calls), scratch.path() / "wisdom.json", {}, true};
  options.gemm_timer = [](const PlanRequest&) -> Result<double> { return unsupported("refused"); };
  CHECK_FALSE(plan_for(question, machine, options)->gemm);
  std::filesystem::remove(options.wisdom);
  options.gemm_timer = [](const PlanRequest&) -> Result<double> { return 0.5e-3; };
  const auto measured = plan_for(question, machine, options), known = plan_for(question, machine, {.wisdom = options.wisdom, .gemm = true});
  REQUIRE(measured.ok());
  CHECK(measured->gemm);
  CHECK(measured->gemm_s == 0.5e-3);
  CHECK(measured->time_s == 1e-3);
  REQUIRE_MESSAGE(known.ok(), known.message());
  CHECK(known->source == ChosenPlan::Source::wisdom);
  CHECK(known->gemm);
  CHECK(known->gemm_s == 0.5e-3);
  CHECK(known->plan == favourite);
  const auto cannot = plan_for(question, machine, {.wisdom = options.wisdom});
  CHECK(cannot->source == ChosenPlan::Source::estimated);
  CHECK_FALSE(cannot->gemm);
}

TEST_CASE("measured activity of a candidate replaces the model's") {
  const Machine machine = test::sample_machine();
  PlanRequest question = request(0.5);
  question.activity_of = [](const Plan& plan) {
    Activity activity{.active = 0.5};
    if (plan.skip) activity.pushed = 0.125;
    return activity;
  };
  const auto chosen = plan_for(question, machine);
  REQUIRE(chosen.ok());
  REQUIRE_FALSE(chosen->considered.empty());
  for (const RankedPlan& one : chosen->considered) {
    const std::uint64_t rows = one.plan.skip ? kProblem.d_ff / 8 : kProblem.d_ff;
    CHECK(one.prediction.bytes.pushed_rows == rows);
  }
}
