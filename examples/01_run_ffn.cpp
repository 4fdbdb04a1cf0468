// Run an FFN: a layer and tokens from files, the schedule of your choice, what it read.
//   01_run_ffn layer.safetensors x.npy
#include <cstdio>
#include <vector>

#include <signsplit/cpu.hpp>
#include <signsplit/npy.hpp>

namespace ss = signsplit;

int fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 3) return fail("usage: 01_run_ffn layer.safetensors x.npy");
  const auto weights = ss::load_weights(argv[1]);
  if (!weights) return fail(weights.message());
  const auto x = ss::read_matrix(argv[2]);  // [tokens, D]
  if (!x) return fail(x.message());

  // A plan fixes every order of additions: the same plan gives the same bits on any machine. skip leaves out the rows of W2
  // whose hidden unit is zero, and changes no bit.
  const ss::Problem problem = weights->problem(/*batch=*/1);
  const ss::Plan plan = ss::default_plan(problem, ss::Strategy::row_fused, /*skip=*/true);

  // Allocates all that running needs. One Ffn per thread that calls; they can share weights.
  auto ffn = ss::cpu::Ffn::create(*weights, plan);
  if (!ffn) return fail(ffn.message());

  const auto d = static_cast<std::size_t>(problem.d_model);
  std::vector<float> y(d);
  ss::Statistics total;
  for (ss::index_t token = 0; token < x->rows; ++token) {
    const auto input = std::span(x->values).subspan(static_cast<std::size_t>(token) * d, d);
    if (const ss::Status status = ffn->run(input, y); !status) return fail(status.message());
    total += ffn->report().statistics;
  }

  const double units = static_cast<double>(problem.d_ff * x->rows);
  const double dense = static_cast<double>(ss::weight_bytes(problem) * x->rows);
  std::printf("%s on %s\n", ss::describe(problem).c_str(), std::string(ss::cpu::to_string(ffn->report().isa)).c_str());
  std::printf("%.1f %% of the hidden units were active\n", 100.0 * static_cast<double>(total.active) / units);
  std::printf("%.1f %% of the weight bytes were read\n", 100.0 * static_cast<double>(ss::weight_bytes(total)) / dense);
  std::printf("last token: y[0] = %a\n", static_cast<double>(y[0]));
  return 0;
}
