// Every study at a small size: what its page concludes has to hold there as well.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "cpu/random_layer.hpp"
#include "scratch_directory.hpp"
#include "seed.hpp"
#include "signsplit/activity.hpp"
#include "signsplit/overflow.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/residual.hpp"
#include "signsplit/synthetic.hpp"
#include "studies/plot.hpp"
#include "studies/study.hpp"

using namespace signsplit;
using namespace signsplit::studies;

namespace {

Settings small_settings() {
  Settings settings;
  settings.small = true;
  settings.seed = signsplit::test::seed();
  auto layer = gaussian_layer("small", {.d_model = 256, .d_ff = 192}, 16, settings);
  REQUIRE_MESSAGE(layer.ok(), layer.message());
  settings.layers.push_back(std::move(*layer));
  return settings;
}

Findings conduct(const Study& study, const Settings& settings) {
  auto findings = study.run(settings);
  REQUIRE_MESSAGE(findings.ok(), findings.message());
  for (const Table& table : findings->tables) {
    CAPTURE(table.name);
    CHECK_FALSE(table.rows.empty());
    for (const auto& row : table.rows) CHECK(row.size() == table.columns.size());
  }
  return *findings;
}

std::string text(const Table& table, std::size_t row, std::string_view column) {
  const auto found = std::find(table.columns.begin(), table.columns.end(), column);
  REQUIRE(found != table.columns.end());
  return std::get<std::string>(table.rows[row][static_cast<std::size_t>(found - table.columns.begin())]);
}

}  // namespace

TEST_CASE("lossless: what promises the bits has them, everything is within its bound, and open units are exact") {
  const Settings settings = small_settings();
  const Findings findings = conduct(lossless(), settings);
  const Table& table = findings.tables[0];
  bool certified = false;
  const Layer& layer = settings.layers[0];
  auto ffn = cpu::Ffn::create(layer.weights, default_plan(layer.weights.problem(16), Strategy::row_fused), 16, with_threads(1));
  REQUIRE(ffn);
  std::vector<float> y(layer.x.size());
  REQUIRE(ffn->run(layer.x, y));
  const auto exact = reference(layer.weights, layer.x, 16, ReferenceMode::composite);
  REQUIRE(exact);
  std::vector<std::uint64_t> ulps;
  for (std::size_t i = 0; i < y.size(); ++i) ulps.push_back(ulp_distance(y[i], exact->y[i]));
  std::sort(ulps.begin(), ulps.end());
  std::set<std::string> types;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const std::string schedule = text(table, i, "schedule");
    CAPTURE(schedule);
    types.insert(text(table, i, "weights"));
    certified = certified || schedule.starts_with("certified");
    CHECK(text(table, i, "active units exact") == "yes");
    CHECK(table.number(i, "worst error / bound") <= 1.0);
    if (!schedule.starts_with("sign_split")) CHECK(text(table, i, "same bits as row_fused") == "yes");
    if (schedule.starts_with("sign_split/streams")) CHECK(text(table, i, "same bits as row_fused") == "no");
    if (schedule == "row_fused" && text(table, i, "layer") == layer.name) {
      CHECK(table.number(i, "median ulp") == static_cast<double>(ulps[ulps.size() / 2]));
      CHECK(table.number(i, "max ulp") == static_cast<double>(ulps.back()));
    }
    if (schedule.starts_with("sign_split/ignore")) CHECK(table.number(i, "median ulp") > 1e5);
  }
  CHECK(certified);
  CHECK(types == std::set<std::string>{"bf16", "f16", "f32", "int8"});
}

TEST_CASE("ignore_crossovers: the error is that of sums of rectified tiles") {
  const Settings settings = small_settings();
  const Findings findings = conduct(ignore_crossovers(), settings);
  const Table& table = findings.tables[0];
  CHECK(table.number(0, "relative error") == 0.0);
  CHECK(table.number(0, "units pushed wrongly") == 0.0);
  const Layer& layer = settings.layers[0];
  double error = 0, size = 0, worst = 0, cosine = 0;  // of two K tiles, in double
  index_t wrong = 0;
  for (index_t t = 0; t < layer.tokens; ++t) {
    std::vector<double> y(256), exact(256);
    for (index_t j = 0; j < 192; ++j) {
      double tile[2] = {static_cast<double>(layer.weights.up_bias()[static_cast<std::size_t>(j)]), 0.0};
      for (index_t k = 0; k < 256; ++k) {
        tile[k / 128] += static_cast<double>(layer.weights.up_at(j, k)) *
                         static_cast<double>(layer.x[static_cast<std::size_t>(t * 256 + k)]);
      }
      const double pushed = std::max(tile[0], 0.0) + std::max(tile[1], 0.0), h = std::max(tile[0] + tile[1], 0.0);
      wrong += h > 0 ? tile[0] < 0 || tile[1] < 0 : tile[0] > 0 || tile[1] > 0;
      for (index_t c = 0; c < 256; ++c) {
        y[static_cast<std::size_t>(c)] += pushed * static_cast<double>(layer.weights.down_at(j, c));
        exact[static_cast<std::size_t>(c)] += h * static_cast<double>(layer.weights.down_at(j, c));
      }
    }
    double token_error = 0, token_size = 0, length = 0, product = 0;
    for (std::size_t c = 0; c < 256; ++c) {
      token_error += (y[c] - exact[c]) * (y[c] - exact[c]);
      token_size += exact[c] * exact[c];
      length += y[c] * y[c];
      product += y[c] * exact[c];
    }
    error += token_error;
    size += token_size;
    worst = std::max(worst, std::sqrt(token_error / token_size));
    cosine += product / std::sqrt(token_size * length) / static_cast<double>(layer.tokens);
  }
  CHECK(table.number(1, "units pushed wrongly") * 192 * static_cast<double>(layer.tokens) == doctest::Approx(static_cast<double>(wrong)).epsilon(1e-9));
  CHECK(table.number(1, "relative error, worst token") == doctest::Approx(worst).epsilon(1e-4));
  CHECK(table.number(1, "mean cosine") == doctest::Approx(cosine).epsilon(1e-4));
  CHECK(table.number(1, "relative error") == doctest::Approx(std::sqrt(error / size)).epsilon(1e-4));  // f32 against double
  CHECK(table.number(1, "rows pushed per unit") > table.number(0, "rows pushed per unit"));
}

TEST_CASE("overflow: a verdict is what the bits say, and streams need no fewer than z") {
  const Settings settings = small_settings();
  const Findings findings = conduct(overflow(), settings);
  const Table &bits = findings.tables[0], &fits = findings.tables[1];
  const auto report = analyse_overflow(settings.layers[0].weights, settings.layers[0].x, settings.layers[0].tokens);
  REQUIRE(report);
  CHECK(bits.number(0, "P") == accumulator_bits(*report->w8a8.p.observed));
  CHECK(bits.number(0, "N") == accumulator_bits(*report->w8a8.n.observed));
  CHECK(bits.number(0, "z") == accumulator_bits(*report->w8a8.z.observed));
  CHECK(bits.number(0, "sign lost, fp16") == report->sign_in_doubt_fp16);
  CHECK(bits.number(0, "sign lost, bf16") == report->sign_in_doubt_bf16);
  for (std::size_t i = 0; i < report->w8a8.accumulators.size(); ++i) {
    const AccumulatorFit& fit = report->w8a8.accumulators[i];
    const std::size_t row = report->real.accumulators.size() + i;
    CHECK(text(fits, row, "accumulator") == fit.name);
    CHECK((text(fits, row, "P and N observed") == "fits") == fit.fits_streams);
    CHECK((text(fits, row, "z observed") == "fits") == fit.fits_z);
  }
  CHECK(bits.number(0, "worst case") >= std::max(bits.number(0, "P"), bits.number(0, "N")));
  CHECK(std::max(bits.number(0, "P"), bits.number(0, "N")) >= bits.number(0, "z"));
  for (std::size_t i = 0; i < fits.rows.size(); ++i) {
    const std::string accumulator = text(fits, i, "accumulator");
    if (!accumulator.starts_with("int")) continue;
    CAPTURE(accumulator);
    const double width = std::stod(accumulator.substr(3));
    CHECK((text(fits, i, "worst case") == "fits") == (bits.number(0, "worst case") <= width));
    CHECK((text(fits, i, "z observed") == "fits") == (bits.number(0, "z") <= width));
    CHECK((fits.number(i, "safe K tile, worst case") == 256.0) == (text(fits, i, "worst case") == "fits"));
    CHECK(fits.number(i, "safe K tile, worst case") <= fits.number(i, "safe K tile, observed"));
  }
}

TEST_CASE("small_batch: the union grows, never beyond the sum; bytes follow it") {
  const Settings settings = small_settings();
  const Findings findings = conduct(small_batch(), settings);
  const Table& table = findings.tables[0];
  const Layer& layer = settings.layers[0];
  const auto exact = reference(layer.weights, layer.x, layer.tokens, ReferenceMode::composite);
  REQUIRE(exact);
  REQUIRE(table.rows.size() == 5);
  const double active = table.number(0, "active union");
  CHECK(table.number(0, "if tokens were independent") == doctest::Approx(active).epsilon(1e-12));
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const double open = table.number(i, "active union");
    CHECK(open <= active * table.number(i, "batch") + 1e-12);
    const auto batch = static_cast<std::size_t>(table.number(i, "batch"));
    double independent = 0, together = 0;  // f32 gets no sign wrong here, or one in a million
    for (std::size_t unit = 0; unit < 192; ++unit) {
      double closed = 0;
      for (std::size_t first = 0; first < 16; first += batch) {
        bool any = false;
        for (std::size_t t = first; t < first + batch; ++t) {
          any = any || exact->active[t * 192 + unit] != 0;
          closed += exact->active[t * 192 + unit] == 0 ? 1.0 / 16.0 : 0.0;
        }
        together += any ? static_cast<double>(batch) / (16.0 * 192.0) : 0.0;
      }
      independent += (1.0 - std::pow(closed, static_cast<double>(batch))) / 192.0;
    }
    CHECK(open == doctest::Approx(together).epsilon(1e-9));
    CHECK(table.number(i, "if tokens were independent") == doctest::Approx(independent).epsilon(1e-9));
    CHECK(table.number(i, "and units alike") == doctest::Approx(1.0 - std::pow(1.0 - active, static_cast<double>(batch))).epsilon(1e-9));
    if (i > 0) CHECK(open >= table.number(i - 1, "active union"));
    CHECK(table.number(i, "dense bytes / skip bytes") == doctest::Approx(2.0 / (1.0 + open)).epsilon(1e-12));
  }
}

TEST_CASE("folded: exact by repair, fewer bytes only where most units are open") {
  const Settings settings = small_settings();
  const Findings findings = conduct(folded(), settings);
  const Table &result = findings.tables[0], &sweep = findings.tables[1];
  CHECK(result.number(0, "folded: relative error") <= result.number(0, "its bound"));
  CHECK(result.number(0, "its bound") < 1e-3);  // small against what is repaired: nine units of ten
  // C in f32; a plane with a scale and a norm per 64; the rows of W1 of what is not proven open, and of W2 of what is closed. bf16.
  const auto bytes = [](double d, double f, double proven, double active) {
    return (4 * d * d + f * d * (1 + 4.0 / 64) + (1 - proven) * f * d * 2 + (1 - active) * f * d * 2) / (2 * f * d * 2);
  };
  for (std::size_t i = 0; i < sweep.rows.size(); ++i) {
    CHECK(sweep.number(i, "folded bytes / dense") == doctest::Approx(bytes(128, 512, sweep.number(i, "proven open"), sweep.number(i, "active"))).epsilon(1e-12));
  }
  const auto activity = measure_activity(settings.layers[0].weights, settings.layers[0].x, settings.layers[0].tokens, {{8}, {64}, {}, 1});
  REQUIRE(activity);
  CHECK(findings.tables[2].number(0, "folded bytes / dense") ==
        doctest::Approx(bytes(256, 192, activity->planes[0].proven_open, activity->active)).epsilon(1e-12));
  const std::size_t last = sweep.rows.size() - 1;
  CHECK(sweep.number(0, "folded bytes / dense") > 1.0);
  CHECK(sweep.number(last, "folded bytes / dense") < sweep.number(last, "skip bytes / dense"));
  for (std::size_t i = 1; i <= last; ++i) {
    CHECK(sweep.number(i, "folded bytes / dense") < sweep.number(i - 1, "folded bytes / dense"));
  }
}

TEST_CASE("piecewise_linear: the error falls with the square of the segments; more tiles cross more") {
  Settings settings = small_settings();
  signsplit::test::Layer steps;  // z goes from v to v + 0.02 in the second K tile, v from -3 to 3
  steps.problem = {128, 600, 1, DType::f32, {}, false};
  steps.up.assign(600 * 128, 0.0f);
  steps.down.assign(600 * 128, 0.0f);
  for (std::size_t j = 0; j < 600; ++j) {
    steps.up[j * 128] = -3.0f + 0.01f * static_cast<float>(j);
    steps.up[j * 128 + 64] = 0.02f;
  }
  settings.layers.push_back({"steps", steps.pack(), std::vector<float>(128, 1.0f), 1});
  const Findings findings = conduct(piecewise_linear(), settings);
  const Table &segments = findings.tables[0], &crossings = findings.tables[1];
  for (std::size_t i = 0; i < segments.rows.size(); ++i) {
    const double count = segments.number(i, "segments"), error = segments.number(i, "minimax error");
    CHECK(error <= segments.number(i, "error of equal segments"));
    // (∫√|f″|)² / (16 n²), what many segments of the best lines reach: 0.5074 / n²
    if (count >= 8) CHECK(error * count * count == doctest::Approx(0.5074).epsilon(0.1));
  }
  const std::size_t tables = 4;  // 4, 8, 16, 32 segments, for each number of tiles
  REQUIRE(crossings.rows.size() == 2 * 3 * tables);
  for (std::size_t i = 0; i < crossings.rows.size(); ++i) {
    const double crossed = crossings.number(i, "units that cross"), tiles = crossings.number(i, "K tiles");
    CHECK(crossings.number(i, "re-do: weight bytes / row_fused") == doctest::Approx((1 + crossed + tiles + crossed) / 2).epsilon(1e-12));
    CHECK((crossings.number(i, "relative error of h, ignored") > 1e-12) == (crossed > 0));
    if (text(crossings, i, "layer") != "steps" || tiles != 2) continue;
    CHECK(crossed > 0.0);  // each knot is crossed by the two units just before it
    CHECK(crossed <= 2.0 * crossings.number(i, "segments") / 600.0);
    CHECK(crossings.number(i, "outside two sets") == 0.0);  // into the nearer neighbour
  }
  for (std::size_t i = tables; i < 3 * tables; ++i) {
    CHECK(crossings.number(i, "units that cross") >= crossings.number(i - tables, "units that cross"));
    CHECK(crossings.number(i, "outside two sets") <= crossings.number(i, "units that cross"));
  }
}

/// The fractions that planes of so many bits and of as many more leave, written a second time: one weight at a time.
struct Left {
  double first = 0, both = 0, active = 0;
};
Left plainly_left(const Layer& layer, int bits) {
  const Weights& w = layer.weights;
  const index_t d = w.d_model(), units = w.d_ff();
  Left left;
  for (index_t j = 0; j < units; ++j) {
    for (index_t t = 0; t < layer.tokens; ++t) {
      double z = static_cast<double>(w.gated() ? w.gate_bias()[static_cast<std::size_t>(j)] : w.up_bias()[static_cast<std::size_t>(j)]);
      if (w.activation().kind == ActivationKind::fatrelu) z -= static_cast<double>(w.activation().threshold);
      double coarse = z, fine = z;
      for (index_t g = 0; g < d; g += 64) {
        double largest = 0, x_squares = 0, coarse_rest = 0, fine_rest = 0;
        const auto weight = [&](index_t k) { return static_cast<double>(w.gated() ? w.gate_at(j, k) : w.up_at(j, k)); };
        for (index_t k = g; k < g + 64; ++k) largest = std::max(largest, std::abs(weight(k)));
        for (index_t k = g; k < g + 64; ++k) {
          const double x = static_cast<double>(layer.x[static_cast<std::size_t>(t * d + k)]), step = largest / (std::ldexp(1.0, bits - 1) - 1), fine_step = std::ldexp(step, -bits);
          const double rough = step * std::nearbyint(weight(k) / step);
          const double refined = rough + fine_step * std::nearbyint((weight(k) - rough) / fine_step);
          z += x * weight(k);
          coarse += x * rough;
          fine += x * refined;
          x_squares += x * x;
          coarse_rest += (weight(k) - rough) * (weight(k) - rough);
          fine_rest += (weight(k) - refined) * (weight(k) - refined);
        }
        coarse += std::sqrt(x_squares * coarse_rest);
        fine += std::sqrt(x_squares * fine_rest);
      }
      left.active += z > 0 ? 1 : 0;
      left.first += coarse < 0 ? 0 : 1;
      left.both += coarse < 0 || fine < 0 ? 0 : 1;
    }
  }
  const double pairs = static_cast<double>(units * layer.tokens);
  return {left.first / pairs, left.both / pairs, left.active / pairs};
}

TEST_CASE("progressive: planes leave what is not closed beyond their bound, and bytes are those of the steps") {
  Settings settings = small_settings();
  for (const auto& [activation, gated] : {std::pair{Activation{ActivationKind::relu}, true}, {Activation{ActivationKind::fatrelu, 0.5f}, false}}) {
    auto layer = gaussian_layer("more", {.d_model = 256, .d_ff = 64, .dtype = DType::f32, .activation = activation, .gated = gated}, 8, settings);
    REQUIRE_MESSAGE(layer.ok(), layer.message());
    settings.layers.push_back(std::move(*layer));
  }
  const Findings findings = conduct(progressive(), settings);
  const Table& table = findings.tables[0];
  std::size_t row = 0;
  for (const Layer& layer : settings.layers) {  // D = 256, groups of 64: a plane of 8 bits of a row takes 256 + 8 + 12 bytes, the next 256 + 4
    const bool f32 = layer.weights.dtype() == DType::f32;
    const double whole = f32 ? 1024 : 512, residual = static_cast<double>(ResidualLayout{layer.weights.dtype(), 256}.row_bytes());
    const Left eight = plainly_left(layer, 8), four = plainly_left(layer, 4);
    const double pairs = static_cast<double>(layer.weights.d_ff() * layer.tokens);
    double today = 0;
    for (const std::array<double, 3>& bytes : std::vector<std::array<double, 3>>{
             {276, 0, whole}, {276, 0, residual}, {276, 260, whole}, {148, 132, whole}, {148, 132, residual}, {276, 260, residual - 256}}) {
      if (bytes[2] == residual - 256 && !f32) continue;
      CAPTURE(text(table, row, "scheme"));
      const double first = table.number(row, "left by the first plane"), both = table.number(row, "left by both"), active = table.number(row, "active");
      const Left& expected = bytes[0] == 276 ? eight : four;
      CHECK(std::abs(active - expected.active) * pairs < 1.5);  // a sum of doubles in another order may fall on the other side
      CHECK(std::abs(first - expected.first) * pairs < 1.5);
      if (bytes[1] > 0) CHECK(std::abs(both - expected.both) * pairs < 1.5);
      CHECK(both >= active);
      CHECK(first >= both);
      const double all = bytes[0] + first * bytes[1] + both * bytes[2] + active * whole * (layer.weights.gated() ? 2 : 1);
      if (today == 0) today = all;
      CHECK(std::abs(table.number(row, "bytes per weight of W1") - all / 256) < 1e-9);
      CHECK(std::abs(table.number(row, "of today's bytes") - all / today) < 1e-9);
      ++row;
    }
  }
  const Layer& layer = settings.layers[0];  // what is executed also bounds its own roundings
  const Plan plan = default_plan(layer.weights.problem(), Strategy::certified);
  std::uint64_t refined = 0;
  std::vector<float> y(256);
  auto ffn = cpu::Ffn::create(layer.weights, plan, 1, with_threads(1));
  REQUIRE(ffn);
  for (index_t t = 0; t < layer.tokens; ++t) {
    REQUIRE(ffn->run(std::span(layer.x).subspan(static_cast<std::size_t>(t) * 256, 256), y));
    refined += ffn->report().statistics.refined;
  }
  const double left = table.number(0, "left by the first plane") * 192.0 * 16.0;
  CHECK(left <= static_cast<double>(refined));
  CHECK(left >= 0.8 * static_cast<double>(refined));
  const Table& time = findings.tables[1];
  for (std::size_t i = 0; i < time.rows.size(); ++i) {
    const double base = time.number(i, "certified ms");
    CHECK(time.number(i, "time with a second plane") ==
          doctest::Approx((base - time.number(i, "saved ms") + time.number(i, "spent ms")) / base).scale(0.0).epsilon(1e-9));
  }
}

TEST_CASE("additive_offset: what comes out is the linear network, not the ReLU network") {
  const Findings findings = conduct(additive_offset(), small_settings());
  const Table &counterexample = findings.tables[0], &layers = findings.tables[1];
  CHECK(counterexample.number(1, "z") == -1.0);
  CHECK(counterexample.number(1, "relu(z)") == 0.0);
  CHECK(counterexample.number(1, "offset 2: relu(z + 2) - 2") == -1.0);
  CHECK(layers.number(0, "to the linear network") < 1e-12);  // (z + c) − c in double
  CHECK(layers.number(0, "relative distance to the relu network") > 1.0);
}

TEST_CASE("a plot leaves out what it cannot draw, and takes names as they are") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Plot plot{"it's", "x", "y", true, true, {{"a", {{1, 2}, {0, 5}, {3, nan}, {4, -6}}}}};
  const std::string script = gnuplot_script(plot);
  CHECK(script.find("'it''s'") != std::string::npos);
  CHECK(script.find("\n1 2\nEOD\n") != std::string::npos);
}

TEST_CASE("a program writes its tables and refuses bad usage") {
  const test::ScratchDirectory scratch;
  const std::string file = (scratch.path() / "study.json").string();
  const Study constant{"constant", "?", [](const Settings&) -> Result<Findings> {
                         return Findings{{{"t", {"a", "b"}, {{std::string("x"), std::nan("")}}}}, {}};
                       }};
  const auto run = [&](std::vector<std::string> words) {
    std::vector<char*> argv;
    words.insert(words.begin(), "study");
    for (std::string& word : words) argv.push_back(word.data());
    return run_study(static_cast<int>(argv.size()), argv.data(), constant);
  };
  CHECK(run({"--json", file}) == 0);
  CHECK(std::filesystem::file_size(file) > 0);
  CHECK(run({"--json", (scratch.path() / "no/such/study.json").string()}) == 2);
  CHECK(run({"--weights", "only.safetensors"}) == 2);
  CHECK(run({"--no-such-option"}) == 2);
}
