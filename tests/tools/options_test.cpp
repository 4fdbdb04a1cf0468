// What the options of the command are taken to mean.
#include <doctest/doctest.h>

#include <cmath>

#include "tools/cpu_options.hpp"
#include "tools/device_options.hpp"
#include "tools/plan_options.hpp"
#include "tools/problem_options.hpp"

using namespace signsplit;
using namespace signsplit::tools;

namespace {

ProblemOptions shape_only(const std::string& shape) {
  ProblemOptions options;
  options.shape = shape;
  return options;
}

const Problem kProblem{.d_model = 512, .d_ff = 2048};
const Problem kGated{.d_model = 512, .d_ff = 2048, .gated = true};

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("counts are plain decimal numbers") {
  CHECK(parse_count("0") == 0);
  CHECK(parse_count("16777216") == 16777216);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "1.0", "0x10", "1e3", "99999999999999999999", "eight"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_count(text).has_value());
  }
}

TEST_CASE("--shape takes DxF and nothing else") {
  for (const char* text : {"2048x8192", "2048X8192"}) {
    const auto shape = parse_shape(text);
    REQUIRE(shape.has_value());
    CHECK(shape->d_model == 2048);
    CHECK(shape->d_ff == 8192);
  }
  for (const char* text : {"", "x", "2048", "2048x", "x8192", "0x8192", "2048x0", "-1x5", "2048x8192x1", "2048*8192",
                           "16777217x1", "1x16777217", "2048 x 8192", "2048x8192 "}) {
    CAPTURE(text);
    CHECK_FALSE(parse_shape(text).has_value());
  }
}

TEST_CASE("a shape alone is a bf16 relu problem of one token") {
  const auto choice = resolve(shape_only("2048x8192"));
  REQUIRE(choice.ok());
  CHECK(choice->problem == Problem{.d_model = 2048, .d_ff = 8192});
  CHECK(choice->active == kDefaultActive);
}

TEST_CASE("every option of the problem reaches it") {
  ProblemOptions options = shape_only("64x256");
  options.dtype = "f32";
  options.activation = "fatrelu:0.5";
  options.batch = "3";
  options.active = "0.25";
  options.gated = true;
  const auto choice = resolve(options);
  REQUIRE(choice.ok());
  CHECK(choice->problem.dtype == DType::f32);
  CHECK(choice->problem.activation == Activation{ActivationKind::fatrelu, 0.5f});
  CHECK(choice->problem.batch == 3);
  CHECK(choice->problem.gated);
  CHECK(choice->active == 0.25);
}

TEST_CASE("activations that exist only gated imply the gate") {
  for (const char* name : {"reglu", "drelu", "geglu", "geglu_tanh", "swiglu"}) {
    ProblemOptions options = shape_only("64x256");
    options.activation = name;
    const auto choice = resolve(options);
    REQUIRE(choice.ok());
    CHECK(choice->problem.gated);
  }
}

TEST_CASE("where no unit can be closed every one is active") {
  for (const char* activation : {"identity", "gelu", "gelu_tanh", "silu", "swiglu"}) {
    ProblemOptions options = shape_only("64x256");
    options.activation = activation;
    REQUIRE(resolve(options).ok());
    CHECK(resolve(options)->active == 1.0);
    options.active = "0.5";
    CHECK(mentions(resolve(options).message(), std::string("with ") + activation + " every unit is active"));
  }
  ProblemOptions options;
  options.model = "llama-2-7b";
  CHECK(resolve(options)->active == 1.0);
}

TEST_CASE("a model gives shape, activation and active fraction") {
  ProblemOptions options;
  options.model = "opt-1.3b";
  const auto choice = resolve(options);
  REQUIRE_MESSAGE(choice.ok(), choice.message());
  CHECK(choice->problem.d_model == 2048);
  CHECK(choice->problem.d_ff == 8192);
  CHECK(choice->active > 0);
  CHECK(choice->active < 1);
  options.shape = "1x1";
  CHECK(mentions(resolve(options).message(), "exclude"));
}

TEST_CASE("bad problem options are refused by name") {
  const auto refusal = [](auto change) {
    ProblemOptions options = shape_only("64x256");
    change(options);
    const auto choice = resolve(options);
    CHECK_FALSE(choice.ok());
    return choice.message();
  };
  CHECK(mentions(refusal([](auto& o) { o.shape = ""; }), "--shape"));
  CHECK(mentions(refusal([](auto& o) { o.shape = "64"; }), "--shape '64'"));
  CHECK(mentions(refusal([](auto& o) { o.shape = ""; o.model = "gpt-0"; }), "--model 'gpt-0'"));
  CHECK(mentions(refusal([](auto& o) { o.dtype = "int4"; }), "--dtype 'int4'"));
  CHECK(mentions(refusal([](auto& o) { o.activation = "gelu2"; }), "--activation 'gelu2'"));
  CHECK(mentions(refusal([](auto& o) { o.batch = "0"; }), "--batch '0'"));
  for (const char* active : {"0", "-0.1", "1.5", "nan", "inf", "10%", "x"}) {
    CAPTURE(active);
    CHECK(mentions(refusal([&](auto& o) { o.active = active; }), "--active"));
  }
}

TEST_CASE("strategies become default plans") {
  PlanOptions options;
  CHECK(resolve(options, kProblem)->kind == PlanChoice::Kind::automatic);
  for (const char* name : {"unfused", "row_fused", "sign_split"}) {
    for (const bool skip : {false, true}) {
      options.strategy = name;
      options.skip = skip;
      const auto choice = resolve(options, kProblem);
      REQUIRE(choice.ok());
      CHECK(choice->kind == PlanChoice::Kind::plan);
      CHECK(choice->plan == default_plan(kProblem, *parse_strategy(name), skip));
    }
  }
  CHECK(resolve({.strategy = "reference"}, kProblem)->kind == PlanChoice::Kind::reference_staged);
  CHECK(resolve({.strategy = "reference_composite"}, kProblem)->kind == PlanChoice::Kind::reference_composite);
}

TEST_CASE("sign_split takes variants and repairs, with defaults that fit") {
  const auto plan = [](const std::string& variant, const std::string& repair, const Problem& problem) {
    PlanOptions options;
    options.strategy = "sign_split";
    options.variant = variant;
    options.repair = repair;
    const auto choice = resolve(options, problem);
    REQUIRE_MESSAGE(choice.ok(), choice.message());
    return choice->plan;
  };
  CHECK(plan("", "", kProblem).variant == Variant::interim);
  CHECK(plan("", "", kProblem).repair == Repair::selective);
  CHECK(plan("streams", "", kProblem).repair == Repair::selective);
  CHECK(plan("streams", "redo", kProblem).repair == Repair::redo);
  CHECK(plan("telescoping", "", kProblem).repair == Repair::none);
  CHECK(plan("ignore", "", kProblem).repair == Repair::none);
  CHECK(plan("", "", kGated).variant == Variant::telescoping);
}

TEST_CASE("tilings reach the plan, and are checked by its own rules") {
  PlanOptions options;
  options.strategy = "row_fused";
  options.parts = "7";
  options.hidden_tile = "16";
  options.k_tile = "128";
  const auto choice = resolve(options, kProblem);
  REQUIRE(choice.ok());
  CHECK(choice->plan.parts == 7);
  CHECK(choice->plan.hidden_tile == 16);
  CHECK(choice->plan.k_tile == 128);
  options.k_tile = "100";
  CHECK(mentions(resolve(options, kProblem).message(), "k_tile"));
}

TEST_CASE("--plan gives back the plan that was printed, and excludes the others") {
  PlanOptions options;
  const Plan plan = default_sign_split_plan(kProblem, Variant::streams, Repair::full, true, 4);
  options.plan = to_json(plan);
  const auto choice = resolve(options, kProblem);
  REQUIRE(choice.ok());
  CHECK(choice->plan == plan);
  options.skip = true;
  CHECK_FALSE(resolve(options, kProblem).ok());
}

TEST_CASE("bad plan options are refused by name") {
  const auto refusal = [](const PlanOptions& options, const Problem& problem = kProblem) {
    const auto choice = resolve(options, problem);
    CHECK_FALSE(choice.ok());
    return choice.message();
  };
  CHECK(mentions(refusal({.strategy = "folded"}), "not offered"));
  for (const char* unknown : {"magic", ""}) {
    CAPTURE(unknown);
    CHECK(mentions(refusal({.strategy = unknown}), "auto, unfused, row_fused, sign_split, certified, reference, reference_composite"));
  }
  CHECK(mentions(refusal({.strategy = "sign_split", .variant = "none"}), "--variant 'none'"));
  CHECK(mentions(refusal({.strategy = "sign_split", .repair = "later"}), "--repair 'later'"));
  CHECK(mentions(refusal({.strategy = "row_fused", .variant = "interim"}), "sign_split only"));
  CHECK(mentions(refusal({.strategy = "auto", .variant = "interim"}), "auto"));
  CHECK(mentions(refusal({.strategy = "reference", .skip = true}), "--skip"));
  CHECK(mentions(refusal({.strategy = "row_fused", .parts = "0"}), "--parts '0'"));
  CHECK(mentions(refusal({.strategy = "row_fused", .parts = "2049"}), "parts"));
  CHECK(mentions(refusal({.plan = "{"}), "--plan"));
  CHECK(mentions(refusal({.plan = R"({"no_such_key": 1})"}), "no_such_key"));
  CHECK_FALSE(refusal({.strategy = "sign_split", .variant = "interim"}, kGated).empty());
  CHECK_FALSE(refusal({.strategy = "sign_split", .variant = "telescoping", .repair = "full"}).empty());
}

TEST_CASE("threads, instruction sets, devices, residency") {
  CHECK(*parse_threads("0") == 0);
  CHECK(*parse_threads("3") == 3);
  CHECK_FALSE(parse_threads("-1").ok());
  CHECK_FALSE(parse_threads("4097").ok());
  CHECK(*parse_isa_option("avx2") == cpu::Isa::avx2);
  CHECK_FALSE(parse_isa_option("").value().has_value());
  CHECK(mentions(parse_isa_option("neon").message(), "scalar, avx2, avx512"));
  CHECK(resolve(CpuOptions{.threads = "2", .isa = "scalar"})->isa == cpu::Isa::scalar);
  CHECK(*parse_residency("warm") == sim::Residency::warm);
  CHECK_FALSE(parse_residency("tepid").ok());
}

TEST_CASE("devices, and how they run plans") {
  const auto executor = make_executor(DeviceOptions(), cpu::Options{.threads = 2, .isa = cpu::Isa::scalar});
  REQUIRE(executor.ok());
  CHECK((*executor)->device() == "cpu");
  CHECK((*executor)->description() == "scalar, 2 thread(s)");
  CHECK((*executor)->workers() == 2);
  CHECK((*executor)->profile() == "host");
  CHECK((*executor)->suited(default_plan(kProblem, Strategy::row_fused), kProblem) == default_plan(kProblem, Strategy::row_fused));

  CHECK_FALSE(parse_device("cpu").value().has_value());
  CHECK(parse_device("cuda").value() == 0);
  CHECK(parse_device("cuda:3").value() == 3);
  const auto refusal = [](DeviceOptions options) { return make_executor(options, cpu::Options()).message(); };
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cudaa", "cuda:4096"}) {
    CAPTURE(device);
    CHECK(mentions(refusal({.device = device}), "must be cpu or cuda:N"));
  }
  CHECK(mentions(refusal({.device = "cuda:99"}), "--device cuda:99: "));
  CHECK(mentions(refusal({.launch = "rocket"}), "stream, graph, programmatic, cooperative"));
  CHECK(mentions(refusal({.stages = "1"}), "--stages '1'"));
  CHECK(mentions(refusal({.stages = "few"}), "--stages 'few'"));
  CHECK(mentions(refusal({.timing = "wall"}), "chained or isolated"));
}

TEST_CASE("the list of default plans has every valid schedule once") {
  const auto count = [](const Problem& problem, bool with_ignore) { return default_plans(problem, with_ignore).size(); };
  // unfused, row_fused, interim and streams with three repairs each, telescoping, ignore; each without and with skip; certified.
  CHECK(count(kProblem, true) == 2 * (2 + 3 + 3 + 1 + 1) + 1);
  CHECK(count(kProblem, false) == 2 * (2 + 3 + 3 + 1) + 1);
  CHECK(count(kGated, true) == 2 * (2 + 1) + 1);
  const auto plans = default_plans(kProblem);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    CHECK(validate(plans[i], kProblem).ok());
    for (std::size_t j = 0; j < i; ++j) CHECK(label(plans[i]) != label(plans[j]));
  }
}
