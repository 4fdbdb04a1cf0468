#include "tools/analysis_json.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

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

/// The number under a key, from `least` to `most`; NaN and a message when it is something else.
class Reader {
 public:
  Reader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail("must be an object");
  }
  double number(const char* key, double least, double most) {
    if (!problem_.empty()) return 0;
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_number()) return fail(fmt::format("needs a number \"{}\"", key));
    const double value = found->get<double>();
    if (value >= least && value <= most) return value;
    return fail(fmt::format("\"{}\" must be from {} to {}", key, least, most));
  }
  double fraction(const char* key) { return number(key, 0, 1); }
  index_t count(const char* key) { return static_cast<index_t>(number(key, 1, static_cast<double>(kMaxExtent))); }
  /// The elements of an array; none when there is no such key.
  std::vector<Reader> elements(const char* key) {
    std::vector<Reader> all;
    const auto found = problem_.empty() ? object_.find(key) : object_.end();
    if (found == object_.end()) return all;
    if (!found->is_array()) fail(fmt::format("\"{}\" must be an array", key));
    for (std::size_t i = 0; found->is_array() && i < found->size(); ++i) all.emplace_back((*found)[i], fmt::format("{}.{}[{}]", where_, key, i));
    return all;
  }
  void take_problem(const Reader& other) {
    if (problem_.empty()) problem_ = other.problem_;
  }
  [[nodiscard]] Status status() const { return problem_.empty() ? Status{} : invalid_argument(problem_); }

 private:
  double fail(const std::string& rule) {
    if (problem_.empty()) problem_ = where_ + ": " + rule;
    return 0;
  }

  const Json& object_;
  std::string where_, problem_;
};

ActivityReport read_report(Reader& layer) {
  ActivityReport report;
  report.units = layer.count("units");
  report.tokens = layer.count("tokens");
  report.active = layer.fraction("active");
  for (Reader& plane : layer.elements("planes")) {
    report.planes.push_back({.bits = static_cast<int>(plane.number("bits", 2, 8)), .group = plane.count("group"), .executed = plane.fraction("executed")});
    layer.take_problem(plane);
  }
  for (Reader& crossing : layer.elements("crossings")) {
    const index_t tiles = crossing.count("k_tiles");
    report.crossings.push_back({tiles, crossing.fraction("wrong"), crossing.number("pushed", 0, static_cast<double>(std::max<index_t>(tiles, 1)))});
    layer.take_problem(crossing);
  }
  return report;
}

}  // namespace

Result<std::vector<ActivityReport>> activity_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool known = json.is_object() && json.contains("layers") && json["layers"].is_array() && !json["layers"].empty();
  if (!known) return invalid_argument("must be what `signsplit activity --json` writes: an object with an array \"layers\", not empty");
  std::vector<ActivityReport> reports;
  for (std::size_t i = 0; i < json["layers"].size(); ++i) {
    Reader layer(json["layers"][i], fmt::format("layers[{}]", i));
    reports.push_back(read_report(layer));
    if (const Status status = layer.status(); !status) return status;
  }
  return reports;
}

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
