// The residual: with the plane it gives back every weight, whatever its bits, and can stand for the matrix.
#include "signsplit/residual.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/plan.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/weights.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// A layer whose first matrix is made of stored bits. The other matrices are ones.
Weights layer_of(DType dtype, index_t d, index_t f, bool gated, const std::function<std::uint32_t(index_t, index_t)>& bits) {
  const auto size = static_cast<std::size_t>(dtype_bytes(dtype)), count = static_cast<std::size_t>(d * f);
  std::vector<std::byte> first(count * size), ones(count * size);
  const std::uint32_t one = dtype == DType::f32 ? 0x3f800000u : dtype == DType::bf16 ? 0x3f80u : 0x3c00u;
  for (index_t j = 0; j < f; ++j) {
    for (index_t k = 0; k < d; ++k) {
      const std::uint32_t value = bits(j, k);
      const std::size_t at = static_cast<std::size_t>(j * d + k) * size;
      std::memcpy(first.data() + at, &value, size);
      std::memcpy(ones.data() + at, &one, size);
    }
  }
  LayerTensors t;
  t.d_model = d;
  t.d_ff = f;
  t.dtype = dtype;
  t.up = gated ? ones : first;
  if (gated) t.gate = first;
  t.down = ones;
  auto packed = Weights::pack(t);
  REQUIRE_MESSAGE(packed, packed.message());
  return std::move(packed).value();
}

std::uint32_t stored_bits(DType dtype, float value) {
  return dtype == DType::f32 ? std::bit_cast<std::uint32_t>(value) : dtype == DType::bf16 ? to_bf16(value).bits : to_f16(value).bits;
}

std::vector<std::uint32_t> row_bits(const Weights& w, index_t j, index_t begin, index_t end) {
  std::vector<float> row(static_cast<std::size_t>(end - begin));
  w.read_row(w.gated() ? Matrix::gate : Matrix::up, j, begin, row);
  std::vector<std::uint32_t> bits;
  for (const float v : row) bits.push_back(std::bit_cast<std::uint32_t>(v));
  return bits;
}

std::vector<std::uint32_t> restored_bits(const Residual& r, const Certificate& c, index_t j, index_t begin, index_t end) {
  std::vector<float> row(static_cast<std::size_t>(end - begin), std::nanf("77"));
  r.restore(c, j, begin, row);
  std::vector<std::uint32_t> bits;
  for (const float v : row) bits.push_back(std::bit_cast<std::uint32_t>(v));
  return bits;
}

/// Every row and some of their parts. Returns how many rows are raw.
index_t check_restores(const Weights& w, CertificateFormat format, std::mt19937_64& rng) {
  const auto c = w.certificate(format);
  REQUIRE_MESSAGE(c, c.message());
  const auto r = w.residual(format);
  REQUIRE_MESSAGE(r, r.message());
  for (index_t j = 0; j < w.d_ff(); ++j) {
    CHECK(restored_bits(**r, **c, j, 0, w.stride()) == row_bits(w, j, 0, w.stride()));
    const auto begin = static_cast<index_t>(rng() % static_cast<std::uint64_t>(w.stride()));
    const index_t end = begin + 1 + static_cast<index_t>(rng() % static_cast<std::uint64_t>(w.stride() - begin));
    CHECK(restored_bits(**r, **c, j, begin, end) == row_bits(w, j, begin, end));
  }
  return (*r)->raw_count();
}

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};

TEST_CASE("ordinary rows come back from one byte per weight (f32: three) and a few escapes") {
  std::mt19937_64 rng(seed());
  std::normal_distribution<double> normal(0.0, 0.03);
  for (const DType dtype : kTypes) {
    for (const index_t d : {64, 300, 1024}) {
      for (const CertificateFormat format : {CertificateFormat{8, 64}, {8, 192}, {8, 1024}}) {
        const Weights w = layer_of(dtype, d, 24, rng() % 2 == 0, [&](index_t, index_t) { return stored_bits(dtype, static_cast<float>(normal(rng))); });
        INFO(to_string(dtype), ", D ", d, ", group ", format.group);
        CHECK(check_restores(w, format, rng) == 0);
      }
    }
    const ResidualLayout layout{dtype, 4096};
    CHECK(layout.row_bytes() * 100 < 4096 * (dtype == DType::f32 ? 310 : dtype == DType::f16 ? 129 : 107));
  }
}

TEST_CASE("every bit pattern comes back: neighbours in order, and at random") {
  std::mt19937_64 rng(seed() + 1);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Weights ascending = layer_of(dtype, 256, 256, false, [](index_t j, index_t k) { return static_cast<std::uint32_t>(j * 256 + k); });
    const index_t raw = check_restores(ascending, {8, 64}, rng);
    CHECK(raw < 256);  // large numbers next to each other do fit
    CHECK(raw > 0);    // infinities and NaN do not
  }
  for (const DType dtype : kTypes) {
    const Weights w = layer_of(dtype, 130, 200, false, [&](index_t, index_t) { return static_cast<std::uint32_t>(rng()); });
    CHECK(check_restores(w, {8, 64}, rng) > 150);
  }
}

TEST_CASE("the least difference that fits is no escape") {
  std::mt19937_64 rng(seed() + 6);
  // The scale is 1 and q is 1. In binary16, 0.9375 lies 128 numbers below 1, the next one 129.
  const auto layer = [](float value) {
    return layer_of(DType::f16, 64, 1, false, [value](index_t, index_t k) { return stored_bits(DType::f16, k == 0 ? 127.0f : value); });
  };
  CHECK(check_restores(layer(0.9375f), {8, 64}, rng) == 0);
  CHECK(check_restores(layer(0.9375f - 0x1p-11f), {8, 64}, rng) == 1);
}

TEST_CASE("escapes: as many as there are slots are listed, one more makes the row raw") {
  std::mt19937_64 rng(seed() + 2);
  for (const DType dtype : kTypes) {
    const ResidualLayout layout{dtype, 640};
    const index_t most = layout.slots() - 1;
    // Row j has most − 2 + j weights that a plane of ones in place of them could not tell from 0, of several kinds.
    const float odd[] = {1e-30f, -1e-30f, -0.0f, 3e-5f, -1e-7f};
    const Weights w = layer_of(dtype, 640, 5, false, [&](index_t j, index_t k) {
      const bool small = k % 2 == 0 && k / 2 < most - 2 + j;
      const float value = small ? odd[static_cast<std::size_t>(k / 2) % 5] : 1.0f;
      return dtype == DType::f16 && small && value > -1e-6f && value < 1e-6f ? 0x8000u : stored_bits(dtype, value);
    });
    INFO(to_string(dtype), ", slots ", layout.slots());
    CHECK(check_restores(w, {8, 64}, rng) == (most <= 320 - 2 ? 2 : 0));
    const auto raw = (*w.residual({8, 64}))->raw_numbers();
    CHECK(std::vector<std::int32_t>(raw.begin(), raw.end()) == std::vector<std::int32_t>{-1, -1, -1, 0, 1});
  }
}

TEST_CASE("outliers, subnormal numbers, zeros and rows that are not finite come back") {
  std::mt19937_64 rng(seed() + 3);
  std::normal_distribution<double> normal;
  const float inf = std::numeric_limits<float>::infinity();
  for (const DType dtype : kTypes) {
    const Weights w = layer_of(dtype, 320, 48, true, [&](index_t j, index_t k) {
      float v = static_cast<float>(normal(rng));
      if (j % 6 == 0) v *= rng() % 40 == 0 ? 300.0f : 0.01f;
      if (j % 6 == 1) v *= dtype == DType::f16 ? 1e-6f : 1e-39f;
      if (j % 6 == 2) v = rng() % 3 == 0 ? -0.0f : v;
      if (j % 6 == 3) v = rng() % 2 == 0 ? 0.0f : v;
      if (j % 6 == 4 && k == j) v = j % 4 == 0 ? inf : std::nanf("5");
      return stored_bits(dtype, v);
    });
    CHECK(check_restores(w, {8, 64}, rng) > 0);
  }
}

TEST_CASE("a layer without its first matrix: less memory, the same values, and only the plans that fit it") {
  std::mt19937_64 rng(seed() + 4);
  std::normal_distribution<double> normal(0.0, 0.05);
  for (const bool gated : {false, true}) {
    const auto make = [&](std::uint64_t from) {
      std::mt19937_64 draw(from);
      return layer_of(DType::bf16, 1024, 32, gated, [&](index_t j, index_t) {
        return stored_bits(DType::bf16, static_cast<float>(normal(draw)) * (j == 7 && draw() % 20 == 0 ? 1e4f : 1.0f));
      });
    };
    const std::uint64_t from = rng();
    normal.reset();
    const Weights whole = make(from);
    normal.reset();
    Weights w = make(from);
    CHECK(w.has_first_matrix());
    CHECK(w.stored_bytes() == whole.stored_bytes());
    REQUIRE(w.give_up_first_matrix({8, 64}));
    CHECK_FALSE(w.has_first_matrix());
    CHECK((gated ? w.gate() : w.up()) == nullptr);
    CHECK(w.stored_bytes() < whole.stored_bytes() + whole.stored_bytes() / 10);
    const auto copy = w.clone();
    REQUIRE(copy);
    CHECK(copy->stored_bytes() == w.stored_bytes());
    CHECK(copy->certificate({8, 64}).value() != w.certificate({8, 64}).value());
    const auto kept = w.residual({8, 64}), copied = copy->residual({8, 64});
    REQUIRE(kept);
    REQUIRE_MESSAGE(copied, copied.message());  // cannot be built again: the matrix is not there
    CHECK((*copied)->raw_count() == 1);
    CHECK((*kept)->raw_count() == 1);
    CHECK((*copied)->bytes() == (*kept)->bytes());
    CHECK(w.stored_bytes() == whole.stored_bytes() - 32 * 1024 * 2 + w.certificate({8, 64}).value()->bytes() + (*kept)->bytes());
    for (index_t j = 0; j < 32; ++j) {
      CHECK(row_bits(w, j, 0, 1024) == row_bits(whole, j, 0, 1024));
      CHECK(row_bits(*copy, j, 3, 777) == row_bits(whole, j, 3, 777));
    }
    const std::vector<float> x(1024, 0.25f);
    CHECK(reference(w, x, 1, ReferenceMode::composite)->y == reference(whole, x, 1, ReferenceMode::composite)->y);
    Plan plan = default_plan(w.problem(), Strategy::certified);
    CHECK_FALSE(w.has_for(plan));
    plan.placement = Placement::residual;
    CHECK(w.has_for(plan));
    plan.plane_group = 128;
    CHECK(w.has_for(plan).message().find("plane_group 64 only") != std::string::npos);
    CHECK_FALSE(w.residual({8, 128}));
    CHECK_FALSE(w.has_for(default_plan(w.problem(), Strategy::row_fused)));
    CHECK(whole.has_for(default_plan(w.problem(), Strategy::row_fused)));
    const ScratchDirectory scratch;
    const Status saved = save_weights(scratch.path() / "layer.safetensors", w);
    REQUIRE_MESSAGE(saved, saved.message());
    const auto loaded = load_weights(scratch.path() / "layer.safetensors");
    REQUIRE(loaded);
    for (index_t j = 0; j < 32; ++j) CHECK(row_bits(*loaded, j, 0, 1024) == row_bits(whole, j, 0, 1024));
  }
}

TEST_CASE("what has no residual is refused in words") {
  std::mt19937_64 rng(seed() + 5);
  Weights w = layer_of(DType::bf16, 64, 4, false, [&](index_t, index_t) { return 0x3f80u + static_cast<std::uint32_t>(rng() % 64); });
  CHECK(w.residual({7, 64}).message().find("8 bits (got 7)") != std::string::npos);
  CHECK_FALSE(w.give_up_first_matrix({7, 64}));
  CHECK(w.has_first_matrix());
  const Weights wide = layer_of(DType::bf16, kMaxResidualColumns + 64, 1, false, [](index_t, index_t) { return 0x3f80u; });
  CHECK(wide.residual({8, 64}).message().find("at most 65536 elements (got 65600)") != std::string::npos);
  const Weights widest = layer_of(DType::bf16, kMaxResidualColumns, 1, false, [](index_t, index_t k) { return k % 100 == 0 ? 0x2f80u : 0x3f80u; });
  CHECK(check_restores(widest, {8, 1024}, rng) == 0);  // with escapes at the last positions that 16 bits tell
  const auto int8 = w.quantize();
  REQUIRE(int8);
  CHECK(int8->residual({8, 64}).message().find("int8") != std::string::npos);
  Problem problem = w.problem();
  Plan plan = default_plan(problem, Strategy::certified);
  plan.placement = Placement::residual;
  CHECK(validate(plan, problem));
  plan.plane_bits = 7;
  CHECK(validate(plan, problem).message().find("plan.plane_bits must be 8 for placement residual (got 7)") != std::string::npos);
  plan.plane_bits = 8;
  problem.d_model = kMaxResidualColumns;
  CHECK(validate(plan, problem));
  problem.d_model = kMaxResidualColumns + 1;
  CHECK(validate(plan, problem).message().find("plan.placement must be beside where D is above 65536") != std::string::npos);
  problem = int8->problem();
  CHECK(validate(plan, problem).message().find("int8") != std::string::npos);
}

}  // namespace
