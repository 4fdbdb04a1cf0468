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

/// The bounds around values that were rounded to f32.
std::vector<float> bounds_of(std::span<const Approximate> values) {
  std::vector<float> bounds;
  for (const Approximate& a : values) {
    double bound = a.reach();
    if (bound != 0.0) bound += kRoundoff32 * a.largest() + kUnderflow32;
    bounds.push_back(std::isnan(bound) ? std::numeric_limits<float>::infinity() : rounded_up(bound));
  }
  return bounds;
}

void add_bounds(Golden& golden, int threads) {
  const GoldenInput& in = golden.input;
  std::vector<index_t> columns(static_cast<std::size_t>(in.weights.d_model()));
  std::iota(columns.begin(), columns.end(), index_t{0});
  for (index_t token = 0; token < in.batch; ++token) {
    const KernelEvaluation evaluation(in.weights, in.x, {token}, golden.accumulation, threads);
    const KernelEvaluation::Hidden hidden = evaluation.hidden({});
    const auto append = [](std::vector<float>& to, const std::vector<float>& more) {
      to.insert(to.end(), more.begin(), more.end());
    };
    append(golden.z_bound, bounds_of(hidden.z));
    append(golden.h_bound, bounds_of(hidden.h));
    append(golden.y_bound, bounds_of(evaluation.output({}, hidden.h, columns)));
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
  Result<ReferenceResult> composite = reference(input.weights, input.x, input.batch, ReferenceMode::composite, threads);
  if (!composite) return composite.status();
  Golden golden{.input = std::move(input),
                .source = source,
                .accumulation = accumulation,
                .version = SIGNSPLIT_VERSION,
                .y = std::move(composite->y),
                .y_staged = std::move(staged->y),
                .z = std::move(composite->z),
                .h = std::move(composite->h),
                .active = std::move(composite->active),
                .y_bound = {},
                .z_bound = {},
                .h_bound = {}};
  add_bounds(golden, threads);
  return golden;
} catch (const std::exception&) {
  return io_error("not enough memory for golden data");
}

}  // namespace signsplit
