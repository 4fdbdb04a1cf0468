#include "signsplit/sim/as_of_now.hpp"

#include <algorithm>
#include <cmath>

#include "core/quantile.hpp"
#include "lookup.hpp"
#include "model_fields.hpp"
#include "probes.hpp"

namespace signsplit::sim {
namespace {

constexpr int kRepetitions = 5;

/// Measured over expected bandwidth at a working set.
struct Ratio {
  double log_working_set = 0, log_ratio = 0;
};

double interpolated(const std::vector<Ratio>& ratios, double log_working_set) {
  std::size_t above = 0;
  while (above < ratios.size() && ratios[above].log_working_set < log_working_set) ++above;
  if (above == 0) return ratios.front().log_ratio;
  if (above == ratios.size()) return ratios.back().log_ratio;
  const Ratio &low = ratios[above - 1], &high = ratios[above];
  const double share = (log_working_set - low.log_working_set) / (high.log_working_set - low.log_working_set);
  return low.log_ratio + share * (high.log_ratio - low.log_ratio);
}

/// Between the first and the last of the points that were read the curve is theirs: how steeply a cache ends is as new as where.
void insert_points(std::vector<BandwidthPoint>& curve, const std::vector<BandwidthPoint>& read, double own) {
  const auto ours = [&](const BandwidthPoint& point) { return point.threads == read.front().threads; };
  if (std::none_of(curve.begin(), curve.end(), ours)) return;
  std::vector<BandwidthPoint> points;
  for (const BandwidthPoint& point : read) {
    if (point.working_set_bytes > own && point.bytes_per_s > 0.0) points.push_back(point);
  }
  if (points.size() < 2) return;
  const double first = points.front().working_set_bytes, last = points.back().working_set_bytes;
  std::erase_if(curve, [&](const BandwidthPoint& point) {
    return ours(point) && point.working_set_bytes >= first && point.working_set_bytes <= last;
  });
  curve.insert(curve.end(), points.begin(), points.end());
  std::sort(curve.begin(), curve.end(), [](const BandwidthPoint& a, const BandwidthPoint& b) {
    return a.threads != b.threads ? a.threads < b.threads : a.working_set_bytes < b.working_set_bytes;
  });
}

void scale_bandwidth(Machine& now, const Machine& machine, const Reading& reading) {
  if (reading.read_bandwidth.empty() || machine.read_bandwidth.empty()) return;
  const int threads = reading.read_bandwidth.front().threads;
  const double own = own_caches_bytes(machine, threads);
  std::vector<Ratio> ratios{{std::log(own), 0.0}};
  for (const BandwidthPoint& point : reading.read_bandwidth) {
    const double expected = bandwidth(machine, threads, point.working_set_bytes);
    if (!(point.working_set_bytes > own && point.bytes_per_s > 0.0 && expected > 0.0)) continue;
    ratios.push_back({std::log(point.working_set_bytes), std::log(point.bytes_per_s / expected)});
  }
  for (BandwidthPoint& point : now.read_bandwidth) {
    if (point.threads == threads) point.bytes_per_s *= std::exp(interpolated(ratios, std::log(point.working_set_bytes)));
  }
  insert_points(now.read_bandwidth, reading.read_bandwidth, own);
}

/// Measured over expected; 1 where either is not known.
double ratio_of(double measured, double expected) { return measured > 0.0 && expected > 0.0 ? measured / expected : 1.0; }

void scale_costs(std::vector<ThreadCost>& costs, double ratio) {
  for (ThreadCost& cost : costs) {
    if (cost.threads > 1) cost.seconds.value *= ratio;
  }
}

void scale_model(Machine& now, std::string_view name, double ratio) {
  Quantity quantity = model_value(now, name);
  quantity.value *= ratio;
  now.model[std::string(name)] = quantity;
}

/// What goes from core to core.
void scale_boundaries(Machine& now, const Machine& machine, const Reading& reading) {
  if (reading.threads < 2) return;
  const double fork_join = ratio_of(reading.fork_join_s, thread_cost(machine.fork_join_s, reading.threads));
  scale_costs(now.fork_join_s, fork_join);
  scale_costs(now.barrier_s, ratio_of(reading.barrier_s, thread_cost(machine.barrier_s, reading.threads)));
  scale_model(now, "thread_wait_s", fork_join);
  scale_model(now, "barrier_wait_s", fork_join);
  scale_model(now, "memory_wait_s", fork_join);
  scale_model(now, "exchange_rate", 1.0 / fork_join);
}

void scale_arithmetic(Machine& now, const Machine& machine, const Reading& reading) {
  const std::optional<Quantity> fma = kernel_rate(machine, reading.isa, "fma_f32");
  const double faster = fma ? ratio_of(reading.fma_per_s, fma->value) : 1.0;
  for (Rate& rate : now.rates) rate.per_s.value *= faster;
  constexpr std::string_view kBetweenCores[] = {"thread_wait_s", "barrier_wait_s", "memory_wait_s"};  // scale_boundaries
  for (const ModelField& field : kModelFields) {
    const bool of_arithmetic = field.base_unit == "s" && std::ranges::find(kBetweenCores, field.name) == std::end(kBetweenCores);
    if (of_arithmetic) scale_model(now, field.name, 1.0 / faster);
  }
}

}  // namespace

Machine as_of_now(const Machine& machine, const Reading& reading) {
  Machine now = machine;
  scale_bandwidth(now, machine, reading);
  scale_boundaries(now, machine, reading);
  scale_arithmetic(now, machine, reading);
  return now;
}

Reading median_of(const std::vector<Reading>& readings) {
  if (readings.empty()) return {};
  Reading middle = readings.front();
  std::vector<double> values;
  for (double Reading::*number : {&Reading::fork_join_s, &Reading::barrier_s, &Reading::fma_per_s}) {
    values.clear();
    for (const Reading& reading : readings) values.push_back(reading.*number);
    middle.*number = median(values);
  }
  for (std::size_t i = 0; i < middle.read_bandwidth.size(); ++i) {
    values.clear();
    for (const Reading& reading : readings) values.push_back(reading.read_bandwidth.at(i).bytes_per_s);
    middle.read_bandwidth[i].bytes_per_s = median(values);
  }
  return middle;
}

bool same_machine(const Reading& before, const Reading& after) {
  constexpr double kChanged = 1.3;
  const auto near = [](double a, double b) { return !(a > 0.0 && b > 0.0) || (a < kChanged * b && b < kChanged * a); };
  const auto memory = [](const Reading& reading) { return reading.read_bandwidth.empty() ? 0.0 : reading.read_bandwidth.back().bytes_per_s; };
  return near(memory(before), memory(after)) && near(before.fork_join_s, after.fork_join_s);
}

struct NowProbe::State {
  ReadProbe read;
  std::vector<double> working_sets;
  std::string isa;
};

Result<NowProbe> NowProbe::make(const Machine& machine, int threads, const std::string& isa) {
  const std::vector<std::string> isas = probe_isas();
  if (std::find(isas.begin(), isas.end(), isa) == isas.end()) return unsupported("this machine has no isa \"" + isa + "\"");
  const double largest = largest_working_set(machine);
  Result<ReadProbe> read = ReadProbe::make(largest, threads);
  if (!read.ok()) return read.status();
  std::vector<double> sets;
  if (!machine.levels.empty()) {
    const double outermost = machine.levels.back().capacity_bytes.value;
    for (const double share : {0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0}) {
      if (share * outermost < 0.5 * largest) sets.push_back(share * outermost);
    }
  }
  sets.push_back(largest);
  NowProbe probe;
  probe.state_ = std::make_shared<State>(State{std::move(*read), std::move(sets), isa});
  return probe;
}

Reading NowProbe::take() const {
  Reading reading;
  reading.threads = state_->read.threads();
  reading.isa = state_->isa;
  reading.fma_per_s = probe_fma(state_->isa, kRepetitions).median;
  reading.fork_join_s = probe_fork_join(reading.threads, kRepetitions).median;
  reading.barrier_s = probe_barrier(reading.threads, kRepetitions).median;
  for (const BandwidthSample& sample : state_->read.sample(state_->working_sets, kRepetitions)) {
    reading.read_bandwidth.push_back({sample.working_set_bytes, reading.threads, sample.bytes_per_s.median, sample.bytes_per_s.ci90});
  }
  return reading;
}

bool NowProbe::still(const Reading& reading, bool with_memory) const {
  constexpr int kForkSamples = 5, kForksEach = 16;
  constexpr double kSliceBytes = 8e6;
  Reading glance;
  glance.fork_join_s = probe_fork_join(state_->read.threads(), kForkSamples, kForksEach).median;
  if (with_memory) glance.read_bandwidth = {{state_->working_sets.back(), state_->read.threads(), state_->read.next_slice(kSliceBytes), 0.0}};
  return same_machine(reading, glance);
}

}  // namespace signsplit::sim
