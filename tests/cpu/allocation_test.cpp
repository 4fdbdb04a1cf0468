// run() and rebind() take no memory after the first call, and a million calls leave none behind.
#include <doctest/doctest.h>
#include <malloc.h>

#include <cstdlib>

#include "counted_new.hpp"
#include "random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// What the heap holds: operator new, and malloc of C code such as the OpenMP runtime.
struct Heap {
  long calls = operator_new_calls();
  std::size_t bytes = mallinfo2().uordblks;
};

void check_takes_nothing(const Problem& problem, const Plan& plan, int threads, int calls, std::mt19937_64& rng) {
  const Weights first = gaussian_layer(problem, true, rng).pack(), second = gaussian_layer(problem, true, rng).pack();
  const std::vector<float> x = gaussian_input(problem, rng);
  std::vector<float> y(x.size());
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(problem.batch * problem.d_ff));
  auto ffn = cpu::Ffn::create(first, plan, problem.batch, {threads, {}});
  REQUIRE_MESSAGE(ffn, ffn.message());
  bool good = ffn->run(x, y, mask).ok() && ffn->rebind(second).ok() && ffn->run(x, y, mask).ok();
  const Heap before;
  for (int call = 0; call < calls; ++call) {
    good = good && ffn->rebind(call % 2 == 0 ? first : second).ok();
    good = good && ffn->run(x, y, mask).ok();
  }
  const Heap after;
  INFO(describe(problem), " ", label(plan), " threads ", threads);
  CHECK(good);
  CHECK(after.calls == before.calls);
  CHECK(after.bytes == before.bytes);
}

TEST_CASE("no call but the first takes memory, with any schedule, stored type, batch and number of threads") {
  std::mt19937_64 rng(seed());
  for (const DType dtype : {DType::f32, DType::int8}) {
    for (const bool gated : {false, true}) {
      for (const index_t batch : {1, 5}) {
        Problem problem{130, 70, batch, dtype, {ActivationKind::relu}, gated};
        for (const Plan& plan : default_plans(problem)) check_takes_nothing(problem, plan, 3, 4, rng);
        if (dtype != DType::int8) continue;
        problem.arithmetic = Arithmetic::w8a8;
        for (const Plan& plan : default_plans(problem)) check_takes_nothing(problem, plan, 3, 4, rng);
      }
    }
  }
}

TEST_CASE("a million small calls take no memory") {
  std::mt19937_64 rng(seed() + 1);
  const Problem problem{64, 8, 1, DType::bf16, {ActivationKind::relu}, false};
  check_takes_nothing(problem, default_plan(problem, Strategy::row_fused, true), 1, 1'000'000, rng);
}

TEST_CASE("the counters see what they are for") {
  const Heap before;
  const std::vector<int> one(1);
  const Heap with_new;
  CHECK(with_new.calls == before.calls + 1);
  void* volatile block = std::malloc(1 << 20);
  const Heap with_malloc;
  CHECK(with_malloc.calls == with_new.calls);
  std::free(block);
  void* volatile small = std::malloc(5000);
  CHECK(Heap{}.bytes > with_new.bytes);
  std::free(small);
}

}  // namespace
