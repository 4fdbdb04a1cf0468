// The kernels of gelu, gelu_tanh and silu, in vectors, against their one definition, a value at a time.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "isa.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;

/// Every 65521st f32 (of which some are not finite), among values as they come.
std::vector<float> some_floats() {
  std::vector<float> values{0.0f, -0.0f, INFINITY, -INFINITY, NAN};
  for (std::uint64_t i = test::seed() % 65521; i <= 0xffffffffu; i += 65521) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(i)));
    values.push_back(static_cast<float>(values.size() % 2001) * 0.01f - 10.0f);
  }
  return values;
}

bool same(float a, float b) {  // which of the NaNs is not said
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

std::size_t different(ActivationKind kind, std::span<const float> z, std::span<const float> h) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < z.size(); ++i) count += same(h[i], smooth_activation(kind, z[i])) ? 0 : 1;
  return count;
}

TEST_CASE("the kernels of gelu, gelu_tanh and silu give the bits of their definition, for any length, aligned or not, in place or not") {
  const std::vector<float> all = some_floats();
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::gelu_tanh, ActivationKind::silu}) {
    for (const cpu::Isa isa : cpu::supported_isas()) {
      INFO(to_string({kind}), " ", cpu::to_string(isa));
      const auto kernel = cpu::smooth_kernel(cpu::kernels_for(isa), kind);
      std::vector<float> h(all.size());
      kernel(all.data(), static_cast<index_t>(all.size()), h.data());
      CHECK(different(kind, all, h) == 0);
      for (std::size_t length = 0; length < 40; ++length) {
        const std::size_t from = 3 * length;
        std::vector<float> in_place(all.begin(), all.begin() + 200);
        kernel(in_place.data() + from, static_cast<index_t>(length), in_place.data() + from);
        CHECK(different(kind, std::span(all).subspan(from, length), std::span(in_place).subspan(from, length)) == 0);
        CHECK(same(in_place[from + length], all[from + length]));
      }
    }
  }
}

}  // namespace
