// What a certificate stores: the plane, its scales and what it says of the residual.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "certificate_cases.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// What holds of every group: q in range, the residual within half a scale and covered by its norm, which is not looser than a code is
/// coarse. Returns max|w|.
double check_group(const Certificate& c, const std::vector<float>& row, index_t j, index_t g) {
  const index_t begin = g * c.layout().group, columns = c.layout().columns_of(g);
  const double scale = static_cast<double>(c.scale_at(j, g)), norm = static_cast<double>(c.residual_norm_at(j, g));
  double squares = 0.0, largest = 0.0;
  for (index_t k = begin; k < begin + columns; ++k) {
    const double w = k < static_cast<index_t>(row.size()) ? static_cast<double>(row[static_cast<std::size_t>(k)]) : 0.0;
    const double r = w - scale * c.plane_at(j, k);
    CHECK(std::abs(c.plane_at(j, k)) < 1 << (c.format().bits - 1));
    CHECK(std::fabs(r) <= 0.5 * scale);
    squares += r * r;
    largest = std::max(largest, std::fabs(w));
  }
  const double code = scale * std::sqrt(static_cast<double>(columns)) / 510.0;
  CHECK(norm >= std::sqrt(squares) * (1.0 - 0x1p-40));  // but for this sum's own rounding
  CHECK(norm <= (std::sqrt(squares) + code) * (1.0 + 0x1p-20));
  CHECK((std::bit_cast<std::uint32_t>(c.scale_at(j, g)) & ((1u << kScaleShift) - 1)) == 0);
  return largest;
}

TEST_CASE("the plane and its residual are what they say, and scales no larger than their bits make them") {
  std::mt19937_64 rng(seed() + 4);
  for (const index_t bits : {2, 4, 7, 8}) {
    const Problem problem{300, 20, 1, rng() % 2 == 0 ? DType::f32 : DType::bf16, {ActivationKind::relu}, false};
    const Layer layer = gaussian_layer(problem, false, rng);
    const auto c = Certificate::build(layer.pack(), {bits, 128});
    REQUIRE(c);
    for (index_t j = 0; j < 20; ++j) {
      const std::vector<float> row(layer.up.begin() + j * 300, layer.up.begin() + (j + 1) * 300);
      for (index_t g = 0; g < 3; ++g) {
        const double least = check_group(*c, row, j, g) / static_cast<double>((1 << (bits - 1)) - 1);
        CHECK(static_cast<double>(c->scale_at(j, g)) >= least * (1.0 - 0x1p-50));
        CHECK(static_cast<double>(c->scale_at(j, g)) <= least * (1.0 + 0x1p-5));
      }
    }
  }
}

TEST_CASE("codes at their ends: zeros, exact scales, residuals that are all half a scale, groups beyond the codes' reach, tiny and huge rows") {
  constexpr index_t kColumns = 192;
  std::mt19937_64 rng(seed() + 9);
  Layer layer;
  layer.problem = {kColumns, 8, 1, DType::f32, {ActivationKind::relu}, false};
  layer.down.assign(kColumns * 8, 1.0f);
  layer.up_bias.assign(8, 0.0f);
  layer.up_bias[7] = kInf;
  const auto group_of = [&](double largest, auto&& value) {  // 64 weights, the first the largest
    for (int k = 0; k < 64; ++k) layer.up.push_back(static_cast<float>(k == 0 ? largest : value(k)));
  };
  const auto noise = [&](double below) { return [&rng, below](int) { return below * (static_cast<double>(rng() % 2001) / 1000.0 - 1.0); }; };
  const auto zero = [](int) { return 0.0; };
  const auto halves = [&](int) { return (rng() % 2 == 0 ? 1.0 : -1.0) * (static_cast<double>(rng() % 126) + 0.5); };
  const double sets[8][3] = {{0, 0, 0}, {127, 0, 1e-6}, {126.5, 126.5, 126.5}, {1e-40, 1e-44, 0}, {1e20, 1, 1}, {1, 0x1p-7, 0x1p-12}, {-254, 127, 3}, {1, 1, 1}};
  for (int j = 0; j < 8; ++j) {
    for (const double largest : sets[j]) {
      if (j == 2) {
        group_of(largest, halves);
      } else {
        largest == 0.0 ? group_of(0.0, zero) : group_of(largest, noise(std::fabs(largest)));
      }
    }
  }
  const auto c = Certificate::build(layer.pack(), {8, 64});
  REQUIRE(c);
  for (index_t j = 0; j < 7; ++j) {
    INFO("row ", j);
    if (j == 4) continue;
    const std::vector<float> row(layer.up.begin() + j * kColumns, layer.up.begin() + (j + 1) * kColumns);
    for (index_t g = 0; g < 3; ++g) check_group(*c, row, j, g);
  }
  for (index_t g = 0; g < 3; ++g) {
    for (const index_t zeros : {0, 4, 7}) {  // nothing, and rows that are never certified: too large, or not finite
      CHECK(c->scale_at(zeros, g) == 0.0f);
      CHECK(c->residual_norm_at(zeros, g) == 0.0f);
      CHECK(c->plane_at(zeros, g * 64) == 0);
    }
    CHECK(c->scale_at(2, g) == 1.0f);
    CHECK(static_cast<double>(c->residual_norm_at(2, g)) == doctest::Approx(4.0));  // √64 / 2
    CHECK(c->scale_at(3, g) >= 0x1p-126f);
  }
  CHECK(c->offset_at(4) == kInf);
  CHECK(c->scale_at(1, 0) == 1.0f);
  CHECK(c->scale_at(1, 1) == c->scale_at(1, 2));  // the least that a code can say
  CHECK(c->scale_at(1, 1) < 0x1p-7f);
  CHECK(c->residual_norm_at(1, 1) == 0.0f);
  CHECK(c->scale_at(5, 1) <= 0x1p-7f / 127.0f * 1.04f);  // within reach
  CHECK(c->scale_at(6, 0) == 2.0f);
  CHECK(c->scale_at(6, 1) == 1.0f);
}

TEST_CASE("what a group of x adds for each scale is 0 or a normal number") {
  std::mt19937_64 rng(seed() + 10);
  const PanelLayout layout{256, 64};
  std::vector<float> x(256, 0.0f);
  for (std::size_t k = 0; k < 128; ++k) x[k] = std::ldexp(1.0f, -static_cast<int>(110 + rng() % 39));
  for (std::size_t k = 128; k < 192; ++k) x[k] = 1e-45f;
  std::vector<QuantizedQuad> quads(64);
  std::vector<QuantizedGroup> groups(4);
  CHECK(std::isfinite(quantize_token(layout, x.data(), quads.data(), groups.data()).margin));
  for (int g = 0; g < 3; ++g) CHECK(std::isnormal(groups[static_cast<std::size_t>(g)].per_scale));
  CHECK(groups[3].per_scale == 0.0f);
  CHECK(groups[3].per_code == 0.0f);
}

TEST_CASE("x is quantized alike on every instruction set") {
  std::mt19937_64 rng(seed() + 11);
  std::normal_distribution<float> normal;
  for (const PanelLayout layout : {PanelLayout{320, 64}, PanelLayout{320, 256}, PanelLayout{2048, 1024}}) {
    for (const float scale : {1.0f, 1e-38f, 1e14f}) {
      const auto columns = static_cast<std::size_t>(layout.columns), count = static_cast<std::size_t>(layout.groups());
      std::vector<float> x(columns);
      for (float& v : x) v = scale * normal(rng) * (rng() % 50 == 0 ? 30.0f : 1.0f);
      std::fill_n(x.begin(), 64, 0.0f);
      std::vector<QuantizedQuad> expected_quads(columns / 4), quads(columns / 4);
      std::vector<QuantizedGroup> expected_groups(count), groups(count);
      const QuantizedToken expected = quantize_token(layout, x.data(), expected_quads.data(), expected_groups.data());
      for (const cpu::Isa isa : cpu::supported_isas()) {
        CAPTURE(cpu::to_string(isa));
        const QuantizedToken token = quantize_token(layout, x.data(), quads.data(), groups.data(), cpu::quantize_group_for(isa));
        CHECK(token.margin == expected.margin);
        CHECK(std::memcmp(quads.data(), expected_quads.data(), quads.size() * sizeof quads[0]) == 0);
        CHECK(std::memcmp(groups.data(), expected_groups.data(), groups.size() * sizeof groups[0]) == 0);
      }
    }
  }
}

}  // namespace
