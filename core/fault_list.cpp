#include "fault_list.hpp"

#include <algorithm>
#include <utility>

namespace signsplit {
namespace {

class FaultList {
 public:
  explicit FaultList(const Weights& weights) : weights_(weights) {
    add_biases();
    add_signs();
    add_activations();
    add_layouts();
    add_shifts();
    add_tiles();
    add_hidden_tails();
    add_k_tails();
    add_roundings();
  }
  std::vector<Fault> take() { return std::move(faults_); }

 private:
  void add(Cause cause, std::string text, const FirstProduct& first, const SecondProduct& second = {}) {
    faults_.push_back({cause, std::move(text), {first, second}});
  }

  void add_biases() {
    add(Cause::missing_down_bias, "the down bias is missing", {}, {.bias = 0.0f});
    add(Cause::missing_up_bias, "the up bias is missing", {.up_bias = 0.0f});
    add(Cause::missing_gate_bias, "the gate bias is missing", {.gate_bias = 0.0f});
    add(Cause::missing_up_bias, "the up and the down bias are missing", {.up_bias = 0.0f}, {.bias = 0.0f});
    add(Cause::missing_up_bias, "all biases are missing", {.up_bias = 0.0f, .gate_bias = 0.0f}, {.bias = 0.0f});
    for (const int times : {2, 3, 4, 8, 16}) {
      add(Cause::repeated_bias, "the down bias is added " + std::to_string(times) + " times", {},
          {.bias = static_cast<float>(times)});
    }
    add(Cause::repeated_bias, "the up bias is added twice", {.up_bias = 2.0f});
  }

  void add_signs() {
    add(Cause::wrong_sign, "W1·x has the wrong sign", {.x_factor = -1.0f});
    add(Cause::wrong_sign, "the up bias has the wrong sign", {.up_bias = -1.0f});
    add(Cause::wrong_sign, "the gate bias has the wrong sign", {.gate_bias = -1.0f});
    add(Cause::wrong_sign, "the down bias has the wrong sign", {}, {.bias = -1.0f});
  }

  void add_activations() {
    const std::pair<Curve, const char*> curves[] = {{Curve::identity, "none"}, {Curve::relu, "relu"},           {Curve::relu2, "relu2"},
                                                    {Curve::gelu, "gelu"},     {Curve::gelu_tanh, "gelu_tanh"}, {Curve::silu, "silu"},
                                                    {Curve::absolute, "|z|"}};
    const std::string own = to_string(weights_.activation(), weights_.gated()), function = to_string(weights_.activation());
    for (const auto& [curve, name] : curves) {
      if (name == function) continue;
      add(Cause::wrong_activation, "the activation is " + std::string(name) + " in place of " + own, {.curve = curve});
    }
    if (!weights_.gated()) return;
    add(Cause::wrong_activation, "the gate is ignored: h is the activation of the up projection", {.gate_ignored = true});
    add(Cause::gate_up_swapped, "gate and up have each other's place", {.swapped = true});
  }

  void add_layouts() {
    add(Cause::down_transposed, "W2 is read as [F, D]: down.weight is stored [D, F]", {}, {.transposed = true});
    add(Cause::up_transposed, "W1 is read as [D, F]: up.weight is stored [F, D]", {.transposed = true});
    add(Cause::up_transposed, "W1 and W2 are both read transposed", {.transposed = true}, {.transposed = true});
  }

  void add_shifts() {
    for (const index_t shift : {1, -1}) {
      const std::string by = shift > 0 ? " + 1]" : " - 1]";
      add(Cause::shifted_hidden, "h is off by one against W2: h[j" + by + " meets column j", {}, {.h_shift = shift});
      add(Cause::shifted_input, "x is off by one against W1: x[k" + by + " meets w[k]", {.x_shift = shift});
    }
  }

  void add_tiles() {
    std::vector<index_t> sizes{64, 128, 256, 512, 1024, 2048};
    for (const index_t tiles : {2, 4, 8}) sizes.push_back(ceil_div(weights_.d_model(), tiles));
    for (const index_t size : distinct(sizes, weights_.d_model())) {
      add(Cause::unrepaired_tiles,
          "the activation is applied to the partial sums of K tiles of " + std::to_string(size) + ", not to their total",
          {.k_tile = size});
    }
  }

  void add_hidden_tails() {
    const index_t f = weights_.d_ff();
    std::vector<index_t> counts = tails(f);
    for (index_t n = 1; n < 64; ++n) counts.push_back(n);
    for (const index_t n : distinct(counts, f)) {
      add(Cause::dropped_hidden_tail, "the last " + counted(n, "hidden unit") + " are left out of product 2", {}, {.end = f - n});
    }
    for (const index_t n : {1, 2, 4, 8, 16, 32, 64}) {
      if (n >= f) continue;
      add(Cause::dropped_hidden_tail, "the first " + counted(n, "hidden unit") + " are left out of product 2", {}, {.begin = n});
    }
  }

  void add_k_tails() {
    const index_t d = weights_.d_model();
    for (const index_t n : distinct(tails(d), d)) {
      add(Cause::dropped_k_tail, "the last " + counted(n, "element") + " of x are left out of product 1", {.k_end = d - n});
    }
    for (const index_t n : {1, 64}) {
      if (n >= d) continue;
      add(Cause::dropped_k_tail, "the first " + counted(n, "element") + " of x are left out of product 1", {.k_begin = n});
    }
  }

  void add_roundings() {
    const auto both = [this](Operands to, const std::string& name) {
      const SecondProduct narrow{.weights = to};
      add(Cause::rounded_operands, "h is rounded to " + name, {.h = to});
      add(Cause::rounded_operands, "x is rounded to " + name, {.x = to});
      add(Cause::rounded_operands, "x and h are rounded to " + name, {.x = to, .h = to});
      if (weights_.dtype() == DType::bf16) return;
      add(Cause::rounded_operands, "the weights are rounded to " + name, {.weights = to}, narrow);
      add(Cause::rounded_operands, "x, h and the weights are rounded to " + name, {.x = to, .weights = to, .h = to}, narrow);
    };
    both(Operands::to_bf16, "bf16");
    both(Operands::to_tf32, "tf32");
    add(Cause::flushed_subnormals, "subnormal numbers are flushed to zero",
        {.x = Operands::flushed, .weights = Operands::flushed, .h = Operands::flushed}, {.weights = Operands::flushed});
  }

  /// How many are left over by loops in steps of 2 to 1024, and whole steps.
  static std::vector<index_t> tails(index_t extent) {
    std::vector<index_t> counts{1, 2, 3};
    for (index_t step = 2; step <= 1024; step *= 2) {
      counts.push_back(extent % step);
      counts.push_back(step);
    }
    counts.push_back(extent / 2);
    return counts;
  }
  static std::vector<index_t> distinct(std::vector<index_t> values, index_t limit) {
    std::erase_if(values, [limit](index_t n) { return n < 1 || n >= limit; });
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
  }
  static std::string counted(index_t n, const std::string& what) {
    return n == 1 ? "1 " + what : std::to_string(n) + " " + what + "s";
  }

  const Weights& weights_;
  std::vector<Fault> faults_;
};

}  // namespace

std::vector<Fault> recomputed_faults(const Weights& weights) { return FaultList(weights).take(); }

}  // namespace signsplit
