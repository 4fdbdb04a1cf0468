// Readings scale a profile by their rule, and by nothing else.
#include <doctest/doctest.h>

#include <cmath>

#include "lookup.hpp"
#include "probes.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/as_of_now.hpp"

using namespace signsplit::sim;
using signsplit::test::sample_machine;

namespace {

/// exp and log each round once or twice: a few units in the last place.
void check_close(double value, double expected) { CHECK(std::abs(value - expected) <= 32 * 0x1p-52 * std::abs(expected)); }

Reading reading_of_two_threads() {
  Reading reading;
  reading.threads = 2;
  reading.isa = "avx2";
  return reading;
}

}  // namespace

TEST_CASE("a reading that says nothing changes no prediction") {
  const Machine machine = sample_machine();
  CHECK(as_of_now(machine, {}) == machine);
  Reading same = reading_of_two_threads();
  same.read_bandwidth = {{1e8, 2, dram_bandwidth(machine, 2), 0}};
  same.fork_join_s = thread_cost(machine.fork_join_s, 2);
  same.barrier_s = thread_cost(machine.barrier_s, 2);
  same.fma_per_s = kernel_rate(machine, "avx2", "fma_f32")->value;
  const Machine now = as_of_now(machine, same);
  CHECK(now.read_bandwidth == machine.read_bandwidth);
  CHECK(now.fork_join_s == machine.fork_join_s);
  CHECK(now.rates == machine.rates);
}

TEST_CASE("main memory at half speed: its end of the curve halves, the own caches stay, between them the logarithm decides") {
  const Machine machine = sample_machine();
  Reading reading = reading_of_two_threads();
  reading.read_bandwidth = {{1e8, 2, 10e9, 0}};
  const Machine now = as_of_now(machine, reading);
  const double own = 2 * 32768.0;  // the level before the last, of two threads
  for (std::size_t i = 0; i < machine.read_bandwidth.size(); ++i) {
    const BandwidthPoint &before = machine.read_bandwidth[i], &after = now.read_bandwidth[i];
    CAPTURE(before.working_set_bytes);
    if (before.threads == 1 || before.working_set_bytes <= own) {
      CHECK(after == before);
    } else {
      const double share = std::log(before.working_set_bytes / own) / std::log(1e8 / own);
      check_close(after.bytes_per_s, before.bytes_per_s * std::pow(0.5, share));
    }
  }
  check_close(dram_bandwidth(now, 2), 10e9);
}

TEST_CASE("between the first and the last working set that was read the curve is what was read") {
  const Machine machine = sample_machine();  // of two threads: points at 20 kB, 2 MB and 100 MB
  Reading reading = reading_of_two_threads();
  reading.read_bandwidth = {{1e6, 2, 150e9, 0}, {4e6, 2, 140e9, 0}, {1e8, 2, 10e9, 0}};
  const Machine now = as_of_now(machine, reading);
  std::vector<double> sets, rates;
  for (const BandwidthPoint& point : now.read_bandwidth) {
    if (point.threads == 2) sets.push_back(point.working_set_bytes), rates.push_back(point.bytes_per_s);
  }
  CHECK(sets == std::vector<double>{2e4, 1e6, 4e6, 1e8});
  CHECK(rates == std::vector<double>{200e9, 150e9, 140e9, 10e9});
  for (std::size_t i = 0; i < 3; ++i) CHECK(now.read_bandwidth[i] == machine.read_bandwidth[i]);  // of one thread
  reading.threads = 3;
  for (BandwidthPoint& point : reading.read_bandwidth) point.threads = 3;
  CHECK(as_of_now(machine, reading).read_bandwidth == machine.read_bandwidth);  // a curve that the profile does not have
}

TEST_CASE("cores that are further apart: forks, barriers, waits and exchanges, and nothing of one thread") {
  Machine machine = sample_machine();
  machine.model["thread_wait_s"].value = 1e-6;
  machine.model["barrier_wait_s"].value = 4e-7;
  machine.model["memory_wait_s"].value = 3e-7;
  machine.model["exchange_rate"].value = 8e9;
  machine.model["push_overhead_s"].value = 3e-8;
  Reading reading = reading_of_two_threads();
  reading.fork_join_s = 2.0 * thread_cost(machine.fork_join_s, 2);
  reading.barrier_s = 3.0 * thread_cost(machine.barrier_s, 2);
  const Machine now = as_of_now(machine, reading);
  CHECK(now.fork_join_s.front() == machine.fork_join_s.front());
  CHECK(thread_cost(now.fork_join_s, 2) == 2.0 * thread_cost(machine.fork_join_s, 2));
  CHECK(thread_cost(now.barrier_s, 2) == 3.0 * thread_cost(machine.barrier_s, 2));
  CHECK(model_value(now, "thread_wait_s").value == 2e-6);
  CHECK(model_value(now, "barrier_wait_s").value == 8e-7);
  CHECK(model_value(now, "memory_wait_s").value == 6e-7);
  CHECK(model_value(now, "exchange_rate").value == 4e9);
  CHECK(model_value(now, "push_overhead_s").value == 3e-8);  // each core's own
  CHECK(now.rates == machine.rates);
  CHECK(now.read_bandwidth == machine.read_bandwidth);
}

TEST_CASE("a core at half its clock: rates halve, what a core does by itself takes twice as long") {
  Machine machine = sample_machine();
  machine.model["thread_wait_s"].value = 1e-6;
  machine.model["barrier_wait_s"].value = 1e-7;
  machine.model["push_overhead_s"].value = 3e-8;
  Reading reading = reading_of_two_threads();
  reading.fma_per_s = 0.5 * kernel_rate(machine, "avx2", "fma_f32")->value;
  const Machine now = as_of_now(machine, reading);
  CHECK(kernel_rate(now, "avx2", "up_bf16")->value == 0.5 * kernel_rate(machine, "avx2", "up_bf16")->value);
  CHECK(model_value(now, "push_overhead_s").value == 6e-8);
  CHECK(model_value(now, "barrier_wait_s").value == 1e-7);
  CHECK(model_value(now, "thread_wait_s").value == 1e-6);
}

TEST_CASE("the median of readings, number by number; and when two are of one machine") {
  Reading a = reading_of_two_threads(), b = a, c = a;
  a.read_bandwidth = {{1e6, 2, 1, 0}, {1e8, 2, 30, 0}};
  b.read_bandwidth = {{1e6, 2, 3, 0}, {1e8, 2, 20, 0}};
  c.read_bandwidth = {{1e6, 2, 2, 0}, {1e8, 2, 90, 0}};
  a.fork_join_s = 5, b.fork_join_s = 7, c.fork_join_s = 6;
  const Reading middle = median_of({a, b, c});
  CHECK(middle.threads == 2);
  CHECK(middle.read_bandwidth[0].bytes_per_s == 2);
  CHECK(middle.read_bandwidth[1].bytes_per_s == 30);
  CHECK(middle.fork_join_s == 6);
  CHECK(median_of({}).threads == 0);

  CHECK(same_machine(a, a));
  CHECK_FALSE(same_machine(a, b));  // memory at 30 and at 20
  Reading d = a;
  d.fork_join_s = 6.4;
  CHECK(same_machine(a, d));
  d.fork_join_s = 6.6;
  CHECK_FALSE(same_machine(a, d));
  CHECK(same_machine(a, {}));  // what is not known does not differ
}

TEST_CASE("a probe reads what it owns, and refuses what is not there") {
  const Machine machine = sample_machine();
  CHECK_FALSE(NowProbe::make(machine, 1, "sse9").ok());
  CHECK_FALSE(NowProbe::make(machine, 0, "scalar").ok());
  const auto probe = NowProbe::make(machine, 1, "scalar");
  REQUIRE_MESSAGE(probe.ok(), probe.message());
  const Reading reading = probe->take();
  CHECK(reading.threads == 1);
  CHECK(reading.isa == "scalar");
  REQUIRE(reading.read_bandwidth.size() == 8);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(reading.read_bandwidth[i].bytes_per_s > 0);
    if (i > 0) CHECK(reading.read_bandwidth[i].working_set_bytes > reading.read_bandwidth[i - 1].working_set_bytes);
  }
  CHECK(reading.fork_join_s > 0);
  CHECK(reading.barrier_s > 0);
  CHECK(reading.fma_per_s > 0);

  CHECK(probe->still({}, true));  // what is not known does not differ
  Reading slower;
  slower.fork_join_s = 1.0;  // a second
  CHECK_FALSE(probe->still(slower, false));
  Reading faster;
  faster.read_bandwidth = {{1e8, 1, 1e18, 0}};
  CHECK(probe->still(faster, false));
  CHECK_FALSE(probe->still(faster, true));
}

TEST_CASE("slices of what a probe owns are read one after the other, and from the beginning again") {
  auto read = ReadProbe::make(1 << 20, 2);
  REQUIRE(read.ok());
  for (int i = 0; i < 5; ++i) CHECK(read->next_slice(3e5) > 0);
  CHECK(read->next_slice(1e9) > 0);  // more than there is: all of it
}
