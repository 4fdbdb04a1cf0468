// w8a8 on every instruction set: the kernels against each other, whole FFNs against the reference, bit for bit.
#include "signsplit/w8a8.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "w8a8.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

struct Outcome {
  std::vector<float> y;
  std::vector<std::uint8_t> mask;
};

Outcome run(const Weights& w, const Plan& plan, const std::vector<float>& x, index_t batch, const cpu::Options& options) {
  auto ffn = cpu::Ffn::create(w, plan, batch, options);
  REQUIRE_MESSAGE(ffn, ffn.message());
  Outcome o{std::vector<float>(x.size(), -7.0f), std::vector<std::uint8_t>(static_cast<std::size_t>(batch * w.d_ff()), 7)};
  REQUIRE(ffn->run(x, o.y, o.mask));
  REQUIRE(ffn->run(x, o.y, o.mask));  // what the first call leaves behind changes nothing
  return o;
}

void check_against_reference(const Problem& problem, const std::vector<float>& x, const Weights& w, std::mt19937_64& rng) {
  Plan plan = default_plan(problem, Strategy::unfused);
  plan.parts = std::min<index_t>(problem.d_ff, 1 + static_cast<index_t>(rng() % 5));
  plan.hidden_tile = 1 + static_cast<index_t>(rng() % 80);
  plan.k_tile = rng() % 2 == 0 ? 0 : 128;
  const auto expected = w8a8_reference(plan, w, x, problem.batch);
  REQUIRE_MESSAGE(expected, expected.message());
  for (const bool skip : {false, true}) {
    plan.skip = skip;
    for (const cpu::Isa isa : cpu::supported_isas()) {
      for (const int threads : {1, 3}) {
        INFO(describe(problem), " ", label(plan), " ", cpu::to_string(isa), " parts ", plan.parts);
        const Outcome got = run(w, plan, x, problem.batch, {threads, isa});
        CHECK(same_bits(got.y, expected->y));
        CHECK(got.mask == expected->active);
      }
    }
  }
}

TEST_CASE("w8a8 gives the reference's bits on every instruction set, with any tiles and threads, with skip and without") {
  std::mt19937_64 rng(seed());
  for (const auto& [d, f] : std::vector<std::pair<index_t, index_t>>{{1, 1}, {65, 37}, {200, 100}, {640, 331}}) {
    for (const ActivationCase& a : all_activations()) {
      const index_t group = rng() % 3 == 0 ? 0 : 64 * (1 + static_cast<index_t>(rng() % 2));
      Problem problem{d, f, 1 + static_cast<index_t>(rng() % 9), DType::int8, a.activation, a.gated, group};
      problem.arithmetic = Arithmetic::w8a8;
      const Weights w = gaussian_layer(problem, rng() % 2 == 0, rng).pack();
      std::vector<float> x = gaussian_input(problem, rng);
      check_against_reference(problem, x, w, rng);
      x[rng() % x.size()] = rng() % 2 == 0 ? std::nanf("") : std::numeric_limits<float>::infinity();
      check_against_reference(problem, x, w, rng);
      std::fill_n(x.begin(), d, 0.0f);
      check_against_reference(problem, x, w, rng);
    }
  }
}

TEST_CASE("fused schedules refuse w8a8 and say why") {
  Problem problem{64, 64, 1, DType::int8};
  problem.arithmetic = Arithmetic::w8a8;
  const Status status = cpu::can_run(default_plan(problem, Strategy::row_fused), problem);
  CHECK(status.message().find("scale of h") != std::string::npos);
}

/// The largest sums that int32 must hold: every product 127·127 or its negative.
TEST_CASE("the integer kernels agree at the ends of their range, in every variant of an instruction set") {
  std::mt19937_64 rng(seed() + 1);
  const index_t elems = 64 * 2080, rows = 3, batch = 5;  // 133120 products: the most that validate() lets through is 133152
  alignas(64) static std::int32_t sums[batch * 128], expected_sums[batch * 128];
  std::vector<signed char> w(static_cast<std::size_t>(rows * elems)), x(static_cast<std::size_t>(batch * elems));
  for (const int kind : {0, 1, 2}) {
    const auto draw = [&] { return kind == 0 ? 127 : kind == 1 ? (rng() % 2 == 0 ? -127 : 127) : static_cast<int>(rng() % 255) - 127; };
    for (signed char& v : w) v = static_cast<signed char>(kind == 0 ? -127 : draw());
    for (signed char& v : x) v = static_cast<signed char>(draw());
    std::vector<std::int32_t> x_sums(batch);
    for (index_t i = 0; i < batch * elems; ++i) x_sums[static_cast<std::size_t>(i / elems)] += x[static_cast<std::size_t>(i)];
    const std::vector<std::uint16_t> scales(rows, to_bf16(1.0f).bits);
    std::vector<std::int16_t> c(rows * batch);
    for (std::int16_t& v : c) v = static_cast<std::int16_t>(draw());
    const cpu::RowList list{w.data(), elems, elems, nullptr, 0, rows}, narrow{w.data(), elems, 128, nullptr, 0, rows};
    std::vector<float> expected, got(rows * batch);
    for (const auto& named : cpu::supported_integer_kernels()) {
      INFO(named.first, " kind ", kind);
      const cpu::IntegerKernels* const kernels = named.second;
      kernels->dot({list, {}, 0, x.data(), x_sums.data(), batch, elems, scales.data(), 1, 0, got.data()});
      std::fill(std::begin(sums), std::end(sums), 2'000'000'000);  // as if many rows had been added
      kernels->add({narrow, {}, 0, c.data(), sums, batch, 128});
      if (expected.empty()) {
        expected = got;
        std::copy(std::begin(sums), std::end(sums), std::begin(expected_sums));
        if (kind == 0) CHECK(expected[0] == static_cast<float>(-127 * 127 * elems));
      }
      CHECK(same_bits(got, expected));
      CHECK(std::equal(std::begin(sums), std::end(sums), std::begin(expected_sums)));
    }
  }
}

}  // namespace
