#include "signsplit/golden.hpp"

#include <cmath>
#include <exception>
#include <limits>
#include <numeric>

#include "kernel_model.hpp"
#include "signsplit/reference.hpp"

namespace signsplit {
namespace {

constexpr std::pair<DataSet, std::string_view> kSets[] = {
    {DataSet::random, "random"},         {DataSet::exact, "exact"},   {DataSet::cancellation, "cancellation"},
    {DataSet::outliers, "outliers"},     {DataSet::scales, "scales"}, {DataSet::subnormals, "subnormals"},
    {DataSet::nonfinite, "nonfinite"},   {DataSet::given, "given"}};
constexpr std::pair<Accumulation, std::string_view> kAccumulations[] = {
    {Accumulation::f32, "f32"}, {Accumulation::f64, "f64"}, {Accumulation::bf16_activations, "bf16-activations"}};

template <class E, std::size_t n>
std::string_view name_of(const std::pair<E, std::string_view> (&names)[n], E value) {
  for (const auto& [one, name] : names) {
    if (one == value) return name;
  }
  return {};
}

template <class E, std::size_t n>
std::optional<E> value_of(const std::pair<E, std::string_view> (&names)[n], std::string_view text) {
  for (const auto& [one, name] : names) {
    if (name == text) return one;
  }
  return std::nullopt;
}

float rounded_up(double value) {
  const auto nearest = static_cast<float>(value);
  return static_cast<double>(nearest) < value ? std::nextafter(nearest, std::numeric_limits<float>::infinity()) : nearest;
}

/// The bounds around values that were rounded to f32. `times` 2: around those of the staged reference, which is itself a kernel that the bound holds for.
std::vector<float> bounds_of(std::span<const Approximate> values, double times = 1.0) {
  std::vector<float> bounds;
  for (const Approximate& a : values) {
    double bound = times * a.reach();
    if (bound != 0.0) bound += kRoundoff32 * a.largest() + kUnderflow32;
    bounds.push_back(std::isnan(bound) ? std::numeric_limits<float>::infinity() : rounded_up(bound));
  }
  return bounds;
}

void add_bounds(Golden& golden, int threads) {
  const GoldenInput& in = golden.input;
  std::vector<index_t> columns(static_cast<std::size_t>(in.weights.d_model()));
  std::iota(columns.begin(), columns.end(), index_t{0});
  const double times = has_composite(in.weights.activation()) ? 1.0 : 2.0;
  for (index_t token = 0; token < in.batch; ++token) {
    const KernelEvaluation evaluation(in.weights, in.x, {token}, golden.accumulation, threads);
    const KernelEvaluation::Hidden hidden = evaluation.hidden({});
    const auto append = [](std::vector<float>& to, const std::vector<float>& more) {
      to.insert(to.end(), more.begin(), more.end());
    };
    append(golden.z_bound, bounds_of(hidden.z));
    append(golden.h_bound, bounds_of(hidden.h, times));
    append(golden.y_bound, bounds_of(evaluation.output({}, hidden.h, columns), times));
  }
}

}  // namespace

std::string_view to_string(DataSet set) noexcept { return name_of(kSets, set); }
std::string_view to_string(Accumulation accumulation) noexcept { return name_of(kAccumulations, accumulation); }
std::optional<DataSet> parse_data_set(std::string_view text) noexcept { return value_of(kSets, text); }
std::optional<Accumulation> parse_accumulation(std::string_view text) noexcept { return value_of(kAccumulations, text); }

Result<Golden> make_golden(GoldenInput input, const GoldenSource& source, Accumulation accumulation, int threads) try {
  Result<ReferenceResult> staged = reference(input.weights, input.x, input.batch, ReferenceMode::staged, threads);
  if (!staged) return staged.status();
  const ReferenceMode sharpest = sharpest_mode(input.weights.activation());
  Result<ReferenceResult> exact = sharpest == ReferenceMode::staged ? *staged : reference(input.weights, input.x, input.batch, sharpest, threads);
  if (!exact) return exact.status();
  Golden golden{.input = std::move(input),
                .source = source,
                .accumulation = accumulation,
                .version = SIGNSPLIT_VERSION,
                .y = std::move(exact->y),
                .y_staged = std::move(staged->y),
                .z = std::move(exact->z),
                .h = std::move(exact->h),
                .active = std::move(exact->active),
                .y_bound = {},
                .z_bound = {},
                .h_bound = {}};
  add_bounds(golden, threads);
  return golden;
} catch (const std::exception&) {
  return io_error("not enough memory for golden data");
}

}  // namespace signsplit
