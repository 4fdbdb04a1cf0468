#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>

#include "c_layer.hpp"
#include "scratch_directory.hpp"
#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"

using namespace signsplit;
using namespace signsplit::test;

namespace {

constexpr index_t kD = 70, kF = 300, kBatch = 3;  // no multiples of 64, two parts: tails everywhere
constexpr std::size_t kOutputs = kD * kBatch, kUnits = kF * kBatch;

const LayerShape kRelu{.d = kD, .f = kF, .activation = {}, .gated = false, .biased = true, .dtype = DType::bf16};
const LayerShape kGated{.d = kD, .f = kF, .activation = {}, .gated = true, .biased = true, .dtype = DType::f32};
const LayerShape kFatrelu{.d = kD, .f = kF, .activation = {ActivationKind::fatrelu, 0.5f}, .dtype = DType::f32};
const LayerShape kDrelu{.d = kD, .f = kF, .activation = {ActivationKind::drelu}, .gated = true, .dtype = DType::bf16};

std::string last_error() { return signsplit_last_error(); }

Handle<signsplit_ffn> bind(const signsplit_weights* weights, const char* plan, int threads = 0, const char* isa = nullptr) {
  signsplit_ffn* ffn = nullptr;
  REQUIRE_MESSAGE(signsplit_ffn_create(weights, kBatch, plan, threads, isa, &ffn) == SIGNSPLIT_OK, last_error());
  return Handle<signsplit_ffn>(ffn);
}

struct Output {
  std::vector<float> y;
  std::vector<std::uint8_t> active;
};

Output run(signsplit_ffn* ffn, std::span<const float> x) {
  Output out{std::vector<float>(kOutputs, std::numeric_limits<float>::quiet_NaN()), std::vector<std::uint8_t>(kUnits, 9)};
  REQUIRE_MESSAGE(signsplit_ffn_run(ffn, x.data(), x.size(), out.y.data(), out.y.size(), out.active.data(),
                                    out.active.size()) == SIGNSPLIT_OK,
                  last_error());
  return out;
}

struct Named {
  const char* name;
  Plan plan;
};

std::vector<Named> named_plans(const Problem& problem) {
  std::vector<Named> plans{{nullptr, default_plan(problem, Strategy::row_fused)},
                           {"unfused", default_plan(problem, Strategy::unfused)},
                           {"row_fused+skip", default_plan(problem, Strategy::row_fused, true)},
                           {"certified", default_plan(problem, Strategy::certified, true)},
                           {"sign_split", default_plan(problem, Strategy::sign_split)},
                           {"sign_split/telescoping", default_sign_split_plan(problem, Variant::telescoping, Repair::none)},
                           {" {\"strategy\": \"row_fused\", \"parts\": 5, \"hidden_tile\": 7}", {}}};
  plans.back().plan.parts = 5;
  plans.back().plan.hidden_tile = 7;
  if (problem.gated) return plans;
  plans.push_back({"sign_split/streams+skip", default_sign_split_plan(problem, Variant::streams, Repair::selective, true)});
  plans.push_back({"sign_split/interim/redo", default_sign_split_plan(problem, Variant::interim, Repair::redo)});
  return plans;
}

}  // namespace

TEST_CASE("C gives the same bits, the same mask and the same counters as C++") {
  for (const LayerShape& shape : {kRelu, kGated, kFatrelu, kDrelu}) {
    const SmallLayer layer = random_layer(shape);
    const Weights packed = layer.pack();
    Handle<signsplit_weights> weights;
    REQUIRE_MESSAGE(create(layer, weights) == SIGNSPLIT_OK, last_error());
    const std::vector<float> x = synthetic_input(kBatch, kD, seed());
    for (const Named& named : named_plans(packed.problem(kBatch))) {
      const Plan& plan = named.plan;
      CAPTURE(label(plan));
      auto expected = cpu::Ffn::create(packed, plan, kBatch);
      REQUIRE(expected.ok());
      std::vector<float> y(kOutputs);
      std::vector<std::uint8_t> active(kUnits);
      REQUIRE(expected->run(x, y, active).ok());

      const auto ffn = bind(weights.get(), named.name);
      const Output out = run(ffn.get(), x);
      CHECK(bits(out.y) == bits(y));
      CHECK(out.active == active);
      CHECK(signsplit_ffn_plan(ffn.get()) == to_json(plan));
      CHECK(signsplit_ffn_label(ffn.get()) == label(plan));
      signsplit_statistics counted;
      REQUIRE(signsplit_ffn_statistics(ffn.get(), &counted, sizeof counted) == SIGNSPLIT_OK);
      static_assert(sizeof(signsplit_statistics) == sizeof(Statistics), "every counter, in the same order");
      const Statistics& wanted = expected->report().statistics;
      CHECK(std::memcmp(&counted, &wanted, sizeof counted) == 0);
    }
  }
}

TEST_CASE("gelu, gelu_tanh and silu by every name: the bits of C++, all units active, a staged reference and no other") {
  const struct {
    const char* name;
    ActivationKind kind;
    bool gated;
  } cases[] = {{"gelu", ActivationKind::gelu, false},       {"geglu", ActivationKind::gelu, true},
               {"silu", ActivationKind::silu, false},       {"swiglu", ActivationKind::silu, true},
               {"gelu_tanh", ActivationKind::gelu_tanh, false}, {"geglu_tanh", ActivationKind::gelu_tanh, true}};
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  for (const auto& one : cases) {
    const char* const name = one.name;
    const bool gated = one.gated;
    CAPTURE(name);
    const SmallLayer layer = random_layer({.d = kD, .f = kF, .activation = {one.kind}, .gated = gated, .biased = true, .dtype = DType::f32});
    signsplit_layer c = signsplit_layer_make(kD, kF, SIGNSPLIT_F32);  // not by to_string, as `create` would: the name is what is tested
    c.activation = name;
    c.up = layer.up.data(), c.down = layer.down.data(), c.gate = gated ? layer.gate.data() : nullptr;
    c.up_bias = layer.up_bias.data(), c.down_bias = layer.down_bias.data(), c.gate_bias = gated ? layer.gate_bias.data() : nullptr;
    signsplit_weights* handle = nullptr;
    REQUIRE_MESSAGE(signsplit_weights_create(&c, &handle) == SIGNSPLIT_OK, last_error());
    const Handle<signsplit_weights> weights(handle);
    CHECK(std::string(signsplit_weights_activation(handle)) == name);

    const Weights packed = layer.pack();
    auto expected = cpu::Ffn::create(packed, default_plan(packed.problem(kBatch), Strategy::row_fused), kBatch);
    REQUIRE(expected.ok());
    std::vector<float> y(kOutputs);
    REQUIRE(expected->run(x, y).ok());
    for (const char* plan : {"row_fused", "unfused"}) {
      const Output out = run(bind(handle, plan).get(), x);
      CHECK(bits(out.y) == bits(y));
      CHECK(out.active == std::vector<std::uint8_t>(kUnits, 1));
    }
    signsplit_ffn* ffn = nullptr;
    for (const char* plan : {"sign_split", "certified"}) {
      CHECK(signsplit_ffn_create(handle, kBatch, plan, 0, nullptr, &ffn) == SIGNSPLIT_INVALID_ARGUMENT);
      CHECK_MESSAGE(last_error().find("is not defined for the activation " + std::string(name)) != std::string::npos, last_error());
    }

    const auto staged = reference(packed, x, kBatch, ReferenceMode::staged);
    REQUIRE(staged.ok());
    signsplit_reference* exact = nullptr;
    REQUIRE(signsplit_reference_create(handle, SIGNSPLIT_STAGED, kBatch, x.data(), x.size(), 0, &exact) == SIGNSPLIT_OK);
    const Handle<signsplit_reference> owner(exact);
    CHECK(bits({signsplit_reference_h(exact), kUnits}) == bits(staged->h));
    signsplit_reference* none = nullptr;
    CHECK(signsplit_reference_create(handle, SIGNSPLIT_COMPOSITE, kBatch, x.data(), x.size(), 0, &none) == SIGNSPLIT_INVALID_ARGUMENT);
    CHECK_MESSAGE(last_error().find("use staged for activation " + std::string(name)) != std::string::npos, last_error());
  }
}

TEST_CASE("every instruction set and number of threads gives the same bits through C") {
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer(kRelu), weights) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  const Output first = run(bind(weights.get(), "row_fused", 1, "scalar").get(), x);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const std::string name(cpu::to_string(isa));
    const auto ffn = bind(weights.get(), "row_fused", 3, name.c_str());
    CHECK(bits(run(ffn.get(), x).y) == bits(first.y));
    CHECK(signsplit_ffn_isa(ffn.get()) == name);
    CHECK(signsplit_ffn_threads(ffn.get()) == 3);
  }
}

TEST_CASE("an FFN outlives its weights, and takes others of the same shape") {
  const SmallLayer one = random_layer(kRelu, 1), other = random_layer(kRelu, 2);
  Handle<signsplit_weights> weights, second;
  REQUIRE(create(one, weights) == SIGNSPLIT_OK);
  REQUIRE(create(other, second) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  const Output expected_first = run(bind(weights.get(), "row_fused").get(), x);
  const Output expected_second = run(bind(second.get(), "row_fused").get(), x);
  REQUIRE(bits(expected_first.y) != bits(expected_second.y));

  const auto ffn = bind(weights.get(), "row_fused");
  weights.reset();
  CHECK(bits(run(ffn.get(), x).y) == bits(expected_first.y));
  REQUIRE(signsplit_ffn_rebind(ffn.get(), second.get()) == SIGNSPLIT_OK);
  second.reset();
  CHECK(bits(run(ffn.get(), x).y) == bits(expected_second.y));

  REQUIRE(create(random_layer(kGated), weights) == SIGNSPLIT_OK);
  CHECK(signsplit_ffn_rebind(ffn.get(), weights.get()) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(bits(run(ffn.get(), x).y) == bits(expected_second.y));
}

TEST_CASE("files written and read back give the same bits") {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "layer.safetensors").string();
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer(kGated), weights) == SIGNSPLIT_OK);
  REQUIRE(signsplit_weights_save(weights.get(), file.c_str()) == SIGNSPLIT_OK);
  signsplit_weights* read = nullptr;
  REQUIRE_MESSAGE(signsplit_weights_load(file.c_str(), nullptr, &read) == SIGNSPLIT_OK, last_error());
  const Handle<signsplit_weights> owner(read);
  CHECK(signsplit_weights_d_model(read) == kD);
  CHECK(signsplit_weights_d_ff(read) == kF);
  CHECK(signsplit_weights_dtype(read) == SIGNSPLIT_F32);
  CHECK(signsplit_weights_gated(read) == 1);
  CHECK(std::string(signsplit_weights_activation(read)) == "reglu");
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  CHECK(bits(run(bind(read, nullptr).get(), x).y) == bits(run(bind(weights.get(), nullptr).get(), x).y));

  signsplit_weights* drelu = nullptr;
  REQUIRE(signsplit_weights_load(file.c_str(), "drelu", &drelu) == SIGNSPLIT_OK);
  const Handle<signsplit_weights> drelu_owner(drelu);
  CHECK(std::string(signsplit_weights_activation(drelu)) == "drelu");
}

TEST_CASE("the exact reference and the bounds are those of C++") {
  const SmallLayer layer = random_layer(kRelu);
  const Weights packed = layer.pack();
  Handle<signsplit_weights> weights;
  REQUIRE(create(layer, weights) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  for (const auto mode : {SIGNSPLIT_STAGED, SIGNSPLIT_COMPOSITE}) {
    const auto expected =
        reference(packed, x, kBatch, mode == SIGNSPLIT_STAGED ? ReferenceMode::staged : ReferenceMode::composite);
    REQUIRE(expected.ok());
    signsplit_reference* handle = nullptr;
    REQUIRE(signsplit_reference_create(weights.get(), mode, kBatch, x.data(), x.size(), 0, &handle) == SIGNSPLIT_OK);
    const Handle<signsplit_reference> exact(handle);
    CHECK(bits({signsplit_reference_y(handle), kOutputs}) == bits(expected->y));
    CHECK(bits({signsplit_reference_z(handle), kUnits}) == bits(expected->z));
    CHECK(bits({signsplit_reference_h(handle), kUnits}) == bits(expected->h));
    CHECK(std::equal(expected->active.begin(), expected->active.end(), signsplit_reference_active(handle)));
  }
  const Plan plan = default_plan(packed.problem(kBatch), Strategy::sign_split);
  const auto expected = error_bound(plan, packed, x, kBatch);
  REQUIRE(expected.ok());
  std::vector<double> bound(kOutputs, -1.0);
  REQUIRE(signsplit_error_bound(weights.get(), "sign_split", kBatch, x.data(), x.size(), bound.data(), bound.size()) ==
          SIGNSPLIT_OK);
  CHECK(bound == *expected);
}

TEST_CASE("refusals have a code, a message that names the rule, and no handle") {
  float matrix[6 * 5] = {};
  signsplit_layer layer = signsplit_layer_make(5, 6, SIGNSPLIT_F32);
  layer.up = layer.down = matrix;
  auto* const garbage = reinterpret_cast<signsplit_weights*>(matrix);
  signsplit_weights* weights = garbage;
  const auto refused = [&](const signsplit_layer& given, const char* fragment) {
    weights = garbage;
    CHECK(signsplit_weights_create(&given, &weights) == SIGNSPLIT_INVALID_ARGUMENT);
    CHECK(weights == nullptr);
    CHECK_MESSAGE(last_error().find(fragment) != std::string::npos, last_error());
  };
  signsplit_layer bad = layer;
  bad.up = nullptr, refused(bad, "layer.up is NULL");
  bad = layer, bad.struct_size = 3, refused(bad, "struct_size");
  bad = layer, bad.dtype = SIGNSPLIT_INT8, refused(bad, "dtype");
  bad = layer, bad.dtype = static_cast<signsplit_dtype>(4), refused(bad, "dtype");
  bad = layer, bad.activation = "gelu?", refused(bad, "gelu?");
  bad = layer, bad.activation = "reglu", refused(bad, "needs layer.gate");
  bad = layer, bad.gate_bias = matrix, refused(bad, "gate_bias");
  bad = layer, bad.d_model = 0, refused(bad, "d_model");
  bad = layer, bad.d_ff = std::numeric_limits<std::int64_t>::max(), refused(bad, "d_ff");
  CHECK(signsplit_weights_create(nullptr, &weights) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_weights_create(&layer, nullptr) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_weights_load("no/such/file.safetensors", nullptr, &weights) == SIGNSPLIT_NOT_FOUND);
  CHECK_MESSAGE(last_error().find("no/such/file.safetensors") != std::string::npos, last_error());

  REQUIRE(signsplit_weights_create(&layer, &weights) == SIGNSPLIT_OK);
  const Handle<signsplit_weights> owner(weights);
  const auto no_ffn = [&](std::int64_t batch, const char* plan, int threads, const char* isa, const char* fragment) {
    auto* ffn = reinterpret_cast<signsplit_ffn*>(matrix);
    CHECK(signsplit_ffn_create(weights, batch, plan, threads, isa, &ffn) == SIGNSPLIT_INVALID_ARGUMENT);
    CHECK(ffn == nullptr);
    CHECK_MESSAGE(last_error().find(fragment) != std::string::npos, last_error());
  };
  for (const char* plan : {"", "row_fuse", "row_fused/streams", "sign_split/", "sign_split/streams/x", "row_fused+skip+skip",
                           "sign_split/streams/redo/x"}) {
    no_ffn(1, plan, 0, nullptr, "unknown plan");
  }
  no_ffn(1, "sign_split/telescoping/full", 0, nullptr, "plan.repair");
  no_ffn(1, "{\"partz\": 1}", 0, nullptr, "partz");
  no_ffn(0, nullptr, 0, nullptr, "batch");
  no_ffn(1, nullptr, -1, nullptr, "threads");
  no_ffn(1, nullptr, 0, "sse9", "sse9");
}

TEST_CASE("runs refuse arrays of the wrong length and null pointers, and leave y alone") {
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer(kRelu), weights) == SIGNSPLIT_OK);
  const auto ffn = bind(weights.get(), nullptr);
  const std::vector<float> x(kOutputs, 1.0f);
  std::vector<float> y(kOutputs, 7.0f);
  std::vector<std::uint8_t> mask(kUnits);
  const auto refused = [&](const float* in, std::size_t n, float* out, std::size_t m, std::uint8_t* open, std::size_t k) {
    CHECK(signsplit_ffn_run(ffn.get(), in, n, out, m, open, k) == SIGNSPLIT_INVALID_ARGUMENT);
    CHECK(!last_error().empty());
    CHECK(y == std::vector<float>(kOutputs, 7.0f));
  };
  refused(x.data(), kOutputs - 1, y.data(), kOutputs, nullptr, 0);
  refused(x.data(), kOutputs, y.data(), kOutputs + 1, nullptr, 0);
  refused(x.data(), kOutputs, y.data(), kOutputs, mask.data(), kUnits - 1);
  refused(x.data(), kOutputs, y.data(), kOutputs, mask.data(), 0);
  refused(x.data(), kOutputs, y.data(), kOutputs, nullptr, kUnits);
  refused(nullptr, kOutputs, y.data(), kOutputs, nullptr, 0);
  refused(x.data(), kOutputs, nullptr, kOutputs, nullptr, 0);
  CHECK(signsplit_ffn_run(nullptr, x.data(), kOutputs, y.data(), kOutputs, nullptr, 0) == SIGNSPLIT_INVALID_ARGUMENT);
}

TEST_CASE("messages belong to their thread, and long ones are cut") {
  signsplit_weights* weights = nullptr;
  REQUIRE(signsplit_weights_load("mine", nullptr, &weights) == SIGNSPLIT_NOT_FOUND);
  std::string seen_before = "not set", seen_after;
  std::thread([&] {
    seen_before = last_error();
    signsplit_weights* none = nullptr;
    CHECK(signsplit_weights_load("theirs", nullptr, &none) == SIGNSPLIT_NOT_FOUND);
    seen_after = last_error();
  }).join();
  CHECK(seen_before.empty());
  CHECK(seen_after.find("theirs") != std::string::npos);
  CHECK(last_error().find("mine") != std::string::npos);
  CHECK(signsplit_weights_load(std::string(100'000, 'x').c_str(), nullptr, &weights) != SIGNSPLIT_OK);
  CHECK(last_error().size() < 2048);
}

TEST_CASE("null handles are harmless") {
  signsplit_weights_destroy(nullptr);
  signsplit_ffn_destroy(nullptr);
  signsplit_reference_destroy(nullptr);
  signsplit_string_destroy(nullptr);
  CHECK(signsplit_weights_d_model(nullptr) == 0);
  CHECK(std::string(signsplit_weights_activation(nullptr)).empty());
  CHECK(std::string(signsplit_ffn_plan(nullptr)).empty());
  CHECK(signsplit_reference_y(nullptr) == nullptr);
}

TEST_CASE("statistics fit callers with older and newer structs") {
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer(kRelu), weights) == SIGNSPLIT_OK);
  const auto ffn = bind(weights.get(), nullptr);
  run(ffn.get(), synthetic_input(kBatch, kD, seed()));
  struct {
    signsplit_statistics known;
    std::uint64_t later[2];
  } wide;
  std::memset(&wide, 0xff, sizeof wide);
  REQUIRE(signsplit_ffn_statistics(ffn.get(), &wide.known, sizeof wide) == SIGNSPLIT_OK);
  CHECK(wide.known.bytes_up > 0);
  CHECK(wide.later[1] == 0);
  signsplit_statistics narrow;
  std::memset(&narrow, 0xff, sizeof narrow);
  REQUIRE(signsplit_ffn_statistics(ffn.get(), &narrow, sizeof narrow.bytes_up) == SIGNSPLIT_OK);
  CHECK(narrow.bytes_up == wide.known.bytes_up);
  CHECK(narrow.bytes_gate == UINT64_MAX);
}

TEST_CASE("version and names") {
  const std::string header = std::to_string(SIGNSPLIT_VERSION_MAJOR) + "." + std::to_string(SIGNSPLIT_VERSION_MINOR) + "." +
                             std::to_string(SIGNSPLIT_VERSION_PATCH);
  CHECK(signsplit_version() == header);
  CHECK(std::string(signsplit_status_name(SIGNSPLIT_CORRUPT_FILE)) == "corrupt_file");
  CHECK(std::string(signsplit_status_name(static_cast<signsplit_status>(5000))) == "unknown");
}

TEST_CASE("f16 layers, and layers rounded to int8, saved and read") {
  const std::vector<std::uint16_t> ones(static_cast<std::size_t>(kD * kF), 0x3c00);  // 1.0 in binary16
  signsplit_layer layer = signsplit_layer_make(kD, kF, SIGNSPLIT_F16);
  layer.up = layer.down = ones.data();
  signsplit_weights *f16 = nullptr, *int8 = nullptr, *again = nullptr;
  REQUIRE(signsplit_weights_create(&layer, &f16) == SIGNSPLIT_OK);
  CHECK(signsplit_weights_dtype(f16) == SIGNSPLIT_F16);
  REQUIRE(signsplit_weights_quantize(f16, 64, &int8) == SIGNSPLIT_OK);
  CHECK(signsplit_weights_dtype(int8) == SIGNSPLIT_INT8);
  CHECK(signsplit_weights_quantize(int8, 0, &again) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(again == nullptr);
  CHECK(signsplit_weights_quantize(f16, 7, &again) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_weights_quantize(nullptr, 0, &again) == SIGNSPLIT_INVALID_ARGUMENT);
  signsplit_weights_destroy(f16);
  signsplit_weights_destroy(int8);
}

TEST_CASE("auto in C: a plan with the bits of row_fused, measured once and then remembered") {
  const ScratchDirectory scratch;
  const std::string wisdom = scratch.path() / "wisdom.json";
  ::setenv("SIGNSPLIT_WISDOM", wisdom.c_str(), 1);
  ::setenv("SIGNSPLIT_HOST_PROFILE", (scratch.path() / "none.json").c_str(), 1);
  Handle<signsplit_weights> weights;
  REQUIRE(create(random_layer(kRelu), weights) == SIGNSPLIT_OK);
  const std::vector<float> x = synthetic_input(kBatch, kD, seed());
  const auto choose = [&](const char* mode) {
    char* plan = nullptr;
    REQUIRE_MESSAGE(signsplit_choose_plan(weights.get(), kBatch, x.data(), x.size(), mode, 2, nullptr, &plan) == SIGNSPLIT_OK,
                    last_error());
    std::string text(plan);
    signsplit_string_destroy(plan);
    return text;
  };
  const std::string estimated = choose(nullptr);
  CHECK(estimated == choose("estimate"));
  CHECK_FALSE(std::filesystem::exists(wisdom));
  const std::string measured = choose("measure");
  CHECK(std::filesystem::exists(wisdom));
  CHECK(choose("estimate") == measured);
  const Output expected = run(bind(weights.get(), "row_fused").get(), x);
  for (const std::string& plan : {estimated, measured}) {
    const Output y = run(bind(weights.get(), plan.c_str()).get(), x);
    CHECK(bits(y.y) == bits(expected.y));
  }
  char* plan = nullptr;
  CHECK(signsplit_choose_plan(weights.get(), kBatch, x.data(), x.size(), "guess", 2, nullptr, &plan) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_choose_plan(weights.get(), kBatch, x.data(), 1, nullptr, 2, nullptr, &plan) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(signsplit_choose_plan(nullptr, kBatch, x.data(), x.size(), nullptr, 2, nullptr, &plan) == SIGNSPLIT_INVALID_ARGUMENT);
  CHECK(plan == nullptr);
  ::unsetenv("SIGNSPLIT_WISDOM");
  ::unsetenv("SIGNSPLIT_HOST_PROFILE");
}
