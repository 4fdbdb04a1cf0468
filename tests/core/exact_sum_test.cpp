// ExactSum against BigFixed, on random sums and on those that are hard: cancellation, ties, subnormals, overflow, order.
#include "signsplit/exact_sum.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "big_fixed.hpp"
#include "seed.hpp"

using signsplit::ExactSum;
using signsplit::test::BigFixed;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ExactSum sum_of(const std::vector<double>& terms) {
  ExactSum sum;
  for (const double term : terms) sum.add(term);
  return sum;
}

BigFixed big_sum_of(const std::vector<double>& terms) {
  BigFixed sum;
  for (const double term : terms) sum.add(term);
  return sum;
}

bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }
bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

// What the checks below call right: sign and both roundings. Returned, so that the test can show that it can fail.
bool agrees(const ExactSum& sum, const BigFixed& expected) {
  return sum.sign() == expected.sign() && same_bits(sum.to_float(), expected.to_float()) &&
         same_bits(sum.to_double(), expected.to_double());
}

bool pieces_agree(const std::vector<double>& pieces, const BigFixed& expected, int bits) {
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    int exponent = 0;
    const double mantissa = std::ldexp(std::frexp(pieces[i], &exponent), bits);
    if (mantissa != std::trunc(mantissa) || mantissa == 0.0) return false;
    if (i > 0 && !(std::abs(pieces[i]) < std::abs(pieces[i - 1]))) return false;
  }
  return big_sum_of(pieces).compare(expected) == 0;
}

void check(const std::vector<double>& terms) {
  const ExactSum sum = sum_of(terms);
  const BigFixed expected = big_sum_of(terms);
  REQUIRE(agrees(sum, expected));
  if (std::isinf(expected.to_double())) return;
  std::vector<double> pieces;
  for (const int bits : {24, 29, 45, 53}) {
    sum.pieces(pieces, bits);
    REQUIRE(pieces_agree(pieces, expected, bits));
  }
}

std::mt19937_64 generator() { return std::mt19937_64(signsplit::test::seed()); }

// A finite double with random bits: every exponent is equally likely, subnormals among them.
double any_double(std::mt19937_64& random) {
  for (;;) {
    const double value = std::bit_cast<double>(random());
    if (std::isfinite(value)) return value;
  }
}

double power(int exponent) { return std::ldexp(1.0, exponent); }

}  // namespace

TEST_CASE("an empty sum, zeros of both signs and a full cancellation are +0") {
  CHECK(same_bits(ExactSum{}.to_float(), 0.0f));
  CHECK(same_bits(sum_of({-0.0, -0.0}).to_double(), 0.0));
  CHECK(same_bits(sum_of({1e300, 1e-300, -1e300, -1e-300}).to_float(), 0.0f));
  std::vector<double> pieces{1.0};
  ExactSum{}.pieces(pieces);
  CHECK(pieces.empty());
}

TEST_CASE("random terms of every magnitude") {
  auto random = generator();
  for (int round = 0; round < 300; ++round) {
    std::vector<double> terms(1 + random() % 12);
    for (double& term : terms) term = any_double(random);
    check(terms);
  }
}

TEST_CASE("random terms near each other, products of floats, and one term alone") {
  auto random = generator();
  std::normal_distribution<float> normal;
  for (int round = 0; round < 200; ++round) {
    ExactSum sum;
    BigFixed expected;
    for (int i = 0; i < 40; ++i) {
      const float a = normal(random), b = normal(random);
      sum.add_product(a, b);
      expected.add(static_cast<double>(a) * static_cast<double>(b));
    }
    REQUIRE(agrees(sum, expected));
    check({any_double(random)});
    check({std::ldexp(any_double(random), -1000)});
  }
}

TEST_CASE("massive cancellation leaves the small term") {
  auto random = generator();
  for (int round = 0; round < 200; ++round) {
    std::vector<double> terms;
    for (int i = 0; i < 10; ++i) {
      terms.push_back(any_double(random));
      terms.push_back(-terms.back());
    }
    terms.push_back(std::ldexp(1.0 + static_cast<double>(random() % 1000), static_cast<int>(random() % 1100) - 1074));
    std::shuffle(terms.begin(), terms.end(), random);
    check(terms);
    CHECK(same_bits(sum_of(terms).to_double(), big_sum_of(terms).to_double()));
  }
}

TEST_CASE("ties to even, just below and just above half, for f32 and f64") {
  for (const double sign : {1.0, -1.0}) {
    for (const int exponent : {-149, -148, -127, -126, -125, 0, 1, 31, 32, 33, 100}) {
      const double unit = power(exponent);  // the ulp of the value below, or a quarter of it
      for (const double odd : {1.0, 2.0, 3.0, 8388608.0, 8388609.0, 16777214.0, 16777215.0, 16777216.0, 16777218.0}) {
        for (const double nudge : {0.0, power(-1074), -power(-1074), unit * power(-30), -unit * power(-30)}) {
          for (const double part : {0.5, 0.25, 0.75, 1.0, 1.5}) check({sign * odd * unit, sign * part * unit, sign * nudge});
        }
      }
    }
    for (const double nudge : {0.0, power(-1074), -power(-1074)}) {
      check({sign * 1.0, sign * power(-53), nudge});
      check({sign * (1.0 + power(-52)), sign * power(-53), nudge});
      check({sign * power(-1022), sign * power(-1074), nudge});
    }
  }
  CHECK(same_bits(sum_of({-power(-151)}).to_float(), -0.0f));  // as IEEE 754 rounds it
  CHECK(same_bits(sum_of({power(-150)}).to_float(), 0.0f));
  CHECK(same_bits(sum_of({power(-150), power(-1074)}).to_float(), std::numeric_limits<float>::denorm_min()));
}

TEST_CASE("the overflow boundary of f32 and f64") {
  const double max32 = std::numeric_limits<float>::max(), max64 = std::numeric_limits<double>::max();
  for (const double sign : {1.0, -1.0}) {
    for (const double nudge : {0.0, power(-1074), -power(-1074)}) {
      check({sign * max32, sign * power(103), nudge});  // half an ulp above the largest float: a tie, to infinity
      check({sign * max64, sign * power(970), nudge});
    }
    check({sign * max64, sign * max64, sign * max64});
    check({sign * max64, sign * max64, -sign * max64});
  }
  CHECK(sum_of({max32, power(103)}).to_float() == std::numeric_limits<float>::infinity());
  CHECK(sum_of({max32, power(103), -power(-1074)}).to_float() == std::numeric_limits<float>::max());
  CHECK(sum_of(std::vector<double>(3000, max64)).to_double() == kInfinity);
  CHECK(sum_of(std::vector<double>(3000, max64)).is_finite());
}

TEST_CASE("many terms of one exponent: carries are delayed, never lost") {
  for (const double term : {std::numeric_limits<double>::max(), -std::numeric_limits<double>::max(), 1.0 - power(-53),
                            power(-1074), -power(-1022) + power(-1074)}) {
    ExactSum sum;
    for (int i = 0; i < 5003; ++i) sum.add(term);
    for (int i = 0; i < 5000; ++i) sum.add(-term);
    CHECK(agrees(sum, big_sum_of({term, term, term})));
  }
}

TEST_CASE("order does not matter, and sums of sums are sums") {
  auto random = generator();
  for (int round = 0; round < 50; ++round) {
    std::vector<double> terms(64);
    for (double& term : terms) term = any_double(random);
    const ExactSum first = sum_of(terms);
    std::shuffle(terms.begin(), terms.end(), random);
    ExactSum left = sum_of({terms.begin(), terms.begin() + 20});
    left.add(sum_of({terms.begin() + 20, terms.end()}));
    CHECK(same_bits(first.to_double(), left.to_double()));
    CHECK(same_bits(first.to_float(), sum_of(terms).to_float()));
    left.add(left);
    BigFixed twice = big_sum_of(terms);
    for (const double term : terms) twice.add(term);
    CHECK(agrees(left, twice));
    left.clear();
    CHECK(agrees(left, BigFixed{}));
  }
}

TEST_CASE("sums of sums do not overflow a limb") {
  ExactSum sum = sum_of({1.0 - power(-53), -power(-900)});
  for (int i = 0; i < 200; ++i) sum.add(sum);
  CHECK(agrees(sum, big_sum_of({std::ldexp(1.0 - power(-53), 200), -power(-700)})));
}

TEST_CASE("infinities and NaN are IEEE 754's") {
  CHECK(sum_of({1.0, kInfinity}).to_float() == std::numeric_limits<float>::infinity());
  CHECK(sum_of({-kInfinity, 1e308}).to_double() == -kInfinity);
  CHECK(sum_of({-kInfinity, -kInfinity}).sign() == -1);
  CHECK(sum_of({kInfinity}).sign() == 1);
  CHECK_FALSE(sum_of({kInfinity}).is_finite());
  for (const auto& terms : {std::vector<double>{kInfinity, -kInfinity}, {kNan}, {-kNan, 1.0}, {kNan, kInfinity}}) {
    const ExactSum sum = sum_of(terms);
    CHECK(sum.is_nan());
    CHECK_FALSE(sum.is_finite());
    CHECK(sum.sign() == 0);
    CHECK(std::bit_cast<std::uint32_t>(sum.to_float()) == 0x7fc00000u);
    CHECK(std::bit_cast<std::uint64_t>(sum.to_double()) == 0x7ff8000000000000u);
    ExactSum other = sum_of({1.0});
    other.add(sum);
    CHECK(other.is_nan());
  }
}

TEST_CASE("the checks can fail") {
  const std::vector<double> terms{1e10, 3.0, power(-50), -1e10};
  const BigFixed expected = big_sum_of(terms);
  CHECK(agrees(sum_of(terms), expected));
  CHECK_FALSE(agrees(sum_of({1e10, 3.0, -1e10}), expected));                           // a term dropped
  CHECK_FALSE(agrees(sum_of({1e10, -3.0, power(-50), -1e10}), expected));              // a sign flipped
  CHECK_FALSE(agrees(sum_of({1e10, 3.0, power(-50), -1e10, kNan}), expected));         // a NaN
  CHECK_FALSE(agrees(sum_of({1e10, 3.0, power(-50), -1e10, power(-51)}), expected));   // an ulp of double more
  std::vector<double> pieces;
  sum_of(terms).pieces(pieces);
  CHECK(pieces_agree(pieces, expected, 24));
  std::vector<double> wrong = pieces;
  wrong.pop_back();
  CHECK_FALSE(pieces_agree(wrong, expected, 24));
  wrong = pieces;
  wrong.back() = -wrong.back();
  CHECK_FALSE(pieces_agree(wrong, expected, 24));
  CHECK_FALSE(pieces_agree({3.0 + power(-40)}, BigFixed(3.0 + power(-40)), 24));  // too many bits
}
