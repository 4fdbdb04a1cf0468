// Activations and element types: what they compute on special values, and their names.
#include "signsplit/activation.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include "signsplit/dtype.hpp"

namespace {

using namespace signsplit;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();

constexpr Activation kIdentity{ActivationKind::identity};
constexpr Activation kRelu{ActivationKind::relu};
constexpr Activation kRelu2{ActivationKind::relu2};
constexpr Activation kFatrelu{ActivationKind::fatrelu, 0.5f};
constexpr Activation kDrelu{ActivationKind::drelu};

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

}  // namespace

TEST_CASE("a closed unit gives +0, a NaN stays a NaN") {
  for (const Activation a : {kRelu, kRelu2, kFatrelu, kDrelu}) {
    CAPTURE(to_string(a));
    for (const float closed : {-1.0f, -kTiny, -0.0f, 0.0f, -kInf}) {
      CHECK(bits(activate(a, closed)) == 0u);
      CHECK_FALSE(is_open(a, closed));
    }
    CHECK(std::isnan(activate(a, kNan)));
    CHECK(is_open(a, kNan));
    CHECK(activate(a, kInf) == kInf);
  }
  CHECK(bits(activate(kIdentity, -0.0f)) == bits(-0.0f));
  CHECK(std::isnan(activate(kIdentity, kNan)));
  CHECK(is_open(kIdentity, -3.0f));
}

TEST_CASE("open units") {
  CHECK(activate(kRelu, kTiny) == kTiny);
  CHECK(activate(kRelu2, 3.0f) == 9.0f);
  CHECK(bits(activate(kFatrelu, 0.5f)) == 0u);  // at the threshold: closed
  CHECK_FALSE(is_open(kFatrelu, 0.5f));
  const float above = std::nextafter(0.5f, 1.0f);
  CHECK(activate(kFatrelu, above) == above);
  CHECK(is_open(kFatrelu, above));
  CHECK(activate(kIdentity, -2.0f) == -2.0f);
}

TEST_CASE("a closed gate hides the up value, unless IEEE 754 is asked for") {
  for (const Activation a : {kRelu, kRelu2, kFatrelu, kDrelu}) {
    CAPTURE(to_string(a, true));
    for (const float u : {-2.0f, 0.0f, 2.0f, kInf, -kInf, kNan}) CHECK(bits(activate_gated(a, -1.0f, u, false)) == 0u);
    CHECK(std::isnan(activate_gated(a, -1.0f, kInf, true)));
    CHECK(std::isnan(activate_gated(a, -1.0f, kNan, true)));
    CHECK(std::isnan(activate_gated(a, kNan, 2.0f, false)));
    CHECK(std::isnan(activate_gated(a, 1.0f, kNan, false)));
  }
  CHECK(activate_gated(kRelu, 2.0f, -3.0f, false) == -6.0f);
  CHECK(activate_gated(kRelu2, 2.0f, -3.0f, false) == -12.0f);
  CHECK(activate_gated(kFatrelu, 2.0f, -3.0f, false) == -6.0f);
  CHECK(activate_gated(kIdentity, -2.0f, 3.0f, false) == -6.0f);
  CHECK(activate_gated(kDrelu, 2.0f, 3.0f, false) == 6.0f);
  CHECK(bits(activate_gated(kDrelu, 2.0f, -3.0f, false)) == 0u);
  CHECK(bits(activate_gated(kDrelu, kInf, -3.0f, false)) == 0u);
  CHECK(std::isnan(activate_gated(kDrelu, kInf, -3.0f, true)));
}

TEST_CASE("activations are constant expressions") {
  static_assert(activate(kRelu, -1.0f) == 0.0f);
  static_assert(activate_gated(kDrelu, 2.0f, 4.0f, false) == 8.0f);
  CHECK(true);
}

TEST_CASE("names of activations read back") {
  for (const Activation a : {kIdentity, kRelu, kRelu2, kFatrelu, kDrelu, Activation{ActivationKind::fatrelu, 0.01f},
                             Activation{ActivationKind::fatrelu, 0.0f}, Activation{ActivationKind::fatrelu, kTiny},
                             Activation{ActivationKind::fatrelu, std::numeric_limits<float>::max()}}) {
    for (const bool gated : {false, true}) {
      const auto parsed = parse_activation(to_string(a, gated));
      REQUIRE(parsed);
      CHECK(parsed->activation == a);
    }
  }
  CHECK(to_string(kRelu, true) == "reglu");
  CHECK(to_string(Activation{ActivationKind::fatrelu, 0.01f}) == "fatrelu:0.01");
  CHECK(parse_activation("reglu")->must_be_gated);
  CHECK(parse_activation("drelu")->must_be_gated);
  CHECK_FALSE(parse_activation("relu")->must_be_gated);
  for (const auto& [kind, name, gated_name] : {std::tuple{ActivationKind::gelu, "gelu", "geglu"}, {ActivationKind::gelu_tanh, "gelu_tanh", "geglu_tanh"},
                                               {ActivationKind::silu, "silu", "swiglu"}}) {
    CHECK(to_string({kind}) == name);
    CHECK(to_string({kind}, true) == gated_name);
    CHECK(parse_activation(name)->activation.kind == kind);
    CHECK(parse_activation(gated_name)->activation.kind == kind);
    CHECK_FALSE(parse_activation(name)->must_be_gated);
    CHECK(parse_activation(gated_name)->must_be_gated);
  }
  for (const char* text :
       {"", "Relu", "relu ", "relu3", "gelu_", "glu", "fatrelu", "fatrelu:", "fatrelu:x", "fatrelu:-1", "fatrelu:-0", "fatrelu:nan",
        "fatrelu:inf", "fatrelu:1e99", "fatrelu:1 ", "fatrelu: 1", "fatrelu:1,5"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_activation(text));
  }
}

TEST_CASE("dtype names and sizes") {
  CHECK(parse_dtype("f32") == DType::f32);
  CHECK(parse_dtype("bf16") == DType::bf16);
  CHECK(to_string(DType::bf16) == "bf16");
  CHECK(parse_dtype("f16") == DType::f16);
  CHECK(parse_dtype("int8") == DType::int8);
  for (const char* text : {"", "F32", "i8", "bf16 "}) CHECK_FALSE(parse_dtype(text));
  CHECK(dtype_bytes(DType::f32) == 4);
  CHECK(dtype_bytes(DType::bf16) == 2);
  CHECK(dtype_bytes(DType::f16) == 2);
  CHECK(dtype_bytes(DType::int8) == 1);
}

TEST_CASE("every binary16 widens to its value and comes back") {
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const f16 value{static_cast<std::uint16_t>(i)};
    const int exponent = static_cast<int>(i >> 10 & 31u);
    const auto mantissa = static_cast<float>(i & 0x3ffu);
    const float wide = to_float(value);
    REQUIRE(std::signbit(wide) == (i >= 0x8000));
    if (exponent == 31) {
      REQUIRE((mantissa == 0.0f ? std::isinf(wide) : std::isnan(wide)));
    } else if (exponent == 0) {
      REQUIRE(std::abs(wide) == std::ldexp(mantissa, -24));
    } else {
      REQUIRE(std::abs(wide) == std::ldexp(1024.0f + mantissa, exponent - 25));
    }
    REQUIRE(to_f16(wide).bits == (std::isnan(wide) ? i | 0x200u : i));
  }
}

TEST_CASE("between two binary16 the nearer is taken, of two equally near the even one") {
  for (std::uint32_t i = 0; i < 0x7c00; ++i) {  // positive, finite; the neighbour above may be infinity, which stands for 2^16
    const auto at = [](std::uint32_t n) { return n == 0x7c00 ? 65536.0f : to_float(f16{static_cast<std::uint16_t>(n)}); };
    const float middle = 0.5f * (at(i) + at(i + 1));
    for (const std::uint32_t sign : {0u, 0x8000u}) {
      const float s = sign == 0 ? 1.0f : -1.0f;
      REQUIRE(to_f16(s * std::nextafter(middle, 0.0f)).bits == (i | sign));
      REQUIRE(to_f16(s * middle).bits == (((i & 1u) == 0 ? i : i + 1) | sign));
      REQUIRE(to_f16(s * std::nextafter(middle, 1e9f)).bits == ((i + 1) | sign));
    }
  }
  CHECK(to_f16(0x1p-26f).bits == 0);
  CHECK(to_f16(1e30f).bits == 0x7c00);
}

TEST_CASE("every bfloat16 widens exactly and comes back") {
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const bf16 value{static_cast<std::uint16_t>(i)};
    const float wide = to_float(value);
    REQUIRE(bits(wide) == i << 16);
    const bf16 back = to_bf16(wide);
    if (std::isnan(wide)) {
      REQUIRE(std::isnan(to_float(back)));
      REQUIRE(back.bits == (i | 0x40u));
    } else {
      REQUIRE(back == value);
    }
  }
}

TEST_CASE("between two bfloat16 the nearer is taken, of two equally near the even one") {
  for (std::uint32_t i = 0; i < 0x7f80; ++i) {  // positive, finite; the neighbour above may be infinity
    for (const std::uint32_t sign : {0u, 0x8000u}) {
      const std::uint32_t low = i | sign, high = (i + 1) | sign, even = (i & 1u) == 0 ? low : high;
      REQUIRE(to_bf16(std::bit_cast<float>(low << 16 | 0x7fffu)).bits == low);
      REQUIRE(to_bf16(std::bit_cast<float>(low << 16 | 0x8000u)).bits == even);
      REQUIRE(to_bf16(std::bit_cast<float>(low << 16 | 0x8001u)).bits == high);
    }
  }
}
