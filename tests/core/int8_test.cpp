// int8 weights: scales, rounding to int8, files; an int8 layer is the f32 layer of its values.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/safetensors.hpp"
#include "signsplit/synthetic.hpp"

namespace {

using namespace signsplit;
using signsplit::test::ScratchDirectory;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// An int8 layer of F = 3, D = 130 with random q and scales, as a framework would hold it.
struct Int8Layer {
  index_t d = 130, f = 3, group = 64;
  std::vector<std::int8_t> up, down;
  std::vector<float> up_scale, down_scale;

  explicit Int8Layer(index_t group_size, std::mt19937_64& random) : group(group_size) {
    const auto q = [&] { return static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127); };
    const auto scale = [&] { return to_float(to_bf16(std::ldexp(1.0f + static_cast<float>(random() % 128) / 128.0f, -9))); };
    for (index_t i = 0; i < d * f; ++i) up.push_back(q()), down.push_back(q());
    for (index_t i = 0; i < f * groups(d); ++i) up_scale.push_back(scale());
    for (index_t i = 0; i < d * groups(f); ++i) down_scale.push_back(scale());
  }
  [[nodiscard]] index_t groups(index_t length) const { return group == 0 ? 1 : ceil_div(length, group); }
  [[nodiscard]] LayerTensors tensors() const {
    LayerTensors layer{d, f, DType::int8, {}, std::as_bytes(std::span(up)), std::as_bytes(std::span(down)), {}, {}, {}, {}};
    layer.group = group;
    layer.up_scale = up_scale;
    layer.down_scale = down_scale;
    return layer;
  }
  [[nodiscard]] std::string refusal() const {
    const Result<Weights> packed = Weights::pack(tensors());
    CHECK(packed.status().code() == StatusCode::invalid_argument);
    return packed.message();
  }
};

/// Every element, exactly: up [F, stride], then gate, then down.
std::vector<float> values_of(const Weights& w) {
  std::vector<float> values;
  for (index_t j = 0; j < w.d_ff(); ++j) {
    for (index_t k = 0; k < w.stride(); ++k) {
      values.push_back(w.up_at(j, k));
      if (w.gated()) values.push_back(w.gate_at(j, k));
      values.push_back(w.down_at(j, k));
    }
  }
  return values;
}

/// The f32 layer with the values of another.
Weights widened(const Weights& w) {
  const index_t d = w.d_model(), f = w.d_ff();
  std::vector<float> up, gate, down;
  for (index_t j = 0; j < f; ++j) {
    for (index_t k = 0; k < d; ++k) {
      up.push_back(w.up_at(j, k));
      if (w.gated()) gate.push_back(w.gate_at(j, k));
    }
  }
  for (index_t k = 0; k < d; ++k) {
    for (index_t j = 0; j < f; ++j) down.push_back(w.down_at(j, k));
  }
  const auto bytes = [](const std::vector<float>& m) { return std::as_bytes(std::span(m)); };
  auto packed = Weights::pack({d, f, DType::f32, w.activation(), bytes(up), bytes(down), bytes(gate), w.up_bias(), w.gate_bias(), w.down_bias()});
  REQUIRE(packed.ok());
  return std::move(packed).value();
}

Weights synthetic(DType dtype, index_t group, bool gated, index_t d = 200, index_t f = 150) {
  auto layer = synthetic_weights({.d_model = d, .d_ff = f, .dtype = dtype, .activation = {}, .gated = gated, .group = group}, 0.5, test::seed());
  REQUIRE_MESSAGE(layer.ok(), layer.message());
  return std::move(layer).value();
}

}  // namespace

TEST_CASE("an element is its scale times its integer, exactly, wherever groups end") {
  std::mt19937_64 random(test::seed());
  for (const index_t group : {0, 64, 128, 256}) {
    const Int8Layer layer(group, random);
    const auto packed = Weights::pack(layer.tensors());
    REQUIRE_MESSAGE(packed.ok(), packed.message());
    for (index_t j = 0; j < layer.f; ++j) {
      for (index_t k = 0; k < packed->stride(); ++k) {
        CAPTURE(j);
        CAPTURE(k);
        const auto in = [&](index_t i) { return group == 0 ? 0 : i / group; };
        double up = 0.0, down = 0.0;
        if (k < layer.d) {
          up = static_cast<double>(layer.up_scale[static_cast<std::size_t>(j * layer.groups(layer.d) + in(k))]) * layer.up[static_cast<std::size_t>(j * layer.d + k)];
          down = static_cast<double>(layer.down_scale[static_cast<std::size_t>(k * layer.groups(layer.f) + in(j))]) * layer.down[static_cast<std::size_t>(k * layer.f + j)];
        }
        REQUIRE(static_cast<double>(packed->up_at(j, k)) == up);
        REQUIRE(static_cast<double>(packed->down_at(j, k)) == down);
      }
    }
  }
}

TEST_CASE("a layer of any dtype is the f32 layer of its values") {
  for (const bool gated : {false, true}) {
    for (const auto& [dtype, group] : std::vector<std::pair<DType, index_t>>{{DType::f16, 0}, {DType::int8, 0}, {DType::int8, 64}, {DType::int8, 128}}) {
      const Weights layer = synthetic(dtype, group, gated), wide = widened(layer);
      CHECK(values_of(layer) == values_of(wide));
      CHECK(std::equal(layer.up_norms().begin(), layer.up_norms().end(), wide.up_norms().begin()));
      const std::vector<float> x = synthetic_input(2, layer.d_model(), 7);
      for (const ReferenceMode mode : {ReferenceMode::staged, ReferenceMode::composite}) {
        const auto a = reference(layer, x, 2, mode), b = reference(wide, x, 2, mode);
        REQUIRE((a.ok() && b.ok()));
        CHECK(a->y == b->y);
        CHECK(a->z == b->z);
        CHECK(a->active == b->active);
      }
      const Plan plan = default_plan(layer.problem(), Strategy::row_fused);
      CHECK(*error_bound(plan, layer, x, 2) == *error_bound(plan, wide, x, 2));
    }
  }
}

TEST_CASE("rounding to int8: half a step from the weight, the smallest scale that covers the group") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const index_t group : {0, 64, 192}) {
      const Weights source = synthetic(dtype, 0, true);
      const auto rounded = source.quantize(group);
      REQUIRE_MESSAGE(rounded.ok(), rounded.message());
      CHECK(rounded->group() == group);
      CHECK(rounded->up_scales().size() == static_cast<std::size_t>(150 * (group == 0 ? 1 : ceil_div(200, group))));
      CHECK(rounded->down_scales().size() == static_cast<std::size_t>(256 * (group == 0 ? 1 : ceil_div(150, group))));
      for (index_t j = 0; j < source.d_ff(); ++j) {
        for (index_t k = 0; k < source.d_model(); ++k) {
          const auto in = [&](index_t i) { return group == 0 ? 0 : i / group; };
          const double up = static_cast<double>(to_float(rounded->up_scales()[static_cast<std::size_t>(j * rounded->input_groups() + in(k))]));
          const double down = static_cast<double>(to_float(rounded->down_scales()[static_cast<std::size_t>(in(j) * rounded->stride() + k)]));
          REQUIRE(std::abs(static_cast<double>(source.up_at(j, k) - rounded->up_at(j, k))) <= 0.5000001 * up);
          REQUIRE(std::abs(static_cast<double>(source.gate_at(j, k))) <= 127.0 * static_cast<double>(to_float(rounded->gate_scales()[static_cast<std::size_t>(j * rounded->input_groups() + in(k))])));
          REQUIRE(std::abs(static_cast<double>(source.down_at(j, k) - rounded->down_at(j, k))) <= 0.5000001 * down);
        }
      }
      const bf16 first = rounded->up_scales()[0];
      float largest = 0.0f;
      for (index_t k = 0; k < (group == 0 ? 200 : group); ++k) largest = std::max(largest, std::abs(source.up_at(0, std::min<index_t>(k, 199))));
      CHECK(127.0f * to_float(first) >= largest);
      CHECK(127.0f * to_float(bf16{static_cast<std::uint16_t>(first.bits - 1)}) < largest);
      CHECK(std::equal(source.up_bias().begin(), source.up_bias().end(), rounded->up_bias().begin()));
    }
  }
}

TEST_CASE("what cannot be rounded to int8 is refused by name") {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf(""), std::numeric_limits<float>::max()}) {
    std::vector<float> up(64 * 3, 1.0f), down(64 * 3, 1.0f);
    const auto refusal = [&] {
      auto layer = Weights::pack({64, 3, DType::f32, {}, std::as_bytes(std::span(up)), std::as_bytes(std::span(down)), {}, {}, {}, {}});
      const auto rounded = layer->quantize();
      CHECK(rounded.status().code() == StatusCode::invalid_argument);
      return rounded.message();
    };
    up[64 + 63] = bad;
    CHECK(contains(refusal(), "tensor up.weight: row 1 has a weight that is"));
    up[64 + 63] = 1.0f;
    down[3 * 63 + 2] = bad;
    CHECK(contains(refusal(), "tensor down.weight: column 2 has a weight that is"));
  }
  const Weights layer = synthetic(DType::int8, 0, false);
  CHECK(contains(layer.quantize().message(), "int8 already"));
  CHECK(contains(synthetic(DType::f16, 0, false).quantize(100).message(), "problem.group"));
}

TEST_CASE("zero, subnormal and nearly too large groups have exact scales") {
  std::vector<float> up(64 * 4, 0.0f), down(64 * 4, 0.0f);
  for (index_t k = 0; k < 64; ++k) {
    up[static_cast<std::size_t>(64 + k)] = static_cast<float>(k) * 0x1p-149f;
    up[static_cast<std::size_t>(128 + k)] = static_cast<float>(k - 32) * 0x1p120f;
  }
  auto layer = Weights::pack({64, 4, DType::f32, {}, std::as_bytes(std::span(up)), std::as_bytes(std::span(down)), {}, {}, {}, {}});
  const auto rounded = layer->quantize();
  REQUIRE_MESSAGE(rounded.ok(), rounded.message());
  CHECK(rounded->up_scales()[0].bits == 0);
  CHECK(rounded->up_scales()[1].bits == 1);  // 2^-133, the least bfloat16
  CHECK(rounded->up_at(1, 63) == 0.0f);      // 63 · 2^-149 is less than half of it
  for (index_t k = 0; k < 64; ++k) CHECK(std::isfinite(rounded->up_at(2, k)));
  CHECK_FALSE(rounded->input_row_nonfinite(2));
}

TEST_CASE("scales and integers of a layer: each broken rule by name") {
  std::mt19937_64 random(test::seed());
  const Int8Layer good(64, random);
  Int8Layer bad = good;
  bad.up[5] = -128;
  CHECK(bad.refusal() == "tensor up.weight: element 5 is -128, must be in [-127, 127]");
  bad = good;
  bad.down[7] = -128;
  CHECK(contains(bad.refusal(), "tensor down.weight: element 7 is -128"));
  for (const float scale : {-1.0f, -0.0f, std::nanf(""), std::numeric_limits<float>::infinity(), 1.001f, 0x1p121f, 0x1p122f}) {
    bad = good;
    bad.up_scale[1] = scale;
    const bool fits = scale == 0x1p121f;  // 127 times it is below 2^128
    if (fits) {
      CHECK(Weights::pack(bad.tensors()).ok());
    } else {
      CHECK(contains(bad.refusal(), "tensor up.scale: element 1 is "));
    }
  }
  bad = good;
  bad.down_scale[9] = 0.1f;
  CHECK(contains(bad.refusal(), "tensor down.scale: element 9 is "));
  bad = good;
  bad.up_scale.pop_back();
  CHECK(bad.refusal() == "tensor up.scale: must have 9 elements [F, G1] (got 8)");
  bad = good;
  bad.group = 96;
  CHECK(contains(bad.refusal(), "problem.group"));
  const std::vector<float> matrix(4), scale(2, 1.0f);
  LayerTensors wide{2, 2, DType::f32, {}, std::as_bytes(std::span(matrix)), std::as_bytes(std::span(matrix)), {}, {}, {}, {}};
  wide.up_scale = scale;
  CHECK(contains(Weights::pack(wide).message(), "tensor up.scale: only int8 matrices have scales"));
}

TEST_CASE("saved and loaded again, an int8 layer is the same") {
  const ScratchDirectory scratch;
  const auto file = scratch.path() / "l.safetensors";
  for (const bool gated : {false, true}) {
    for (const index_t group : {0, 64}) {
      const Weights layer = synthetic(DType::int8, group, gated);
      REQUIRE(save_weights(file, layer).ok());
      const auto back = load_weights(file);
      REQUIRE_MESSAGE(back.ok(), back.message());
      CHECK(back->problem() == layer.problem());
      CHECK(values_of(*back) == values_of(layer));
      const auto copy = back->clone();
      REQUIRE(copy.ok());
      CHECK(values_of(*copy) == values_of(layer));
      CHECK(copy->down_scales().data() != back->down_scales().data());
    }
  }
}

TEST_CASE("scales in a file: types, shapes, group") {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "q.safetensors";
  const std::vector<std::byte> six(6, std::byte{3});
  const std::vector<float> three{1.0f, 0.5f, 2.0f}, two{1.0f, 4.0f};
  using Tensor = SafetensorsFile::Tensor;
  const std::map<std::string, Tensor> good = {{"up.weight", {"I8", {3, 2}, six}},
                                              {"down.weight", {"I8", {2, 3}, six}},
                                              {"up.scale", {"F32", {3}, std::as_bytes(std::span(three))}},
                                              {"down.scale", {"F32", {2, 1}, std::as_bytes(std::span(two))}}};
  const auto answer = [&](std::map<std::string, Tensor> tensors, const std::string& group = "0") {
    REQUIRE(write_safetensors(path, tensors, {{"activation", "relu"}, {"group", group}}).ok());
    const auto loaded = load_weights(path);
    if (loaded.ok()) CHECK(loaded->down_at(0, 1) == 12.0f);
    return loaded.message();
  };
  CHECK(answer(good) == "");
  auto bad = good;
  bad.erase("down.scale");
  CHECK(contains(answer(bad), "tensor down.scale: is missing, and I8 matrices need scales"));
  bad = good;
  bad["up.scale"].shape = {1, 3};
  CHECK(contains(answer(bad), "tensor up.scale: shape [1, 3] does not fit"));
  bad = good;
  bad["up.scale"] = {"I8", {3}, std::span(six).first(3)};
  CHECK(contains(answer(bad), "tensor up.scale: dtype I8 is not supported here: must be F32, BF16 or F16"));
  bad = good;
  bad["gate.scale"] = good.at("up.scale");
  CHECK(contains(answer(bad), "tensor gate.weight: is missing, and there is a gate.scale"));
  for (const char* group : {"32", "-64", "64 ", "x", ""}) CHECK(contains(answer(good, group), "metadata group"));
}
