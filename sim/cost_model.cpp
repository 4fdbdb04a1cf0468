#include "cost_model.hpp"

#include <algorithm>
#include <cmath>

#include "gpu_machine.hpp"
#include "lookup.hpp"
#include "signsplit/aligned_buffer.hpp"

namespace signsplit::sim {
namespace {

/// Jumps of a stream of `rows` rows of which `read` are read, scattered, on top of the `structural` ones: every run of
/// rows that follows a hole starts anew. Rows are as likely read as not, independently of their neighbours.
double jumps_when_skipping(double structural, double rows, double read) {
  return rows > 0.0 ? std::max(std::min(structural, read), read * (1.0 - read / rows)) : 0.0;
}

/// Seconds that one thread needs for one weight element and the tokens of a block, of 1, 2, 4 or 8; or of 3, which lie between 2 and 4.
/// Empty when the machine has no such rate.
std::optional<double> seconds_of_block(const Machine& machine, const std::string& isa, const std::string& kernel, int block) {
  if (block == 3) {
    const auto two = seconds_of_block(machine, isa, kernel, 2), four = seconds_of_block(machine, isa, kernel, 4);
    return two && four ? std::optional(0.5 * (*two + *four)) : std::nullopt;
  }
  const std::optional<Quantity> rate = kernel_rate(machine, isa, block == 1 ? kernel : kernel + "_" + std::to_string(block));
  return rate && rate->value > 0.0 ? std::optional(1.0 / rate->value) : std::nullopt;
}

/// The same of all tokens, in the blocks in which the kernels take them.
std::optional<double> seconds_per_element(const Machine& machine, const std::string& isa, const std::string& kernel, index_t batch) {
  double seconds = 0.0;
  for (const int block : {8, 4, 3, 2, 1}) {
    if (batch < block) continue;
    const std::optional<double> of_block = seconds_of_block(machine, isa, kernel, block);
    if (!of_block) return std::nullopt;
    seconds += static_cast<double>(batch / block) * *of_block;
    batch %= block;
  }
  return seconds;
}

/// Blocks of tokens beyond the first: a row is gone over once for each.
index_t further_blocks(index_t batch) {
  index_t blocks = 0;
  for (const index_t block : {8, 4, 3, 2, 1}) {
    blocks += batch / block;
    batch %= block;
  }
  return std::max<index_t>(blocks - 1, 0);
}

/// Of a GPU: a further token costs the same whatever their number.
std::optional<double> gpu_seconds_per_element(const Machine& machine, const std::string& isa, const std::string& kernel,
                                              const std::string& token, double batch) {
  const std::optional<Quantity> alone = kernel_rate(machine, isa, kernel), further = kernel_rate(machine, isa, token);
  if (!alone || !further || !(alone->value > 0.0) || !(further->value > 0.0)) return std::nullopt;
  return 1.0 / alone->value + (batch - 1) / further->value;
}

Result<ElementTimes> element_times(const Scenario& scenario, const Machine& machine, const std::string& isa) {
  const std::string dtype(scenario.problem.arithmetic == Arithmetic::w8a8 ? "w8a8" : to_string(scenario.problem.dtype));
  const bool split = scenario.plan.strategy == Strategy::sign_split, streams = scenario.plan.variant == Variant::streams, gpu = is_gpu(machine);
  const double batch = static_cast<double>(scenario.problem.batch);
  std::string missing;
  const auto of = [&](const std::string& kernel, const char* token) {
    const std::optional<double> seconds = gpu ? gpu_seconds_per_element(machine, isa, kernel, token + dtype, batch)
                                              : seconds_per_element(machine, isa, kernel, scenario.problem.batch);
    if (!seconds && missing.empty()) missing = kernel;
    return seconds.value_or(0.0);
  };
  const auto alone = [&](const std::string& kernel) {
    const std::optional<Quantity> rate = kernel_rate(machine, isa, kernel);
    if ((!rate || !(rate->value > 0.0)) && missing.empty()) missing = kernel;
    return rate && rate->value > 0.0 ? 1.0 / rate->value : 0.0;
  };
  ElementTimes element;
  element.redo = of("up_" + dtype, "token_");
  element.up = !streams ? element.redo : gpu ? of("streams_" + dtype, "token_") : batch * alone("streams_" + dtype);
  element.down = of("down_" + dtype, "down_token_");
  // The rows that a push reads are scattered over the K tiles; with several tokens the same kernel goes over them.
  if (split && !gpu) element.down += alone("push_" + dtype) - alone("down_" + dtype);
  // And product 1 keeps the sums of a piece of a row, of which the next K tile goes on.
  if (split && !streams && !gpu) element.up += alone("pieces_" + dtype) - alone("up_" + dtype);
  element.exact = alone("exact");
  element.plane = (1.0 + (batch - 1.0) * (gpu ? 1.0 : model_value(machine, "certify_token_share").value)) * alone("certify");
  if (scenario.plan.placement == Placement::residual) element.restored = alone("up_" + dtype) * model_value(machine, "restored_cost").value;
  if (missing.empty()) return element;
  return invalid_argument("machine " + machine.name + ": has no rate " + missing + " nor fma_f32 for isa \"" + isa + "\"");
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
  return {up.stream_bytes + down.stream_bytes, up.jumps + down.jumps, up.busy_s + down.busy_s, up.stall_s + down.stall_s, up.misses + down.misses,
          up.restarts + down.restarts, up.lost_bytes + down.lost_bytes, up.waits_s + down.waits_s, up.again_bytes + down.again_bytes, up.again_busy_s + down.again_busy_s};
}

namespace {

/// The largest working set, beyond the cores' own caches, at which the curve is not a twentieth below its best there: from it on some of the
/// lines come from main memory, which is the curve's last point.
double cache_end_of(const Machine& machine, int threads) {
  constexpr double kBeyondOwn = 2.0, kStillCache = 0.95;
  const double own = own_caches_bytes(machine, threads), memory = machine.read_bandwidth.back().working_set_bytes;
  double best = 0, end = own;
  const auto counts = [&](const BandwidthPoint& point) {
    return point.threads == threads && point.working_set_bytes > kBeyondOwn * own && point.working_set_bytes < memory;
  };
  for (const BandwidthPoint& point : machine.read_bandwidth) {
    if (counts(point)) best = std::max(best, point.bytes_per_s);
  }
  for (const BandwidthPoint& point : machine.read_bandwidth) {
    if (counts(point) && point.bytes_per_s >= kStillCache * best) end = point.working_set_bytes;
  }
  return end;
}

}  // namespace

/// A matrix that is smaller than a huge page gets none from AlignedBuffer: more of its time goes into finding pages.
constexpr index_t kHugePageBytes = AlignedBuffer::kHugePage;

Result<Model> look_up(const Scenario& scenario, const Machine& machine) {
  const std::string isa = scenario.isa.empty() ? machine.isa : scenario.isa;
  if (machine.read_bandwidth.empty()) return invalid_argument("machine " + machine.name + ": read_bandwidth has no points");
  Model model{machine, scenario.threads > 0 ? scenario.threads : std::max(machine.threads, 1), {}};

  const bool split = scenario.plan.strategy == Strategy::sign_split, streams = scenario.plan.variant == Variant::streams;
  const bool certified = scenario.plan.strategy == Strategy::certified;
  const double batch = static_cast<double>(scenario.problem.batch);
  const Result<ElementTimes> element = element_times(scenario, machine, isa);
  if (!element.ok()) return element.status();
  model.element = *element;
  model.stream_efficiency = model_value(machine, "stream_efficiency").value;
  model.cache_efficiency = is_gpu(machine) ? model.stream_efficiency : model_value(machine, "cache_efficiency").value;
  const index_t row_bytes = walk_shape(scenario.problem).d_padded * dtype_bytes(scenario.problem.dtype);
  if (!is_gpu(machine) && scenario.problem.d_ff * row_bytes < kHugePageBytes) {
    model.stream_efficiency *= model_value(machine, "small_page_efficiency").value;
  }
  model.overlap_loss = model_value(machine, certified ? "certified_overlap_loss"
                                            : !split  ? batch > 1 && !is_gpu(machine) ? "batch_overlap_loss" : "overlap_loss"
                                            : streams ? "streams_overlap_loss"
                                                      : "split_overlap_loss").value;
  model.cache_overlap_loss = is_gpu(machine) ? model.overlap_loss : model_value(machine, "cache_overlap_loss").value;
  model.gap_bytes = std::min(model_value(machine, "gather_gap_bytes").value, model_value(machine, "gather_gap_rows").value * static_cast<double>(row_bytes));
  model.first_byte = is_gpu(machine) ? 0.0 : model_value(machine, "first_byte_s").value;  // of a GPU: a boundary's
  model.imbalance = model_value(machine, "imbalance").value;
  model.cache_end = cache_end_of(machine, model.threads);
  model.returns = scenario.plan.strategy != Strategy::unfused;
  model.parts = static_cast<double>(scenario.plan.parts);
  const char* piece = streams ? "streams_overhead_s" : split ? "push_overhead_s" : "piece_overhead_s";
  const char* batch_piece = streams ? "streams_batch_s" : split ? "push_batch_s" : "piece_batch_s";
  model.piece = model_value(machine, batch > 1 && split && !is_gpu(machine) ? streams ? "streams_token_s" : "push_token_s" : piece).value * batch;
  model.most_per_thread = is_gpu(machine) ? kNoLimit : model_value(machine, batch > 1 && !split ? "batch_read_rate" : "row_read_rate").value;
  if (is_gpu(machine)) return model;
  model.mixed_rate = model_value(machine, "mixed_rate").value;
  if (batch > 1) model.fold = model_value(machine, batch_piece).value;
  if (scenario.plan.variant == Variant::telescoping) {
    model.piece *= model_value(machine, "telescoping_share").value;
    model.fold *= model_value(machine, "telescoping_share").value;
  }
  add_kernel_terms(model, scenario, row_bytes);
  const double further = static_cast<double>(further_blocks(scenario.problem.batch)) * model_value(machine, "further_block_s").value;
  if (!streams) model.fold += further;
  model.row = model_value(machine, "row_overhead_s").value + further + (scenario.plan.skip ? batch * model_value(machine, "skip_overhead_s").value : 0.0);
  if (certified) {
    model.unit = model_value(machine, "certify_overhead_s").value * batch + (batch > 1 ? model_value(machine, "certify_batch_s").value : 0.0);
  }
  if (split) {
    model.redo = model_value(machine, "redo_overhead_s").value * batch;
  }
  model.jumps_stall = !split && batch > 1;
  return model;
}

namespace {

/// What a row piece of the gate costs of one of W1, beyond its elements.
constexpr double kGatePiece = 0.2, kGateFold = 0.6;

/// An unfused product goes from part to part without a jump; in every second call, which takes them backwards, with one.
double structural_jumps(std::uint64_t jumps, const Scenario& scenario) {
  return static_cast<double>(jumps) * (scenario.plan.strategy == Strategy::unfused && scenario.plan.parts > 1 ? 0.5 : 1.0);
}

Demand up_demand(const Scenario& scenario, const Model& model, const Structure& structure, const Statistics& bytes) {
  const double row = static_cast<double>(structure.row_bytes), units = static_cast<double>(scenario.problem.d_ff);
  const double elements = row / static_cast<double>(dtype_bytes(scenario.problem.dtype));
  const double matrices = static_cast<double>(matrix_count(scenario.problem) - 1);
  const double jumps = structural_jumps(structure.up_jumps, scenario);
  const bool gate_first = scenario.problem.gated && scenario.plan.skip && scenario.plan.strategy != Strategy::sign_split;
  const bool certified = scenario.plan.strategy == Strategy::certified;
  const double read = static_cast<double>(bytes.bytes_up + bytes.bytes_gate - bytes.bytes_up_again);
  // Of a survivor's row a residual is read in place of the row itself.
  const bool restores = scenario.plan.placement == Placement::residual;
  const double refined = static_cast<double>(bytes.refined);
  const double rows = restores ? refined + (gate_first ? static_cast<double>(bytes.bytes_up) / row : 0.0) : read / row;
  // Activation, and what sign_split decides, come once per unit; of the folding of a gate's row little is left beside them.
  const double row_pieces = certified ? rows / matrices : static_cast<double>(structure.up_pieces);
  const double folded = scenario.plan.strategy == Strategy::sign_split ? row_pieces * (1.0 + kGateFold * (matrices - 1.0)) : rows;
  const double pieces = row_pieces * (1.0 + kGatePiece * (matrices - 1.0));
  Demand demand;
  demand.stream_bytes = read + static_cast<double>(bytes.bytes_plane + bytes.bytes_scales);
  demand.busy_s = rows * (elements * model.element.up) + pieces * model.piece + folded * model.fold;
  demand.stall_s = demand.stream_bytes / model.up_stall_rate;
  // The more elements a line has, the longer a core works through it, and the fewer lines it has on their way.
  if (scenario.plan.variant == Variant::streams) demand.stall_s *= std::sqrt(2.0 / static_cast<double>(dtype_bytes(scenario.problem.dtype)));
  demand.misses = scenario.plan.strategy == Strategy::sign_split ? pieces : rows;
  if (scenario.plan.strategy == Strategy::row_fused) demand.restarts = static_cast<double>(structure.up_jumps);
  demand.busy_s += units * model.guess;
  demand.waits_s = units * model.guess_wait;
  if (restores) demand.busy_s += refined * elements * model.element.restored;
  const double listed = gate_first && !certified ? std::max(0.0, read - units * row) : 0.0;  // rows of W1 that open gates ask for
  demand.lost_bytes = (model.lost_in_turns + model.lost_survivors) * read + model.lost_listed * listed;
  if (certified) {  // the plane is read whole, of the matrices the rows it leaves
    demand.busy_s += units * (elements * model.element.plane + model.unit) + refined * model.survivor;
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
  demand.busy_s = rows.pushed_new * (elements * model.element.down + model.row + model.listed_row);
  demand.stall_s = demand.stream_bytes / model.down_stall_rate;
  if (scenario.plan.strategy != Strategy::sign_split) demand.misses = rows.pushed_new;
  demand.again_bytes = rows.pushed_again * row;
  demand.again_busy_s = rows.pushed_again * (elements * model.element.down + model.row);
  demand.jumps = jumps_when_skipping(structural_jumps(structure.down_jumps, scenario), units, rows.pushed_new);
  if (scenario.plan.strategy == Strategy::row_fused) demand.restarts = static_cast<double>(structure.down_jumps);
  if (scenario.plan.strategy == Strategy::unfused) demand.restarts = static_cast<double>(structure.tiles) / 2.0;
  demand.lost_bytes = (model.lost_in_turns + model.lost_listed) * demand.stream_bytes;
  demand.waits_s = rows.pushed_new * model.down_wait + static_cast<double>(structure.down_jumps) * model.down_restart;
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
  const double read = static_cast<double>(weight_bytes(bytes) - bytes.bytes_up_again - bytes.bytes_down_again);
  if (is_gpu(machine)) return read;
  // Between two calls that read the same rows others have been, of other tokens or plans, and left theirs: of 40 MB, 22 read, such a call
  // took what one of 31 takes.
  return 0.5 * (read + static_cast<double>(weight_bytes(scenario.problem)));
}

double tile_bytes_of(const Scenario& scenario, const Structure& structure) {
  const double units = static_cast<double>(std::min(scenario.plan.hidden_tile, scenario.problem.d_ff));
  return units * static_cast<double>(structure.row_bytes) * static_cast<double>(matrix_count(scenario.problem));
}

int worker_count(const Scenario& scenario, const Model& model) {
  return static_cast<int>(std::min<index_t>(model.threads, scenario.plan.parts));
}

double memory_share(const Model& model, int workers, double footprint) {
  if (footprint <= model.cache_end) return 0.0;
  const double curve = bandwidth(model.machine, workers, footprint), memory = dram_bandwidth(model.machine, workers);
  const double cache = bandwidth(model.machine, workers, model.cache_end);
  if (!(cache > memory) || !(curve > memory)) return 1.0;
  return std::clamp((1.0 / curve - 1.0 / cache) / (1.0 / memory - 1.0 / cache), 0.0, 1.0);
}

namespace {

/// A rate of which there is at most so much: far below the limit it is as it is, and it comes near it gradually.
double limited(double rate, double most) {
  constexpr double kPower = 4.0;
  return rate / std::pow(1.0 + std::pow(rate / most, kPower), 1.0 / kPower);
}

/// Parts that a core finds again when it goes back through them. Those of the j-th it reads after j parts: all of it is there where that is
/// half of the cache, and none where it is all.
double parts_kept(double part_bytes, double cache_bytes) {
  double parts = 0;
  for (double read = part_bytes; read < cache_bytes; read += part_bytes) parts += std::min(1.0, 2.0 * (1.0 - read / cache_bytes));
  return parts;
}

}  // namespace

double stream_rate(const Model& model, int workers, double footprint) {
  const double curve = bandwidth(model.machine, workers, footprint);
  if (is_gpu(model.machine)) return curve * model.stream_efficiency;
  const double memory = dram_bandwidth(model.machine, workers), missed = memory_share(model, workers, footprint);
  const double in_memory = missed < 1.0 ? missed * curve / memory : 1.0;  // share of the time that the curve tells
  const double efficiency = limited(memory * model.stream_efficiency, workers * model.most_per_thread) / memory;
  const double rate = curve / (in_memory / efficiency + (1.0 - in_memory) / model.cache_efficiency);
  // Every second call goes backwards through its parts, and forwards through each: a fused one finds the last parts of the call before in
  // the cores' own caches. An unfused one begins with W1 where the last one ended with W2.
  const double own = own_caches_bytes(model.machine, workers);
  if (!model.returns || footprint <= own || footprint > model.machine.read_bandwidth.back().working_set_bytes) return rate;
  const double kept = workers * parts_kept(footprint / model.parts, own / workers) / model.parts, near = std::max(rate, bandwidth(model.machine, workers, own) * model.cache_efficiency);
  return 1.0 / (kept / near + (1.0 - kept) / rate);
}

/// What the longer of two things that go on side by side does not hide of the shorter: `loss` of it where both take equally long, and
/// less the more unequal they are. The times add up like the sides of a rectangle to its diagonal, but with a power of ln 2 / ln (1 + loss).
double not_hidden(double a, double b, double loss) {
  const double longer = std::max(a, b), shorter = std::min(a, b);
  if (!(shorter > 0.0) || !(loss > 0.0)) return 0.0;
  const double power = std::log(2.0) / std::log1p(loss);
  return longer * (std::pow(1.0 + std::pow(shorter / longer, power), 1.0 / power) - 1.0);
}

PhaseTime time_of(const Demand& demand, double share, int workers, double footprint, double tile_bytes, const Model& model) {
  const double rate = stream_rate(model, workers, footprint), memory = memory_share(model, workers, footprint);
  const double jumps = demand.jumps * model.gap_bytes, stalled = model.jumps_stall ? memory * jumps : 0.0;
  const double bytes = share * (demand.stream_bytes + memory * demand.lost_bytes + jumps - stalled), stream = bytes / rate;
  const double busy_s = share * (demand.busy_s + memory * demand.stall_s), busy = busy_s / workers;
  const double again = share * std::max(demand.again_busy_s / workers,
                                        demand.again_bytes / bandwidth(model.machine, workers, tile_bytes * workers));
  const double mixed = std::sqrt(memory * (1.0 - memory)) * demand.stream_bytes / model.mixed_rate;
  const double waits = share * ((mixed + memory * (demand.misses * model.miss + demand.restarts * model.restart + demand.waits_s)) / workers + stalled / rate);
  const double loss = model.cache_overlap_loss + memory * (model.overlap_loss - model.cache_overlap_loss);
  // The processor overlaps arithmetic with the stream of new bytes, but for a part of the smaller of the two. Re-reads come
  // from the cache while the stream pauses.
  const double beside = is_gpu(model.machine) ? loss * std::min(busy, stream) : not_hidden(busy, stream, loss), serial = beside + again + waits;
  return {stream, std::max(0.0, busy - stream) + serial, serial, bytes, busy_s};
}

}  // namespace signsplit::sim
