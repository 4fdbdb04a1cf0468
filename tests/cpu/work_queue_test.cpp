// Who takes which part, which are cut, and who helps.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "crew.hpp"
#include "random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "work_queue.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

TEST_CASE("every slice of every item is done once, the rest of an item after its beginning, by any number of workers that come") {
  for (int workers = 1; workers <= 5; ++workers) {
    for (const index_t items : {1, 2, 3, 4, 5, 7, 8, 9, 32}) {
      for (const bool backwards : {false, true}) {
        for (int come = 1; come <= workers; ++come) {
          cpu::WorkQueue queue;
          queue.resize(workers);
          queue.reset(items, backwards, true);
          std::vector<std::atomic<index_t>> done(static_cast<std::size_t>(items));  // slices
          std::atomic<int> out_of_order{0};
          const auto work = [&](int worker) {
            for (cpu::WorkItem item = queue.take(worker); item.number >= 0; item = queue.take(worker)) {
              std::atomic<index_t>& slices = done[static_cast<std::size_t>(item.number)];
              queue.await_beginning(item);
              if (slices.load() != item.begin) ++out_of_order;
              std::this_thread::sleep_for(std::chrono::microseconds(50 * ((item.number + worker) % 3)));
              slices += item.end - item.begin;
              queue.finish(item);
            }
          };
          std::vector<std::thread> others;
          for (int worker = 1; worker < come; ++worker) others.emplace_back(work, worker);
          work(0);
          for (std::thread& other : others) other.join();
          CHECK(out_of_order == 0);
          CHECK(queue.drained());
          CHECK(queue.finished());
          for (const std::atomic<index_t>& slices : done) CHECK(slices == workers);
        }
      }
    }
  }
}

TEST_CASE("workers get equal shares, and know what they take next") {
  for (int workers = 1; workers <= 5; ++workers) {
    for (index_t items = workers; items <= 33; ++items) {
      cpu::WorkQueue queue;
      queue.resize(workers);
      queue.reset(items, items % 2 == 0, true);
      for (int worker = 0; worker < workers; ++worker) {  // one after the other, each his own
        index_t slices = 0;
        for (cpu::WorkItem item = queue.take(worker), next;; item = queue.take(worker)) {
          slices += item.end - item.begin;
          next = queue.after(item);
          if (next.number < 0) break;
          CHECK(next.list == worker);
          CHECK(next.place == item.place + 1);
        }
        CHECK(slices == items);
      }
      CHECK(queue.drained());
    }
  }
}

TEST_CASE("a shared call ends when all its pieces have ended, each done once") {
  cpu::WorkQueue queue;
  queue.resize(1);
  queue.reset(1, false, false);
  const cpu::WorkItem item = queue.take(0);
  REQUIRE(item.number == 0);
  cpu::Crew crew;
  crew.resize(3);
  std::vector<std::thread> helpers;
  for (int n = 0; n < 2; ++n) helpers.emplace_back([&] { crew.help(queue); });
  for (int call = 0; call < 20; ++call) {
    std::vector<std::atomic<int>> done(9);
    const auto piece = [](const void* pieces, index_t n) {
      std::this_thread::sleep_for(std::chrono::microseconds(100 * (n % 3)));  // some end long after others have begun
      ++(*const_cast<std::vector<std::atomic<int>>*>(static_cast<const std::vector<std::atomic<int>>*>(pieces)))[static_cast<std::size_t>(n)];
    };
    crew.share(call % 3, {piece, &done}, 9);
    for (const std::atomic<int>& times : done) CHECK(times == 1);
  }
  queue.finish(item);
  for (std::thread& helper : helpers) helper.join();
  CHECK(crew.idle() == 0);
}

/// The bits and the counts of one thread, with any number of them, in both directions through the parts.
void check_threads(const Weights& w, const Plan& plan, index_t batch, std::mt19937_64& rng) {
  CAPTURE(to_json(plan));
  const std::vector<float> x = gaussian_input(w.problem(batch), rng);
  std::vector<float> y(x.size()), expected(x.size());
  auto alone = cpu::Ffn::create(w, plan, batch, {1, {}});
  REQUIRE(alone->run(x, expected));
  for (const int threads : {2, 3, 4}) {
    auto shared = cpu::Ffn::create(w, plan, batch, {threads, {}});
    for (int run = 0; run < 2; ++run) {
      REQUIRE(shared->run(x, y));
      CHECK(same_bits(y, expected));
      CHECK(shared->report().statistics == alone->report().statistics);
    }
  }
}

TEST_CASE("parts that two workers share, in the middle of tiles and of panels too: the bits and the counts of one thread") {
  std::mt19937_64 rng(seed() + 8);
  for (const DType dtype : {DType::bf16, DType::int8}) {
    for (const index_t batch : {1, 3}) {
      Problem problem{130, 371, batch, dtype, {}, dtype == DType::bf16};
      if (dtype == DType::int8) problem.group = 64;
      const Weights w = gaussian_layer(problem, true, rng).pack();
      for (Plan plan : default_plans(problem)) {
        plan.parts = 7;
        plan.hidden_tile = 20;
        check_threads(w, plan, batch, rng);
      }
    }
  }
}

TEST_CASE("workers without a part help: the bits and the counts of one thread") {
  std::mt19937_64 rng(seed() + 6);
  for (const DType dtype : {DType::f32, DType::bf16, DType::int8}) {
    for (const index_t batch : {1, 3}) {
      Problem problem{1000, 600, batch, dtype, {}, dtype == DType::bf16};
      if (dtype == DType::int8) problem.group = 64;
      const Weights w = gaussian_layer(problem, true, rng).pack();
      const std::vector<float> x = gaussian_input(problem, rng);
      for (Plan plan : default_plans(problem)) {
        plan.parts = 2;
        plan.hidden_tile = 300;  // calls of more than 256 KiB
        if (plan.strategy == Strategy::row_fused) plan.k_tile = 512;
        CAPTURE(to_json(plan));
        std::vector<float> y(x.size()), expected(x.size());
        auto alone = cpu::Ffn::create(w, plan, batch, {1, {}});
        REQUIRE(alone->run(x, expected));
        auto helped = cpu::Ffn::create(w, plan, batch, {5, {}});
        for (int run = 0; run < 3; ++run) {
          REQUIRE(helped->run(x, y));
          CHECK(same_bits(y, expected));
          CHECK(helped->report().statistics == alone->report().statistics);
        }
      }
    }
  }
}

}  // namespace
