#include "lookup.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "gpu_machine.hpp"
#include "model_fields.hpp"

namespace signsplit::sim {
namespace {

/// One curve: the points of one thread count.
struct Curve {
  const BandwidthPoint* begin;
  const BandwidthPoint* end;
  [[nodiscard]] int threads() const { return begin->threads; }
};

double along(const Curve& curve, double working_set) {
  const BandwidthPoint* above = std::lower_bound(curve.begin, curve.end, working_set, [](const BandwidthPoint& p, double w) {
    return p.working_set_bytes < w;
  });
  if (above == curve.begin) return above->bytes_per_s;
  if (above == curve.end) return (above - 1)->bytes_per_s;
  const BandwidthPoint& low = above[-1];
  const double share = std::log(working_set / low.working_set_bytes) / std::log(above->working_set_bytes / low.working_set_bytes);
  return low.bytes_per_s * std::pow(above->bytes_per_s / low.bytes_per_s, share);
}

/// The curves next below and next above a thread count; the same one twice at the ends.
std::array<Curve, 2> neighbours(const Machine& machine, int threads) {
  const BandwidthPoint* const end = machine.read_bandwidth.data() + machine.read_bandwidth.size();
  Curve below{nullptr, nullptr};
  for (const BandwidthPoint* p = machine.read_bandwidth.data(); p != end;) {
    const BandwidthPoint* q = p;
    while (q != end && q->threads == p->threads) ++q;
    const Curve curve{p, q};
    if (curve.threads() >= threads) return {below.begin != nullptr ? below : curve, curve};
    below = curve;
    p = q;
  }
  return {below, below};
}

double between(const std::array<Curve, 2>& curves, int threads, double at_low, double at_high) {
  const int low = curves[0].threads(), high = curves[1].threads();
  if (low >= high || threads <= low) return at_low;
  return at_low + (at_high - at_low) * (threads - low) / (high - low);
}

struct DerivedRate {
  std::string_view name;
  double share;  ///< elements per FMA of the peak: loads, conversions and stores take the rest
};
constexpr DerivedRate kDerivedRates[] = {
    {"down_token_f32", 0.40}, {"down_token_bf16", 0.40}, {"down_token_f16", 0.40}, {"down_token_int8", 0.40}, {"down_token_w8a8", 0.40},
    {"pieces_f32", 0.30}, {"pieces_bf16", 0.25}, {"pieces_f16", 0.25}, {"pieces_int8", 0.20}, {"pieces_w8a8", 0.20},
    {"push_f32", 0.25}, {"push_bf16", 0.20}, {"push_f16", 0.20}, {"push_int8", 0.16}, {"push_w8a8", 0.16},
    {"up_f16", 0.25}, {"down_f16", 0.20}, {"token_f16", 0.40}, {"streams_f16", 0.15},
    {"up_int8", 0.30}, {"down_int8", 0.24}, {"token_int8", 0.40}, {"streams_int8", 0.12},
    {"up_w8a8", 0.50}, {"down_w8a8", 0.40}, {"token_w8a8", 0.80}, {"streams_w8a8", 0.12},
    {"up_f32", 0.36},  {"up_bf16", 0.36},  {"down_f32", 0.30},     {"down_bf16", 0.30},     {"token_f32", 0.40},
    {"token_bf16", 0.40}, {"streams_f32", 0.18}, {"streams_bf16", 0.15}, {"exact", 0.002}, {"certify", 0.8},
};

/// The same of what a further token adds on a CPU, which converts and loads no weight again.
constexpr double kFurtherToken = 0.65;

const Rate* find_rate(const Machine& machine, std::string_view isa, std::string_view name) {
  for (const Rate& rate : machine.rates) {
    if (rate.isa == isa && rate.name == name) return &rate;
  }
  return nullptr;
}

double uncertainty_of(const std::vector<ThreadCost>& costs) {
  double worst = 0;
  for (const ThreadCost& cost : costs) worst = std::max(worst, relative_ci90(cost.seconds));
  return worst;
}

double bandwidth_uncertainty(const Machine& machine) {
  double sum = 0;
  for (const BandwidthPoint& point : machine.read_bandwidth) {
    sum += relative_ci90({point.bytes_per_s, "B/s", machine.read_bandwidth_kind, "", point.ci90});
  }
  return sum / static_cast<double>(std::max<std::size_t>(machine.read_bandwidth.size(), 1));
}

double rate_uncertainty(const Machine& machine) {
  double sum = 0;
  int rates = 0;
  for (const char* name : {"up_f32", "up_bf16", "down_f32", "down_bf16"}) {
    if (const std::optional<Quantity> rate = kernel_rate(machine, machine.isa, name)) {
      sum += relative_ci90(*rate);
      ++rates;
    }
  }
  return rates > 0 ? sum / rates : 0.4;
}

double figure_uncertainty(const Machine& machine, const char* path) {
  const auto found = machine.figures.find(path);
  return found != machine.figures.end() ? relative_ci90(found->second) : 0.4;
}

double square(double x) { return x * x; }

/// Σ (term · relative uncertainty)².
double weighted_squares(const Terms& terms, const Terms& relative) {
  return square(terms.launch * relative.launch) + square(terms.first_byte * relative.first_byte) +
         square(terms.stream * relative.stream) + square(terms.compute * relative.compute) +
         square(terms.barrier * relative.barrier) + square(terms.reduction * relative.reduction) +
         square(terms.imbalance * relative.imbalance) + square(terms.repair * relative.repair);
}

Terms difference_of(const Terms& a, const Terms& b) {
  Terms difference;
  difference.launch = a.launch - b.launch;
  difference.first_byte = a.first_byte - b.first_byte;
  difference.stream = a.stream - b.stream;
  difference.compute = a.compute - b.compute;
  difference.barrier = a.barrier - b.barrier;
  difference.reduction = a.reduction - b.reduction;
  difference.imbalance = a.imbalance - b.imbalance;
  difference.repair = a.repair - b.repair;
  return difference;
}

}  // namespace

int tokens_of_rate(std::string_view name) {
  for (const int tokens : kRatedBatches) {
    if (tokens > 1 && name.ends_with("_" + std::to_string(tokens))) return tokens;
  }
  return 1;
}

double bandwidth(const Machine& machine, int threads, double working_set_bytes) {
  const auto curves = neighbours(machine, threads);
  const double read = between(curves, threads, along(curves[0], working_set_bytes), along(curves[1], working_set_bytes));
  return is_gpu(machine) ? gpu_bandwidth(machine, threads, read, gpu_latency_s(machine, working_set_bytes)) : read;
}

double own_caches_bytes(const Machine& machine, int threads) {
  if (machine.levels.size() < 2) return 1.0;
  const CacheLevel& level = machine.levels[machine.levels.size() - 2];
  return std::max(1.0, level.capacity_bytes.value * std::max(1, threads / std::max(1, level.shared_by_units)));
}

double dram_bandwidth(const Machine& machine, int threads) {
  const auto curves = neighbours(machine, threads);
  return between(curves, threads, curves[0].end[-1].bytes_per_s, curves[1].end[-1].bytes_per_s);
}

double thread_cost(const std::vector<ThreadCost>& costs, int threads) {
  if (costs.empty()) return 0.0;
  if (costs.size() == 1 || threads <= costs.front().threads) return costs.front().seconds.value;
  std::size_t high = 1;
  while (high + 1 < costs.size() && costs[high].threads < threads) ++high;
  const ThreadCost &a = costs[high - 1], &b = costs[high];
  const double share = std::log2(static_cast<double>(threads) / a.threads) / std::log2(static_cast<double>(b.threads) / a.threads);
  return std::max(0.0, a.seconds.value + share * (b.seconds.value - a.seconds.value));
}

std::optional<Quantity> kernel_rate(const Machine& machine, std::string_view isa, std::string_view name) {
  if (const Rate* rate = find_rate(machine, isa, name)) return rate->per_s;
  const Rate* fma = find_rate(machine, isa, "fma_f32");
  if (fma == nullptr) return std::nullopt;
  if (const int tokens = tokens_of_rate(name); tokens > 1) {
    const std::optional<Quantity> alone = kernel_rate(machine, isa, name.substr(0, name.size() - 2));
    if (!alone) return std::nullopt;
    const double seconds = 1.0 / alone->value + (tokens - 1) / (0.5 * kFurtherToken * fma->per_s.value);
    return Quantity{1.0 / seconds, "elem/s", Kind::assumed, "derived from the rate of one token and fma_f32", 0.0};
  }
  for (const DerivedRate& derived : kDerivedRates) {
    if (derived.name == name) {
      return Quantity{0.5 * derived.share * fma->per_s.value, "elem/s", Kind::assumed, "derived from fma_f32", 0.0};
    }
  }
  return std::nullopt;
}

Quantity model_value(const Machine& machine, std::string_view name) {
  const auto found = machine.model.find(std::string(name));
  if (found != machine.model.end()) return found->second;
  const ModelField* field = find_model_field(name);
  return {field != nullptr ? field->assumed : 0.0, field != nullptr ? std::string(field->base_unit) : "1", Kind::assumed,
          "assumed where the profile says nothing", 0.0};
}

double relative_ci90(const Quantity& quantity) {
  if (quantity.ci90 > 0.0 && quantity.value > 0.0) return quantity.ci90 / quantity.value;
  switch (quantity.kind) {
    case Kind::measured: return 0.05;
    case Kind::fitted: return 0.10;
    case Kind::datasheet: return 0.20;
    case Kind::assumed: return 0.40;
  }
  return 0.40;
}

Terms term_uncertainty(const Machine& machine) {
  const auto of = [&](const char* parameter) { return relative_ci90(model_value(machine, parameter)); };
  Terms relative;
  if (is_gpu(machine)) {
    relative.launch = figure_uncertainty(machine, "overheads.launch_graph");
    relative.first_byte = figure_uncertainty(machine, "overheads.kernel_drain");
    relative.barrier = figure_uncertainty(machine, "sync.grid_barrier");
    relative.reduction = 0.3;  // the curve is of reads; this is stores as well
    relative.imbalance = 0.5;
  } else {
    relative.launch = uncertainty_of(machine.fork_join_s);
    relative.first_byte = of("first_byte_s");
    relative.barrier = std::max(uncertainty_of(machine.barrier_s), of("barrier_wait_s"));
    relative.reduction = of("exchange_rate");
    relative.imbalance = of("imbalance");
  }
  relative.stream = bandwidth_uncertainty(machine);
  relative.compute = rate_uncertainty(machine);
  relative.reduction = std::max(relative.stream, relative.reduction);
  relative.repair = std::max(relative.compute, 0.3);  // depends on the data more than on the machine
  return relative;
}

double prediction_uncertainty_s(const Terms& terms, const Machine& machine, Residency residency) {
  const bool cached = residency == Residency::warm && !is_gpu(machine);
  const double left_out = model_value(machine, cached ? "cache_error" : "error").value * terms.total();
  const double noise = machine.noise_cv * terms.total();
  return std::sqrt(weighted_squares(terms, term_uncertainty(machine)) + square(left_out) + square(noise));
}

double gap_uncertainty_of_terms_s(const Terms& a, const Terms& b, const Machine& machine) {
  return std::sqrt(weighted_squares(difference_of(a, b), term_uncertainty(machine)));
}

double gap_uncertainty_s(const Prediction& a, const Prediction& b, const Machine& machine) {
  // What the equations leave out of both alike cancels too: gap_error is of schedules whose terms are nearly the same, unlike_error of two that
  // differ by a fifth of the time or more.
  constexpr double kUnrelated = 0.2;
  double apart = 0;
  for (const auto& [name, seconds] : difference_of(a.terms, b.terms).named()) apart += std::abs(seconds);
  const double slower = std::max(a.terms.total(), b.terms.total()), memory = std::max(a.memory, b.memory);
  const double cached = model_value(machine, "cache_gap_error").value, alike = cached + memory * (model_value(machine, "gap_error").value - cached);
  const double unlike = std::max(alike, model_value(machine, "unlike_error").value);
  const double share = slower > 0.0 && !is_gpu(machine) ? std::min(1.0, apart / (kUnrelated * slower)) : 1.0;
  return std::hypot(gap_uncertainty_of_terms_s(a.terms, b.terms, machine), (alike + share * (unlike - alike)) * slower);
}

}  // namespace signsplit::sim
