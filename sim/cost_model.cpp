#include "cost_model.hpp"

#include <algorithm>
#include <cmath>

#include "gpu_machine.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

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

}  // namespace

Demand PhaseDemand::sum() const {
  return {up.stream_bytes + down.stream_bytes, up.jumps + down.jumps, up.busy_s + down.busy_s, up.misses + down.misses, up.again_bytes + down.again_bytes,
          up.again_busy_s + down.again_busy_s};
}

Result<Model> look_up(const Scenario& scenario, const Machine& machine) {
  const std::string isa = scenario.isa.empty() ? machine.isa : scenario.isa;
  const std::string dtype(scenario.problem.arithmetic == Arithmetic::w8a8 ? "w8a8" : to_string(scenario.problem.dtype));
  if (machine.read_bandwidth.empty()) return invalid_argument("machine " + machine.name + ": read_bandwidth has no points");
  Model model{machine, scenario.threads > 0 ? scenario.threads : std::max(machine.threads, 1), {}};

  const bool split = scenario.plan.strategy == Strategy::sign_split, streams = scenario.plan.variant == Variant::streams;
  const bool certified = scenario.plan.strategy == Strategy::certified;
  const char* down = split && !is_gpu(machine) ? "push_" : "down_";
  const std::string names[] = {(streams ? "streams_" : "up_") + dtype, down + dtype, "token_" + dtype, "exact", "certify",
                               "down_token_" + dtype};
  double seconds[6] = {};
  for (int i = 0; i < 6; ++i) {
    const std::optional<Quantity> rate = kernel_rate(machine, isa, names[i]);
    if (!rate || !(rate->value > 0.0)) {
      return invalid_argument("machine " + machine.name + ": has no rate " + names[i] + " nor fma_f32 for isa \"" + isa + "\"");
    }
    seconds[i] = 1.0 / rate->value;
  }
  const double batch = static_cast<double>(scenario.problem.batch);
  // The kernels for several tokens load, convert and fold in another way than those for one: they begin with some tokens' cost.
  const double entry = batch > 1 && !is_gpu(machine) ? model_value(machine, "batch_entry").value : 0.0;
  model.element = {seconds[0] + (batch - 1 + entry) * seconds[2], seconds[1] + (batch - 1) * seconds[5], seconds[3], batch * seconds[4]};
  if (scenario.plan.placement == Placement::residual) model.element.restored = seconds[0] * model_value(machine, "restored_cost").value;
  model.stream_efficiency = model_value(machine, "stream_efficiency").value;
  model.cache_efficiency = is_gpu(machine) ? model.stream_efficiency : model_value(machine, "cache_efficiency").value;
  model.overlap_loss = model_value(machine, certified ? "certified_overlap_loss"
                                            : !split  ? "overlap_loss"
                                            : streams ? "streams_overlap_loss"
                                                      : "split_overlap_loss").value;
  model.cache_overlap_loss = is_gpu(machine) ? model.overlap_loss : model_value(machine, "cache_overlap_loss").value;
  const double row_bytes = static_cast<double>(walk_shape(scenario.problem).d_padded * dtype_bytes(scenario.problem.dtype));
  model.gap_bytes = std::min(model_value(machine, "gather_gap_bytes").value, model_value(machine, "gather_gap_rows").value * row_bytes);
  model.first_byte = is_gpu(machine) ? 0.0 : model_value(machine, "first_byte_s").value;  // of a GPU: a boundary's
  model.imbalance = model_value(machine, "imbalance").value;
  const char* piece = streams ? "streams_overhead_s" : split ? "push_overhead_s" : "piece_overhead_s";
  const char* batch_piece = streams ? "streams_batch_s" : split ? "push_batch_s" : "piece_batch_s";
  model.piece = model_value(machine, piece).value * batch;
  if (is_gpu(machine)) return model;
  if (batch > 1) model.piece += model_value(machine, batch_piece).value;
  if (scenario.plan.variant == Variant::telescoping) model.piece *= model_value(machine, "telescoping_share").value;
  model.row = model_value(machine, "row_overhead_s").value + (scenario.plan.skip ? batch * model_value(machine, "skip_overhead_s").value : 0.0);
  if (certified) model.unit = model_value(machine, "certify_overhead_s").value * batch;
  if (split) {
    model.miss = model_value(machine, streams ? "streams_miss_s" : "split_miss_s").value;
    model.redo = model_value(machine, "redo_overhead_s").value * batch;
  }
  return model;
}

namespace {

/// What a row piece of the gate costs of one of W1, beyond its elements.
constexpr double kGatePiece = 0.2;

Demand up_demand(const Scenario& scenario, const Model& model, const Structure& structure, const Statistics& bytes) {
  const double row = static_cast<double>(structure.row_bytes), units = static_cast<double>(scenario.problem.d_ff);
  const double elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const double matrices = static_cast<double>(matrix_count(scenario.problem) - 1);
  const double jumps = static_cast<double>(structure.up_jumps);
  const bool gate_first = scenario.problem.gated && scenario.plan.skip && scenario.plan.strategy != Strategy::sign_split;
  const bool certified = scenario.plan.strategy == Strategy::certified;
  const double read = static_cast<double>(bytes.bytes_up + bytes.bytes_gate - bytes.bytes_up_again);
  // Of a survivor's row a residual is read in place of the row itself.
  const bool restores = scenario.plan.placement == Placement::residual;
  const double refined = static_cast<double>(bytes.refined);
  const double rows = restores ? refined + (gate_first ? static_cast<double>(bytes.bytes_up) / row : 0.0) : read / row;
  // Activation, and what sign_split decides, come once per unit; of the folding of a gate's row little is left beside them.
  const double pieces = (certified ? rows / matrices : static_cast<double>(structure.up_pieces)) * (1.0 + kGatePiece * (matrices - 1.0));
  Demand demand;
  demand.stream_bytes = read + static_cast<double>(bytes.bytes_plane + bytes.bytes_scales);
  demand.busy_s = rows * (elements * model.element.up) + pieces * model.piece;
  demand.misses = pieces;
  if (restores) demand.busy_s += refined * elements * model.element.restored;
  if (certified) {  // the plane is read whole, of the matrices the rows it leaves
    demand.busy_s += units * (elements * model.element.plane + model.unit);
    demand.jumps = jumps + jumps_when_skipping(jumps, units, static_cast<double>(bytes.refined));
    if (gate_first) demand.jumps += jumps_when_skipping(jumps, units, static_cast<double>(bytes.bytes_up) / row);
  } else {
    const double up_rows = read / row - units;  // of W1 alone, where the gate is read whole
    demand.jumps = gate_first ? jumps + jumps_when_skipping(jumps, units, up_rows) : matrices * jumps;
  }
  return demand;
}

Demand down_demand(const Scenario& scenario, const Model& model, const Structure& structure, const Statistics& bytes) {
  const double row = static_cast<double>(structure.row_bytes), units = static_cast<double>(scenario.problem.d_ff);
  const double elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const DownRows rows = split_down_rows(bytes, row);
  Demand demand;
  demand.stream_bytes = rows.pushed_new * row;
  demand.busy_s = rows.pushed_new * (elements * model.element.down + model.row);
  demand.again_bytes = rows.pushed_again * row;
  demand.again_busy_s = rows.pushed_again * (elements * model.element.down + model.row);
  demand.jumps = jumps_when_skipping(static_cast<double>(structure.down_jumps), units, rows.pushed_new);
  return demand;
}

}  // namespace

PhaseDemand demand_of(Phase phase, const Scenario& scenario, const Model& model, const Structure& structure,
                      const Statistics& bytes) {
  PhaseDemand demand;
  if (phase != Phase::second_product) demand.up = up_demand(scenario, model, structure, bytes);
  if (phase != Phase::first_product) demand.down = down_demand(scenario, model, structure, bytes);
  return demand;
}

double footprint_of(const Scenario& scenario, const Machine& machine, const Statistics& bytes) {
  if (scenario.residency == Residency::cold) return machine.read_bandwidth.back().working_set_bytes * 1e6;
  return static_cast<double>(weight_bytes(bytes) - bytes.bytes_up_again - bytes.bytes_down_again);
}

double tile_bytes_of(const Scenario& scenario, const Structure& structure) {
  const double units = static_cast<double>(std::min(scenario.plan.hidden_tile, scenario.problem.d_ff));
  return units * static_cast<double>(structure.row_bytes) * static_cast<double>(matrix_count(scenario.problem));
}

int worker_count(const Scenario& scenario, const Model& model) {
  return static_cast<int>(std::min<index_t>(model.threads, scenario.plan.parts));
}

double memory_share(const Model& model, int workers, double footprint) {
  const double curve = bandwidth(model.machine, workers, footprint), memory = dram_bandwidth(model.machine, workers);
  return memory > 0.0 ? std::clamp(2.0 - curve / memory, 0.0, 1.0) : 1.0;
}

double stream_rate(const Model& model, int workers, double footprint) {
  const double memory = memory_share(model, workers, footprint);
  return bandwidth(model.machine, workers, footprint) * (model.cache_efficiency + memory * (model.stream_efficiency - model.cache_efficiency));
}

PhaseTime time_of(const Demand& demand, double share, int workers, double footprint, double tile_bytes, const Model& model) {
  const double rate = stream_rate(model, workers, footprint);
  const double stream = share * (demand.stream_bytes + demand.jumps * model.gap_bytes) / rate;
  const double busy = share * demand.busy_s / workers;
  const double again = share * std::max(demand.again_busy_s / workers,
                                        demand.again_bytes / bandwidth(model.machine, workers, tile_bytes * workers));
  const double memory = memory_share(model, workers, footprint);
  const double waits = memory * share * demand.misses * model.miss / workers;
  const double loss = model.cache_overlap_loss + memory * (model.overlap_loss - model.cache_overlap_loss);
  // The processor overlaps arithmetic with the stream of new bytes, but for a part of the smaller of the two. Re-reads come
  // from the cache while the stream pauses.
  const double serial = loss * std::min(busy, stream) + again + waits;
  return {stream, std::max(0.0, busy - stream) + serial, serial};
}

}  // namespace signsplit::sim
