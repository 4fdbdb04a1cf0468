// The certificate: sound against the canonical sums, decided alike by every kernel, on layers made to break it.
#include "signsplit/certificate.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <optional>

#include "remains.hpp"
#include "seed.hpp"

namespace {

using namespace signsplit;
using namespace signsplit::test;

/// Equal bits, or both NaN: of two NaN operands instruction sets return either.
bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float p, float q) {
    return std::bit_cast<std::uint32_t>(p) == std::bit_cast<std::uint32_t>(q) || (std::isnan(p) && std::isnan(q));
  });
}

const std::vector<std::pair<index_t, index_t>> kShapes = {{1, 1}, {70, 17}, {200, 40}, {1030, 33}};
const std::vector<CertificateFormat> kFormats = {{8, 64}, {7, 128}, {4, 64}, {2, 192}, {8, 1024}};

TEST_CASE("what is certified is closed in the canonical evaluation, and every kernel decides alike") {
  std::mt19937_64 rng(seed());
  for (const Adversary& adversary : adversaries()) {
    for (const auto& [d, f] : kShapes) {
      for (const CertificateFormat format : kFormats) {
        const ActivationCase a = closing_activations()[rng() % closing_activations().size()];
        const Problem problem{d, f, 1 + static_cast<index_t>(rng() % 3), any_dtype(rng), a.activation, a.gated};
        Case c = make_case(adversary, problem, rng() % 2 == 0, rng);
        const Weights w = c.layer.pack();
        const auto certificate = Certificate::build(w, format);
        REQUIRE_MESSAGE(certificate, certificate.message());
        const PanelLayout layout = certificate->layout();
        const Tokens tokens(layout, problem, c.x);
        INFO(adversary.name, ", ", describe(problem), ", bits ", format.bits, ", group ", format.group);

        std::vector<std::uint16_t> expected(static_cast<std::size_t>(certificate->panels()), 0);
        for (index_t j = 0; j < f; ++j) {
          bool all = true;
          for (index_t b = 0; b < problem.batch; ++b) {
            if (!certificate->certifies(j, tokens.tokens[static_cast<std::size_t>(b)])) {
              all = false;
              continue;
            }
            float z = canonical_dot(tokens.padded.data() + b * layout.columns, first_matrix(c.layer).data() + j * d, d);
            if (!first_bias(c.layer).empty()) z += first_bias(c.layer)[static_cast<std::size_t>(j)];
            CHECK_FALSE(is_open(a.activation, z));
            CHECK_FALSE(w.input_row_nonfinite(j));
            CHECK_FALSE(w.down_row_nonfinite(j));
          }
          if (all) expected[static_cast<std::size_t>(j / kPanelRows)] |= static_cast<std::uint16_t>(1 << j % kPanelRows);
        }
        std::vector<float> sums(static_cast<std::size_t>(problem.batch * 2 * kPanelRows + 16));
        float* aligned = sums.data() + (64 - reinterpret_cast<std::uintptr_t>(sums.data()) % 64) % 64 / 4;
        for (index_t p = 0; p < certificate->panels(); ++p) {
          std::optional<cpu::PanelVerdict> scalar;
          for (const auto& form : cpu::supported_certify_kernels()) {
            const cpu::PanelVerdict verdict = form.second({reinterpret_cast<const unsigned char*>(certificate->panel(p)), layout,
                                                      tokens.tokens.data(), problem.batch, certificate->threshold(), aligned});
            INFO(form.first);
            CHECK(verdict.certified == expected[static_cast<std::size_t>(p)]);
            if (!scalar) scalar = verdict;
            CHECK(verdict.likely == scalar->likely);
          }
        }
        if (problem.batch > 1) continue;
        const index_t tile_groups = 1 + static_cast<index_t>(rng() % 3);
        check_none_dropped_but_closed(*certificate, tokens, first_matrix(c.layer), d, tile_groups, [&, d = d](index_t j) {
          float z = canonical_dot(tokens.padded.data(), first_matrix(c.layer).data() + j * d, d);
          if (!first_bias(c.layer).empty()) z += first_bias(c.layer)[static_cast<std::size_t>(j)];
          return is_open(a.activation, z) || w.input_row_nonfinite(j) || w.down_row_nonfinite(j);
        });
        const std::vector<float> remains = remains_of(cpu::certify_scalar, *certificate, tokens.tokens[0], tile_groups);
        for (const auto& form : cpu::supported_certify_kernels()) {
          INFO(form.first);
          CHECK(same_numbers(remains_of(form.second, *certificate, tokens.tokens[0], tile_groups), remains));
        }
      }
    }
  }
}

/// Layers whose every unit is open by one ulp while one part of the bound is as large as it can be: nothing may be certified.
/// Rows are multiples of `row` by powers of two (that changes neither plane nor residual but for the scale), every other one negated.
void check_none_certified(const std::vector<float>& row, const std::vector<float>& x, CertificateFormat format, std::mt19937_64& rng) {
  const auto d = static_cast<index_t>(row.size());
  Layer layer;
  layer.problem = {d, 64, 1, DType::f32, {ActivationKind::relu}, false};
  layer.down.assign(static_cast<std::size_t>(d * 64), 1.0f);
  for (index_t j = 0; j < 64; ++j) {
    const float factor = power_of_two(static_cast<int>(rng() % 20)) * (j % 2 == 0 ? 1.0f : -1.0f);
    for (const float w : row) layer.up.push_back(factor * w);
    layer.up_bias.push_back(std::nextafter(-canonical_dot(x.data(), layer.up.data() + j * d, d), kInf));
  }
  const Weights w = layer.pack();
  const auto certificate = Certificate::build(w, format);
  REQUIRE(certificate);
  const Tokens tokens(certificate->layout(), layer.problem, x);
  for (index_t j = 0; j < 64; ++j) CHECK_FALSE(certificate->certifies(j, tokens.tokens[0]));
  for (const index_t tile_groups : {1, 2, 5}) {
    check_none_dropped_but_closed(*certificate, tokens, layer.up, d, tile_groups, [](index_t) { return true; });
  }
}

TEST_CASE("each part of the bound is needed: x along the residual, x between two integers, one huge x, sums that round") {
  std::mt19937_64 rng(seed() + 7);
  std::normal_distribution<double> normal;
  for (const CertificateFormat format : {CertificateFormat{8, 64}, {6, 128}, {8, 1024}}) {
    const std::size_t d = 1024;
    std::vector<float> row(d), x(d), scales(d / 64), norms(d / 64);
    std::vector<std::int8_t> plane(d);
    for (float& w : row) w = static_cast<float>(normal(rng));
    quantize_plane_row(row, format.bits, format.group, plane, scales, norms);
    const auto residual = [&](std::size_t k) { return row[k] - scales[k / static_cast<std::size_t>(format.group)] * static_cast<float>(plane[k]); };
    INFO("bits ", format.bits, ", group ", format.group);

    for (std::size_t k = 0; k < d; ++k) x[k] = residual(k);  // ‖R‖‖x‖ = |R·x|
    check_none_certified(row, x, format, rng);
    for (float& v : x) v = -v;
    check_none_certified(row, x, format, rng);

    std::vector<float> halves = row;  // residuals of half a scale everywhere, the most that a code can say
    const int most = (1 << (format.bits - 1)) - 1;
    for (float& w : halves) w = static_cast<float>(static_cast<int>(rng() % static_cast<unsigned>(2 * most)) - most) + 0.5f;
    for (std::size_t k = 0; k < d; k += static_cast<std::size_t>(format.group)) halves[k] = static_cast<float>(most) - 0.5f;
    for (std::size_t k = 0; k < d; ++k) x[k] = (static_cast<int>(std::floor(halves[k])) % 2 == 0 ? 1.0f : -1.0f);
    check_none_certified(halves, x, format, rng);

    if (format.group < static_cast<index_t>(d)) {  // a group beyond the reach of the codes: all of it is residual
      std::vector<float> apart = row;
      for (std::size_t k = static_cast<std::size_t>(format.group); k < d; ++k) apart[k] *= 0x1p-20f;
      for (std::size_t k = 0; k < d; ++k) x[k] = k < static_cast<std::size_t>(format.group) ? 0.0f : apart[k];
      check_none_certified(apart, x, format, rng);
    }

    std::size_t worst = 0;  // the largest residual, and nothing else but one group's noise
    for (std::size_t k = 0; k < d; ++k) worst = std::fabs(residual(k)) > std::fabs(residual(worst)) ? k : worst;
    for (std::size_t k = 0; k < d; ++k) x[k] = 1e-6f;
    x[worst] = residual(worst) > 0.0f ? 1000.0f : -1000.0f;
    check_none_certified(row, x, format, rng);

    const float step = 1.0f, q = static_cast<float>((1 << (format.bits - 1)) - 1);
    for (std::size_t k = 0; k < d; ++k) {  // no residual, and x as far from integers of its step as can be, always to one side
      row[k] = rng() % 2 == 0 ? q : -q;
      x[k] = step * (static_cast<float>(static_cast<int>(rng() % 1000)) + 0.49f) * (row[k] > 0.0f ? 1.0f : -1.0f);
    }
    for (std::size_t k = 0; k < d; k += static_cast<std::size_t>(format.group)) x[k] = step * kMaxQuantizedX;
    check_none_certified(row, x, format, rng);

    for (int round = 0; round < 20; ++round) {  // neither residual nor error of x, and terms that cancel: only roundings are left
      std::vector<std::size_t> others;
      for (std::size_t k = 0; k < d; ++k) {
        x[k] = kMaxQuantizedX;
        row[k] = k % 2 == 0 ? q : -q;
        if (k % static_cast<std::size_t>(format.group) > 1) others.push_back(k);  // each group begins with the largest
      }
      std::shuffle(others.begin(), others.end(), rng);
      for (std::size_t i = 0; i + 1 < others.size(); i += 2) {
        row[others[i]] = static_cast<float>(static_cast<int>(rng() % static_cast<unsigned>(2 * q + 1)) - static_cast<int>(q));
        x[others[i]] = x[others[i + 1]] = static_cast<float>(static_cast<int>(rng() % (2 * kMaxQuantizedX + 1)) - kMaxQuantizedX);
        row[others[i + 1]] = -row[others[i]];
      }
      check_none_certified(row, x, format, rng);
    }
  }
}

TEST_CASE("formats and layers that have no certificate are refused") {
  std::mt19937_64 rng(seed() + 5);
  const Problem problem{64, 8, 1, DType::f32, {ActivationKind::relu}, false};
  const Weights w = gaussian_layer(problem, false, rng).pack();
  for (const CertificateFormat format : {CertificateFormat{1, 64}, {9, 64}, {8, 0}, {8, 100}, {8, 2048}}) {
    CHECK_FALSE(Certificate::build(w, format));
    CHECK_FALSE(w.certificate(format));
  }
  Problem identity = problem;
  identity.activation.kind = ActivationKind::identity;
  CHECK_FALSE(Certificate::build(gaussian_layer(identity, false, rng).pack(), {8, 64}));
  CHECK_FALSE(validate(default_plan(identity, Strategy::certified), identity));
}

}  // namespace
