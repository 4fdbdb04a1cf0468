// Do the separate streams overflow? Accumulator bits that P, N and z need, on layers and over D.
#include "signsplit/overflow.hpp"

#include "signsplit/synthetic.hpp"
#include "studies/study.hpp"

namespace signsplit::studies {
namespace {

double bits(double magnitude) { return accumulator_bits(magnitude); }

std::string verdict(bool fits) { return fits ? "fits" : "overflows"; }

Status examine(const Layer& layer, const Settings& settings, Findings& findings) {
  const auto report = analyse_overflow(layer.weights, layer.x, layer.tokens, 0.0, settings.threads);
  if (!report) return report.status();
  const OverflowView& w8a8 = report->w8a8;
  findings.tables[0].rows.push_back({layer.name, bits(w8a8.p.worst), bits(*w8a8.p.observed), bits(*w8a8.n.observed),
                                     bits(*w8a8.z.observed), report->cancelled_bits_median, report->cancelled_bits_p99,
                                     report->sign_in_doubt_fp16, report->sign_in_doubt_bf16});
  for (const OverflowView* view : {&report->real, &w8a8}) {
    for (const AccumulatorFit& fit : view->accumulators) {
      findings.tables[1].rows.push_back({layer.name, std::string(view == &w8a8 ? "w8a8" : "float"), std::string(fit.name),
                                         verdict(fit.fits_worst), verdict(fit.fits_streams), verdict(fit.fits_z),
                                         static_cast<double>(fit.k_tile_worst), static_cast<double>(fit.k_tile_observed)});
    }
  }
  return {};
}

/// Gaussian rows of growing length: how the needs grow with D.
Status examine_lengths(const Settings& settings, Findings& findings) {
  Series worst{"worst case (P, N and z)"}, streams{"P, observed"}, z{"z, observed"};
  const index_t longest = settings.small ? 256 : 16384;
  for (index_t d = 128; d <= longest; d *= 2) {
    const auto weights = synthetic_weights({.d_model = d, .d_ff = 64}, 0.1, settings.seed, settings.threads);
    if (!weights) return weights.status();
    const auto report = analyse_overflow(*weights, synthetic_input(32, d, settings.seed + 1), 32, 0.0, settings.threads);
    if (!report) return report.status();
    const auto length = static_cast<double>(d);
    const OverflowView& view = report->w8a8;
    findings.tables[2].rows.push_back({length, bits(view.p.worst), bits(*view.p.observed), bits(*view.z.observed),
                                       report->cancelled_bits_median});
    worst.points.emplace_back(length, bits(view.p.worst));
    streams.points.emplace_back(length, bits(*view.p.observed));
    z.points.emplace_back(length, bits(*view.z.observed));
  }
  findings.plot.series = {std::move(worst), std::move(streams), std::move(z)};
  return {};
}

Result<Findings> run(const Settings& settings) {
  Findings findings{
      {{"bits",
        {"layer", "worst case", "P", "N", "z", "bits cancelled, median", "bits cancelled, 99 %", "sign lost, fp16",
         "sign lost, bf16"}},
       {"accumulators",
        {"layer", "view", "accumulator", "worst case", "P and N observed", "z observed", "safe K tile, worst case",
         "safe K tile, observed"}},
       {"gaussian", {"D", "worst case", "P", "z", "bits cancelled, median"}}},
      {"Accumulator bits of an int8 product (W8A8), Gaussian rows", "D", "bits, sign included", true, false}};
  for (const Layer& layer : settings.layers) {
    if (const Status status = examine(layer, settings, findings); !status) return status;
  }
  if (const Status status = examine_lengths(settings, findings); !status) return status;
  return findings;
}

}  // namespace

Study overflow() { return {"overflow", "Do the separate streams P and N overflow where z does not?", run}; }

}  // namespace signsplit::studies
