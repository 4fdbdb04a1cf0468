// The GPU executor's host code on imaginary GPUs (fake_machine.hpp): uploads, workspaces, launches, graphs, statistics, and
// what it does when any call of the CUDA runtime fails.
#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "device_layer.hpp"
#include "emulated_check.hpp"
#include "fake_machine.hpp"
#include "kernel_names.hpp"
#include "launch.hpp"
#include "signsplit/certificate.hpp"
#include "seed.hpp"
#include "signsplit/gpu.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// A machine for one test: as new at its beginning, without leaks and broken rules at its end.
struct Fresh {
  Fresh() { reset_fake_machine(); }
  ~Fresh() {
    CHECK(fake_machine().error == "");
    CHECK(fake_bytes_in_use(0) + fake_bytes_in_use(1) == 0);
    CHECK(fake_objects() == 0);
  }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;
};

struct Case {
  Problem problem;
  Weights weights;
  std::vector<float> x;
};

Case make_case(DType dtype, index_t batch, bool gated, std::mt19937_64& rng, Activation activation = {}) {
  const Problem problem{.d_model = 70, .d_ff = 23, .batch = batch, .dtype = dtype, .activation = activation, .gated = gated};
  return {problem, gaussian_layer(problem, true, rng).pack(), gaussian_input(problem, rng)};
}

Plan small_plan(Plan plan) {
  plan.parts = 3;
  plan.hidden_tile = 5;
  return plan;
}

/// The kernels of `calls` calls, as they are to be launched.
std::vector<FakeLaunch> expected_launches(const Plan& plan, const Problem& problem, const gpu::Options& options, int calls,
                                          bool masked = false) {
  const auto device = gpu::find_device(options.device);
  REQUIRE(device.ok());
  const auto launchable = gpu::prepare(plan, problem, *device, options);
  REQUIRE_MESSAGE(launchable.ok(), launchable.message());
  const gpu::LaunchShape& shape = launchable->shape();
  std::vector<FakeLaunch> launches;
  for (int i = 0; i < calls * gpu::kernel_count(plan); ++i) {
    const gpu::KernelKind kind = gpu::kernel_kind_at(plan, i % gpu::kernel_count(plan));
    launches.push_back({kernel_name(kind, plan.strategy, problem.dtype, problem.batch), options.device,
                        static_cast<unsigned>(shape.ctas), static_cast<unsigned>(shape.threads()),
                        static_cast<std::size_t>(shape.shared.bytes), options.launch == gpu::Launch::cooperative,
                        options.launch == gpu::Launch::programmatic && i > 0, options.evict_first, masked,
                        options.launch != gpu::Launch::stream && !masked});
  }
  return launches;
}


void check_run(gpu::Ffn& ffn, const Case& on, const Expected& expected, bool with_mask) {
  std::vector<float> y(on.x.size());
  std::vector<std::uint8_t> mask(with_mask ? expected.mask.size() : 0, 7);
  const Status status = ffn.run(on.x, y, mask);
  REQUIRE_MESSAGE(status.ok(), status.message(), "; ", fake_machine().error);
  CHECK(same_bits(y, expected.y));
  if (with_mask) CHECK(mask == expected.mask);
  CHECK(to_json(ffn.report().statistics) == to_json(expected.statistics));
  CHECK(ffn.report().device_s == doctest::Approx(kFakeKernelSeconds * gpu::kernel_count(ffn.plan())).scale(0.0).epsilon(1e-6));
}

void check_chain(gpu::Ffn& ffn, const std::vector<const gpu::DeviceLayer*>& layers, const std::vector<float>& x, const Expected& expected) {
  std::vector<float> y(x.size());
  const auto seconds = ffn.run_chain(layers, x, y);
  REQUIRE_MESSAGE(seconds.ok(), seconds.message(), "; ", fake_machine().error);
  CHECK(same_bits(y, expected.y));
  CHECK(to_json(ffn.report().statistics) == to_json(expected.statistics));
  CHECK(*seconds == doctest::Approx(kFakeKernelSeconds * gpu::kernel_count(ffn.plan())).scale(0.0).epsilon(1e-6));
  CHECK(ffn.report().device_s == *seconds);
}

constexpr gpu::Launch kLaunches[] = {gpu::Launch::stream, gpu::Launch::graph, gpu::Launch::programmatic, gpu::Launch::cooperative};

TEST_CASE("every plan in every launch mode: the CPU's bits, masks and counters, by the launches that it says") {
  std::mt19937_64 rng(seed() + 30);
  std::set<std::string> ran;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::int8}) {
    const bool gated = rng() % 2 == 0;
    const Activation activation = rng() % 2 == 0 ? Activation{} : Activation{ActivationKind::fatrelu, 0.5f};
    const Case on = make_case(dtype, rng() % 2 == 0 ? 1 : 3, gated, rng, activation);
    const Fresh fresh;
    const int index = static_cast<int>(rng() % 2);
    const auto layer = gpu::DeviceLayer::upload(on.weights, index);
    REQUIRE_MESSAGE(layer.ok(), layer.message());
    for (Plan plan : gpu_plans(on.problem, 64)) {
      plan = small_plan(plan);
      const gpu::Options options{.device = index, .launch = kLaunches[rng() % 4], .evict_first = rng() % 2 == 0};
      INFO(describe(on.problem), " ", label(plan), " ", to_string(options.launch), " on device ", index);
      const Expected expected = run_on_cpu(on.weights, plan, on.x, on.problem.batch);
      REQUIRE(gpu::can_run(plan, on.problem, options).ok());
      auto ffn = gpu::Ffn::create(*layer, plan, on.problem.batch, options);
      REQUIRE_MESSAGE(ffn.ok(), ffn.message());
      const int graph = options.launch != gpu::Launch::stream ? 1 : 0;
      fake_machine().graphs = 0;
      for (const bool with_mask : {false, false, true, false}) {
        fake_machine().launches.clear();
        check_run(*ffn, on, expected, with_mask);
        CHECK(fake_machine().launches == expected_launches(plan, on.problem, options, 1, with_mask));
      }
      for (const FakeLaunch& launch : fake_machine().launches) ran.insert(launch.kernel);
      CHECK(fake_machine().graphs == graph);  // the second run launches the graph of the first
      for (int turn = 0; turn < 2; ++turn) {
        fake_machine().launches.clear();
        check_chain(*ffn, {&*layer, &*layer, &*layer}, on.x, expected);
        CHECK(fake_machine().launches == expected_launches(plan, on.problem, options, 3));
      }
      CHECK(fake_machine().graphs == 2 * graph);
    }
  }
  CHECK(ran.size() == 20);  // of every kind and type the kernel for one token or the one for more
}

TEST_CASE("each run has its own x, and a rebound or chained layer is the one that runs") {
  std::mt19937_64 rng(seed() + 31);
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused, Strategy::certified, Strategy::sign_split}) {
    const Activation fatrelu{ActivationKind::fatrelu, 2.0f};  // whose threshold a certificate carries
    const Case first = make_case(DType::bf16, 2, false, rng, fatrelu), second = make_case(DType::bf16, 2, false, rng, fatrelu);
    const Plan plan = small_plan(default_plan(first.problem, strategy, true));
    INFO(label(plan));
    for (const gpu::Launch launch : kLaunches) {
      const Fresh fresh;
      const auto one = gpu::DeviceLayer::upload(first.weights), two = gpu::DeviceLayer::upload(second.weights);
      REQUIRE(one.ok());
      REQUIRE(two.ok());
      CHECK(one->bytes() == static_cast<std::size_t>(2 * first.weights.d_ff() * first.weights.row_bytes()));
      const auto copy = two->clone();
      REQUIRE_MESSAGE(copy.ok(), copy.message());
      const Expected of_first = run_on_cpu(first.weights, plan, first.x, 2);
      const Expected of_second = run_on_cpu(second.weights, plan, first.x, 2);
      const Expected other_x = run_on_cpu(second.weights, plan, second.x, 2);
      auto ffn = gpu::Ffn::create(*one, plan, 2, {.launch = launch});
      REQUIRE_MESSAGE(ffn.ok(), ffn.message());
      check_run(*ffn, first, of_first, false);
      for (const gpu::DeviceLayer* layer : {&*two, &*copy}) {
        REQUIRE(ffn->rebind(*layer).ok());
        check_run(*ffn, first, of_second, false);
        check_run(*ffn, second, other_x, false);
        check_run(*ffn, second, other_x, true);
      }
      check_chain(*ffn, {&*two, &*one}, first.x, of_first);
      check_chain(*ffn, {&*two, &*one}, first.x, of_first);
      check_chain(*ffn, {&*one, &*copy}, first.x, of_second);
      check_chain(*ffn, {&*one, &*copy}, second.x, other_x);
      check_run(*ffn, first, of_second, false);  // chains rebind nothing
    }
  }
}

TEST_CASE("a layer and its clone hold every array of the weights, each in memory of its own") {
  std::mt19937_64 rng(seed() + 37);
  const Fresh fresh;
  const Case on = make_case(DType::int8, 1, true, rng);
  const Weights& w = on.weights;
  const auto layer = gpu::DeviceLayer::upload(w, 1);
  REQUIRE(layer.ok());
  const auto copy = layer->clone();
  REQUIRE(copy.ok());
  CHECK(layer->state().id != copy->state().id);
  CHECK(layer->state().up.get() != copy->state().up.get());
  const auto bytes = static_cast<std::size_t>(w.d_ff() * w.row_bytes());
  for (const gpu::DeviceLayer* one : {&*layer, &*copy}) {
    const gpu::DeviceLayer::State& state = one->state();
    const auto holds = [](const auto& array, const void* expected, std::size_t expected_bytes) {
      const std::size_t size = array.count * sizeof *array.get();
      return size == expected_bytes && size > 0 && std::memcmp(array.get(), expected, size) == 0;
    };
    CHECK(holds(state.up, w.up(), bytes));
    CHECK(holds(state.gate, w.gate(), bytes));
    CHECK(holds(state.down, w.down(), bytes));
    CHECK(holds(state.up_bias, w.up_bias().data(), w.up_bias().size_bytes()));
    CHECK(holds(state.gate_bias, w.gate_bias().data(), w.gate_bias().size_bytes()));
    CHECK(holds(state.down_bias, w.down_bias().data(), w.down_bias().size_bytes()));
    CHECK(holds(state.up_norms, w.up_norms().data(), w.up_norms().size_bytes()));
    CHECK(holds(state.gate_norms, w.gate_norms().data(), w.gate_norms().size_bytes()));
    CHECK(holds(state.up_scales, w.up_scales().data(), w.up_scales().size_bytes()));
    CHECK(holds(state.gate_scales, w.gate_scales().data(), w.gate_scales().size_bytes()));
    CHECK(holds(state.down_scales, w.down_scales().data(), w.down_scales().size_bytes()));
    CHECK(one->device() == 1);
  }
}

TEST_CASE("a layer that gave up its first matrix is refused") {
  std::mt19937_64 rng(seed() + 38);
  const Fresh fresh;
  Case on = make_case(DType::bf16, 1, false, rng);
  const Plan plan = default_plan(on.problem, Strategy::certified);
  REQUIRE(on.weights.give_up_first_matrix(format_of(plan)).ok());
  const Status refused = gpu::DeviceLayer::upload(on.weights).status();
  CHECK(refused.code() == on.weights.require_first_matrix().code());
  CHECK(refused.message() == on.weights.require_first_matrix().message());
  Plan residual = plan;
  residual.placement = Placement::residual;
  CHECK(gpu::can_run(residual, on.problem).message().find("placement beside") != std::string::npos);
}

TEST_CASE("rows and tokens that are not finite are known on the device, also by a clone") {
  std::mt19937_64 rng(seed() + 35);
  const Fresh fresh;
  const Problem problem{.d_model = 70, .d_ff = 23, .batch = 2, .dtype = DType::f32, .gated = true};
  Layer bad = gaussian_layer(problem, true, rng);
  bad.gate[4 * 70 + 3] = INFINITY;
  bad.down[7 * 23 + 9] = NAN;
  Case on{problem, bad.pack(), gaussian_input(problem, rng)};
  on.x[75] = NAN;  // the second token, of which no certificate proves anything
  const auto layer = gpu::DeviceLayer::upload(on.weights);
  REQUIRE(layer.ok());
  const auto copy = layer->clone();
  REQUIRE(copy.ok());
  for (const Strategy strategy : {Strategy::row_fused, Strategy::sign_split, Strategy::certified}) {
    const Plan plan = small_plan(default_plan(problem, strategy, true));
    const Expected expected = run_on_cpu(on.weights, plan, on.x, 2);
    for (const gpu::DeviceLayer* one : {&*layer, &*copy}) {
      auto ffn = gpu::Ffn::create(*one, plan, 2);
      REQUIRE(ffn.ok());
      check_run(*ffn, on, expected, true);
    }
  }
}

TEST_CASE("plans of one kernel with more and less shared memory live side by side") {
  std::mt19937_64 rng(seed() + 36);
  const Fresh fresh;
  const Case on = make_case(DType::f32, 1, false, rng);
  const auto layer = gpu::DeviceLayer::upload(on.weights);
  REQUIRE(layer.ok());
  Plan plan = small_plan(default_plan(on.problem, Strategy::row_fused));
  auto large = gpu::Ffn::create(*layer, plan, 1);
  auto small = gpu::Ffn::create(*layer, plan, 1, {.stages = 2});
  REQUIRE(large.ok());
  REQUIRE(small.ok());
  const Expected expected = run_on_cpu(on.weights, plan, on.x, 1);
  check_run(*small, on, expected, false);
  check_run(*large, on, expected, false);
  CHECK(fake_machine().launches[0].shared_bytes < fake_machine().launches[1].shared_bytes);
}

TEST_CASE("memory: a layer takes its arrays, an Ffn its workspace, x and y") {
  std::mt19937_64 rng(seed() + 32);
  const Fresh fresh;
  const Case on = make_case(DType::f32, 4, true, rng);
  const auto layer = gpu::DeviceLayer::upload(on.weights, 1);
  REQUIRE(layer.ok());
  CHECK(fake_bytes_in_use(0) == 0);
  const std::size_t of_layer = fake_bytes_in_use(1);
  CHECK(of_layer == layer->bytes() + (4 * 23 + 70) * sizeof(float));  // two biases and two norms of units, one bias of outputs
  const Plan plan = small_plan(default_plan(on.problem, Strategy::row_fused));
  const gpu::Options options{.device = 1};
  {
    auto ffn = gpu::Ffn::create(*layer, plan, 4, options);
    REQUIRE(ffn.ok());
    CHECK(fake_bytes_in_use(1) - of_layer == gpu::workspace_bytes(plan, on.problem, options) + 2 * 4 * 70 * sizeof(float));
    gpu::Ffn moved = std::move(*ffn);
    check_run(moved, on, run_on_cpu(on.weights, plan, on.x, 4), true);
    CHECK(gpu::free_bytes(1).value() == fake_machine().gpus[1].memory_bytes - fake_bytes_in_use(1));
  }
  CHECK(fake_bytes_in_use(1) == of_layer);
  fake_machine().gpus[1].memory_bytes = of_layer + 1000;
  const Status full = gpu::Ffn::create(*layer, plan, 4, options).status();
  CHECK(full.code() == StatusCode::io_error);
  CHECK(full.message().find("bytes for") != std::string::npos);
}

TEST_CASE("what does not fit together is refused before anything is launched") {
  std::mt19937_64 rng(seed() + 33);
  const Fresh fresh;
  const Case on = make_case(DType::f32, 1, false, rng), gated = make_case(DType::f32, 1, true, rng);
  const auto layer = gpu::DeviceLayer::upload(on.weights, 0), elsewhere = gpu::DeviceLayer::upload(on.weights, 1);
  const auto other = gpu::DeviceLayer::upload(gated.weights, 0);
  REQUIRE(layer.ok());
  REQUIRE(elsewhere.ok());
  REQUIRE(other.ok());
  const Plan plan = small_plan(default_plan(on.problem, Strategy::row_fused));
  const auto mentions = [](const Status& status, const std::string& part) {
    INFO(status.message());
    CHECK_FALSE(status.ok());
    CHECK(status.message().find(part) != std::string::npos);
  };
  mentions(gpu::Ffn::create(*elsewhere, plan).status(), "the layer is on device 1");
  auto ffn = gpu::Ffn::create(*layer, plan);
  REQUIRE(ffn.ok());
  mentions(ffn->rebind(*elsewhere), "the layer is on device 1");
  mentions(ffn->rebind(*other), "the layer is 70x23");
  std::vector<float> y(70), few(69);
  std::vector<std::uint8_t> mask(22);
  mentions(ffn->run(few, y), "x must hold batch * d_model = 70 floats (got 69)");
  mentions(ffn->run(on.x, few), "y must hold batch * d_model = 70 floats (got 69)");
  mentions(ffn->run(on.x, y, mask), "batch * d_ff = 23 bytes (got 22)");
  mentions(ffn->run_chain({}, on.x, y).status(), "a chain needs a layer");
  const std::vector<const gpu::DeviceLayer*> mixed{&*layer, &*other};
  mentions(ffn->run_chain(mixed, on.x, y).status(), "the layer is 70x23");
  fake_machine().gpus[0].blocks_per_multiprocessor = 0;
  mentions(gpu::Ffn::create(*layer, plan).status(), "do not all fit on NVIDIA Imaginary Three at once");
  mentions(gpu::Ffn::create(*layer, plan, 1, {.device = 2}).status(), "on device 0");
  CHECK(fake_machine().launches.empty());
}

TEST_CASE("the devices, as the driver tells them") {
  const Fresh fresh;
  const auto devices = gpu::devices();
  REQUIRE(devices.ok());
  REQUIRE(devices->size() == 2);
  const gpu::Device& one = devices->back();
  CHECK(one.index == 1);
  CHECK(one.name == "NVIDIA Imaginary Five");
  CHECK(one.compute_major == 9);
  CHECK(one.multiprocessors == 5);
  CHECK(one.memory_bytes == std::size_t{64} << 20);
  CHECK(one.l2_bytes == std::size_t{1} << 20);
  CHECK(one.shared_bytes_per_block == 48 * 1024);
  CHECK(one.clock_hz == 1.5e9);
  CHECK(one.memory_peak_Bps == 2 * 2e9 * 128);
  CHECK(one.driver_version == 13000);
  CHECK(one.cooperative_launch);
  CHECK(gpu::find_device(0)->name == "NVIDIA Imaginary Three");
  CHECK(gpu::find_device(2).message() == "this machine has 2 CUDA device(s), numbered from 0: no device 2");
  CHECK(gpu::find_device(-1).status().code() == StatusCode::unsupported);
  fake_machine().gpus.clear();
  CHECK(gpu::devices().status().code() == StatusCode::unsupported);
  fake_machine().driver_version = 0;
  CHECK(gpu::devices().message() == "no CUDA device on this machine: it has no NVIDIA driver");
}

/// All that a user does with a device; the first status that is not ok.
Status use_everything(const Case& on, const Plan& plan, gpu::Launch launch, std::vector<float>& y, std::vector<std::uint8_t>& mask) {
  const auto layer = gpu::DeviceLayer::upload(on.weights, 1);
  if (!layer) return layer.status();
  const auto copy = layer->clone();
  if (!copy) return copy.status();
  auto ffn = gpu::Ffn::create(*layer, plan, on.problem.batch, {.device = 1, .launch = launch});
  if (!ffn) return ffn.status();
  if (Status status = ffn->run(on.x, y); !status) return status;
  if (Status status = ffn->run(on.x, y, mask); !status) return status;
  if (Status status = ffn->rebind(*copy); !status) return status;
  const std::vector<const gpu::DeviceLayer*> chain{&*layer, &*copy};
  if (const auto seconds = ffn->run_chain(chain, on.x, y); !seconds) return seconds.status();
  return gpu::free_bytes(1).status();
}

TEST_CASE("whichever call of the runtime fails: one line that says so, and nothing leaks") {
  std::mt19937_64 rng(seed() + 34);
  const Case on = make_case(DType::f16, 1, true, rng);
  std::vector<float> y(on.x.size());
  std::vector<std::uint8_t> mask(23);
  for (const Strategy strategy : {Strategy::unfused, Strategy::certified}) {
    const Plan plan = small_plan(default_plan(on.problem, strategy, true));
    for (const gpu::Launch launch : {gpu::Launch::stream, gpu::Launch::graph}) {
      int calls = 0;
      {
        const Fresh fresh;
        REQUIRE(use_everything(on, plan, launch, y, mask).ok());
        calls = fake_machine().calls;
      }
      CHECK(calls > 50);
      int survived = 0;
      for (int call = 0; call < calls; ++call) {
        const Fresh fresh;
        fake_machine().fail_call = call;
        const Status status = use_everything(on, plan, launch, y, mask);
        INFO(label(plan), " ", to_string(launch), ", call ", call, " of ", calls, ": ", status.message());
        if (status.ok()) {
          ++survived;
          continue;
        }
        CHECK(status.message().find("CUDA") != std::string::npos);
        CHECK(status.message().find('\n') == std::string::npos);
      }
      CHECK(survived == 8);  // the attributes of two devices: what the driver does not tell is 0
    }
  }
}

}  // namespace
