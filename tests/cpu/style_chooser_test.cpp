// Two styles of requests: which is chosen, from times that are made up; and that no bit depends on it.
#include <doctest/doctest.h>

#include <random>

#include "isa.hpp"
#include "random_layer.hpp"
#include "seed.hpp"
#include "signsplit/cpu.hpp"
#include "style_chooser.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;
using cpu::RequestStyle;
using cpu::StyleChooser;
using std::chrono::nanoseconds;

constexpr int kFirst = 3 * StyleChooser::kFirstPairs, kRound = 2 + StyleChooser::kCallsBetween;
constexpr int kWorstPairs = StyleChooser::kMost / StyleChooser::kMostOfPair;  // that take from a style all that it can have

/// Makes `calls` calls on `layers` layers in turns, the n-th of which takes time(style, n), and says how many of them were in the style for
/// fast memory.
template <class Time>
int fast_calls(StyleChooser& chooser, int calls, Time&& time, int layers = 1) {
  static const char layer[64] = {};
  int fast = 0;
  for (int n = 0; n < calls; ++n) {
    const void* const of_call = &layer[n % layers];
    const RequestStyle style = chooser.style(of_call);
    fast += style == RequestStyle::fast_memory ? 1 : 0;
    chooser.took(of_call, nanoseconds(time(style, n)));
  }
  return fast;
}

/// In microseconds: the style for fast memory is better by 3 %, or worse.
int when_fast(RequestStyle style, int) { return style == RequestStyle::fast_memory ? 970 : 1000; }
int when_slow(RequestStyle style, int) { return style == RequestStyle::fast_memory ? 1600 : 1500; }

TEST_CASE("the faster style is taken from the first pair on, but for a pair now and then") {
  StyleChooser fast, slow;
  CHECK(fast_calls(fast, kFirst, when_fast) == 2 * StyleChooser::kFirstPairs);
  CHECK(fast_calls(fast, 50 * kRound, when_fast) == 50 * (kRound - 1));
  CHECK(fast_calls(slow, kFirst, when_slow) == StyleChooser::kFirstPairs);
  CHECK(fast_calls(slow, 50 * kRound, when_slow) == 50);
}

TEST_CASE("memory that changes is followed, both ways, and not for a few bad pairs") {
  for (int turn = 0; turn < 3; ++turn) {
    StyleChooser chooser;
    fast_calls(chooser, kFirst + turn * kRound, when_fast);
    fast_calls(chooser, (kWorstPairs - 1) * kRound, when_slow);
    CHECK(fast_calls(chooser, kRound, when_fast) == kRound - 1);
    fast_calls(chooser, (kWorstPairs + 1) * kRound, when_slow);
    CHECK(fast_calls(chooser, 10 * kRound, when_slow) == 10);
    fast_calls(chooser, 10 * kRound, when_fast);
    CHECK(fast_calls(chooser, 10 * kRound, when_fast) == 10 * (kRound - 1));
  }
}

TEST_CASE("calls that take ten times as long change nothing, whichever they are") {
  for (int first = 0; first < 3 * kRound; ++first) {
    for (int second = 0; second < first; ++second) {
      CAPTURE(first);
      CAPTURE(second);
      StyleChooser chooser;
      fast_calls(chooser, kFirst, when_fast);
      fast_calls(chooser, 3 * kRound, [=](RequestStyle style, int n) { return when_fast(style, n) * (n == first || n == second ? 10 : 1); });
      CHECK(fast_calls(chooser, kRound, when_fast) == kRound - 1);
    }
  }
}

TEST_CASE("the better style is found however much layers that take turns differ") {
  for (const int layers : {2, 3, 5, 8, 64}) {
    CAPTURE(layers);
    StyleChooser fast, slow;
    const int calls = (layers + 2) * (StyleChooser::kFirstPairs + 1);
    fast_calls(fast, calls, [=](RequestStyle style, int n) { return when_fast(style, n) * (1 + n % layers); }, layers);
    CHECK(fast_calls(fast, kRound, when_fast, layers) >= kRound - 2);
    fast_calls(slow, calls, [=](RequestStyle style, int n) { return when_slow(style, n) * (1 + n % layers); }, layers);
    CHECK(fast_calls(slow, kRound, when_slow, layers) <= 2);
  }
}

TEST_CASE("to be the first of a pair, or every second call of all, is no gain and no loss") {
  for (const int period : {2, 3}) {  // pairs begin with every third call, at first
    for (int dear = 0; dear < period; ++dear) {
      CAPTURE(period);
      CAPTURE(dear);
      StyleChooser fast, slow;
      const auto turns = [=](RequestStyle, int n) { return n % period == dear ? 1200 : 1000; };
      fast_calls(fast, kFirst, turns);
      fast_calls(slow, kFirst, turns);
      fast_calls(fast, kRound, when_fast);
      fast_calls(slow, kRound, when_slow);
      CHECK(fast_calls(fast, kRound, when_fast) == kRound - 1);
      CHECK(fast_calls(slow, kRound, when_slow) == 1);
    }
  }
}

TEST_CASE("a layer that does not come again is waited for only so long") {
  StyleChooser chooser;
  const char gone = 0;
  chooser.took(&gone, nanoseconds(1));
  fast_calls(chooser, StyleChooser::kPatience, when_fast);
  CHECK(fast_calls(chooser, kFirst, when_fast) == 2 * StyleChooser::kFirstPairs);
}

TEST_CASE("both styles add rows with the same bits, in one piece and apart, whatever is read next") {
  std::mt19937_64 rng(seed() + 9);
  for (const DType dtype : {DType::f32, DType::bf16, DType::int8}) {
    const Problem problem{1024, 40, 1, dtype, {}, false};
    const Weights w = gaussian_layer(problem, false, rng).pack();
    const index_t apart[] = {0, 3, 4, 5, 17, 18, 30, 31, 38};
    const index_t bytes = w.row_bytes();
    const cpu::RowList lists[] = {{w.down(), bytes, bytes, nullptr, 0, 40}, {w.down(), bytes, bytes, nullptr, 7, 5}, {w.down(), bytes, bytes, apart, 0, 9}};
    const cpu::RowList nexts[] = {{}, {w.up(), bytes, bytes, nullptr, 0, 40}, {w.up(), bytes, bytes, apart, 0, 2}};
    for (const index_t batch : {2, 3, 4, 8}) {
      std::vector<float> coefficients(static_cast<std::size_t>(40 * batch));
      for (float& c : coefficients) c = std::normal_distribution<float>()(rng);
      for (const cpu::RowList& list : lists) {
        for (const cpu::RowList& next : nexts) {
          std::vector<std::byte> first;
          for (const cpu::Isa isa : cpu::supported_isas()) {
            for (const RequestStyle style : {RequestStyle::slow_memory, RequestStyle::fast_memory}) {
              AlignedBuffer y(static_cast<std::size_t>(batch) * 1024 * sizeof(float));
              const std::uint16_t* scales = w.down_scales().empty() ? nullptr : &w.down_scales().data()->bits;
              cpu::kernels_for(isa).add[static_cast<std::size_t>(dtype)]({list, next, 0, coefficients.data(), reinterpret_cast<float*>(y.data()), 1024, batch,
                                                                          1024, scales, w.group(), 1024, true, style});
              const std::vector<std::byte> bits(y.data(), y.data() + y.size());
              if (first.empty()) first = bits;
              CHECK(bits == first);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("an Ffn whose layers come from memory gives the same bits in both styles") {
  std::mt19937_64 rng(seed() + 10);
  const Problem problem{256, 1024, 4, DType::bf16, {}, false};
  std::vector<Weights> layers;
  for (int n = 0; n < 3; ++n) layers.push_back(gaussian_layer(problem, true, rng).pack());
  const std::vector<float> x = gaussian_input(problem, rng);
  const Plan plan = default_plan(problem, Strategy::row_fused);
  std::vector<float> expected[3], y(x.size());
  for (int n = 0; n < 3; ++n) {
    expected[n].resize(x.size());
    REQUIRE(cpu::Ffn::create(layers[static_cast<std::size_t>(n)], plan, 4, {1, {}})->run(x, expected[n]));
  }
  auto ffn = cpu::Ffn::create(layers[0], plan, 4, {2, {}});
  REQUIRE(ffn);
  for (int call = 0; call < 100; ++call) {  // 1 MiB each, and the first never comes again: after 49 they pass for more than a cache holds
    const int n = 1 + call % 2;
    REQUIRE(ffn->rebind(layers[static_cast<std::size_t>(n)]));
    REQUIRE(ffn->run(x, y));
    CHECK(std::memcmp(y.data(), expected[n].data(), y.size() * sizeof(float)) == 0);
  }
}

}  // namespace
