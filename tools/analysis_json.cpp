#include "tools/analysis_json.hpp"

namespace signsplit::tools {
namespace {

Json range_json(const SumRange& range, bool integer) {
  Json json{{"worst", range.worst}, {"observed", range.observed ? Json(*range.observed) : Json(nullptr)}};
  if (integer) {
    json["bits_worst"] = accumulator_bits(range.worst);
    json["bits_observed"] = range.observed ? Json(accumulator_bits(*range.observed)) : Json(nullptr);
  }
  return json;
}

Json view_json(const OverflowView& view, bool integer) {
  Json json{{"x_bound", view.x_bound},
            {"p", range_json(view.p, integer)},
            {"n", range_json(view.n, integer)},
            {"z", range_json(view.z, integer)}};
  Json& accumulators = json["accumulators"] = Json::array();
  for (const AccumulatorFit& fit : view.accumulators) {
    accumulators.push_back({{"name", fit.name},
                            {"limit", fit.limit},
                            {"fits_worst", fit.fits_worst},
                            {"fits_streams", fit.fits_streams},
                            {"fits_z", fit.fits_z},
                            {"k_tile_worst", fit.k_tile_worst},
                            {"k_tile_observed", fit.k_tile_observed}});
  }
  return json;
}

}  // namespace

Json activity_json(const ActivityReport& report) {
  Json json{{"units", report.units},
            {"tokens", report.tokens},
            {"active", report.active},
            {"never_active", report.never_active},
            {"always_active", report.always_active},
            {"z_mean", report.z_mean},
            {"z_sigma", report.z_sigma},
            {"near_threshold", report.near_threshold}};
  Json& quantiles = json["z_quantiles"] = Json::array();
  for (std::size_t i = 0; i < report.z_quantiles.size(); ++i) {
    quantiles.push_back({{"fraction", ActivityReport::kQuantiles[i]}, {"z_over_sigma", report.z_quantiles[i]}});
  }
  json["z_histogram"] = {{"first", ActivityReport::kFirstBin},
                         {"width", ActivityReport::kBinWidth},
                         {"fractions", report.z_histogram}};
  Json& planes = json["planes"] = Json::array();
  for (const PlaneRate& plane : report.planes) {
    planes.push_back({{"bits", plane.bits},
                      {"group", plane.group},
                      {"proven", plane.proven},
                      {"proven_of_dead", plane.proven_of_dead},
                      {"false_survivors", plane.false_survivors},
                      {"proven_open", plane.proven_open},
                      {"executed", plane.executed}});
  }
  Json& crossings = json["crossings"] = Json::array();
  for (const CrossingRate& crossing : report.crossings) {
    crossings.push_back({{"k_tiles", crossing.k_tiles}, {"wrong", crossing.wrong}, {"pushed", crossing.pushed}});
  }
  return json;
}

Json overflow_json(const OverflowReport& report) {
  return {{"tokens", report.tokens},
          {"float", view_json(report.real, false)},
          {"w8a8", view_json(report.w8a8, true)},
          {"cancelled_bits_median", report.cancelled_bits_median},
          {"cancelled_bits_p99", report.cancelled_bits_p99},
          {"sign_in_doubt_fp16", report.sign_in_doubt_fp16},
          {"sign_in_doubt_bf16", report.sign_in_doubt_bf16}};
}

}  // namespace signsplit::tools
