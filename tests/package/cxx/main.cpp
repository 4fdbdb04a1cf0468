// One call into every library of the package; prints one output.
#include <cstdio>

#include <signsplit/auto.hpp>
#include <signsplit/cpu.hpp>
#include <signsplit/gpu.hpp>
#include <signsplit/signsplit.h>
#include <signsplit/sim/machine.hpp>
#include <signsplit/synthetic.hpp>

int main() {
  const signsplit::Problem problem{.d_model = 100, .d_ff = 300};
  const auto weights = signsplit::synthetic_weights(problem, 0.5, 1);
  if (!weights) return 1;
  auto ffn = signsplit::cpu::Ffn::create(*weights, signsplit::default_plan(problem, signsplit::Strategy::row_fused));
  const std::vector<float> x = signsplit::synthetic_input(1, 100, 2);
  std::vector<float> y(100);
  if (!ffn || !ffn->run(x, y)) return 2;
  if (signsplit::sim::machine_names().empty()) return 3;
  if (!signsplit::choose_plan(*weights, x, 1, {.wisdom = {}})) return 5;
  if (!signsplit::gpu::built_with_cuda() && signsplit::gpu::devices().ok()) return 4;
  std::printf("signsplit %s %a\n", signsplit_version(), static_cast<double>(y[99]));
  return 0;
}
