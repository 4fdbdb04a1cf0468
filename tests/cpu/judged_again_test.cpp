// Rows that the plane leaves are judged again at every border between K tiles.
#include <doctest/doctest.h>

#include <tuple>

#include "remains.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

TEST_CASE("rows that are left are judged again at every border between K tiles, and read no further once they are closed") {
  std::mt19937_64 rng(seed() + 8);
  // K tiles of 2 KiB are read as rows that lie apart are, shorter ones one by one.
  for (const auto& [gated, k_tile, dtype] : {std::tuple{false, 128, any_dtype(rng)}, {true, 128, any_dtype(rng)}, {false, 512, DType::f32}}) {
    const Problem problem{1030, 300, 1, dtype, {ActivationKind::relu}, gated};
    Case c{gaussian_layer(problem, true, rng), gaussian_input(problem, rng)};
    for (float& b : first_bias(c.layer)) b -= 0.6f;
    c.layer.round_to_dtype();
    const Weights w = c.layer.pack();
    Plan plan = default_plan(problem, Strategy::certified);
    plan.k_tile = k_tile;
    const auto certificate = Certificate::build(w, format_of(plan));
    REQUIRE(certificate);
    const Tokens tokens(certificate->layout(), problem, c.x);
    const std::vector<float> remains = remains_of(cpu::certify_scalar, *certificate, tokens.tokens[0], k_tile / 64);
    const index_t borders = k_tile_count(plan, walk_shape(problem)) - 1;
    REQUIRE(borders == 1030 / k_tile);
    std::uint64_t elements = 0, left = 0, dropped = 0;
    for (index_t j = 0; j < problem.d_ff; ++j) {
      if (certificate->certifies(j, tokens.tokens[0])) continue;
      ++left;
      index_t n = 0;
      for (; n < borders; ++n) {
        const float sum = canonical_dot(tokens.padded.data(), first_matrix(c.layer).data() + j * 1030, (n + 1) * k_tile);
        if (is_certified(sum + remains[static_cast<std::size_t>(j * borders + n)], certificate->offset_at(j), 0.0f)) break;
      }
      dropped += n < borders ? 1 : 0;
      elements += static_cast<std::uint64_t>(n < borders ? (n + 1) * k_tile : w.stride());
    }
    CHECK(dropped > 10);
    Plan whole = plan;
    whole.k_tile = 0;
    const Outcome expected = run(w, whole, c, cpu::Isa::scalar, 1);
    CHECK(expected.statistics.refined == left);
    for (const cpu::Isa isa : cpu::supported_isas()) {
      const Outcome got = run(w, plan, c, isa, 2);
      CHECK(same_bits(got.y, expected.y));
      CHECK(got.mask == expected.mask);
      CHECK(got.statistics.refined == left);
      CHECK((gated ? got.statistics.bytes_gate : got.statistics.bytes_up) == elements * static_cast<std::uint64_t>(dtype_bytes(problem.dtype)));
    }
  }
}

}  // namespace
