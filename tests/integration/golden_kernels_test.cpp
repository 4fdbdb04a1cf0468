// Kernels that are right must pass the check: every schedule of the CPU executor, and the vendor libraries that are there.
#include <doctest/doctest.h>

#include <vector>

#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/golden.hpp"
#if defined(SIGNSPLIT_HAVE_ONEDNN)
#include "cpu/baselines/onednn.hpp"
#endif
#include "cpu/baselines/openblas.hpp"

using namespace signsplit;

namespace {

using Floats = std::vector<float>;

Golden make(const Problem& problem, DataSet set, Accumulation accumulation = Accumulation::f32) {
  auto input = golden_input(problem, set, closes_units(problem.activation) ? 0.3 : 1.0, test::seed());
  REQUIRE_MESSAGE(input.ok(), input.message());
  auto golden = make_golden(std::move(*input), {set, test::seed()}, accumulation);
  REQUIRE_MESSAGE(golden.ok(), golden.message());
  return std::move(*golden);
}

void check_passes(const Golden& golden, const Floats& y) {
  const auto report = check(golden, y);
  REQUIRE(report.ok());
  CHECK_MESSAGE(report->passed, report->where, "; ", report->hint.text);
}

/// Every schedule that is right: Variant::ignore is wrong on purpose.
std::vector<Plan> plans(const Problem& problem) {
  std::vector<Plan> list;
  for (const bool skip : {false, true}) {
    list.push_back(default_plan(problem, Strategy::unfused, skip));
    list.push_back(default_plan(problem, Strategy::row_fused, skip));
    if (is_smooth(problem.activation)) continue;
    list.push_back(default_sign_split_plan(problem, Variant::telescoping, Repair::none, skip));
    if (problem.gated) continue;
    for (const Repair repair : {Repair::selective, Repair::full, Repair::redo}) {
      list.push_back(default_sign_split_plan(problem, Variant::interim, repair, skip));
      list.push_back(default_sign_split_plan(problem, Variant::streams, repair, skip));
    }
  }
  return list;
}

const std::vector<Problem> kProblems = {
    {.d_model = 200, .d_ff = 300, .batch = 3, .dtype = DType::f32, .activation = {}},
    {.d_model = 190, .d_ff = 130, .batch = 2, .dtype = DType::bf16, .activation = {ActivationKind::relu2}},
    {.d_model = 128, .d_ff = 70, .batch = 1, .dtype = DType::bf16, .activation = {}, .gated = true},
    {.d_model = 100, .d_ff = 90, .batch = 2, .dtype = DType::f16, .activation = {}},
    {.d_model = 110, .d_ff = 80, .batch = 2, .dtype = DType::f32, .activation = {ActivationKind::gelu}},
    {.d_model = 96, .d_ff = 70, .batch = 1, .dtype = DType::f32, .activation = {ActivationKind::gelu_tanh}},
    {.d_model = 100, .d_ff = 60, .batch = 2, .dtype = DType::bf16, .activation = {ActivationKind::silu}, .gated = true}};

}  // namespace

TEST_CASE("every schedule of the CPU executor passes; the one without repairs fails") {
  for (const Problem& problem : kProblems) {
    for (const DataSet set : {DataSet::random, DataSet::exact, DataSet::cancellation, DataSet::outliers, DataSet::scales,
                              DataSet::subnormals, DataSet::nonfinite}) {
      const Golden golden = make(problem, set);
      Floats y(golden.y.size());
      for (const Plan& plan : plans(problem)) {
        // The bounds are for kernels that add what the formula adds. sign_split adds more, and takes it back: it has a
        // bound of its own (error_bound), which on Gaussian data is no wider than it needs to be here.
        if (plan.strategy == Strategy::sign_split && set != DataSet::random) continue;
        CAPTURE(label(plan));
        CAPTURE(to_string(set));
        auto ffn = cpu::Ffn::create(golden.input.weights, plan, problem.batch);
        REQUIRE_MESSAGE(ffn.ok(), ffn.message());
        REQUIRE(ffn->run(golden.input.x, y).ok());
        check_passes(golden, y);
      }
    }
    if (problem.gated || is_smooth(problem.activation)) continue;
    const Golden golden = make(problem, DataSet::random);
    Floats y(golden.y.size());
    const Plan ignore = default_sign_split_plan(problem, Variant::ignore, Repair::none);
    auto ffn = cpu::Ffn::create(golden.input.weights, ignore, problem.batch);
    REQUIRE_MESSAGE(ffn.ok(), ffn.message());
    REQUIRE(ffn->run(golden.input.x, y).ok());
    const auto report = check(golden, y);
    CHECK_FALSE(report->passed);
    CHECK_MESSAGE(report->hint.cause == Cause::unrepaired_tiles, report->hint.text);
  }
}

#if defined(SIGNSPLIT_HAVE_ONEDNN)
TEST_CASE("oneDNN passes, in f32 and with the rounded activations of its bf16") {
  using baselines::OneDnnArithmetic;
  for (const Problem& problem : kProblems) {
    for (const DataSet set : {DataSet::random, DataSet::exact, DataSet::cancellation, DataSet::outliers}) {
      CAPTURE(to_string(set));
      const Golden f32 = make(problem, set);
      auto ffn = baselines::OneDnnFfn::create(f32.input.weights, problem.batch);
      if (!ffn && ffn.status().code() == StatusCode::unsupported) {
        MESSAGE("skipped: ", ffn.message());
        continue;
      }
      REQUIRE_MESSAGE(ffn.ok(), ffn.message());
      Floats y(f32.y.size());
      REQUIRE(ffn->run(f32.input.x, y).ok());
      if (ffn->arithmetic() == OneDnnArithmetic::f16) continue;  // rounds x and h to f16: golden data has no such bounds
      const bool narrow = ffn->arithmetic() == OneDnnArithmetic::bf16;
      if (narrow) {
        check_passes(make(problem, set, Accumulation::bf16_activations), y);
      } else {
        check_passes(f32, y);
      }
    }
  }
}
#endif

TEST_CASE("OpenBLAS passes, with one token and with several; other types than f32 are refused") {
  if (!baselines::has_openblas()) {
    MESSAGE("skipped: no OpenBLAS");
    return;
  }
  for (Problem problem : kProblems) {
    CHECK(baselines::OpenBlasFfn::create(make(problem, DataSet::random).input.weights).ok() == (problem.dtype == DType::f32));
    problem.dtype = DType::f32;
    for (const DataSet set : {DataSet::random, DataSet::exact, DataSet::cancellation, DataSet::outliers, DataSet::scales}) {
      CAPTURE(to_string(set));
      const Golden golden = make(problem, set);
      auto ffn = baselines::OpenBlasFfn::create(golden.input.weights, problem.batch, 2);
      REQUIRE_MESSAGE(ffn.ok(), ffn.message());
      Floats y(golden.y.size());
      REQUIRE(ffn->run(golden.input.x, y).ok());
      check_passes(golden, y);
    }
  }
}
