// Plans and problems: every rule of validate, defaults, JSON, hash, names.
#include "signsplit/plan.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "signsplit/walk.hpp"

namespace {

using namespace signsplit;

constexpr Problem kProblem{.d_model = 512, .d_ff = 2048};
constexpr std::uint64_t kHashOfDefault = 0x2638459118b3ff4fu;  // as first released
constexpr Problem kGated{.d_model = 512, .d_ff = 2048, .gated = true};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

template <class Change>
std::string broken_rule(Plan plan, const Problem& problem, Change change) {
  REQUIRE(validate(plan, problem).ok());
  change(plan);
  const Status status = validate(plan, problem);
  CHECK(status.code() == StatusCode::invalid_argument);
  CHECK_FALSE(contains(status.message(), "\n"));
  return status.message();
}

std::vector<Plan> valid_sign_splits(const Problem& problem) {
  std::vector<Plan> plans;
  for (const Variant variant : {Variant::none, Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
    for (const Repair repair : {Repair::none, Repair::selective, Repair::full, Repair::redo}) {
      const Plan plan = default_sign_split_plan(problem, variant, repair);
      if (validate(plan, problem).ok()) plans.push_back(plan);
    }
  }
  return plans;
}

}  // namespace

TEST_CASE("exactly the defined combinations of variant and repair are valid") {
  std::set<std::string> labels;
  for (const Plan& plan : valid_sign_splits(kProblem)) labels.insert(label(plan));
  CHECK(labels == std::set<std::string>{"sign_split/interim/selective", "sign_split/interim/full", "sign_split/interim/redo",
                                        "sign_split/streams/selective", "sign_split/streams/full", "sign_split/streams/redo",
                                        "sign_split/telescoping", "sign_split/ignore"});
  const std::vector<Plan> gated = valid_sign_splits(kGated);
  REQUIRE(gated.size() == 1);
  CHECK(label(gated.front()) == "sign_split/telescoping");
  const Status refused = validate(default_sign_split_plan(kGated, Variant::interim, Repair::selective), kGated);
  CHECK(contains(refused.message(), "act(g)*u of a K tile is not a part of act(G)*U"));
}

TEST_CASE("only sign_split has a variant and a repair") {
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    const Plan plan = default_plan(kProblem, strategy);
    for (const Variant variant : {Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
      CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.variant = variant; }), "plan.variant must be none"));
    }
    for (const Repair repair : {Repair::selective, Repair::full, Repair::redo}) {
      CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.repair = repair; }), "plan.repair must be none"));
    }
  }
}

TEST_CASE("only certified has a plane, and each of its fields a rule") {
  const Plan dense = default_plan(kProblem, Strategy::row_fused), plan = default_plan(kProblem, Strategy::certified);
  CHECK(contains(broken_rule(dense, kProblem, [](Plan& p) { p.plane_bits = 8; }), "plan.plane_bits must be 0 for row_fused"));
  CHECK(contains(broken_rule(dense, kProblem, [](Plan& p) { p.plane_group = 64; }), "plan.plane_group must be 0 for row_fused"));
  CHECK(contains(broken_rule(dense, kProblem, [](Plan& p) { p.placement = Placement::beside; }), "plan.placement must be none"));
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.skip = false; }), "plan.skip must be true"));
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.placement = Placement::none; }), "plan.placement must be beside or residual"));
  for (const index_t bad : {0, 1, 9, -8}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.plane_bits = bad; }), "plan.plane_bits must be in [2, 8]"));
  }
  for (const index_t bad : {0, -64, 96, 1088}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.plane_group = bad; }), "plan.plane_group must be a multiple of 64 in [64, 1024]"));
  }
  Problem linear = kProblem;
  linear.activation.kind = ActivationKind::identity;
  CHECK(contains(validate(default_plan(linear, Strategy::certified), linear).message(), "has no dead units"));
}

TEST_CASE("gelu, gelu_tanh and silu take dense schedules, and say why no others") {
  for (const auto kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
    for (const bool gated : {false, true}) {
      Problem problem = kProblem;
      problem.activation = {kind};
      problem.gated = gated;
      CHECK(default_plans(problem).size() == 4);  // unfused and row_fused, with skip and without
      CHECK(contains(validate(default_plan(problem, Strategy::certified), problem).message(),
                     "not defined for the activation " + to_string(problem.activation, gated) + ": it has no dead units"));
      CHECK(contains(validate(default_plan(problem, Strategy::sign_split), problem).message(),
                     "sign_split is not defined for the activation " + to_string(problem.activation, gated)));
    }
  }
}

TEST_CASE("scales and integer arithmetic belong to int8 weights") {
  const auto rule = [](DType dtype, index_t group, Arithmetic arithmetic) {
    return validate(Problem{.d_model = 128, .d_ff = 256, .dtype = dtype, .group = group, .arithmetic = arithmetic}).message();
  };
  CHECK(rule(DType::int8, 0, Arithmetic::w8a8).empty());
  CHECK(rule(DType::int8, 64, Arithmetic::f32).empty());
  CHECK(contains(rule(DType::bf16, 64, Arithmetic::f32), "problem.group must be 0 for bf16"));
  CHECK(contains(rule(DType::int8, 32, Arithmetic::f32), "a positive multiple of 64 (got 32)"));
  CHECK(contains(rule(DType::int8, -64, Arithmetic::f32), "problem.group"));
  CHECK(contains(rule(DType::f16, 0, Arithmetic::w8a8), "w8a8 needs int8 weights"));
  Problem long_sums{.d_model = 128, .d_ff = kMaxIntegerSum, .dtype = DType::int8, .arithmetic = Arithmetic::w8a8};
  CHECK(validate(long_sums).ok());
  CHECK(kMaxIntegerSum * 127 * 127 <= std::numeric_limits<std::int32_t>::max());
  CHECK((kMaxIntegerSum + 1) * 127 * 127 > std::numeric_limits<std::int32_t>::max());
  ++long_sums.d_ff;
  CHECK(contains(validate(long_sums).message(), "use a smaller group"));
  long_sums.group = 128;
  CHECK(validate(long_sums).ok());
}

TEST_CASE("w8a8 is unfused: the scale of h needs all of h") {
  const Problem problem{.d_model = 128, .d_ff = 256, .dtype = DType::int8, .arithmetic = Arithmetic::w8a8};
  CHECK(validate(default_plan(problem, Strategy::unfused, true), problem).ok());
  for (const Plan& plan : {default_plan(problem, Strategy::row_fused), default_plan(problem, Strategy::certified),
                           default_sign_split_plan(problem, Variant::interim, Repair::selective)}) {
    CHECK(contains(validate(plan, problem).message(), "plan.strategy must be unfused for the arithmetic w8a8"));
  }
  CHECK(default_plans(problem).size() == 2);
}

TEST_CASE("every size has its rule") {
  constexpr index_t kMin = std::numeric_limits<index_t>::min(), kMax = std::numeric_limits<index_t>::max();
  const Plan plan = default_plan(kProblem, Strategy::row_fused);
  for (const index_t bad : {index_t{0}, index_t{32}, index_t{63}, index_t{65}, index_t{128}, kMin, kMax}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.accumulators = bad; }), "plan.accumulators must be 64"));
  }
  for (const index_t bad : {index_t{0}, index_t{-1}, index_t{2049}, kMin, kMax}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.parts = bad; }), "plan.parts must be in [1, 2048]"));
  }
  for (const index_t bad : {index_t{0}, index_t{-1}, kMaxHiddenTile + 1, kMin, kMax}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.hidden_tile = bad; }),
                   "plan.hidden_tile must be in [1, 1024]"));
  }
  for (const index_t bad : {index_t{-64}, index_t{1}, index_t{100}, kMaxExtent + 64, kMin, kMax, kMax - 63}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.k_tile = bad; }), "plan.k_tile must be "));
  }
  for (const index_t bad : {index_t{0}, index_t{-64}, index_t{100}, kMaxExtent + 64, kMin, kMax, kMax - 63}) {
    CHECK(contains(broken_rule(plan, kProblem, [&](Plan& p) { p.reduce_tile = bad; }), "plan.reduce_tile must be "));
  }
  CHECK(broken_rule(plan, kProblem, [](Plan& p) { p.k_tile = 100; }) == "plan.k_tile must be a multiple of 64 (got 100)");
}

TEST_CASE("sizes at the edge of their rules are valid") {
  Plan plan = default_plan(kProblem, Strategy::row_fused);
  plan.parts = 2048;
  plan.hidden_tile = kMaxHiddenTile;
  plan.k_tile = kMaxExtent;
  plan.reduce_tile = kMaxExtent;
  CHECK(validate(plan, kProblem).ok());
  plan.parts = plan.hidden_tile = 1;
  plan.k_tile = plan.reduce_tile = 64;
  CHECK(validate(plan, kProblem).ok());
}

TEST_CASE("values that are none of the enumerators are refused") {
  const Plan plan = default_plan(kProblem, Strategy::row_fused);
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.strategy = static_cast<Strategy>(9); }), "plan.strategy"));
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.variant = static_cast<Variant>(9); }), "plan.variant"));
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.repair = static_cast<Repair>(9); }), "plan.repair"));
  CHECK(contains(broken_rule(plan, kProblem, [](Plan& p) { p.launch = static_cast<Launch>(9); }), "plan.launch"));
}

TEST_CASE("a problem's rules come before the plan's") {
  const auto message = [](Problem problem) {
    return validate(default_plan(problem, Strategy::row_fused), problem).message();
  };
  CHECK(contains(message({.d_model = 0, .d_ff = 1}), "problem.d_model must be in [1, "));
  CHECK(contains(message({.d_model = kMaxExtent + 1, .d_ff = 1}), "problem.d_model"));
  CHECK(contains(message({.d_model = 1, .d_ff = -1}), "problem.d_ff"));
  CHECK(contains(message({.d_model = 1, .d_ff = 1, .batch = 0}), "problem.batch"));
  CHECK(contains(message({.d_model = 1, .d_ff = 1, .activation = {ActivationKind::drelu}}), "gated FFNs only"));
  for (const float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(contains(message({.d_model = 1, .d_ff = 1, .activation = {ActivationKind::fatrelu, bad}}), "threshold"));
  }
  CHECK(message({.d_model = kMaxExtent, .d_ff = kMaxExtent, .batch = kMaxExtent}).empty());
}

TEST_CASE("default plans are valid for every shape") {
  for (const index_t d : {1, 2, 63, 64, 65, 127, 500, 4096, 18432}) {
    for (const index_t f : {1, 2, 31, 33, 255, 256, 1031, 8192, 8193, 73728}) {
      for (const bool gated : {false, true}) {
        const Problem problem{.d_model = d, .d_ff = f, .gated = gated};
        for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split}) {
          const Plan plan = default_plan(problem, strategy, true);
          CHECK(validate(plan, problem).message() == "");
          CHECK(plan.skip);
        }
        for (const index_t k_tiles : {-3, 0, 1, 2, 3, 4, 8, 1 << 30}) {
          const Plan plan = default_sign_split_plan(problem, Variant::telescoping, Repair::none, false, k_tiles);
          CHECK(validate(plan, problem).message() == "");
        }
      }
    }
  }
  CHECK(default_plan({.d_model = 64, .d_ff = 100}, Strategy::row_fused).parts == 1);
  CHECK(default_plan({.d_model = 64, .d_ff = 1 << 20}, Strategy::row_fused).parts == 32);
  CHECK(default_plan({.d_model = 500, .d_ff = 2048}, Strategy::sign_split).k_tile == 256);
  const auto certified_tile = [](index_t d, DType dtype, index_t batch) {
    const Problem problem{.d_model = d, .d_ff = 64, .batch = batch, .dtype = dtype};
    const Plan plan = default_plan(problem, Strategy::certified);
    CHECK(judges_again(plan, problem) == (plan.k_tile > 0));
    return plan.k_tile;
  };
  CHECK(certified_tile(4096, DType::bf16, 1) == 2048);
  CHECK(certified_tile(2050, DType::f16, 1) == 1088);
  CHECK(certified_tile(1024, DType::f32, 1) == 512);
  CHECK(certified_tile(1024, DType::bf16, 1) == 0);
  CHECK(certified_tile(4096, DType::bf16, 2) == 0);
  CHECK(certified_tile(4096, DType::int8, 1) == 0);
}

TEST_CASE("JSON round trip, keys in declaration order") {
  Plan plan{Strategy::sign_split, Variant::streams, Repair::redo, true, Launch::region_per_phase, 64, 7, 48, 192, 1024};
  CHECK(to_json(plan) ==
        R"({"strategy":"sign_split","variant":"streams","repair":"redo","skip":true,"launch":"region_per_phase",)"
        R"("accumulators":64,"parts":7,"hidden_tile":48,"k_tile":192,"reduce_tile":1024,"plane_bits":0,"plane_group":0,"placement":"none"})");
  const Result<Plan> back = plan_from_json(to_json(plan));
  REQUIRE(back.ok());
  CHECK(*back == plan);
  for (const Plan& one : valid_sign_splits(kProblem)) CHECK(*plan_from_json(to_json(one)) == one);
  REQUIRE(plan_from_json("{}").ok());
  CHECK(*plan_from_json("{}") == Plan{});
  plan = {};
  plan.parts = 12;
  CHECK(*plan_from_json(R"({"parts": 12})") == plan);
}

TEST_CASE("JSON that is no plan is refused in one line") {
  std::string deep(100000, '[');
  for (const std::string& text :
       {std::string(""), std::string("null"), std::string("[]"), std::string("{"), std::string(R"({"part":1})"),
        std::string(R"({"parts":1.0})"), std::string(R"({"parts":"1"})"), std::string(R"({"parts":18446744073709551615})"),
        std::string(R"({"parts":1e3})"), std::string(R"({"skip":1})"), std::string(R"({"strategy":"fused"})"),
        std::string(R"({"strategy":3})"), std::string(R"({"variant":""})"), std::string(R"({"parts":1,"parts":2})"),
        std::string(R"({"parts":1} x)"), std::string("{\"a\\nb\":1}"), deep, std::string("{\"\xff\":1}")}) {
    const Result<Plan> plan = plan_from_json(text);
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.status().code() == StatusCode::invalid_argument);
    CHECK(contains(plan.message(), "plan JSON: "));
    CHECK_FALSE(contains(plan.message(), "\n"));
  }
  CHECK(plan_from_json(R"({"part":1})").message() == "plan JSON: unknown key \"part\"");
}

TEST_CASE("the hash sees every field, and never changes") {
  Plan changed[15];
  changed[1].strategy = Strategy::unfused;
  changed[2].variant = Variant::interim;
  changed[3].repair = Repair::full;
  changed[4].skip = true;
  changed[5].launch = Launch::region_per_phase;
  changed[6].accumulators = 32;
  changed[7].parts = 2;
  changed[8].hidden_tile = 33;
  changed[9].k_tile = 64;
  changed[10].reduce_tile = 64;
  for (int i = 11; i < 15; ++i) changed[i].strategy = Strategy::certified;  // which alone has a plane
  changed[11].plane_bits = 8;
  changed[12].plane_group = 64;
  changed[13].placement = Placement::residual;
  std::set<std::uint64_t> hashes;
  for (const Plan& plan : changed) hashes.insert(hash(plan));
  CHECK(hashes.size() == std::size(changed));
  CHECK(hash(Plan{}) == hash(Plan{}));
  CHECK(hash(Plan{}) == kHashOfDefault);
}

TEST_CASE("names of strategies, variants, repairs and launches read back") {
  for (const Strategy s : {Strategy::unfused, Strategy::row_fused, Strategy::sign_split})
    CHECK(parse_strategy(to_string(s)) == s);
  for (const Variant v : {Variant::none, Variant::interim, Variant::streams, Variant::telescoping, Variant::ignore}) {
    CHECK(parse_variant(to_string(v)) == v);
  }
  for (const Repair r : {Repair::none, Repair::selective, Repair::full, Repair::redo})
    CHECK(parse_repair(to_string(r)) == r);
  for (const Launch l : {Launch::one_region, Launch::region_per_phase}) CHECK(parse_launch(to_string(l)) == l);
  CHECK_FALSE(parse_strategy(""));
  CHECK_FALSE(parse_variant("Interim"));
  CHECK_FALSE(parse_repair("all"));
  CHECK_FALSE(parse_launch("two"));
}

TEST_CASE("labels and descriptions") {
  CHECK(label(default_plan(kProblem, Strategy::row_fused, true)) == "row_fused+skip");
  CHECK(label(default_plan(kProblem, Strategy::unfused)) == "unfused");
  CHECK(label(default_plan(kProblem, Strategy::sign_split)) == "sign_split/interim/selective");
  CHECK(label(default_plan(kGated, Strategy::sign_split, true)) == "sign_split/telescoping+skip");
  CHECK(describe({.d_model = 2048, .d_ff = 8192}) == "2048x8192 bf16 relu, batch 1");
  CHECK(describe({.d_model = 1, .d_ff = 2, .batch = 3, .dtype = DType::f32, .gated = true}) == "1x2 f32 reglu, batch 3");
  CHECK(describe({.d_model = 1, .d_ff = 2, .activation = {ActivationKind::fatrelu, 0.01f}, .gated = true}) ==
        "1x2 bf16 gated fatrelu:0.01, batch 1");
  CHECK(describe({.d_model = 1, .d_ff = 2, .activation = {ActivationKind::silu}, .gated = true}) == "1x2 bf16 swiglu, batch 1");
  CHECK(weight_bytes({.d_model = 65, .d_ff = 10, .dtype = DType::f32, .gated = true}) == 3 * 10 * 128 * 4);
}
TEST_CASE("the tiles of a part are as equal as can be: one for one token, of 256 units at most for several, of 512 in certified") {
  struct Case {
    index_t d_ff, one, several, certified;
  };
  for (const Case& c : {Case{11008, 344, 172, 344}, Case{16384, 512, 256, 512}, Case{20480, 640, 214, 320}, Case{36864, 576, 231, 384},
                        Case{2304, 256, 256, 256}, Case{100, 100, 100, 100}}) {
    CAPTURE(c.d_ff);
    Problem problem{.d_model = 4096, .d_ff = c.d_ff};
    CHECK(default_plan(problem, Strategy::row_fused).hidden_tile == c.one);
    CHECK(default_plan(problem, Strategy::certified).hidden_tile == c.certified);
    problem.batch = 2;
    CHECK(default_plan(problem, Strategy::unfused, true).hidden_tile == c.several);
  }
}

