// Weights: packing, norms, non-finite rows, copies; and the files they are kept in.
#include "signsplit/weights.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/exact_sum.hpp"
#include "signsplit/safetensors.hpp"

namespace {

using namespace signsplit;
using signsplit::test::ScratchDirectory;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

/// The matrices of a layer as a framework would hold them.
struct SourceLayer {
  index_t d = 0, f = 0;
  DType dtype = DType::f32;
  Activation activation = {};
  std::vector<std::byte> up = {}, gate = {}, down = {};
  std::vector<float> up_bias = {}, gate_bias = {}, down_bias = {};

  [[nodiscard]] LayerTensors tensors() const {
    return {d, f, dtype, activation, up, down, gate, up_bias, gate_bias, down_bias};
  }
  [[nodiscard]] float at(const std::vector<std::byte>& matrix, index_t index) const {
    if (dtype == DType::f32) {
      float value;
      std::memcpy(&value, matrix.data() + index * 4, 4);
      return value;
    }
    std::uint16_t bits;
    std::memcpy(&bits, matrix.data() + index * 2, 2);
    return dtype == DType::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
  }
  void set(std::vector<std::byte>& matrix, index_t index, float value) const {
    const std::uint16_t narrow = dtype == DType::f16 ? to_f16(value).bits : to_bf16(value).bits;
    if (dtype == DType::f32) {
      std::memcpy(matrix.data() + index * 4, &value, 4);
    } else {
      std::memcpy(matrix.data() + index * 2, &narrow, 2);
    }
  }
};

SourceLayer random_layer(index_t d, index_t f, DType dtype, bool gated, std::mt19937_64& random) {
  SourceLayer layer{.d = d, .f = f, .dtype = dtype};
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<std::byte>& matrix) {
    matrix.resize(static_cast<std::size_t>(d * f * dtype_bytes(dtype)));
    for (index_t i = 0; i < d * f; ++i) layer.set(matrix, i, normal(random));
  };
  const auto fill_bias = [&](std::vector<float>& bias, index_t size) {
    for (index_t i = 0; i < size; ++i) bias.push_back(normal(random));
  };
  fill(layer.up);
  fill(layer.down);
  fill_bias(layer.up_bias, f);
  fill_bias(layer.down_bias, d);
  if (gated) {
    fill(layer.gate);
    fill_bias(layer.gate_bias, f);
  }
  return layer;
}

Weights pack_or_fail(const SourceLayer& layer) {
  Result<Weights> packed = Weights::pack(layer.tensors());
  REQUIRE(packed.ok());
  return std::move(packed).value();
}

/// True when every element of the packed layer is the source's and the padding is +0.
bool is_packed_from(const Weights& weights, const SourceLayer& layer) {
  const auto same = [](float a, float b) { return std::memcmp(&a, &b, 4) == 0; };
  for (index_t j = 0; j < layer.f; ++j) {
    for (index_t k = 0; k < weights.stride(); ++k) {
      const bool inside = k < layer.d;
      if (!same(weights.up_at(j, k), inside ? layer.at(layer.up, j * layer.d + k) : 0.0f)) return false;
      if (!same(weights.down_at(j, k), inside ? layer.at(layer.down, k * layer.f + j) : 0.0f)) return false;
      if (layer.gate.empty()) continue;
      if (!same(weights.gate_at(j, k), inside ? layer.at(layer.gate, j * layer.d + k) : 0.0f)) return false;
    }
  }
  return true;
}

bool same_bytes(const Weights& a, const Weights& b) {
  const std::size_t bytes = static_cast<std::size_t>(a.row_bytes() * a.d_ff());
  const auto same_bias = [](std::span<const float> x, std::span<const float> y) {
    return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size_bytes()) == 0);
  };
  if (a.problem() != b.problem() || std::memcmp(a.up(), b.up(), bytes) != 0 || std::memcmp(a.down(), b.down(), bytes) != 0) {
    return false;
  }
  if (a.gated() && std::memcmp(a.gate(), b.gate(), bytes) != 0) return false;
  return same_bias(a.up_bias(), b.up_bias()) && same_bias(a.gate_bias(), b.gate_bias()) &&
         same_bias(a.down_bias(), b.down_bias()) && same_bias(a.up_norms(), b.up_norms()) &&
         same_bias(a.gate_norms(), b.gate_norms());
}

/// norm² ≥ Σw², decided exactly: both sides as sums of products of f32.
bool is_upper_bound(float norm, const Weights& weights, index_t j) {
  ExactSum sum;
  sum.add_product(norm, norm);
  for (index_t k = 0; k < weights.d_model(); ++k) sum.add_product(-weights.up_at(j, k), weights.up_at(j, k));
  return sum.sign() >= 0;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("packing puts every element in its place, whatever the shape") {
  std::mt19937_64 random(test::seed());
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto& [extent, units] :
         {std::pair<index_t, index_t>{1, 1}, {1, 70}, {63, 3}, {64, 64}, {65, 65}, {130, 67}, {67, 200}, {256, 129}}) {
      for (const bool gated : {false, true}) {
        const index_t d = extent, f = units;  // clang 14 cannot capture a binding, and CAPTURE would
        CAPTURE(d);
        CAPTURE(f);
        SourceLayer layer = random_layer(d, f, dtype, gated, random);
        const Weights weights = pack_or_fail(layer);
        CHECK(weights.stride() % 64 == 0);
        CHECK(reinterpret_cast<std::uintptr_t>(weights.up()) % 64 == 0);
        CHECK(reinterpret_cast<std::uintptr_t>(weights.down()) % 64 == 0);
        CHECK((weights.gate() != nullptr) == gated);
        REQUIRE(is_packed_from(weights, layer));
        layer.set(layer.down, d * f - 1, 12345.0f);  // and the check sees one wrong element
        CHECK_FALSE(is_packed_from(weights, layer));
      }
    }
  }
}

TEST_CASE("a copy is equal, and its memory its own") {
  std::mt19937_64 random(test::seed());
  SourceLayer layer = random_layer(70, 33, DType::bf16, true, random);
  layer.set(layer.down, 3, kNan);
  const Weights weights = pack_or_fail(layer);
  const Result<Weights> copy = weights.clone();
  REQUIRE(copy.ok());
  CHECK(same_bytes(weights, *copy));
  CHECK(copy->up() != weights.up());
  CHECK(copy->down_row_nonfinite(3));
}

TEST_CASE("norms are upper bounds, and tight") {
  std::mt19937_64 random(test::seed());
  for (const float scale : {1.0f, 1e-30f, 1e-42f, 1e18f}) {
    for (const index_t d : {1, 3, 64, 777}) {
      SourceLayer layer = random_layer(d, 40, DType::f32, false, random);
      for (index_t i = 0; i < d * 40; ++i) layer.set(layer.up, i, layer.at(layer.up, i) * scale);
      const Weights weights = pack_or_fail(layer);
      for (index_t j = 0; j < 40; ++j) {
        const float norm = weights.up_norms()[static_cast<std::size_t>(j)];
        REQUIRE(is_upper_bound(norm, weights, j));
        // Two floats lower it no longer is: the inflation is a part of an ulp, the rounding up another.
        if (norm > 1e-36f) REQUIRE_FALSE(is_upper_bound(std::nextafter(std::nextafter(norm, 0.0f), 0.0f), weights, j));
      }
    }
  }
}

TEST_CASE("norms of zero, huge and non-finite rows") {
  std::mt19937_64 random(test::seed());
  SourceLayer layer = random_layer(4, 5, DType::f32, true, random);
  for (index_t k = 0; k < 4; ++k) {
    layer.set(layer.up, k, 0.0f);
    layer.set(layer.up, 4 + k, std::numeric_limits<float>::max());
  }
  layer.set(layer.up, 2 * 4 + 3, kInf);
  layer.set(layer.gate, 3 * 4, kNan);
  const Weights weights = pack_or_fail(layer);
  CHECK(weights.up_norms()[0] == 0.0f);
  CHECK(weights.up_norms()[1] == kInf);  // the norm is finite, and too large for an f32
  CHECK_FALSE(weights.input_row_nonfinite(1));
  CHECK(weights.up_norms()[2] == kInf);
  CHECK(weights.gate_norms()[3] == kInf);
  CHECK(std::isfinite(weights.up_norms()[3]));
}

TEST_CASE("non-finite rows are marked, and no others") {
  std::mt19937_64 random(test::seed());
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const float value : {kNan, kInf, -kInf}) {
      const index_t d = 67, f = 9;
      SourceLayer layer = random_layer(d, f, dtype, true, random);
      layer.set(layer.up, 1 * d + d - 1, value);
      layer.set(layer.gate, 2 * d, value);
      layer.up_bias[3] = value;
      layer.gate_bias[4] = value;
      layer.set(layer.down, (d - 1) * f + 5, value);
      layer.down_bias[6] = value;
      const Weights weights = pack_or_fail(layer);
      for (index_t j = 0; j < f; ++j) {
        CAPTURE(j);
        CHECK(weights.input_row_nonfinite(j) == (j >= 1 && j <= 4));
        CHECK(weights.down_row_nonfinite(j) == (j == 5));
      }
    }
  }
  const Weights finite = pack_or_fail(random_layer(5, 5, DType::f32, false, random));
  for (index_t j = 0; j < 5; ++j) CHECK_FALSE((finite.input_row_nonfinite(j) || finite.down_row_nonfinite(j)));
}

TEST_CASE("tensors that do not fit together are refused by name") {
  std::mt19937_64 random(test::seed());
  const SourceLayer good = random_layer(6, 4, DType::f32, true, random);
  const auto message = [](const SourceLayer& layer) {
    const Result<Weights> packed = Weights::pack(layer.tensors());
    CHECK_FALSE(packed.ok());
    return packed.message();
  };
  SourceLayer bad = good;
  bad.up.pop_back();
  CHECK(contains(message(bad), "tensor up.weight: must have 96 bytes"));
  bad = good;
  bad.down.resize(100);
  CHECK(contains(message(bad), "tensor down.weight"));
  bad = good;
  bad.gate.pop_back();
  CHECK(contains(message(bad), "tensor gate.weight"));
  bad = good;
  bad.gate.clear();
  CHECK(contains(message(bad), "tensor gate.bias: there is no gate.weight"));
  bad = good;
  bad.up_bias.pop_back();
  CHECK(contains(message(bad), "tensor up.bias: must have 4 elements [F] (got 3)"));
  bad = good;
  bad.gate_bias.push_back(0.0f);
  CHECK(contains(message(bad), "tensor gate.bias"));
  bad = good;
  bad.down_bias.resize(4);
  CHECK(contains(message(bad), "tensor down.bias"));
  bad = good;
  bad.d = -6;
  CHECK(contains(message(bad), "problem.d_model"));
  bad = random_layer(6, 4, DType::f32, false, random);
  bad.activation = {ActivationKind::drelu};
  CHECK(contains(message(bad), "gated FFNs only"));
}

TEST_CASE("saved and loaded again, a layer is the same bit for bit") {
  const ScratchDirectory scratch;
  std::mt19937_64 random(test::seed());
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool gated : {false, true}) {
      for (const bool biased : {false, true}) {
        for (const char* name : {"relu", "relu2", "fatrelu:0.01", "identity", "drelu"}) {
          SourceLayer layer = random_layer(67, 130, dtype, gated || std::string(name) == "drelu", random);
          layer.activation = parse_activation(name)->activation;
          layer.set(layer.down, 7, kNan);
          if (!biased) layer.up_bias = layer.gate_bias = layer.down_bias = {};
          const Weights weights = pack_or_fail(layer);
          REQUIRE(save_weights(scratch.path() / "l.safetensors", weights).ok());
          const Result<Weights> back = load_weights(scratch.path() / "l.safetensors");
          CAPTURE(back.message());
          REQUIRE(back.ok());
          CHECK(same_bytes(weights, *back));
          CHECK(is_packed_from(*back, layer));
        }
      }
    }
  }
  CHECK(scratch.file_count() == 1);
}

namespace {

/// A layer file of F = 3, D = 2 whose pieces can be taken away or broken.
struct LayerFile {
  std::vector<std::byte> six = std::vector<std::byte>(24), three = std::vector<std::byte>(12),
                         two = std::vector<std::byte>(8);
  std::map<std::string, SafetensorsFile::Tensor> tensors = {{"up.weight", {"F32", {3, 2}, six}},
                                                            {"down.weight", {"F32", {2, 3}, six}},
                                                            {"up.bias", {"F32", {3}, three}},
                                                            {"down.bias", {"F32", {2}, two}}};
  std::map<std::string, std::string> metadata = {{"activation", "relu"}};

  /// What load_weights answers, without the name of the file it begins with; empty for ok.
  [[nodiscard]] std::string answer(std::optional<ParsedActivation> activation = {}) const {
    const ScratchDirectory scratch;
    const std::filesystem::path file = scratch.path() / "layer.safetensors";
    REQUIRE(write_safetensors(file, tensors, metadata).message() == "");
    const Result<Weights> weights = load_weights(file, activation);
    if (weights.ok()) return {};
    REQUIRE(weights.message().starts_with(file.string() + ": "));
    CHECK_FALSE(contains(weights.message(), "\n"));
    return weights.message().substr(file.string().size() + 2);
  }
};

}  // namespace

TEST_CASE("shapes in a file: the message names tensor, shape and rule") {
  CHECK(LayerFile().answer() == "");
  LayerFile file;
  file.tensors["down.weight"].shape = {3, 2};
  CHECK(file.answer() == "tensor down.weight: shape [3, 2] does not fit up.weight [3, 2]: expected [2, 3]");
  file = {};
  file.tensors["up.weight"].shape = {6};
  CHECK(contains(file.answer(), "tensor up.weight: shape [6] must have two dimensions"));
  file = {};
  file.tensors["up.weight"] = {"F32", {0, 2}, {}};
  CHECK(contains(file.answer(), "tensor up.weight: shape [0, 2] must have extents in [1, "));
  file = {};
  file.tensors["up.bias"] = {"F32", {2}, file.two};
  CHECK(contains(file.answer(), "tensor up.bias: shape [2] does not fit"));
  file = {};
  file.tensors["down.bias"] = {"F32", {3}, file.three};
  CHECK(contains(file.answer(), "tensor down.bias: shape [3] does not fit"));
  file = {};
  file.tensors["gate.weight"] = {"F32", {2, 3}, file.six};
  CHECK(contains(file.answer(), "tensor gate.weight: shape [2, 3] does not fit"));
  for (const char* name : {"up.weight", "down.weight"}) {
    file = {};
    file.tensors.erase(name);
    CHECK(file.answer() == std::string("tensor ") + name + ": is missing");
  }
  file = {};
  file.tensors["up.scale"] = {"F32", {3}, file.three};
  CHECK(file.answer() == "tensor up.scale: only I8 matrices have scales (up.weight has another dtype)");
  file = {};
  file.tensors["up.bais"] = {"F32", {3}, file.three};
  CHECK(contains(file.answer(), "tensor up.bais: not one that this version knows"));
  file = {};
  file.tensors["norm.weight"] = {"F32", {2}, file.two};
  CHECK(file.answer() == "");
}

TEST_CASE("dtypes in a file") {
  LayerFile file;
  file.tensors["up.weight"] = {"F8_E4M3", {3, 8}, file.six};
  CHECK(file.answer() == "tensor up.weight: dtype F8_E4M3 is not supported by this version, which reads F32, BF16, F16 and I8");
  file = {};
  file.tensors["down.weight"] = {"I8", {2, 12}, file.six};
  CHECK(contains(file.answer(), "tensor down.weight: dtype I8 differs from up.weight's"));
  file = {};
  file.tensors["down.weight"] = {"BF16", {2, 6}, file.six};
  CHECK(contains(file.answer(), "tensor down.weight: dtype BF16 differs from up.weight's"));
  file = {};
  file.tensors["up.bias"] = {"F64", {1}, file.two};
  CHECK(contains(file.answer(), "tensor up.bias: dtype F64 is not supported"));
  file = {};
  const std::vector<std::byte> narrow(6);
  file.tensors["up.bias"] = {"BF16", {3}, narrow};
  CHECK(file.answer() == "");
}

TEST_CASE("activations in a file") {
  LayerFile file;
  file.metadata.clear();
  CHECK(contains(file.answer(), "metadata has no `activation`: name one of relu, relu2, fatrelu:T, identity, gelu, gelu_tanh, silu"));
  CHECK(file.answer(parse_activation("relu2")) == "");
  for (const char* smooth : {"gelu", "gelu_tanh", "silu"}) {
    file.metadata["activation"] = smooth;
    CHECK(file.answer() == "");
  }
  file.metadata["activation"] = "re\nlu";
  CHECK(contains(file.answer(), "activation \"re?lu\" is unknown"));
  for (const char* gated : {"reglu", "drelu", "geglu", "geglu_tanh", "swiglu"}) {
    file.metadata["activation"] = gated;
    CHECK(file.answer() == std::string("tensor gate.weight: is missing, and activation ") + gated + " needs it");
    CHECK(contains(LayerFile().answer(parse_activation(gated)), "tensor gate.weight: is missing"));
  }
  file = {};
  file.tensors["gate.bias"] = {"F32", {3}, file.three};
  CHECK(file.answer() == "tensor gate.weight: is missing, and there is a gate.bias");
}

TEST_CASE("a layer with a gate and activation relu is a gated relu") {
  const ScratchDirectory scratch;
  LayerFile file;
  file.tensors["gate.weight"] = {"F32", {3, 2}, file.six};
  REQUIRE(write_safetensors(scratch.path() / "g.safetensors", file.tensors, file.metadata).ok());
  const Result<Weights> weights = load_weights(scratch.path() / "g.safetensors");
  REQUIRE(weights.ok());
  CHECK(weights->gated());
  CHECK(weights->activation().kind == ActivationKind::relu);
}

TEST_CASE("the shipped layer loads") {
  const Result<Weights> weights = load_weights(SIGNSPLIT_DATA_DIRECTORY "/layer0-relu.safetensors");
  CAPTURE(weights.message());
  REQUIRE(weights.ok());
  CHECK(describe(weights->problem()) == "512x2048 bf16 relu, batch 1");
  CHECK(weights->up_bias().size() == 2048);
  CHECK(weights->down_bias().size() == 512);
  CHECK_FALSE(load_weights(SIGNSPLIT_DATA_DIRECTORY "/layer0-x.npy").ok());
}
