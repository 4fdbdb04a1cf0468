// Use the plan walker for an executor of your own: the walk says what comes when, a sink does the work, here in plain loops.
// The data are small integers, so that no sum rounds: y must have the bits of the library's executor.
#include <algorithm>
#include <cstdio>
#include <vector>

#include <signsplit/cpu.hpp>
#include <signsplit/synthetic.hpp>
#include <signsplit/walk.hpp>

namespace ss = signsplit;
using ss::index_t;
constexpr index_t kD = 96, kF = 512;

struct MyExecutor {
  const ss::Weights& weights;
  const std::vector<float>& x;
  std::vector<float> z = std::vector<float>(kF), h = std::vector<float>(kF), y = std::vector<float>(kD);

  void up_tile(ss::HiddenRange units, ss::KRange k) {  // one K tile of z = W1·x
    for (index_t j = units.begin; j < units.end; ++j) {
      for (index_t i = k.begin; i < std::min(k.end, kD); ++i) z[size_t(j)] += weights.up_at(j, i) * x[size_t(i)];
    }
  }
  void activate(ss::HiddenRange units) {
    for (index_t j = units.begin; j < units.end; ++j) h[size_t(j)] = ss::activate(weights.activation(), z[size_t(j)]);
  }
  void down_tile(ss::HiddenRange units) {  // y += h_j · column j of W2; those of closed units are not read
    for (index_t j = units.begin; j < units.end; ++j) {
      for (index_t i = 0; h[size_t(j)] != 0 && i < kD; ++i) y[size_t(i)] += h[size_t(j)] * weights.down_at(j, i);
    }
  }
  void begin_part(index_t, ss::Phase) {}
  void certify(ss::HiddenRange) {}                                 // of certified plans
  void reduce(ss::ColumnRange) {}                                  // one worker has one y for all parts
  void store_h(ss::HiddenRange) {} void load_h(ss::HiddenRange) {}   // of unfused plans; here h stays where it is
  void push(ss::HiddenRange, ss::KRange) {} void correct(ss::HiddenRange) {}  // of sign_split plans
};

int main() {
  std::vector<float> up(kF * kD), down(kD * kF), x(kD), y(kD);
  std::uint64_t n = 0;
  for (auto* values : {&up, &down, &x})
    for (float& value : *values) value = float(int(ss::random_bits(1, n++) % 7) - 3);
  const auto bytes = [](const std::vector<float>& values) { return std::as_bytes(std::span(values)); };
  ss::LayerTensors layer;  // without gate and biases
  layer.d_model = kD, layer.d_ff = kF, layer.dtype = ss::DType::f32, layer.up = bytes(up), layer.down = bytes(down);
  const auto weights = ss::Weights::pack(layer);
  if (!weights) return 1;
  const ss::Plan plan = ss::default_plan(weights->problem(), ss::Strategy::row_fused);
  const ss::WalkShape shape = ss::walk_shape(weights->problem());
  MyExecutor mine{*weights, x};
  for (int p = 0; p < ss::phase_count(plan); ++p) {
    const ss::Phase phase = ss::phase_at(plan, p);
    for (index_t item = 0; item < ss::item_count(plan, shape, phase); ++item) ss::walk(plan, shape, phase, item, mine);
  }
  auto ffn = ss::cpu::Ffn::create(*weights, plan);
  if (!ffn || !ffn->run(x, y)) return 1;
  std::printf("%s the library's executor\n", y == mine.y ? "the same bits as" : "DIFFERENT from");
  return y == mine.y ? 0 : 1;
}
