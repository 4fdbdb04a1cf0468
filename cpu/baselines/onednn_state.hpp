// What a oneDNN baseline is inside: one implementation for floating-point weights, one for int8.
#pragma once

#include <memory>
#include <string>

#include "cpu/baselines/onednn.hpp"
#include "cpu/baselines/onednn_matmul.hpp"

namespace signsplit::baselines {

struct OneDnnFfn::State {
  Problem problem;
  int threads = 0;
  OneDnnArithmetic arithmetic = OneDnnArithmetic::f32;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  Product up, gate, down;  // gate when gated

  virtual ~State() = default;
  /// Packs the weights and makes the primitives. Throws dnnl::error for what oneDNN cannot do, std::bad_alloc.
  virtual void build(const Weights& weights) = 0;
  /// x and y [batch, D].
  virtual void execute(const float* x, float* y) = 0;
};

[[nodiscard]] std::unique_ptr<OneDnnFfn::State> make_float_state();
[[nodiscard]] std::unique_ptr<OneDnnFfn::State> make_int8_state();

}  // namespace signsplit::baselines
