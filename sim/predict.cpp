// Level 1: the equations of docs/simulator.md.
#include <algorithm>
#include <cmath>

#include "cost_model.hpp"
#include "gpu_machine.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

Status check(const Scenario& scenario) {
  if (Status status = validate(scenario.problem); !status.ok()) return status;
  if (Status status = validate(scenario.plan, scenario.problem); !status.ok()) return status;
  if (scenario.threads < 0) return invalid_argument("scenario.threads must not be negative (0: the machine's)");
  const Activity& a = scenario.activity;
  if (!(a.active >= 0.0 && a.active <= 1.0)) return invalid_argument("activity.active must be in [0, 1]");
  const std::pair<const char*, const std::optional<double>*> fields[] = {
      {"active_union", &a.active_union}, {"up_rows", &a.up_rows},   {"pushed", &a.pushed}, {"down_again", &a.down_again},
      {"repaired", &a.repaired},         {"redone", &a.redone},     {"rechecked", &a.rechecked}, {"refined", &a.refined},
      {"refined_read", &a.refined_read}, {"raw", &a.raw}};
  for (const auto& [name, field] : fields) {
    if (field->has_value() && !(**field >= 0.0 && std::isfinite(**field))) {
      return invalid_argument(std::string("activity.") + name + " must be finite and not negative");
    }
  }
  return {};
}

/// Whether a part that lies across the border of two workers' shares is cut there, so that all have equally much to do (cpu/work_queue.hpp).
bool parts_are_cut(const Scenario& scenario, const Model& model) {
  return !is_gpu(model.machine) && scenario.plan.strategy != Strategy::sign_split && scenario.problem.arithmetic == Arithmetic::f32;
}

/// Adds one product phase to the terms, and returns what it takes. Where parts are dealt whole, some workers wait in
/// the last round.
double add_phase(Terms& terms, const PhaseDemand& both, const Scenario& scenario, double footprint, double tile_bytes,
               const Model& model) {
  const index_t parts = scenario.plan.parts;
  const int workers = worker_count(scenario, model);
  const auto time = [&](double share, int busy_workers) {
    if (is_gpu(model.machine)) return time_of(both.sum(), share, busy_workers, footprint, tile_bytes, model);
    PhaseTime up = time_of(both.up, share, busy_workers, footprint, tile_bytes, model);
    const PhaseTime down = time_of(both.down, share, busy_workers, footprint, tile_bytes, model);
    up.stream += down.stream;
    up.compute += down.compute;
    return up;
  };
  const PhaseTime even = time(1.0, workers);
  terms.stream += even.stream;
  terms.compute += even.compute;
  terms.first_byte += model.first_byte;
  const int left = static_cast<int>(parts % workers);
  if (left > 0 && !parts_are_cut(scenario, model)) {
    const double part = 1.0 / static_cast<double>(parts);
    const double last_round = time(part * left, left).total();
    terms.imbalance += std::max(0.0, last_round - part * left * even.total());
  }
  return even.total();
}

/// Equal workers do not end a phase at the same time. How far apart they are grows like the root of the phase's time, as independent
/// disturbances add up: two phases of half the time wait 1.4 times as long as one.
double wait_for_slowest(const std::vector<double>& phases, double memory, const Model& model) {
  double all = 0, roots = 0;
  for (const double seconds : phases) {
    all += seconds;
    roots += std::sqrt(seconds);
  }
  return model.imbalance * (is_gpu(model.machine) ? all : (1.0 - memory) * roots * std::sqrt(all));
}

double repair_s(const Scenario& scenario, const Structure& structure, const Statistics& bytes, double tile_bytes,
                const Model& model) {
  const double row = static_cast<double>(structure.row_bytes), elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const double matrices = static_cast<double>(matrix_count(scenario.problem) - 1);
  const int workers = worker_count(scenario, model);
  const double cache = bandwidth(model.machine, workers, tile_bytes * workers);
  const double repaired = static_cast<double>(bytes.repaired), redone = static_cast<double>(bytes.redone) * matrices;
  const double rechecked = static_cast<double>(bytes.rechecked) * matrices;
  return std::max(repaired * elements * model.element.down / workers, repaired * row / cache) +
         std::max(redone * (elements * model.element.redo + model.redo) / workers, redone * row / cache) +
         rechecked * elements * model.element.exact / workers;
}

/// x, h and the partial y go through the caches; each worker's share of a partial y is small. x is copied beforehand. What one core
/// wrote another reads: x all of the others, of h all but a worker's own share, of the partial sums of y one for every level of the tree in
/// which those of two workers meet.
double activations_s(const Scenario& scenario, const Statistics& bytes, const Model& model) {
  const int workers = worker_count(scenario, model);
  const double moved = static_cast<double>(bytes.bytes_y + bytes.bytes_h + bytes.bytes_x);
  const double cached = moved / bandwidth(model.machine, workers, 0.5 * static_cast<double>(bytes.bytes_y));
  if (is_gpu(model.machine)) return cached;
  const double input = static_cast<double>(scenario.problem.batch * scenario.problem.d_model * 4);
  double before = input / model_value(model.machine, "input_rate").value;
  if (scenario.plan.strategy == Strategy::certified) before += input / model_value(model.machine, "quantize_rate").value;
  const double others = 1.0 - 1.0 / workers;
  const double partial_y = static_cast<double>(scenario.problem.batch * walk_shape(scenario.problem).d_padded * 4);
  const double exchanged = others * (input + 0.5 * static_cast<double>(bytes.bytes_h)) + std::ceil(std::log2(workers)) * partial_y;
  return cached + before + exchanged / model_value(model.machine, "exchange_rate").value;
}

/// At a barrier between two products, and at none else, the slowest worker is waited for in the middle of reading main memory.
double memory_wait_s(const Scenario& scenario, const Model& model, double memory) {
  if (is_gpu(model.machine) || model.threads < 2 || scenario.plan.launch != Launch::one_region) return 0.0;
  return (phase_count(scenario.plan) - 2) * memory * model_value(model.machine, "memory_wait_s").value;
}

void add_boundaries(Terms& terms, const Scenario& scenario, const Model& model) {
  const double phases = phase_count(scenario.plan);
  const double wait = model.threads > 1 ? model_value(model.machine, "thread_wait_s").value : 0.0;
  const double fork_join = thread_cost(model.machine.fork_join_s, model.threads) + wait;
  if (scenario.plan.launch == Launch::one_region) {
    terms.launch = fork_join;
    const double barrier_wait = model.threads > 1 ? model_value(model.machine, "barrier_wait_s").value : 0.0;
    terms.barrier = (phases - 2) * (thread_cost(model.machine.barrier_s, model.threads) + barrier_wait);  // none before the reduction
  } else {
    terms.launch = phases * fork_join;  // each join is the barrier
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> Terms::named() const {
  return {{"launch", launch},   {"first_byte", first_byte}, {"stream", stream},       {"compute", compute},
          {"barrier", barrier}, {"reduction", reduction},   {"imbalance", imbalance}, {"repair", repair}};
}

Result<Prediction> predict_time(const Scenario& scenario, const Machine& machine) {
  try {
    if (Status status = check(scenario); !status.ok()) return status;
    const Result<Model> model = look_up(scenario, machine);
    if (!model.ok()) return model.status();
    const Structure structure = structure_of(scenario.plan, scenario.problem);

    Prediction prediction;
    prediction.bytes = count(scenario.plan, scenario.problem, scenario.activity);
    const Statistics& bytes = prediction.bytes;
    const double footprint = footprint_of(scenario, machine, bytes), tile_bytes = tile_bytes_of(scenario, structure);

    Terms& terms = prediction.terms;
    if (!is_gpu(machine)) {
      add_boundaries(terms, scenario, *model);
    } else if (Status status = add_gpu_boundaries(terms, scenario, machine, footprint); !status.ok()) {
      return status;
    }
    std::vector<double> phases;
    for (int index = 0; index + 1 < phase_count(scenario.plan); ++index) {
      const PhaseDemand demand = demand_of(phase_at(scenario.plan, index), scenario, *model, structure, bytes);
      phases.push_back(add_phase(terms, demand, scenario, footprint, tile_bytes, *model));
    }
    prediction.memory = is_gpu(machine) ? 1.0 : memory_share(*model, worker_count(scenario, *model), footprint);
    terms.barrier += memory_wait_s(scenario, *model, prediction.memory);
    if (worker_count(scenario, *model) > 1) terms.imbalance += wait_for_slowest(phases, prediction.memory, *model);
    terms.repair = repair_s(scenario, structure, bytes, tile_bytes, *model);
    terms.reduction += activations_s(scenario, bytes, *model);

    prediction.time_s = prediction.low_s = prediction.high_s = terms.total();
    return prediction;
  } catch (const std::exception& failure) {
    return io_error(std::string("prediction: ") + failure.what());
  }
}

Result<Prediction> predict(const Scenario& scenario, const Machine& machine) {
  Result<Prediction> predicted = predict_time(scenario, machine);
  if (!predicted.ok()) return predicted;
  Prediction prediction = *predicted;
  const double half = prediction_uncertainty_s(prediction.terms, machine, scenario.residency) / prediction.time_s;
  prediction.low_s = prediction.time_s / (1.0 + half);
  prediction.high_s = prediction.time_s * (1.0 + half);
  return prediction;
}

Plan plan_on(const Machine& machine, const Problem& problem, Plan plan) {
  if (!is_gpu(machine)) return plan;
  plan.parts = std::clamp<index_t>(machine.units, 1, std::max<index_t>(problem.d_ff, 1));
  plan.hidden_tile = std::min(plan.hidden_tile, ceil_div(std::max<index_t>(problem.d_ff, 1), plan.parts));
  if (plan.strategy == Strategy::certified) plan.k_tile = 0;
  return plan;
}

double roofline_s(const Scenario& scenario, const Machine& machine) {
  if (machine.read_bandwidth.empty()) return 0.0;
  double best = 0;
  for (const BandwidthPoint& point : machine.read_bandwidth) best = std::max(best, dram_bandwidth(machine, point.threads));
  const Problem& problem = scenario.problem;
  const bool stores_h = scenario.plan.strategy == Strategy::unfused;
  const double h = stores_h ? 2.0 * 4.0 * static_cast<double>(problem.d_ff) * static_cast<double>(problem.batch) : 0.0;
  return (static_cast<double>(weight_bytes(problem)) + h) / best;
}

double roofline_launch_s(const Scenario& scenario, const Machine& machine) {
  if (is_gpu(machine)) {
    const Result<Quantity> launch = launch_cost(machine, scenario.launch_mode);
    return roofline_s(scenario, machine) + (launch.ok() ? kernel_count(scenario.plan) * launch->value : 0.0);
  }
  const int threads = scenario.threads > 0 ? scenario.threads : machine.threads;
  const double launches = scenario.plan.strategy == Strategy::unfused ? 2.0 : 1.0;
  return roofline_s(scenario, machine) + launches * thread_cost(machine.fork_join_s, threads);
}

}  // namespace signsplit::sim
