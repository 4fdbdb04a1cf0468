// Golden data and its check: sound kernels pass whatever their order of summation, planted bugs fail and are named.
#include "signsplit/golden.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "plain_kernel.hpp"
#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/safetensors.hpp"

using namespace signsplit;
using signsplit::test::Bug;
using signsplit::test::Order;
using signsplit::test::PlainKernel;
using signsplit::test::ScratchDirectory;

namespace {

using Floats = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

constexpr DataSet kSets[] = {DataSet::random, DataSet::exact,      DataSet::cancellation, DataSet::outliers,
                             DataSet::scales, DataSet::subnormals, DataSet::nonfinite};

Golden make(const Problem& problem, DataSet set, Accumulation accumulation = Accumulation::f32) {
  const double active = closes_units(problem.activation) ? 0.5 : 1.0;
  auto input = golden_input(problem, set, active, test::seed());
  REQUIRE_MESSAGE(input.ok(), input.message());
  auto golden = make_golden(std::move(*input), {set, test::seed()}, accumulation, 2);
  REQUIRE_MESSAGE(golden.ok(), golden.message());
  return std::move(*golden);
}

CheckReport examine(const Golden& golden, const Floats& y, const CheckOptions& options = {}) {
  auto report = check(golden, y, options);
  REQUIRE_MESSAGE(report.ok(), report.message());
  return *report;
}

const std::vector<Problem> kProblems = {
    {.d_model = 70, .d_ff = 90, .batch = 3, .dtype = DType::f32, .activation = {}},
    {.d_model = 33, .d_ff = 40, .batch = 2, .dtype = DType::bf16, .activation = {ActivationKind::relu2}},
    {.d_model = 64, .d_ff = 17, .batch = 3, .dtype = DType::bf16, .activation = {}, .gated = true},
    {.d_model = 40, .d_ff = 50, .batch = 2, .dtype = DType::f16, .activation = {}, .gated = true},
    {.d_model = 130, .d_ff = 70, .batch = 2, .dtype = DType::int8, .activation = {}, .group = 64},
    {.d_model = 20, .d_ff = 50, .batch = 3, .dtype = DType::f32, .activation = {ActivationKind::fatrelu, 0.25f}},
    {.d_model = 20, .d_ff = 50, .batch = 3, .dtype = DType::f32, .activation = {ActivationKind::identity}},
    {.d_model = 20, .d_ff = 50, .batch = 3, .dtype = DType::f32, .activation = {ActivationKind::drelu}, .gated = true},
    {.d_model = 1, .d_ff = 1, .batch = 1, .dtype = DType::f32, .activation = {}}};

// The layer in which a bug shows and can be told from the others.
Problem problem_for(Bug bug) {
  Problem problem{.d_model = 150, .d_ff = 99, .batch = 4, .dtype = DType::f32, .activation = {}};
  if (bug == Bug::gate_up_swapped) problem.gated = true;
  if (bug == Bug::square_missing) problem.activation = {ActivationKind::relu2};
  return problem;
}

struct Planted {
  Bug bug;
  Cause cause;
};
const std::vector<Planted> kPlanted = {{Bug::k_tail, Cause::dropped_k_tail},
                                       {Bug::hidden_tail, Cause::dropped_hidden_tail},
                                       {Bug::down_transposed, Cause::down_transposed},
                                       {Bug::up_transposed, Cause::up_transposed},
                                       {Bug::bf16_sums, Cause::low_precision_sums},
                                       {Bug::bf16_h, Cause::rounded_operands},
                                       {Bug::no_up_bias, Cause::missing_up_bias},
                                       {Bug::no_down_bias, Cause::missing_down_bias},
                                       {Bug::down_bias_twice, Cause::repeated_bias},
                                       {Bug::up_bias_subtracted, Cause::wrong_sign},
                                       {Bug::flush_to_zero, Cause::flushed_subnormals},
                                       {Bug::no_activation, Cause::wrong_activation},
                                       {Bug::square_missing, Cause::wrong_activation},
                                       {Bug::gate_up_swapped, Cause::gate_up_swapped},
                                       {Bug::hidden_off_by_one, Cause::shifted_hidden},
                                       {Bug::input_off_by_one, Cause::shifted_input},
                                       {Bug::tokens_swapped, Cause::tokens_permuted},
                                       {Bug::columns_off_by_one, Cause::columns_shifted},
                                       {Bug::output_transposed, Cause::output_transposed},
                                       {Bug::output_tail, Cause::output_tail},
                                       {Bug::negated, Cause::scaled},
                                       {Bug::k_tiled_activation, Cause::unrepaired_tiles}};

}  // namespace

TEST_CASE("sound kernels pass on every set, in any order of summation") {
  for (const Problem& problem : kProblems) {
    for (const DataSet set : kSets) {
      const Golden golden = make(problem, set);
      for (const Order order : {Order::forward, Order::backward, Order::pairwise, Order::fused}) {
        CAPTURE(describe(problem));
        CAPTURE(to_string(set));
        const CheckReport report = examine(golden, PlainKernel(golden.input, Bug::none, order).run());
        CHECK_MESSAGE(report.passed, report.where);
        CHECK(report.hint.cause == Cause::none);
        CHECK(report.worst_ratio <= 1.0);
        if (set == DataSet::exact) CHECK(report.max_ulp == 0);
      }
      CHECK(examine(golden, golden.y_staged).passed);
      const CheckReport perfect = examine(golden, golden.y);
      CHECK(perfect.passed);
      CHECK(perfect.max_ulp == 0);
      CHECK(perfect.exact == perfect.elements);
    }
  }
}

// 1 and then terms just above half an ulp: in ascending order each addition rounds up, and the errors only add.
TEST_CASE("the worst order of summation is inside the bound, and not far inside") {
  Floats terms(200, 0x1.004p-24f);
  terms[0] = 1.0f;
  const Floats ones(200, 1.0f), one(1, 1.0f);
  const auto bytes = [](const Floats& values) { return std::as_bytes(std::span(values)); };
  for (const bool first : {true, false}) {
    // Product 1 sums the 200 terms for one unit, W2 is all ones; or 200 units hold one term each, and product 2 sums them.
    auto weights = Weights::pack({.d_model = first ? 200 : 1, .d_ff = first ? 1 : 200, .dtype = DType::f32,
                                  .activation = {ActivationKind::identity}, .up = bytes(terms), .down = bytes(ones),
                                  .gate = {}, .up_bias = {}, .gate_bias = {}, .down_bias = {}});
    REQUIRE_MESSAGE(weights.ok(), weights.message());
    const auto golden = make_golden({std::move(*weights), first ? ones : one, 1}, {}, Accumulation::f32);
    REQUIRE_MESSAGE(golden.ok(), golden.message());
    const CheckReport report = examine(*golden, PlainKernel(golden->input).run());
    CHECK(report.passed);
    CHECK(report.max_ulp > 90);
    CHECK(report.worst_ratio > 0.9);
  }
}

TEST_CASE("the exact set allows no error at all, for any shape and activation") {
  for (const Problem& problem : kProblems) {
    CAPTURE(describe(problem));
    for (const auto accumulation : {Accumulation::f32, Accumulation::f64}) {
      const Golden golden = make(problem, DataSet::exact, accumulation);
      for (const auto* bounds : {&golden.y_bound, &golden.z_bound, &golden.h_bound}) {
        CHECK(*bounds == Floats(bounds->size(), 0.0f));
      }
      Floats y = golden.y;
      y.back() = std::nextafter(y.back(), 1e30f);
      const CheckReport report = examine(golden, y);
      CHECK_FALSE(report.passed);
      CHECK(report.max_ulp == 1);
      CHECK(report.worst_index == static_cast<index_t>(y.size()) - 1);
    }
  }
}

TEST_CASE("every planted bug fails the check, and is named") {
  for (const Planted& planted : kPlanted) {
    CAPTURE(to_string(planted.cause));
    const DataSet set = planted.bug == Bug::flush_to_zero ? DataSet::subnormals : DataSet::random;
    const Golden golden = make(problem_for(planted.bug), set);
    const CheckReport report = examine(golden, PlainKernel(golden.input, planted.bug).run());
    CHECK_FALSE(report.passed);
    CHECK_FALSE(report.within_bound);
    CHECK_FALSE(report.where.empty());
    CHECK_MESSAGE(report.hint.cause == planted.cause, to_string(report.hint.cause), ": ", report.hint.text);
    CHECK(report.hint.proven);
    CHECK(report.hint.text.size() > 10);
  }
}

// A small layer: the two gelus differ by 5e-4 at most, which the bounds of a larger one can hide.
TEST_CASE("one gelu in place of another, and relu in place of silu, are named") {
  using enum ActivationKind;
  const std::tuple<ActivationKind, ActivationKind, bool, const char*> cases[] = {
      {gelu, gelu_tanh, false, "gelu_tanh in place of gelu"}, {gelu_tanh, gelu, true, "gelu in place of geglu_tanh"},
      {silu, relu, true, "relu in place of swiglu"},          {relu, silu, false, "silu in place of relu"}};
  for (const auto& [due, taken, gated, text] : cases) {
    Golden golden = make({.d_model = 12, .d_ff = 10, .batch = 4, .dtype = DType::f32, .activation = {due}, .gated = gated}, DataSet::random);
    const Floats right = reference(golden.input.weights, golden.input.x, 4, ReferenceMode::staged)->y;
    CHECK(examine(golden, right).passed);
    CHECK(examine(golden, PlainKernel(golden.input).run()).passed);
    const Floats wrong = PlainKernel(golden.input, Bug::none, Order::forward, taken).run();
    const CheckReport report = examine(golden, wrong);
    CHECK_FALSE(report.passed);
    CHECK_MESSAGE(report.hint.cause == Cause::wrong_activation, report.hint.text);
    CHECK_MESSAGE(report.hint.text.find(text) != std::string::npos, report.hint.text);
  }
}

// Bounds grow with D and F: of a layer this large they are wide enough for more than one fault to lie within them.
TEST_CASE("wide bounds do not lead to a wrong name") {
  const Problem problem{.d_model = 768, .d_ff = 2048, .batch = 1, .dtype = DType::f32, .activation = {}};
  const Golden golden = make(problem, DataSet::random);
  for (const Planted& planted : kPlanted) {
    if (planted.bug != Bug::k_tiled_activation && planted.bug != Bug::no_up_bias && planted.bug != Bug::negated &&
        planted.bug != Bug::columns_off_by_one) {
      continue;
    }
    CAPTURE(to_string(planted.cause));
    const CheckReport report = examine(golden, PlainKernel(golden.input, planted.bug).run());
    CHECK_FALSE(report.passed);
    CHECK_MESSAGE(report.hint.cause == planted.cause, to_string(report.hint.cause), ": ", report.hint.text);
  }
}

// Not so for every bug on every set: a bias is nothing against the largest of `scales`, a lost pair of `cancellation` cancels.
TEST_CASE("the outliers and the exact integers show the bugs too") {
  for (const DataSet set : {DataSet::outliers, DataSet::exact}) {
    for (const Planted& planted : kPlanted) {
      if (planted.bug == Bug::flush_to_zero || planted.bug == Bug::bf16_h || planted.bug == Bug::bf16_sums) continue;
      CAPTURE(to_string(planted.cause));
      CAPTURE(to_string(set));
      const Golden golden = make(problem_for(planted.bug), set);
      CHECK_FALSE(examine(golden, PlainKernel(golden.input, planted.bug).run(), {.hint = false}).passed);
    }
  }
}

TEST_CASE("one wrong element, one sign, one NaN, one infinity, a dropped tail: each fails, where it is") {
  const Golden golden = make(kProblems[0], DataSet::random);
  const auto at = [&](std::size_t i, float value) {
    Floats y = golden.y_staged;
    y[i] = value;
    return examine(golden, y);
  };
  const std::size_t i = 1 * 70 + 12;
  const CheckReport wrong = at(i, golden.y[i] + 4.0f * golden.y_bound[i]);
  CHECK(wrong.outside == 1);
  CHECK(wrong.worst_index == static_cast<index_t>(i));
  CHECK(wrong.where == "1 of 210 elements: token 1 only, column 12 only");
  CHECK(wrong.hint.cause == Cause::unknown);
  CHECK(at(i, -golden.y[i]).outside == 1);
  const CheckReport nan = at(i, kNan);
  CHECK(nan.nan_mismatches == 1);
  CHECK_FALSE(nan.passed);
  CHECK(nan.within_bound);
  CHECK(nan.max_ulp == std::numeric_limits<std::uint64_t>::max());
  CHECK(nan.distribution[kUlpBuckets - 1] == 1);
  CHECK(at(i, std::numeric_limits<float>::infinity()).inf_mismatches == 1);
  CHECK(at(209, 0.0f).hint.cause == Cause::output_tail);
  CHECK(check(golden, Floats(209)).status().code() == StatusCode::invalid_argument);
}

TEST_CASE("the distribution counts every element once, by powers of two") {
  const Golden golden = make(kProblems[0], DataSet::random);
  Floats y = golden.y;
  for (int n = 0; n < 5; ++n) y[0] = std::nextafter(y[0], 100.0f);
  y[1] = std::nextafter(y[1], 100.0f);
  const CheckReport report = examine(golden, y);
  CHECK(report.distribution[0] == 208);
  CHECK(report.distribution[1] == 1);  // 1 ulp
  CHECK(report.distribution[3] == 1);  // 4 to 7
  CHECK(report.max_ulp == 5);
}

TEST_CASE("NaN and infinity must be where they belong") {
  const Golden golden = make(kProblems[0], DataSet::nonfinite);
  CHECK(std::isnan(golden.y[70]));  // token 1 has a NaN
  Floats y = golden.y;
  y[70] = 0.0f;
  CHECK(examine(golden, y).nan_mismatches == 1);
  y = golden.y;
  CHECK(golden.y[69] == -std::numeric_limits<float>::infinity());  // the bias of the last column
  y[69] = std::numeric_limits<float>::infinity();
  CHECK(examine(golden, y).inf_mismatches == 1);
}

TEST_CASE("bounds of bf16 activations admit them, those of f32 do not; f64 is narrower") {
  const Problem problem{.d_model = 150, .d_ff = 99, .batch = 2, .dtype = DType::bf16, .activation = {}};
  const Golden f32 = make(problem, DataSet::random), wide = make(problem, DataSet::random, Accumulation::bf16_activations),
               f64 = make(problem, DataSet::random, Accumulation::f64);
  const Floats narrow = PlainKernel(f32.input, Bug::bf16_h).run();
  CHECK_FALSE(examine(f32, narrow).passed);
  CHECK(examine(wide, narrow).passed);
  CHECK_FALSE(examine(wide, PlainKernel(f32.input, Bug::no_down_bias).run()).passed);
  for (std::size_t i = 0; i < f32.y.size(); ++i) {
    CHECK(f64.y_bound[i] < f32.y_bound[i]);
    CHECK(f32.y_bound[i] < wide.y_bound[i]);
  }
  CHECK(examine(f64, f64.y_staged).passed);
}

TEST_CASE("an output stored as bf16 passes when it is allowed, and is named when it is not") {
  const Golden golden = make(kProblems[0], DataSet::random);
  Floats y = golden.y;
  for (float& v : y) v = to_float(to_bf16(v));
  CHECK(examine(golden, y).hint.cause == Cause::rounded_output);
  CHECK(examine(golden, y, {.output_dtype = DType::bf16}).passed);
  y[3] *= 1.0f + 0x1p-6f;
  CHECK_FALSE(examine(golden, y, {.output_dtype = DType::bf16}).passed);
}

TEST_CASE("z and h of sound kernels are inside their bounds") {
  for (const Problem& problem : kProblems) {
    const Golden golden = make(problem, DataSet::random);
    const auto staged = reference(golden.input.weights, golden.input.x, golden.input.batch, ReferenceMode::staged);
    REQUIRE(staged.ok());
    for (std::size_t i = 0; i < golden.z.size(); ++i) {
      CHECK(std::abs(staged->z[i] - golden.z[i]) <= golden.z_bound[i]);
      CHECK(std::abs(staged->h[i] - golden.h[i]) <= golden.h_bound[i]);
    }
  }
}

TEST_CASE("golden data reads back as it was written, as a file and as a folder") {
  const ScratchDirectory scratch;
  for (const Problem& problem : kProblems) {
    const Golden golden = make(problem, DataSet::random);
    for (const char* name : {"one.safetensors", "folder"}) {
      const auto files = write_golden(scratch.path() / name, golden);
      REQUIRE_MESSAGE(files.ok(), files.message());
      const auto read = read_golden(scratch.path() / name);
      REQUIRE_MESSAGE(read.ok(), read.message());
      CHECK(read->y == golden.y);
      CHECK(read->y_staged == golden.y_staged);
      CHECK(read->y_bound == golden.y_bound);
      CHECK(read->z == golden.z);
      CHECK(read->z_bound == golden.z_bound);
      CHECK(read->h == golden.h);
      CHECK(read->h_bound == golden.h_bound);
      CHECK(read->active == golden.active);
      CHECK(read->input.x == golden.input.x);
      CHECK(read->input.weights.problem(problem.batch) == problem);
      CHECK(read->source.seed == golden.source.seed);
      CHECK(read->source.set == golden.source.set);
      CHECK(read->accumulation == golden.accumulation);
      CHECK(read->version == golden.version);
      const auto again = make_golden({std::move(read->input.weights.clone().value()), read->input.x, read->input.batch}, {},
                                     golden.accumulation);
      REQUIRE(again.ok());
      CHECK(again->y == golden.y);
    }
  }
}

TEST_CASE("a folder holds every tensor as .npy too") {
  const ScratchDirectory scratch;
  const Golden golden = make(kProblems[2], DataSet::random);
  const auto files = write_golden(scratch.path() / "deep" / "folder", golden);
  REQUIRE_MESSAGE(files.ok(), files.message());
  CHECK(files->size() == 16);
  const auto bound = read_matrix(scratch.path() / "deep" / "folder" / "y_bound.npy");
  REQUIRE(bound.ok());
  CHECK(bound->values == golden.y_bound);
  const auto down = read_matrix(scratch.path() / "deep" / "folder" / "down.weight.npy");
  REQUIRE(down.ok());
  CHECK(down->rows == 64);
  CHECK(down->values[17 + 3] == golden.input.weights.down_at(3, 1));
}

TEST_CASE("files that are not golden data are refused by name") {
  const ScratchDirectory scratch;
  const Golden golden = make(kProblems[0], DataSet::random);
  const auto file = scratch.path() / "layer.safetensors";
  REQUIRE(save_weights(file, golden.input.weights).ok());
  CHECK(read_golden(file).message().find("golden.format") != std::string::npos);
  CHECK(read_golden(scratch.path() / "absent").status().code() == StatusCode::not_found);
  REQUIRE(write_golden(file, golden).ok());
  const auto opened = SafetensorsFile::open(file);
  REQUIRE(opened.ok());
  auto tensors = opened->tensors();
  tensors.erase("y_bound");
  const auto damaged = scratch.path() / "damaged.safetensors";
  REQUIRE(write_safetensors(damaged, tensors, opened->metadata()).ok());
  CHECK(read_golden(damaged).message().find("tensor y_bound: is missing") != std::string::npos);
  const std::vector<float> negative(golden.y.size(), -1.0f);
  tensors["y_bound"] = {"F32", {3, 70}, std::as_bytes(std::span(negative))};
  REQUIRE(write_safetensors(damaged, tensors, opened->metadata()).ok());
  CHECK(read_golden(damaged).message().find("negative") != std::string::npos);
  CHECK(golden_input(kProblems[0], DataSet::given, 0.5, 1).status().code() == StatusCode::invalid_argument);
  CHECK(golden_input(kProblems[0], DataSet::random, 0.0, 1).status().code() == StatusCode::invalid_argument);
}

TEST_CASE("the seed decides the data; the threads do not") {
  const auto a = golden_input(kProblems[0], DataSet::random, 0.5, 7), b = golden_input(kProblems[0], DataSet::random, 0.5, 7),
             other = golden_input(kProblems[0], DataSet::random, 0.5, 8);
  CHECK(a->x == b->x);
  CHECK(a->x != other->x);
  const auto one = make_golden({std::move(a->weights.clone().value()), a->x, 3}, {}, Accumulation::f32, 1),
             three = make_golden({std::move(b->weights.clone().value()), b->x, 3}, {}, Accumulation::f32, 3);
  CHECK(one->y == three->y);
  CHECK(one->y_bound == three->y_bound);
}
