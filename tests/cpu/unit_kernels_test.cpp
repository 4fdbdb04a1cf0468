// The kernels of a tile's units (bias, open units and their activations, counts), in vectors, against their definitions, a value at a time.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "isa.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;

bool same(float a, float b) {  // which of the NaNs is not said
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

/// `count` values between −2 and 2, of which every fifth is special: not finite, a zero, the threshold, or next to one of these.
std::vector<float> some_values(std::mt19937_64& random, std::size_t count, float threshold) {
  const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, threshold, std::nextafter(threshold, 9.0f), std::nextafter(threshold, -9.0f), 1e-45f, -1e-45f};
  std::vector<float> values(count);
  for (float& v : values) {
    const std::uint64_t bits = random();
    v = bits % 5 == 0 ? special[bits / 5 % std::size(special)] : static_cast<float>(bits >> 40) * 0x1p-22f - 2.0f;
  }
  return values;
}

TEST_CASE("the kernels of units give the bits of is_open() and activate(), for any number of units and tokens") {
  std::mt19937_64 random(test::seed());
  for (const Activation a : {Activation{ActivationKind::relu}, Activation{ActivationKind::relu2}, Activation{ActivationKind::fatrelu, 0.25f}}) {
    for (const cpu::Isa isa : cpu::supported_isas()) {
      for (const index_t count : {index_t{0}, index_t{1}, index_t{15}, index_t{64}, index_t{333}, index_t{1024}}) {
        INFO(to_string(a), " ", cpu::to_string(isa), " ", count);
        const auto n = static_cast<std::size_t>(count);
        const std::vector<float> pre = some_values(random, n, a.threshold);
        std::vector<float> h(n + 1, 7.0f);
        std::vector<std::uint8_t> open(n + 1, 7);
        cpu::kernels_for(isa).open_units({pre.data(), count, a.threshold, a.kind == ActivationKind::relu2, open.data(), h.data()});
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < n; ++i) wrong += same(h[i], activate(a, pre[i])) && open[i] == (is_open(a, pre[i]) ? 1 : 0) ? 0 : 1;
        CHECK(wrong == 0);
        CHECK((h[n] == 7.0f && open[n] == 7));
      }
    }
  }
}

TEST_CASE("the kernels that add a bias and count open units do so for any number of units and tokens") {
  std::mt19937_64 random(test::seed() + 1);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const index_t batch : {1, 2, 3, 4, 7, 8, 16, 17}) {
      for (const index_t units : {0, 1, 13, 64, 256}) {
        INFO(cpu::to_string(isa), " ", batch, " tokens, ", units, " units");
        const auto u = static_cast<std::size_t>(units), b = static_cast<std::size_t>(batch);
        const std::vector<float> bias = some_values(random, u, 0.0f), before = some_values(random, u * b, 0.0f);
        std::vector<float> sums = before;
        std::vector<std::uint8_t> open(u * b);
        for (std::uint8_t& o : open) o = random() % (b + 1) == 0 ? 1 : 0;
        cpu::OpenCounts counts{7, 7};
        const cpu::KernelTable& kernels = cpu::kernels_for(isa);
        kernels.add_bias(bias.data(), units, batch, sums.data());
        kernels.count_open(open.data(), units, batch, counts);
        std::size_t wrong = 0, all = 0, of_any_token = 0;
        for (std::size_t i = 0; i < u; ++i) {
          bool any = false;
          for (std::size_t t = i * b; t < (i + 1) * b; ++t) {
            wrong += same(sums[t], before[t] + bias[i]) ? 0 : 1;
            all += open[t];
            any |= open[t] != 0;
          }
          of_any_token += any ? 1 : 0;
        }
        CHECK(wrong == 0);
        CHECK(counts.all == all);
        CHECK(counts.of_any_token == of_any_token);
      }
    }
  }
}

}  // namespace
