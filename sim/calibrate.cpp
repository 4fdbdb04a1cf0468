// Calibration: runs the probes in turn and writes what they find into a profile.
#include "signsplit/sim/calibrate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "fit.hpp"
#include "probes.hpp"

namespace signsplit::sim {
namespace {

constexpr char kSource[] = "signsplit calibrate";
constexpr double kLargestWorkingSet = 1024.0 * 1024.0 * 1024.0;

/// The run of probes: counts them for the progress, and collects the noise seen.
struct Session {
  const CalibrateOptions& options;
  int threads = 1;
  int total = 0;
  int index = 0;
  std::vector<double> noise;

  void begin(const std::string& what) {
    if (options.progress) options.progress(index, total, what);
    ++index;
  }
  [[nodiscard]] int repetitions() const { return options.quick ? 5 : 11; }
  [[nodiscard]] Quantity measured(const Sampled& sampled, const char* unit) {
    noise.push_back(sampled.cv);
    return {sampled.median, unit, Kind::measured, kSource, sampled.ci90};
  }
};

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  return std::strftime(text, sizeof text, "%Y-%m-%d", &parts) > 0 ? text : "";
}

/// From half of the innermost caches of all threads to well beyond what is said to be the outermost, by factors of two.
/// What a virtual machine says of its outermost cache may be the host's: the curve shows what there is of it.
std::vector<double> working_sets(const Machine& machine, int threads) {
  const double innermost = machine.levels.front().capacity_bytes.value, outermost = machine.levels.back().capacity_bytes.value;
  double largest = std::clamp(4.0 * outermost, 256.0 * 1048576.0, kLargestWorkingSet);
  if (const double memory = available_memory_bytes(); memory > 0.0) largest = std::min(largest, memory / 3.0);
  std::vector<double> sets;
  for (double set = 0.5 * innermost * threads; set < largest / 1.5; set *= 2.0) sets.push_back(std::floor(set / 4096.0) * 4096.0);
  sets.push_back(std::floor(largest / 4096.0) * 4096.0);
  return sets;
}

Status measure_bandwidth(Session& session, Machine& machine, int threads) {
  session.begin("read bandwidth, threads: " + std::to_string(threads));
  const auto samples = probe_read_bandwidth(working_sets(machine, threads), threads, session.repetitions());
  if (!samples.ok()) return samples.status();
  for (const BandwidthSample& sample : *samples) {
    machine.read_bandwidth.push_back({sample.working_set_bytes, threads, sample.bytes_per_s.median, sample.bytes_per_s.ci90});
    session.noise.push_back(sample.bytes_per_s.cv);
  }
  return {};
}

Status measure_curves(Session& session, Machine& machine) {
  machine.read_bandwidth.clear();
  machine.read_bandwidth_kind = Kind::measured;
  machine.read_bandwidth_source = kSource;
  if (Status status = measure_bandwidth(session, machine, 1); !status.ok()) return status;
  return session.threads > 1 ? measure_bandwidth(session, machine, session.threads) : Status{};
}

void measure_synchronisation(Session& session, Machine& machine) {
  machine.barrier_s.clear();
  machine.fork_join_s.clear();
  session.begin("barrier, fork and join");
  for (const int threads : {1, session.threads}) {
    if (!machine.barrier_s.empty() && threads == 1) continue;
    machine.barrier_s.push_back({threads, session.measured(probe_barrier(threads, session.repetitions()), "s")});
  }
  for (const int threads : {1, session.threads}) {
    if (!machine.fork_join_s.empty() && threads == 1) continue;
    machine.fork_join_s.push_back({threads, session.measured(probe_fork_join(threads, session.repetitions()), "s")});
  }
}

void measure_fma(Session& session, Machine& machine) {
  session.begin("FMA rate");
  machine.rates.clear();
  for (const std::string& isa : probe_isas()) {
    machine.rates.push_back({isa, "fma_f32", session.measured(probe_fma(isa, session.repetitions()), "FLOP/s")});
  }
}

Status check(const Trial& trial, const std::vector<TrialResult>& results) {
  if (results.size() != trial.request.plans.size()) return invalid_argument("trial \"" + trial.what + "\": needs a result per plan");
  for (const TrialResult& result : results) {
    const bool usable = std::isfinite(result.median_s) && result.median_s > 0.0 && result.p10_s > 0.0 &&
                        result.p10_s <= result.median_s && result.median_s <= result.p90_s && std::isfinite(result.p90_s);
    if (!usable) return invalid_argument("trial \"" + trial.what + "\": needs 0 < p10 <= median <= p90");
  }
  return {};
}

/// Relative spread (one standard deviation of a normal distribution) of the plan that spread most.
double spread_of(const std::vector<TrialResult>& results) {
  double worst = 0;
  for (const TrialResult& result : results) worst = std::max(worst, (result.p90_s - result.p10_s) / 2.563 / result.median_s);
  return worst;
}

/// Once; again, up to twice, while a neighbour disturbs it. The calmest counts.
Status run_trial(Session& session, Trial& trial) {
  constexpr double kCalm = 0.08;
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto results = session.options.trial(trial.request);
    if (!results.ok()) return results.status();
    if (Status status = check(trial, *results); !status.ok()) return status;
    if (attempt == 0 || spread_of(*results) < spread_of(trial.results)) trial.results = *results;
    if (spread_of(trial.results) < kCalm) break;
  }
  for (const TrialResult& result : trial.results) session.noise.push_back((result.p90_s - result.p10_s) / 2.563 / result.median_s);
  return {};
}

Status run_trials(Session& session, std::vector<Trial>& trials) {
  for (Trial& trial : trials) {
    session.begin(trial.what);
    const Status status = run_trial(session, trial);
    if (!status.ok() && status.code() != StatusCode::unsupported) return status;
  }
  return {};
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.05 : values[values.size() / 2];
}

}  // namespace

Result<Machine> calibrate_host(const CalibrateOptions& options) {
  try {
    Machine machine = detect_host();
    const std::vector<std::string> isas = probe_isas();
    const std::string isa = options.isa.empty() ? machine.isa : options.isa;
    if (std::find(isas.begin(), isas.end(), isa) == isas.end()) return unsupported("calibrate: this machine has no isa \"" + isa + "\"");
    if (options.threads < 0) return invalid_argument("calibrate: threads must not be negative (0: all)");
    machine.isa = isa;
    machine.threads = options.threads > 0 ? options.threads : machine.units;
    machine.date = today();

    std::vector<Trial> trials;
    if (options.trial) trials = trial_requests(machine.threads, options.quick);
    Session session{options, machine.threads, (machine.threads > 1 ? 4 : 3) + static_cast<int>(trials.size()), 0, {}};
    if (Status status = measure_curves(session, machine); !status.ok()) return status;
    measure_synchronisation(session, machine);
    measure_fma(session, machine);
    if (Status status = run_trials(session, trials); !status.ok()) return status;
    if (!trials.empty()) fit_all(machine, isa, trials);
    machine.noise_cv = std::clamp(median_of(session.noise), 0.005, 1.0);
    machine.noise_from = {Kind::measured, "signsplit calibrate: median spread of the probes"};
    return machine;
  } catch (const std::exception& failure) {
    return io_error(std::string("calibrate: ") + failure.what());
  }
}

}  // namespace signsplit::sim
