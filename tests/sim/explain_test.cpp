// Explanations: terms that add up, and flips that turn the order round when put into the machine.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "parameters.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/explain.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

const Problem kProblem{1024, 4096, 1, DType::bf16, {}, false};

Scenario scenario(Strategy strategy, bool skip = false, double active = 0.25) {
  return {kProblem, default_plan(kProblem, strategy, skip), {.active = active}, Residency::warm, 0, {}};
}

double gap(const Scenario& fused, const Scenario& unfused, const Machine& machine) {
  return predict(unfused, machine)->time_s - predict(fused, machine)->time_s;
}

}  // namespace

TEST_CASE("every flip, put into the machine, makes the two equal, and a little beyond turns the order round") {
  Machine machine = test::sample_machine();
  machine.model["first_byte_s"].value = 2e-6;
  machine.model["gather_gap_bytes"].value = 300;
  const Scenario fused = scenario(Strategy::row_fused), unfused = scenario(Strategy::unfused, true);
  const auto explanation = explain(fused, unfused, machine);
  REQUIRE_MESSAGE(explanation.ok(), explanation.message());
  const double today = gap(fused, unfused, machine);
  CHECK(today < 0.0);  // skipping three rows of four beats fusing
  REQUIRE_FALSE(explanation->flips.empty());
  bool active_seen = false, machine_seen = false;
  for (const Flip& flip : explanation->flips) {
    CAPTURE(flip.parameter);
    CHECK(flip.value == flip.now * flip.factor);
    const auto at = [&](double factor) {
      if (flip.parameter == "active") {
        Scenario a = fused, b = unfused;
        a.activity.active = b.activity.active = std::min(1.0, flip.now * factor);
        return gap(a, b, machine);
      }
      Machine changed = machine;
      for (const Parameter& parameter : parameters_of(machine, fused)) {
        if (parameter.name == flip.parameter) parameter.scale(changed, factor);
      }
      return gap(fused, unfused, changed);
    };
    (flip.parameter == "active" ? active_seen : machine_seen) = true;
    const double beyond = flip.factor > 1.0 ? 1.0001 : 1.0 / 1.0001;
    CHECK(at(flip.factor / beyond) * today > 0.0);
    CHECK(at(flip.factor * beyond) * today < 0.0);
  }
  CHECK(active_seen);
  CHECK(machine_seen);
  for (std::size_t i = 1; i < explanation->flips.size(); ++i) {
    CHECK(std::abs(std::log(explanation->flips[i - 1].factor)) <= std::abs(std::log(explanation->flips[i].factor)));
  }
}

TEST_CASE("flips are looked for up to 1024 times a value and 1/1024 of it, and no farther") {
  Machine machine = test::sample_machine();
  Scenario fused = scenario(Strategy::row_fused), unfused = scenario(Strategy::unfused);
  fused.residency = unfused.residency = Residency::cold;  // where every tile of a fused schedule is a jump
  double& jump_bytes = machine.model["gather_gap_bytes"].value;
  const double without = gap(fused, unfused, machine);
  jump_bytes = 1.0;
  const double turns_at = without / (without - gap(fused, unfused, machine));  // the gap is linear in it
  REQUIRE(without > 0.0);
  REQUIRE(turns_at > 0.0);
  for (const double factor : {1000.0, 1.0 / 1000, 1100.0, 1.0 / 1100}) {
    CAPTURE(factor);
    jump_bytes = turns_at / factor;
    const auto explanation = explain(fused, unfused, machine);
    REQUIRE(explanation.ok());
    const auto found = std::find_if(explanation->flips.begin(), explanation->flips.end(),
                                    [](const Flip& flip) { return flip.parameter == "model.gather_gap_bytes"; });
    const bool near = factor < 1024.0 && factor > 1.0 / 1024;
    REQUIRE((found != explanation->flips.end()) == near);
    if (near) CHECK(test::within(found->factor, factor, 1e-6));
  }
}

TEST_CASE("what the gap does not depend on is told apart from what cannot turn it") {
  const Machine machine = test::sample_machine();
  const auto explanation = explain(scenario(Strategy::row_fused), scenario(Strategy::unfused), machine);
  REQUIRE(explanation.ok());
  const auto holds = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  CHECK(holds(explanation->unused, "rates.streams_bf16"));  // sign_split's
  CHECK(holds(explanation->unused, "active"));              // nothing is skipped
  CHECK_FALSE(holds(explanation->unused, "barrier_s"));
  CHECK(explanation->fused.prediction.terms.total() == explanation->fused.prediction.time_s);
  CHECK(explanation->decision.winner == explanation->fused.label);
}

TEST_CASE("the flip of the activity derives what follows from it, whatever the scenario says today") {
  const Machine machine = test::sample_machine();
  const auto flip_of = [&](const Scenario& fused, const Scenario& unfused) {
    const auto explanation = explain(fused, unfused, machine);
    REQUIRE(explanation.ok());
    for (const Flip& flip : explanation->flips) {
      if (flip.parameter == "active") return flip.value;
    }
    return 0.0;
  };
  Scenario fused = scenario(Strategy::row_fused), unfused = scenario(Strategy::unfused, true);
  const double derived = flip_of(fused, unfused);
  REQUIRE(derived > 0.0);
  for (Scenario* one : {&fused, &unfused}) one->activity = expected_activity(0.25, one->plan, kProblem);
  CHECK(flip_of(fused, unfused) == derived);
  unfused.activity.pushed = 1.0;  // measured: nothing to skip, so that fusing wins and the model would say otherwise
  CHECK(flip_of(fused, unfused) == 0.0);
}

TEST_CASE("flips come nearest first, whichever way they lie") {
  const Machine machine = *find_machine("epyc-zen5-vm");
  bool up = false, down = false, mixed = false;
  for (const double active : {0.05, 0.3, 0.9}) {
    const auto explanation = explain(scenario(Strategy::row_fused, true, active), scenario(Strategy::unfused, active < 0.5, active), machine);
    REQUIRE_MESSAGE(explanation.ok(), explanation.message());
    double before = 0;
    for (const Flip& flip : explanation->flips) {
      const double distance = std::abs(std::log(flip.factor));
      CHECK(distance >= before);
      mixed = mixed || (flip.factor < 1.0 && up);  // nearest first is not ascending here
      (flip.factor > 1.0 ? up : down) = true;
      before = distance;
    }
    up = false;
  }
  CHECK(down);
  CHECK(mixed);
}

TEST_CASE("terms of the gap are the unfused schedule's less the fused one's") {
  Machine machine = test::sample_machine();
  machine.model["imbalance"].value = 0.05;
  Scenario fused = scenario(Strategy::row_fused);
  fused.plan = default_sign_split_plan(kProblem, Variant::interim, Repair::selective);
  fused.activity.repaired = 0.5;
  const auto explanation = explain(fused, scenario(Strategy::unfused, true), machine);
  REQUIRE(explanation.ok());
  const auto json = nlohmann::json::parse(to_json(*explanation));
  for (const auto& [name, gap_s] : json["terms_gap"].items()) {
    CHECK(gap_s.get<double>() == json["terms_unfused"][name].get<double>() - json["terms_fused"][name].get<double>());
  }
  CHECK(json["terms_gap"]["barrier"].get<double>() > 0.0);
  CHECK(json["terms_gap"]["repair"].get<double>() < 0.0);
  CHECK(json["terms_gap"]["repair"] != json["terms_gap"]["imbalance"]);
}

TEST_CASE("different problems cannot be compared") {
  Scenario other = scenario(Strategy::unfused);
  other.problem.d_ff = 2048;
  other.plan = default_plan(other.problem, Strategy::unfused);
  CHECK_FALSE(explain(scenario(Strategy::row_fused), other, test::sample_machine()).ok());
}
