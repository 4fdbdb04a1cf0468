// The exact sum of a warp against ExactSum: values over the whole range of f32, so that every digit, the bits below the last
// one kept, ties, subnormal results and cancellation matter.
#include <doctest/doctest.h>

#include <cmath>

#include "emulated_block.hpp"
#include "kernels/exact_dot.hpp"
#include "seed.hpp"
#include "signsplit/exact_sum.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

gpu::ExactValue warp_sum(const std::vector<float>& row, const std::vector<float>& x, float bias, float threshold) {
  gpu::ExactValue found{NAN, 7};
  EmulatedGrid grid({{[&](EmulatedBlock& block) {
                        if (block.warp() != 0) return;
                        auto* limbs = reinterpret_cast<std::int64_t*>(block.shared());
                        const auto result = gpu::exact_dot<gpu::WeightF32>(block, limbs, row.data(), {}, 0, x.data(),
                                                                           static_cast<int>(row.size()), &bias, threshold);
                        found = result[0];
                      },
                      1, 1, 72 * 8}},
                    seed());
  grid.add_region("the row", row.data(), row.size() * 4, 0, true);
  grid.add_region("x", x.data(), x.size() * 4, 0, true);
  grid.add_region("the bias", &bias, 4, 0, true);
  CHECK(grid.run() == "");
  return found;
}

TEST_CASE("a warp's exact sum is ExactSum's") {
  std::mt19937_64 rng(seed());
  const auto draw = [&](int exponents) {
    const float mantissa = static_cast<float>(static_cast<double>(rng() % (1u << 24)) + 1.0);
    return std::ldexp(rng() % 2 == 0 ? mantissa : -mantissa, static_cast<int>(rng() % static_cast<unsigned>(exponents)) - exponents / 2 - 24);
  };
  for (int round = 0; round < 300; ++round) {
    const int exponents = std::vector<int>{1, 8, 60, 120}[static_cast<std::size_t>(round % 4)];
    std::vector<float> row(64), x(64);
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = draw(exponents);
      x[i] = draw(exponents);
      if (round % 8 >= 4) x[i] *= 0x1p-70f;  // subnormal sums, and such as round to one
      if (round % 3 == 0 && i % 2 == 1) {    // all but the last pair cancel
        row[i] = -row[i - 1];
        x[i] = i == 63 ? x[i - 1] * 1.0000001f : x[i - 1];
      }
    }
    const float bias = round % 5 == 0 ? draw(2) * 0x1p-90f : 0.0f, threshold = round % 2 == 0 ? std::abs(draw(exponents)) : 0.0f;
    ExactSum sum;
    for (std::size_t i = 0; i < row.size(); ++i) sum.add_product(row[i], x[i]);
    sum.add(static_cast<double>(bias));
    const gpu::ExactValue got = warp_sum(row, x, bias, threshold);
    CHECK(std::bit_cast<std::uint32_t>(got.value + 0.0f) == std::bit_cast<std::uint32_t>(sum.to_float() + 0.0f));
    sum.add(-static_cast<double>(threshold));
    CHECK(got.sign == sum.sign());
  }
}

TEST_CASE("ties go to even, and one bit far below decides") {
  for (const float far : {0.0f, 0x1p-100f, -0x1p-100f}) {
    for (const float one : {1.0f, 1.0f + 0x1p-23f}) {
      std::vector<float> row(64, 0.0f), x(64, 1.0f);
      row[0] = one;
      row[1] = 0x1p-24f;
      row[40] = far;
      ExactSum sum;
      for (const float v : row) sum.add(static_cast<double>(v));
      CHECK(warp_sum(row, x, 0.0f, 0.0f).value == sum.to_float());
    }
  }
}

TEST_CASE("a subnormal sum is rounded once") {
  std::vector<float> row(64, 0.0f), x(64, 0.0f);
  row[0] = 0x1p-100f, x[0] = 0x1p-49f;    // 2^-149
  row[1] = 0x1p-100f, x[1] = 0x1p-50f;    // half of it: a tie, were it not for
  row[2] = -0x1p-100f, x[2] = 0x1p-80f;   // what 24 bits cannot hold
  CHECK(warp_sum(row, x, 0.0f, 0.0f).value == 0x1p-149f);
}

}  // namespace
