// Calibration: runs the probes in turn and writes what they find into a profile.
#include "signsplit/sim/calibrate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "core/quantile.hpp"
#include "fit.hpp"
#include "lookup.hpp"
#include "probes.hpp"

namespace signsplit::sim {
namespace {

constexpr char kSource[] = "signsplit calibrate";

/// The run of probes: counts them for the progress, and collects the noise seen.
struct Session {
  const CalibrateOptions& options;
  int threads = 1;
  int total = 0;
  int index = 0;
  double repeats_left_s = 4.0;  ///< of trials that were disturbed
  std::vector<double> noise = {};

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
  const double innermost = machine.levels.front().capacity_bytes.value, largest = largest_working_set(machine);
  std::vector<double> sets;
  for (double set = 0.5 * innermost * threads; set < largest / 1.5; set *= 2.0) sets.push_back(std::floor(set / 4096.0) * 4096.0);
  sets.push_back(largest);
  return sets;
}

Status measure_bandwidth(Session& session, Machine& machine, int threads) {
  const auto probe = ReadProbe::make(largest_working_set(machine), threads);
  if (!probe.ok()) return probe.status();
  for (const BandwidthSample& sample : probe->sample(working_sets(machine, threads), session.repetitions())) {
    machine.read_bandwidth.push_back({sample.working_set_bytes, threads, sample.bytes_per_s.median, sample.bytes_per_s.ci90});
    session.noise.push_back(sample.bytes_per_s.cv);
  }
  return {};
}

Status measure_curves(Session& session, Machine& machine) {
  machine.read_bandwidth.clear();
  machine.read_bandwidth_kind = Kind::measured;
  machine.read_bandwidth_source = kSource;
  session.begin("read bandwidth");
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

/// Of every level, a chain of addresses; of main memory, several chains at once too: how many bytes one core keeps in flight.
Status measure_latency(Session& session, Machine& machine) {
  session.begin("latency, and bandwidth against bytes in flight");
  const auto probe = ChaseProbe::make(largest_working_set(machine));
  if (!probe.ok()) return probe.status();
  double inner = 0;
  for (CacheLevel& level : machine.levels) {
    // Between this level and the one inside, in the geometric middle: beyond what the inner one holds, well within this one.
    const double bytes = inner > 0.0 ? std::sqrt(2.0 * inner * level.capacity_bytes.value) : 0.5 * level.capacity_bytes.value;
    level.latency_s = session.measured(probe->latency(bytes, 1, session.repetitions()), "s");
    inner = level.capacity_bytes.value;
  }
  const Sampled memory = probe->latency(probe->bytes(), 1, session.repetitions());
  machine.figures["dram.latency"] = session.measured(memory, "s");
  double most = 0;
  for (const auto& [chains, figure] : {std::pair{1, "read_at_1_line"}, std::pair{2, "read_at_2_lines"}, std::pair{4, "read_at_4_lines"},
                                       std::pair{8, "read_at_8_lines"}, std::pair{16, "read_at_16_lines"}}) {
    const Sampled all = probe->latency(probe->bytes(), chains, session.repetitions());
    const double bytes_per_s = chains * kLineBytes / all.median;
    machine.figures[std::string("concurrency.") + figure] = {bytes_per_s, "B/s", Kind::measured, kSource, bytes_per_s * all.ci90 / all.median};
    most = std::max(most, bytes_per_s);
  }
  machine.figures["concurrency.inflight_per_unit"] = {most * memory.median, "B", Kind::measured,
                                                      "signsplit calibrate: best bandwidth of several chains times the latency of one", 0.0};
  return {};
}

void measure_arithmetic(Session& session, Machine& machine) {
  session.begin("arithmetic and conversion rates of every instruction set");
  machine.rates.clear();
  for (const std::string& isa : probe_isas()) {
    machine.rates.push_back({isa, "fma_f32", session.measured(probe_fma(isa, session.repetitions()), "FLOP/s")});
    for (const char* name : {"convert_bf16", "convert_f16", "convert_int8", "dot_int8"}) {
      machine.rates.push_back({isa, name, session.measured(probe_conversion(isa, name, session.repetitions()), "elem/s")});
    }
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

/// The attempts at one trial. The calmest of those on one machine counts.
class Attempts {
 public:
  Attempts(const NowProbe& now, Reading& before, Trial& trial) : now_(now), before_(before), trial_(trial) {}

  void judge(const std::vector<TrialResult>& results) {
    constexpr double kChangedMachine = 10.0;
    const Reading after = now_.take();
    const double disturbance = spread_of(results) + (same_machine(before_, after) ? 0.0 : kChangedMachine);
    if (count_++ == 0 || disturbance < least_) {
      trial_.results = results;
      trial_.reading = median_of({before_, after});
      least_ = disturbance;
    }
    before_ = after;
  }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] bool calm() const { return least_ < 0.15; }

 private:
  const NowProbe& now_;
  Reading& before_;
  Trial& trial_;
  int count_ = 0;
  double least_ = 0;
};

/// Once; again, up to twice, while a neighbour disturbs it or the machine changes, and while there is time: on a bad day a trial is better
/// noisy than not there. `before`: the last reading; the one after the trial when it ends.
Status run_trial(Session& session, const NowProbe& now, Reading& before, Trial& trial) {
  constexpr int kMostAttempts = 3;
  const bool from_memory = trial.request.residency == Residency::cold;
  Attempts attempts(now, before, trial);
  TrialRequest request = trial.request;
  request.still = [&] { return now.still(before, from_memory); };
  request.again = [&](const std::vector<TrialResult>& results) {
    if (!check(trial, results).ok()) return false;
    attempts.judge(results);
    if (attempts.calm() || attempts.count() == kMostAttempts || session.repeats_left_s < request.budget_s) return false;
    session.repeats_left_s -= request.budget_s;
    return true;
  };
  const auto results = session.options.trial(request);
  if (!results.ok()) return results.status();
  if (Status status = check(trial, *results); !status.ok()) return status;
  if (attempts.count() == 0) attempts.judge(*results);  // a runner that asks nothing
  for (const TrialResult& result : trial.results) session.noise.push_back((result.p90_s - result.p10_s) / 2.563 / result.median_s);
  return {};
}

Status run_trials(Session& session, const Machine& machine, std::vector<Trial>& trials) {
  const Result<NowProbe> now = NowProbe::make(machine, session.threads, machine.isa);
  if (!now.ok()) return now.status();
  std::string what;
  Reading reading = now->take();
  for (Trial& trial : trials) {
    if (trial.what != what) session.begin(what = trial.what);
    const Status status = run_trial(session, *now, reading, trial);
    if (!status.ok() && status.code() != StatusCode::unsupported) return status;
  }
  return {};
}

/// The curve and the costs of threads are of a moment before the trials: the profile says what the machine was while they ran, in the
/// median.
void centre(Machine& machine, const std::vector<Trial>& trials) {
  std::vector<Reading> readings;
  for (const Trial& trial : trials) {
    if (!trial.results.empty()) readings.push_back(trial.reading);
  }
  if (readings.empty()) return;
  const Machine centred = as_of_now(machine, median_of(readings));
  machine.read_bandwidth = centred.read_bandwidth;
  machine.barrier_s = centred.barrier_s;
  machine.fork_join_s = centred.fork_join_s;
  for (Rate& rate : machine.rates) {
    if (rate.isa == machine.isa && rate.name == "fma_f32") rate.per_s = *kernel_rate(centred, rate.isa, rate.name);
  }
}

int subjects(const std::vector<Trial>& trials) {
  int count = 0;
  for (std::size_t i = 0; i < trials.size(); ++i) count += i == 0 || trials[i].what != trials[i - 1].what ? 1 : 0;
  return count;
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
    Session session{options, machine.threads, 4 + subjects(trials)};
    if (Status status = measure_curves(session, machine); !status.ok()) return status;
    if (Status status = measure_latency(session, machine); !status.ok()) return status;
    measure_synchronisation(session, machine);
    measure_arithmetic(session, machine);
    if (!trials.empty()) {
      if (Status status = run_trials(session, machine, trials); !status.ok()) return status;
      centre(machine, trials);
      fit_all(machine, isa, trials);
    }
    machine.noise_cv = std::clamp(median(session.noise), 0.005, 1.0);
    machine.noise_from = {Kind::measured, "signsplit calibrate: median spread of the probes"};
    return machine;
  } catch (const std::exception& failure) {
    return io_error(std::string("calibrate: ") + failure.what());
  }
}

}  // namespace signsplit::sim
