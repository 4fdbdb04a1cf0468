// Check a kernel of your own: is every output as close to the exact result as its arithmetic can be? No tolerance to guess.
#include <cstdio>
#include <vector>

#include <signsplit/golden.hpp>

namespace ss = signsplit;

/// The kernel under test: y = W2·relu(W1·x + b1) + b2, plain f32 in whatever order. `tail` hidden units are forgotten.
std::vector<float> my_kernel(const ss::Weights& w, const std::vector<float>& x, ss::index_t tail) {
  const auto bias = [](std::span<const float> values, ss::index_t i) { return values.empty() ? 0.0f : values[size_t(i)]; };
  std::vector<float> y(size_t(w.d_model()));
  for (ss::index_t i = 0; i < w.d_model(); ++i) y[size_t(i)] = bias(w.down_bias(), i);
  for (ss::index_t j = 0; j < w.d_ff() - tail; ++j) {
    float z = bias(w.up_bias(), j);
    for (ss::index_t k = 0; k < w.d_model(); ++k) z += w.up_at(j, k) * x[size_t(k)];
    const float h = z > 0.0f ? z : 0.0f;
    for (ss::index_t i = 0; i < w.d_model(); ++i) y[size_t(i)] += h * w.down_at(j, i);
  }
  return y;
}

void print(const char* name, const ss::CheckReport& report) {
  std::printf("%-22s %s: %lld of %lld exact, at most %llu ulp, %.3g of the bound. %s\n", name, report.passed ? "passed" : "FAILED",
              static_cast<long long>(report.exact), static_cast<long long>(report.elements),
              static_cast<unsigned long long>(report.max_ulp), report.worst_ratio, report.hint.text.c_str());
}

int main() {
  const ss::Problem problem{.d_model = 200, .d_ff = 700, .dtype = ss::DType::bf16};
  auto input = ss::golden_input(problem, ss::DataSet::random, /*active=*/0.3, /*seed=*/1);
  if (!input) return 1;
  // The exact result, and for every output how far a correct f32 kernel can be from it, in any order of summation.
  const auto golden = ss::make_golden(std::move(*input), {ss::DataSet::random, 1}, ss::Accumulation::f32);
  if (!golden) return 1;

  const auto right = ss::check(*golden, my_kernel(golden->input.weights, golden->input.x, 0));
  const auto wrong = ss::check(*golden, my_kernel(golden->input.weights, golden->input.x, 12));
  if (!right || !wrong) return 1;
  print("my kernel", *right);
  print("with a dropped tail", *wrong);
  return right->passed && !wrong->passed ? 0 : 1;
}
