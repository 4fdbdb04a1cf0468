// Which of a profile's corrections a call takes. What the model knows of kernels by weight type, row length and number of tokens stands in this
// one table; docs/simulator.md says what each correction is and how it was found.
#include "cost_model.hpp"
#include "lookup.hpp"

namespace signsplit::sim {
namespace {

constexpr index_t kPageBytes = 4096;

/// What the table asks of a call.
struct Call {
  const Scenario& scenario;
  index_t row_bytes;

  [[nodiscard]] bool is(Strategy strategy) const { return scenario.plan.strategy == strategy; }
  [[nodiscard]] bool skips() const { return scenario.plan.skip; }
  [[nodiscard]] bool gated() const { return scenario.problem.gated; }
  [[nodiscard]] index_t batch() const { return scenario.problem.batch; }
  [[nodiscard]] bool stores(DType dtype) const { return scenario.problem.dtype == dtype; }
  [[nodiscard]] bool split() const { return is(Strategy::sign_split); }
  [[nodiscard]] bool streams() const { return split() && scenario.plan.variant == Variant::streams; }
  [[nodiscard]] bool unfused_skip() const { return is(Strategy::unfused) && skips(); }
  /// Finds out early which rows are open, and asks for them.
  [[nodiscard]] bool asks_early() const { return skips() && (is(Strategy::row_fused) || (gated() && is(Strategy::unfused))); }
  /// As asks_early(), by the kernels of one token without a gate, which ask for rows of W2.
  [[nodiscard]] bool asks_for_down() const { return skips() && is(Strategy::row_fused) && !gated() && batch() == 1; }
  /// Kernels of int8 rows of half a page and more ask for pieces of them, and the stream stops meanwhile; shorter rows cost nothing.
  [[nodiscard]] bool asks_for_pieces() const { return asks_for_down() && stores(DType::int8) && 2 * row_bytes >= kPageBytes; }
  [[nodiscard]] bool asks_freely() const {
    return asks_for_down() && stores(DType::int8) && !asks_for_pieces() && scenario.residency == Residency::cold;
  }
  /// One token, two matrices in turns: rows of weights of two bytes lose by it, unless they are multiples of 512 bytes, as those of models
  /// are; why is not known. Of f32 and int8 the processor's own prefetchers do as well in turns.
  [[nodiscard]] bool loses_in_turns() const {
    return is(Strategy::row_fused) && batch() == 1 && dtype_bytes(scenario.problem.dtype) == 2 && row_bytes % 512 != 0;
  }
};

struct Term {
  double Model::*field;
  const char* parameter;
  bool (*applies)(const Call& call);
};

constexpr Term kTerms[] = {
    {&Model::restart, "switch_s", [](const Call& c) { return c.is(Strategy::row_fused); }},
    {&Model::restart, "unannounced_s", [](const Call& c) { return c.unfused_skip() && !c.gated(); }},
    {&Model::restart, "unannounced_gated_s", [](const Call& c) { return c.unfused_skip() && c.gated(); }},
    {&Model::guess, "guess_overhead_s", [](const Call& c) { return c.asks_early() && c.batch() <= 2 && !c.asks_freely(); }},
    {&Model::guess, "guess_batch_s", [](const Call& c) { return c.asks_early() && c.batch() > 2; }},
    {&Model::guess_wait, "guess_overhead_s", [](const Call& c) { return c.asks_for_pieces(); }},
    {&Model::down_restart, "unasked_s", [](const Call& c) { return c.asks_for_down() && c.stores(DType::f32); }},
    {&Model::listed_row, "batch_row_s", [](const Call& c) { return c.unfused_skip() && c.batch() > 4; }},
    {&Model::down_wait, "batch_row_wait_s", [](const Call& c) { return c.unfused_skip() && c.batch() > 4 && c.row_bytes < kPageBytes; }},
    {&Model::lost_listed, "skip_lost_share", [](const Call& c) { return c.skips() && !c.split() && c.batch() == 1; }},
    {&Model::lost_listed, "skip_batch_lost_share", [](const Call& c) { return c.skips() && !c.split() && c.batch() > 1; }},
    {&Model::lost_in_turns, "fused_lost_share", [](const Call& c) { return c.loses_in_turns(); }},
    {&Model::lost_in_turns, "fused_batch_lost_share", [](const Call& c) { return c.is(Strategy::row_fused) && c.batch() > 1; }},
    {&Model::lost_survivors, "survivor_lost_share", [](const Call& c) { return c.is(Strategy::certified); }},
    {&Model::survivor, "survivor_s", [](const Call& c) { return c.is(Strategy::certified); }},
    {&Model::miss, "streams_miss_s", [](const Call& c) { return c.streams(); }},
    {&Model::miss, "split_miss_s", [](const Call& c) { return c.split() && !c.streams(); }},
    {&Model::miss, "batch_miss_s", [](const Call& c) { return !c.split() && c.batch() > 1; }},
    {&Model::up_stall_rate, "streams_stall_rate", [](const Call& c) { return c.streams(); }},
    {&Model::up_stall_rate, "split_stall_rate", [](const Call& c) { return c.split() && !c.streams(); }},
    {&Model::down_stall_rate, "split_stall_rate", [](const Call& c) { return c.split(); }},
};

}  // namespace

void add_kernel_terms(Model& model, const Scenario& scenario, index_t row_bytes) {
  const Call call{scenario, row_bytes};
  for (const Term& term : kTerms) {
    if (term.applies(call)) model.*term.field = model_value(model.machine, term.parameter).value;
  }
}

}  // namespace signsplit::sim
