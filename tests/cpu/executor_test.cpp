// The executor's interface: instruction-set choice, refusals, statistics.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "isa.hpp"
#include "random_layer.hpp"
#include "rotation.hpp"
#include "seed.hpp"
#include "signsplit/certificate.hpp"
#include "signsplit/cpu.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

struct IsaVariable {
  explicit IsaVariable(const char* value) { setenv("SIGNSPLIT_ISA", value, 1); }
  ~IsaVariable() { unsetenv("SIGNSPLIT_ISA"); }
};

TEST_CASE("scalar is always there, and the best instruction set is the default") {
  const auto supported = cpu::supported_isas();
  REQUIRE_FALSE(supported.empty());
  CHECK(supported.front() == cpu::Isa::scalar);
  CHECK(*cpu::select_isa() == supported.back());
}

TEST_CASE("SIGNSPLIT_ISA forces the kernels that run, and never falls back") {
  std::mt19937_64 rng(seed());
  const Problem problem{64, 64, 1, DType::f32, {}, false};
  const Weights w = gaussian_layer(problem, false, rng).pack();
  const auto supported = cpu::supported_isas();
  for (const cpu::Isa isa : {cpu::Isa::scalar, cpu::Isa::avx2, cpu::Isa::avx512}) {
    const IsaVariable variable(std::string(cpu::to_string(isa)).c_str());
    auto ffn = cpu::Ffn::create(w, default_plan(problem, Strategy::row_fused));
    if (std::find(supported.begin(), supported.end(), isa) == supported.end()) {
      REQUIRE_FALSE(ffn);
      CHECK(ffn.status().code() == StatusCode::unsupported);
      continue;
    }
    REQUIRE(ffn);
    CHECK(ffn->report().isa == isa);  // compiled into the kernel file itself
  }
  const IsaVariable variable("sse9");
  auto ffn = cpu::Ffn::create(w, default_plan(problem, Strategy::row_fused));
  REQUIRE_FALSE(ffn);
  CHECK(ffn.message().find("sse9") != std::string::npos);
}

TEST_CASE("wrong sizes and invalid plans are refused in words") {
  std::mt19937_64 rng(seed());
  const Problem problem{64, 32, 2, DType::f32, {}, false};
  const Weights w = gaussian_layer(problem, false, rng).pack();
  Plan plan = default_plan(problem, Strategy::row_fused);
  auto ffn = cpu::Ffn::create(w, plan, 2);
  REQUIRE(ffn);
  std::vector<float> x(128), y(128), small(127);
  CHECK(ffn->run(small, y).message().find("x has 127") != std::string::npos);
  CHECK(ffn->run(x, small).message().find("y has 127") != std::string::npos);
  std::vector<std::uint8_t> mask(3);
  CHECK(ffn->run(x, y, mask).message().find("active_mask") != std::string::npos);
  plan.k_tile = 100;
  CHECK_FALSE(cpu::Ffn::create(w, plan, 2));
  CHECK_FALSE(cpu::Ffn::create(w, default_plan(problem, Strategy::row_fused), 0));
  CHECK_FALSE(cpu::can_run(default_plan(problem, Strategy::row_fused), problem, {-1, {}}));
}

TEST_CASE("statistics of dense plans are what the shapes say") {
  std::mt19937_64 rng(seed());
  const Problem problem{100, 96, 2, DType::bf16, {}, false};
  const Weights w = gaussian_layer(problem, false, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  std::vector<float> y(x.size());
  const std::uint64_t matrix = 96 * 128 * 2;
  for (const Strategy strategy : {Strategy::unfused, Strategy::row_fused}) {
    Plan plan = default_plan(problem, strategy);
    plan.parts = 3;
    auto ffn = cpu::Ffn::create(w, plan, 2, {2, {}});
    REQUIRE(ffn->run(x, y));
    const Statistics s = ffn->report().statistics;
    CHECK(s.bytes_up == matrix);
    CHECK(s.bytes_down == matrix);
    CHECK(s.pushed_rows == 96);
    CHECK(s.bytes_h == (strategy == Strategy::unfused ? 2u * 96 * 2 * 4 : 0u));
    CHECK(s.bytes_y == 2u * 3 * 2 * 128 * 4);
    CHECK(s.tiles == 6);
  }
  Plan plan = default_sign_split_plan(problem, Variant::interim, Repair::full);
  auto ffn = cpu::Ffn::create(w, plan, 2, {2, {}});
  REQUIRE(ffn->run(x, y));
  const Statistics s = ffn->report().statistics;
  CHECK(s.bytes_up == matrix);
  CHECK(s.bytes_down == 3 * matrix);  // two pushes and the full repair
  CHECK(s.bytes_down_again == 2 * matrix);
  CHECK(s.repaired == 96);
}

TEST_CASE("rebind: another layer of the same problem gives that layer's bits, any other is refused and changes nothing") {
  std::mt19937_64 rng(seed() + 1);
  const Problem problem{70, 40, 1, DType::bf16, {}, false};
  const Weights first = gaussian_layer(problem, true, rng).pack(), second = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  const Plan plan = default_plan(problem, Strategy::row_fused);
  std::vector<float> of_first(x.size()), of_second(x.size()), got(x.size());
  auto ffn = cpu::Ffn::create(first, plan), fresh = cpu::Ffn::create(second, plan);
  REQUIRE(ffn->run(x, of_first));
  REQUIRE(fresh->run(x, of_second));
  REQUIRE_FALSE(same_bits(of_first, of_second));
  REQUIRE(ffn->rebind(second));
  REQUIRE(ffn->run(x, got));
  CHECK(same_bits(got, of_second));
  const Weights other = gaussian_layer({70, 41, 1, DType::bf16, {}, false}, true, rng).pack();
  CHECK_FALSE(ffn->rebind(other));
  REQUIRE(ffn->run(x, got));
  CHECK(same_bits(got, of_second));
}

TEST_CASE("every run of an Ffn has the bits of a new one's first, whatever was run before, in either direction through the parts") {
  std::mt19937_64 rng(seed());
  for (const index_t batch : {1, 3}) {
    const Problem problem{100, 70, batch, DType::bf16, {}, false};
    const Weights w = gaussian_layer(problem, true, rng).pack();
    for (Plan plan : default_plans(problem)) {
      plan.parts = 5;
      plan.hidden_tile = 4;
      plan.reduce_tile = 64;
      for (const int threads : {1, 2, 3}) {
        auto kept = cpu::Ffn::create(w, plan, batch, {threads, {}});
        REQUIRE(kept);
        for (int run = 0; run < 4; ++run) {
          CAPTURE(to_json(plan));
          CAPTURE(threads);
          CAPTURE(run);
          const std::vector<float> x = gaussian_input(problem, rng);
          std::vector<float> y(x.size()), expected(x.size());
          REQUIRE(kept->run(x, y));
          auto fresh = cpu::Ffn::create(w, plan, batch, {1, {}});
          REQUIRE(fresh->run(x, expected));
          CHECK(same_bits(y, expected));
          CHECK(kept->report().statistics == fresh->report().statistics);
        }
      }
    }
  }
}

TEST_CASE("rows from memory are added with the bits of those from a cache, on every instruction set") {
  std::mt19937_64 rng(seed() + 7);
  for (const auto& [dtype, width] : {std::pair<DType, index_t>{DType::bf16, 1024}, {DType::bf16, 2112}, {DType::f16, 2112}, {DType::f32, 1024}}) {
    const Problem problem{width, 14, 1, dtype, {}, false};  // rows of 2 and 4 KiB and a line more; 14 are not a multiple of four at once
    const Weights w = gaussian_layer(problem, false, rng).pack();
    std::vector<float> coefficients(14);
    for (float& c : coefficients) c = std::normal_distribution<float>()(rng);
    const cpu::RowList rows{w.down(), w.row_bytes(), w.row_bytes(), nullptr, 0, problem.d_ff}, none;
    const cpu::RowList after{w.up(), w.row_bytes(), w.row_bytes(), nullptr, 0, problem.d_ff};
    std::vector<float> first;
    for (const cpu::Isa isa : cpu::supported_isas()) {
      for (const bool from_memory : {false, true}) {
        for (const cpu::RowList* next : {&none, &after}) {
          AlignedBuffer y(static_cast<std::size_t>(width) * sizeof(float));
          auto* const sums = reinterpret_cast<float*>(y.data());
          cpu::kernels_for(isa).add[static_cast<std::size_t>(dtype)](
              {rows, *next, 0, coefficients.data(), sums, width, 1, width, nullptr, 0, width, from_memory});
          if (first.empty()) first.assign(sums, sums + width);
          CHECK(std::memcmp(sums, first.data(), y.size()) == 0);
        }
      }
    }
  }
}

TEST_CASE("rows from memory have the same products with x, wherever their pages begin and end, on every instruction set") {
  std::mt19937_64 rng(seed() + 8);
  for (const auto& [dtype, width] : {std::pair<DType, index_t>{DType::bf16, 192}, {DType::bf16, 1024}, {DType::bf16, 2112}, {DType::f16, 2112}, {DType::f32, 192}}) {
    // bf16: many rows in a page, two, and some over a border; f32: two of an odd number at a time
    const Problem problem{width, 23, 1, dtype, {}, false};
    const Weights w = gaussian_layer(problem, false, rng).pack();
    std::vector<float> x(static_cast<std::size_t>(width));
    for (float& value : x) value = std::normal_distribution<float>()(rng);
    const cpu::RowList rows{w.up(), w.row_bytes(), w.row_bytes(), nullptr, 1, 21}, none;
    const cpu::RowList after{w.down(), w.row_bytes(), w.row_bytes(), nullptr, 0, 23};
    std::vector<float> first;
    for (const cpu::Isa isa : cpu::supported_isas()) {
      for (const bool from_memory : {false, true}) {
        for (const cpu::RowList* next : {&none, &after}) {
          std::vector<float> sums(21, -1.0f);
          cpu::kernels_for(isa).dot[static_cast<std::size_t>(dtype)]({rows, *next, 0, x.data(), width, nullptr, 1, width, true, true, nullptr,
                                                                             sums.data(), nullptr, nullptr, 0, 0, 0, false, nullptr, from_memory});
          if (first.empty()) first = sums;
          CHECK(std::memcmp(sums.data(), first.data(), sums.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE("layers in rotation are counted, from the first that comes back") {
  std::mt19937_64 rng(seed() + 8);
  const Problem problem{8, 8, 1, DType::f32, {}, false};
  const Weights layers[4] = {gaussian_layer(problem, false, rng).pack(), gaussian_layer(problem, false, rng).pack(),
                             gaussian_layer(problem, false, rng).pack(), gaussian_layer(problem, false, rng).pack()};
  cpu::Rotation rotation;
  const auto bind = [&](std::initializer_list<int> order) {
    for (const int layer : order) rotation.bind(&layers[layer]);
    return rotation.layers();
  };
  CHECK(bind({0}) == 1);
  CHECK(bind({0, 0}) == 1);
  CHECK(bind({1}) == 2);
  CHECK(bind({2}) == 3);
  CHECK(bind({0}) == 3);
  CHECK(bind({1, 2, 3}) == 4);
  CHECK(bind({0, 1}) == 4);
  CHECK(bind({0}) == 2);
}

TEST_CASE("a layer without its first matrix runs the plans that restore it, and one Ffn goes from residual to residual") {
  std::mt19937_64 rng(seed() + 5);
  const Problem problem{192, 50, 1, DType::bf16, {}, false};
  const Weights first = gaussian_layer(problem, true, rng).pack(), second = gaussian_layer(problem, true, rng).pack();
  Weights without = second.clone().value();
  REQUIRE(without.give_up_first_matrix({8, 64}));
  const std::vector<float> x = gaussian_input(problem, rng);
  const auto output = [&](const Weights& weights) {
    auto ffn = cpu::Ffn::create(weights, default_plan(problem, Strategy::row_fused), 1, {1, {}});
    REQUIRE(ffn);
    std::vector<float> y(x.size());
    REQUIRE(ffn->run(x, y));
    return y;
  };
  Plan restores = default_plan(problem, Strategy::certified), wider = restores;
  restores.placement = wider.placement = Placement::residual;
  wider.plane_group = 128;
  for (const Plan& plan : {default_plan(problem, Strategy::row_fused), default_plan(problem, Strategy::unfused, true),
                           default_plan(problem, Strategy::sign_split), default_plan(problem, Strategy::certified), wider}) {
    CAPTURE(to_json(plan));
    CHECK(cpu::Ffn::create(without, plan, 1, {1, {}}).message().find("was given up for plane and residual") != std::string::npos);
    auto ffn = cpu::Ffn::create(first, plan, 1, {1, {}});
    REQUIRE(ffn);
    CHECK_FALSE(ffn->rebind(without));
    std::vector<float> y(x.size());
    REQUIRE(ffn->run(x, y));  // on the layer that it had
    if (plan.strategy != Strategy::sign_split) CHECK(same_bits(y, output(first)));
  }
  auto ffn = cpu::Ffn::create(first, restores, 1, {1, {}});
  REQUIRE(ffn);
  for (const auto& [layer, same] : {std::pair{&first, &first}, {&without, &second}, {&first, &first}, {&second, &second}}) {
    REQUIRE(ffn->rebind(*layer));
    std::vector<float> y(x.size());
    REQUIRE(ffn->run(x, y));
    CHECK(same_bits(y, output(*same)));
  }
}

TEST_CASE("the workspace that is announced is the workspace that a plan needs") {
  const Problem problem{4096, 16384, 4, DType::bf16, {}, false};
  const Plan plan = default_plan(problem, Strategy::row_fused);
  CHECK(cpu::workspace_bytes(plan, problem, {2, {}}) >= static_cast<std::size_t>(plan.parts * 4 * 4096 * 4));
  CHECK(cpu::workspace_bytes(plan, problem, {2, {}}) < (std::size_t{1} << 24));
}

}  // namespace
