// Level 1: the equations of docs/simulator.md.
#include <algorithm>
#include <cmath>

#include "gpu_machine.hpp"
#include "lookup.hpp"
#include "signsplit/sim/predict.hpp"
#include "structure.hpp"

namespace signsplit::sim {
namespace {

/// Seconds that one thread needs for one weight element of each kernel, whatever the batch.
struct ElementTimes {
  double up = 0, down = 0, exact = 0;
};

/// Everything the equations need, looked up once.
struct Model {
  const Machine& machine;
  int threads = 1;
  ElementTimes element;
  double stream_efficiency = 1, overlap_loss = 0, gap_bytes = 0, first_byte = 0, imbalance = 0, piece = 0;
};

/// What one product phase has to do. Bytes and elements of all parts together.
struct Demand {
  double stream_bytes = 0;     ///< weights read for the first time
  double jumps = 0;            ///< restarts of the address stream
  double busy_s = 0;           ///< arithmetic on them, thread seconds
  double again_bytes = 0;      ///< weights that the hidden tile has read before
  double again_busy_s = 0;
};

Status check(const Scenario& scenario) {
  if (Status status = validate(scenario.problem); !status.ok()) return status;
  if (Status status = validate(scenario.plan, scenario.problem); !status.ok()) return status;
  if (scenario.threads < 0) return invalid_argument("scenario.threads must not be negative (0: the machine's)");
  const Activity& a = scenario.activity;
  if (!(a.active >= 0.0 && a.active <= 1.0)) return invalid_argument("activity.active must be in [0, 1]");
  const std::pair<const char*, const std::optional<double>*> fields[] = {
      {"active_union", &a.active_union}, {"up_rows", &a.up_rows},   {"pushed", &a.pushed}, {"down_again", &a.down_again},
      {"repaired", &a.repaired},         {"redone", &a.redone},     {"rechecked", &a.rechecked}, {"refined", &a.refined}};
  for (const auto& [name, field] : fields) {
    if (field->has_value() && !(**field >= 0.0 && std::isfinite(**field))) {
      return invalid_argument(std::string("activity.") + name + " must be finite and not negative");
    }
  }
  return {};
}

Result<Model> look_up(const Scenario& scenario, const Machine& machine) {
  const std::string isa = scenario.isa.empty() ? machine.isa : scenario.isa;
  const std::string dtype(to_string(scenario.problem.dtype));
  if (machine.read_bandwidth.empty()) return invalid_argument("machine " + machine.name + ": read_bandwidth has no points");
  Model model{machine, scenario.threads > 0 ? scenario.threads : std::max(machine.threads, 1), {}};

  const bool streams = scenario.plan.variant == Variant::streams;
  const std::string names[] = {(streams ? "streams_" : "up_") + dtype, "down_" + dtype, "token_" + dtype, "exact"};
  double seconds[4] = {};
  for (int i = 0; i < 4; ++i) {
    const std::optional<Quantity> rate = kernel_rate(machine, isa, names[i]);
    if (!rate || !(rate->value > 0.0)) {
      return invalid_argument("machine " + machine.name + ": has no rate " + names[i] + " nor fma_f32 for isa \"" + isa + "\"");
    }
    seconds[i] = 1.0 / rate->value;
  }
  const double more_tokens = static_cast<double>(scenario.problem.batch - 1) * seconds[2];
  model.element = {seconds[0] + more_tokens, seconds[1] + more_tokens, seconds[3]};
  model.stream_efficiency = model_value(machine, "stream_efficiency").value;
  model.overlap_loss = model_value(machine, "overlap_loss").value;
  model.gap_bytes = model_value(machine, "gather_gap_bytes").value;
  model.first_byte = is_gpu(machine) ? 0.0 : model_value(machine, "first_byte_s").value;  // of a GPU: a boundary's
  const bool split = scenario.plan.strategy == Strategy::sign_split;
  model.imbalance = model_value(machine, "imbalance").value;
  model.piece = model_value(machine, split ? "push_overhead_s" : "piece_overhead_s").value * static_cast<double>(scenario.problem.batch);
  return model;
}

/// Jumps of a stream of `rows` rows of which `read` are read, scattered, on top of the `structural` ones: every run of
/// rows that follows a hole starts anew. Rows are as likely read as not, independently of their neighbours.
double jumps_when_skipping(double structural, double rows, double read) {
  return rows > 0.0 ? std::max(std::min(structural, read), read * (1.0 - read / rows)) : 0.0;
}

/// Rows of W2: read by a push for the first time or again, and by correct.
struct DownRows {
  double pushed_new = 0, pushed_again = 0, repaired = 0;
};

DownRows split_down_rows(const Statistics& bytes, double row) {
  const double fresh = static_cast<double>(bytes.bytes_down - bytes.bytes_down_again) / row;
  const double pushed = static_cast<double>(bytes.pushed_rows);
  DownRows rows;
  rows.pushed_new = std::min(fresh, pushed);
  rows.pushed_again = pushed - rows.pushed_new;
  rows.repaired = static_cast<double>(bytes.repaired);
  return rows;
}

Demand demand_of(Phase phase, const Scenario& scenario, const Model& model, const Structure& structure,
                 const Statistics& bytes) {
  const double row = static_cast<double>(structure.row_bytes), row_elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const double units = static_cast<double>(scenario.problem.d_ff);
  Demand demand;
  if (phase != Phase::second_product) {
    const double up_bytes = static_cast<double>(bytes.bytes_up + bytes.bytes_gate - bytes.bytes_up_again);
    demand.stream_bytes += up_bytes;
    demand.busy_s += up_bytes / row * (row_elements * model.element.up);
    const double matrices = static_cast<double>(matrix_count(scenario.problem) - 1);
    demand.busy_s += matrices * static_cast<double>(structure.up_pieces) * model.piece;
    const bool gate_first = scenario.problem.gated && scenario.plan.skip && scenario.plan.strategy != Strategy::sign_split;
    const double jumps = static_cast<double>(structure.up_jumps);
    const double up_rows = up_bytes / row - units;  // of W1 alone, where the gate is read whole
    if (scenario.plan.strategy == Strategy::certified) {  // the plane is read whole, of the matrices the rows it leaves
      demand.stream_bytes += static_cast<double>(bytes.bytes_plane);
      demand.jumps += jumps + jumps_when_skipping(jumps, units, static_cast<double>(bytes.refined));
      if (gate_first) demand.jumps += jumps_when_skipping(jumps, units, static_cast<double>(bytes.bytes_up) / row);
    } else {
      demand.jumps += gate_first ? jumps + jumps_when_skipping(jumps, units, up_rows) : matrices * jumps;
    }
  }
  if (phase != Phase::first_product) {
    const DownRows rows = split_down_rows(bytes, row);
    demand.stream_bytes += rows.pushed_new * row;
    demand.busy_s += rows.pushed_new * row_elements * model.element.down;
    demand.again_bytes = rows.pushed_again * row;
    demand.again_busy_s = rows.pushed_again * row_elements * model.element.down;
    demand.jumps += jumps_when_skipping(static_cast<double>(structure.down_jumps), units, rows.pushed_new);
  }
  return demand;
}

/// Time of a share of a phase run by `workers` threads.
struct PhaseTime {
  double stream = 0, compute = 0;
  [[nodiscard]] double total() const { return stream + compute; }
};

PhaseTime time_of(const Demand& demand, double share, int workers, double footprint, double tile_bytes, const Model& model) {
  const double rate = bandwidth(model.machine, workers, footprint) * model.stream_efficiency;
  const double stream = share * (demand.stream_bytes + demand.jumps * model.gap_bytes) / rate;
  const double busy = share * demand.busy_s / workers;
  const double again = share * std::max(demand.again_busy_s / workers,
                                        demand.again_bytes / bandwidth(model.machine, workers, tile_bytes * workers));
  // The processor overlaps arithmetic with the stream of new bytes, but for a part of the smaller of the two. Re-reads come
  // from the cache while the stream pauses.
  return {stream, std::max(0.0, busy - stream) + model.overlap_loss * std::min(busy, stream) + again};
}

/// Adds one product phase to the terms. Whole parts are dealt to workers: after the last full round some workers wait.
void add_phase(Terms& terms, const Demand& demand, const Scenario& scenario, double footprint, double tile_bytes,
               const Model& model) {
  const index_t parts = scenario.plan.parts;
  const int workers = static_cast<int>(std::min<index_t>(model.threads, parts));
  const PhaseTime even = time_of(demand, 1.0, workers, footprint, tile_bytes, model);
  terms.stream += even.stream;
  terms.compute += even.compute;
  terms.first_byte += model.first_byte;
  const int left = static_cast<int>(parts % workers);
  if (left > 0) {
    const double part = 1.0 / static_cast<double>(parts);
    const double last_round = time_of(demand, part * left, left, footprint, tile_bytes, model).total();
    terms.imbalance += std::max(0.0, last_round - part * left * even.total());
  }
  if (workers > 1) terms.imbalance += model.imbalance * even.total();
}

double repair_s(const Scenario& scenario, const Structure& structure, const Statistics& bytes, double tile_bytes,
                const Model& model) {
  const double row = static_cast<double>(structure.row_bytes), elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const double matrices = static_cast<double>(matrix_count(scenario.problem) - 1);
  const int workers = static_cast<int>(std::min<index_t>(model.threads, scenario.plan.parts));
  const double cache = bandwidth(model.machine, workers, tile_bytes * workers);
  const double repaired = static_cast<double>(bytes.repaired), redone = static_cast<double>(bytes.redone) * matrices;
  const double rechecked = static_cast<double>(bytes.rechecked) * matrices;
  return std::max(repaired * elements * model.element.down / workers, repaired * row / cache) +
         std::max(redone * elements * model.element.up / workers, redone * row / cache) +
         rechecked * elements * model.element.exact / workers;
}

/// x, h and the partial y go through the caches; each worker's share of a partial y is small.
double activations_s(const Scenario& scenario, const Statistics& bytes, const Model& model) {
  const int workers = static_cast<int>(std::min<index_t>(model.threads, scenario.plan.parts));
  const double moved = static_cast<double>(bytes.bytes_y + bytes.bytes_h + bytes.bytes_x);
  return moved / bandwidth(model.machine, workers, 0.5 * static_cast<double>(bytes.bytes_y));
}

void add_boundaries(Terms& terms, const Scenario& scenario, const Model& model) {
  const double phases = phase_count(scenario.plan);
  const double fork_join = thread_cost(model.machine.fork_join_s, model.threads);
  if (scenario.plan.launch == Launch::one_region) {
    terms.launch = fork_join;
    terms.barrier = (phases - 1) * thread_cost(model.machine.barrier_s, model.threads);
  } else {
    terms.launch = phases * fork_join;  // each join is the barrier
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> Terms::named() const {
  return {{"launch", launch},   {"first_byte", first_byte}, {"stream", stream},       {"compute", compute},
          {"barrier", barrier}, {"reduction", reduction},   {"imbalance", imbalance}, {"repair", repair}};
}

Result<Prediction> predict(const Scenario& scenario, const Machine& machine) {
  try {
    if (Status status = check(scenario); !status.ok()) return status;
    const Result<Model> model = look_up(scenario, machine);
    if (!model.ok()) return model.status();
    const Structure structure = structure_of(scenario.plan, scenario.problem);

    Prediction prediction;
    prediction.bytes = count(scenario.plan, scenario.problem, scenario.activity);
    const Statistics& bytes = prediction.bytes;
    const double row = static_cast<double>(structure.row_bytes);
    // Cold: no working set that a cache could hold. Warm: what every call reads anew.
    const double footprint = scenario.residency == Residency::cold
                                 ? machine.read_bandwidth.back().working_set_bytes * 1e6
                                 : static_cast<double>(weight_bytes(bytes) - bytes.bytes_up_again - bytes.bytes_down_again);
    const double tile_units = static_cast<double>(std::min(scenario.plan.hidden_tile, scenario.problem.d_ff));
    const double tile_bytes = tile_units * row * static_cast<double>(matrix_count(scenario.problem));

    Terms& terms = prediction.terms;
    if (!is_gpu(machine)) {
      add_boundaries(terms, scenario, *model);
    } else if (Status status = add_gpu_boundaries(terms, scenario, machine, footprint); !status.ok()) {
      return status;
    }
    for (int index = 0; index + 1 < phase_count(scenario.plan); ++index) {
      const Demand demand = demand_of(phase_at(scenario.plan, index), scenario, *model, structure, bytes);
      add_phase(terms, demand, scenario, footprint, tile_bytes, *model);
    }
    terms.repair = repair_s(scenario, structure, bytes, tile_bytes, *model);
    terms.reduction += activations_s(scenario, bytes, *model);

    prediction.time_s = terms.total();
    const double half = prediction_uncertainty_s(terms, machine) / prediction.time_s;
    prediction.low_s = prediction.time_s / (1.0 + half);
    prediction.high_s = prediction.time_s * (1.0 + half);
    return prediction;
  } catch (const std::exception& failure) {
    return io_error(std::string("prediction: ") + failure.what());
  }
}

Plan plan_on(const Machine& machine, const Problem& problem, Plan plan) {
  if (!is_gpu(machine)) return plan;
  plan.parts = std::clamp<index_t>(machine.units, 1, std::max<index_t>(problem.d_ff, 1));
  plan.hidden_tile = std::min(plan.hidden_tile, ceil_div(std::max<index_t>(problem.d_ff, 1), plan.parts));
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
