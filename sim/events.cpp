#include "signsplit/sim/events.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cost_model.hpp"
#include "gpu_machine.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

using What = Slice::What;

constexpr index_t kMostTiles = 2048;

/// A tile's work: bytes streamed beside arithmetic, then what neither hides.
struct Job {
  What what = What::up;
  double bytes = 0, busy_s = 0, serial_s = 0;
};

/// One phase's demand as a price list: what a row of a tile costs.
struct Prices {
  Job up, down;  ///< per row and whole K; per row offered to product 2
};

/// Receives the walk of one item and makes jobs of it: one per tile, or per kind of `merge` tiles in a row.
class JobSink {
 public:
  JobSink(const Prices& prices, const Scenario& scenario, std::span<const std::uint8_t> open, double open_share, index_t merge)
      : prices_(prices), d_padded_(static_cast<double>(walk_shape(scenario.problem).d_padded)), open_(open),
        open_share_(open_share), merge_(merge) {}

  void begin_part(index_t, Phase) {}
  void certify(HiddenRange) {}
  void up_tile(HiddenRange hidden, KRange k) {
    add(prices_.up, static_cast<double>(hidden.size()) * static_cast<double>(k.size()) / d_padded_);
  }
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange hidden) {
    double rows = static_cast<double>(hidden.size());
    if (!open_.empty() && open_share_ > 0.0) {
      const auto first = open_.begin() + hidden.begin;
      rows = static_cast<double>(std::count_if(first, first + hidden.size(), [](std::uint8_t unit) { return unit != 0; })) / open_share_;
    }
    add(prices_.down, rows);
  }
  void correct(HiddenRange) {}
  void store_h(HiddenRange) {}
  void load_h(HiddenRange) {}
  void reduce(ColumnRange) {}

  std::vector<Job> jobs;

 private:
  void add(const Job& price, double rows) {
    if (tiles_++ % merge_ == 0) group_ = jobs.size();
    Job* job = nullptr;
    for (std::size_t i = group_; i < jobs.size(); ++i) {
      if (jobs[i].what == price.what) job = &jobs[i];
    }
    if (job == nullptr) job = &jobs.emplace_back(Job{price.what, 0, 0, 0});
    job->bytes += rows * price.bytes;
    job->busy_s += rows * price.busy_s;
    job->serial_s += rows * price.serial_s;
  }

  const Prices& prices_;
  double d_padded_;
  std::span<const std::uint8_t> open_;
  double open_share_;
  index_t merge_, tiles_ = 0;
  std::size_t group_ = 0;  ///< where the jobs begin that further tiles go into
};

/// Splits a product's demand evenly over `rows` rows.
Job price_of(What what, const Demand& demand, double rows, int workers, double footprint, double tile_bytes, const Model& model) {
  if (!(rows > 0.0)) return {what, 0, 0, 0};
  const PhaseTime all = time_of(demand, 1.0, workers, footprint, tile_bytes, model);
  // Serial seconds of a job are of one worker; time_of counts all workers side by side.
  return {what, all.bytes / rows, all.busy_s / rows, all.serial * workers / rows};
}

/// A worker in simulated time.
struct Worker {
  std::int64_t item = -1;  ///< −1: none left
  std::size_t job = 0;
  double bytes = 0, busy_s = 0, serial_s = 0, begin_s = 0;
  double prefetched = 0;   ///< bytes that it loaded while it waited

  [[nodiscard]] bool streams() const { return item >= 0 && bytes > 0.0; }
};

/// The executor's queues: contiguous ranges of items, own first, then those of the next workers.
class Queues {
 public:
  Queues(index_t items, int workers) : workers_(workers) {
    for (int w = 0; w <= workers; ++w) next_.push_back(items * w / workers);
    end_.assign(next_.begin() + 1, next_.end());
  }
  std::int64_t take(int worker) {
    for (int offset = 0; offset < workers_; ++offset) {
      const auto q = static_cast<std::size_t>((worker + offset) % workers_);
      if (next_[q] < end_[q]) return next_[q]++;
    }
    return -1;
  }

 private:
  int workers_;
  std::vector<std::int64_t> next_, end_;
};

class Simulation {
 public:
  Simulation(const Scenario& scenario, const Machine& machine, const Model& model, const Statistics& bytes)
      : footprint_(footprint_of(scenario, machine, bytes)),
        prefetch_bytes_(model_value(machine, "prefetch_bytes").value) {
    workers_.resize(static_cast<std::size_t>(model.threads));
    for (int n = 1; n <= model.threads; ++n) rates_.push_back(stream_rate(model, n, footprint_) / n);
  }

  /// One phase: every item a list of jobs. `first_byte_s` passes before anything arrives.
  void run_phase(int phase, const std::vector<std::vector<Job>>& items, double first_byte_s) {
    Queues queues(static_cast<index_t>(items.size()), static_cast<int>(workers_.size()));
    const double start = now_ + first_byte_s;
    now_ = start;
    finished_.assign(workers_.size(), start);
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      next_item(w, items, queues);
      const double saved = std::min(workers_[w].bytes, workers_[w].prefetched);
      workers_[w].bytes -= saved;
      workers_[w].prefetched = 0;
    }
    while (advance(phase, items, queues)) {
    }
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      if (finished_[w] < now_) timeline_.slices.push_back({What::wait, static_cast<int>(w), phase, 0, finished_[w], now_});
      workers_[w].prefetched = std::min(prefetch_bytes_, (now_ - finished_[w]) * rates_.back());
    }
  }
  void pass(double seconds) { now_ += seconds; }
  void boundary(int phase, double seconds) {
    if (seconds <= 0.0) return;
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      timeline_.slices.push_back({What::fork_join, static_cast<int>(w), phase, 0, now_, now_ + seconds});
    }
    now_ += seconds;
  }
  Timeline finish() {
    timeline_.time_s = now_;
    timeline_.workers = static_cast<int>(workers_.size());
    return std::move(timeline_);
  }
  [[nodiscard]] double footprint() const { return footprint_; }

 private:
  void load(Worker& worker, const std::vector<std::vector<Job>>& items) {
    const Job& job = items[static_cast<std::size_t>(worker.item)][worker.job];
    worker.bytes = job.bytes;
    worker.busy_s = job.busy_s;
    worker.serial_s = job.serial_s;
    worker.begin_s = now_;
  }
  void next_item(std::size_t w, const std::vector<std::vector<Job>>& items, Queues& queues) {
    Worker& worker = workers_[w];
    do {
      worker.item = queues.take(static_cast<int>(w));
    } while (worker.item >= 0 && items[static_cast<std::size_t>(worker.item)].empty());
    worker.job = 0;
    if (worker.item >= 0) load(worker, items);
  }

  /// Up to the next moment at which a worker's stream, arithmetic or tile ends. False when all are done.
  bool advance(int phase, const std::vector<std::vector<Job>>& items, Queues& queues) {
    const auto streaming = static_cast<std::size_t>(std::count_if(workers_.begin(), workers_.end(), [](const Worker& w) { return w.streams(); }));
    const double rate = streaming > 0 ? rates_[streaming - 1] : 1.0;
    double step = std::numeric_limits<double>::infinity();
    for (const Worker& w : workers_) {
      if (w.item < 0) continue;
      const double stream = w.bytes / rate;
      if (w.bytes > 0.0) step = std::min(step, stream);
      if (w.busy_s > 0.0) step = std::min(step, w.busy_s);
      if (w.bytes <= 0.0 && w.busy_s <= 0.0) step = std::min(step, w.serial_s);
    }
    if (std::isinf(step)) return false;
    now_ += step;
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      Worker& w = workers_[i];
      if (w.item < 0) continue;
      if (w.bytes <= 0.0 && w.busy_s <= 0.0) {
        w.serial_s = less(w.serial_s, step);
      } else {
        w.bytes = less(w.bytes, step * rate);
        w.busy_s = less(w.busy_s, step);
      }
      if (w.bytes > 0.0 || w.busy_s > 0.0 || w.serial_s > 0.0) continue;
      const std::vector<Job>& jobs = items[static_cast<std::size_t>(w.item)];
      timeline_.slices.push_back({jobs[w.job].what, static_cast<int>(i), phase, w.item, w.begin_s, now_});
      finished_[i] = now_;
      if (++w.job < jobs.size()) {
        load(w, items);
      } else {
        next_item(i, items, queues);
      }
    }
    return true;
  }
  /// What is left, without the crumbs of rounding.
  static double less(double amount, double part) { return part >= amount * (1.0 - 1e-12) ? 0.0 : amount - part; }

  double footprint_, prefetch_bytes_;
  double now_ = 0;
  std::vector<double> rates_;  ///< of one of n streaming workers, n − 1 the index
  std::vector<Worker> workers_;
  std::vector<double> finished_;
  Timeline timeline_;
};

/// The jobs of every item of a product phase.
std::vector<std::vector<Job>> product_jobs(Phase phase, const Scenario& scenario, const Prices& prices, std::span<const std::uint8_t> open) {
  const WalkShape shape = walk_shape(scenario.problem);
  const auto opened = static_cast<double>(std::count_if(open.begin(), open.end(), [](std::uint8_t unit) { return unit != 0; }));
  const double share = open.empty() ? 0.0 : opened / static_cast<double>(open.size());
  const index_t tiles = ceil_div(shape.d_ff, scenario.plan.hidden_tile) * (k_tile_count(scenario.plan, shape) + 1);
  const index_t items = item_count(scenario.plan, shape, phase);
  std::vector<std::vector<Job>> jobs;
  for (index_t item = 0; item < items; ++item) {
    JobSink sink(prices, scenario, open, share, std::max<index_t>(1, 2 * tiles / kMostTiles));
    walk(scenario.plan, shape, phase, item, sink);
    jobs.push_back(std::move(sink.jobs));
  }
  return jobs;
}

}  // namespace

Result<Timeline> simulate(const Scenario& scenario, const Machine& machine, std::span<const std::uint8_t> open_units) {
  try {
    if (is_gpu(machine)) return unsupported("the event-driven model is of CPUs, and " + machine.name + " is a GPU");
    const Result<Prediction> level1 = predict(scenario, machine);  // checks everything, and counts the bytes
    if (!level1.ok()) return level1.status();
    if (!open_units.empty() && static_cast<index_t>(open_units.size()) != scenario.problem.d_ff) {
      return invalid_argument("simulate: open_units must have d_ff elements, or none");
    }
    const Result<Model> model = look_up(scenario, machine);
    if (!model.ok()) return model.status();
    const Structure structure = structure_of(scenario.plan, scenario.problem);
    const Terms& terms = level1->terms;
    const int phases = phase_count(scenario.plan), workers = worker_count(scenario, *model);
    const bool regions = scenario.plan.launch == Launch::region_per_phase;
    const double tile_bytes = tile_bytes_of(scenario, structure);
    const std::span<const std::uint8_t> open = scenario.plan.skip ? open_units : std::span<const std::uint8_t>();

    Simulation simulation(scenario, machine, *model, level1->bytes);
    for (int index = 0; index < phases; ++index) {
      const Phase phase = phase_at(scenario.plan, index);
      const double barrier = phase == Phase::reduce ? 0.0 : terms.barrier / std::max(1, phases - 2);
      simulation.boundary(index, regions ? terms.launch / phases : index == 0 ? terms.launch : barrier);
      if (phase == Phase::reduce) {
        const index_t items = item_count(scenario.plan, walk_shape(scenario.problem), phase);
        const double each = terms.reduction * std::min<double>(static_cast<double>(items), model->threads) / static_cast<double>(items);
        simulation.run_phase(index, std::vector<std::vector<Job>>(static_cast<std::size_t>(items), {Job{What::reduce, 0, 0, each}}), 0.0);
        continue;
      }
      const PhaseDemand demand = demand_of(phase, scenario, *model, structure, level1->bytes);
      const double rows = static_cast<double>(scenario.problem.d_ff);
      const double offered = static_cast<double>(structure.down_rows);
      const Prices prices{price_of(What::up, demand.up, rows, workers, simulation.footprint(), tile_bytes, *model),
                          price_of(What::down, demand.down, offered, workers, simulation.footprint(), tile_bytes, *model)};
      simulation.run_phase(index, product_jobs(phase, scenario, prices, open), model->first_byte);
      if (phase == Phase::fused) simulation.pass(terms.repair);  // spread over all tiles: as long for every worker
    }
    return simulation.finish();
  } catch (const std::exception& failure) {
    return io_error(std::string("simulation: ") + failure.what());
  }
}

}  // namespace signsplit::sim
