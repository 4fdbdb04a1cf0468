// The oneDNN baseline for int8: three integer matmuls, and between them the passes that an engine needs for it.
#include <algorithm>
#include <cmath>
#include <new>

#include "cpu/baselines/onednn_state.hpp"
#include "cpu/baselines/smooth_step.hpp"

namespace signsplit::baselines {
namespace {

constexpr auto kS8 = memory::data_type::s8, kS32 = memory::data_type::s32;

/// v rounded to the nearest integer, |v| below 2^22: in this range the ulp of the sum is 1.
inline float rounded(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

/// One scale for all of `values`; q as long as they are.
float quantize(const float* values, index_t count, std::int8_t* q) {
  float largest = 0.0f;
  for (index_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
  for (index_t i = 0; i < count; ++i) q[i] = static_cast<std::int8_t>(rounded(values[i] * inverse));
  return largest / 127.0f;
}

/// oneDNN reorders int8 weights from dense matrices only.
AlignedBuffer unpadded(const Weights& weights, const std::byte* rows) {
  AlignedBuffer dense(static_cast<std::size_t>(weights.d_ff() * weights.d_model()));
  if (dense.data() == nullptr) throw std::bad_alloc();
  for (index_t j = 0; j < weights.d_ff(); ++j) {
    std::copy_n(rows + j * weights.row_bytes(), weights.d_model(), dense.data() + j * weights.d_model());
  }
  return dense;
}

class Int8State final : public OneDnnFfn::State {
 public:
  void build(const Weights& weights) override {
    const index_t d = problem.d_model, f = problem.d_ff, b = problem.batch;
    const auto input = [&](const std::byte* rows) {
      const AlignedBuffer dense = unpadded(weights, rows);
      return make_product({{dense.data(), kS8, d, f, 1, d}, {}, kS8, kS8, kS32}, b, engine, stream);
    };
    up = input(weights.up());
    if (problem.gated) gate = input(weights.gate());
    const AlignedBuffer dense = unpadded(weights, weights.down());
    down = make_product({{dense.data(), kS8, f, d, d, 1}, {}, kS8, kS8, kS32}, b, engine, stream);
    up_ = vectors(weights.up_scales(), weights.up_bias(), f);
    gate_ = vectors(weights.gate_scales(), weights.gate_bias(), f);
    down_ = vectors(weights.down_scales(), weights.down_bias(), d);
    x_q_ = allocate(row_major(b, d, kS8), engine);
    h_q_ = allocate(row_major(b, f, kS8), engine);
    up_sums_ = allocate(row_major(b, f, kS32), engine);
    if (problem.gated) gate_sums_ = allocate(row_major(b, f, kS32), engine);
    y_sums_ = allocate(row_major(b, d, kS32), engine);
    h_.resize(static_cast<std::size_t>(f));
    scales_.resize(static_cast<std::size_t>(b));
    connect(up, x_q_, up_sums_);
    if (problem.gated) connect(gate, x_q_, gate_sums_);
    connect(down, h_q_, y_sums_);
  }

  void execute(const float* x, float* y) override {
    const index_t d = problem.d_model, f = problem.d_ff;
    for (index_t b = 0; b < problem.batch; ++b) scale(b) = quantize(x + b * d, d, data<std::int8_t>(x_q_) + b * d);
    up.primitive.execute(stream, up.arguments);
    if (problem.gated) gate.primitive.execute(stream, gate.arguments);
    stream.wait();
    for (index_t b = 0; b < problem.batch; ++b) {
      activate_token(b);
      scale(b) = quantize(h_.data(), f, data<std::int8_t>(h_q_) + b * f);
    }
    down.primitive.execute(stream, down.arguments);
    stream.wait();
    for (index_t b = 0; b < problem.batch; ++b) dequantize(down_, data<std::int32_t>(y_sums_) + b * d, scale(b), d, y + b * d);
  }

 private:
  /// Scale and bias of every output of a product.
  struct Vectors {
    std::vector<float> scale, bias;
  };

  static Vectors vectors(std::span<const bf16> scales, std::span<const float> bias, index_t count) {
    Vectors v;
    for (index_t i = 0; i < count && !scales.empty(); ++i) v.scale.push_back(to_float(scales[static_cast<std::size_t>(i)]));
    v.bias.assign(static_cast<std::size_t>(count), 0.0f);
    std::copy(bias.begin(), bias.end(), v.bias.begin());
    return v;
  }

  static void connect(Product& product, OwnedMemory& source, OwnedMemory& destination) {
    product.arguments.insert_or_assign(DNNL_ARG_SRC, source.handle);
    product.arguments.insert_or_assign(DNNL_ARG_DST, destination.handle);
  }

  template <class T>
  static T* data(OwnedMemory& owned) {
    return reinterpret_cast<T*>(owned.buffer.data());
  }
  float& scale(index_t token) { return scales_[static_cast<std::size_t>(token)]; }

  static void dequantize(const Vectors& v, const std::int32_t* sums, float token_scale, index_t count, float* out) {
    const float* const s = v.scale.data();
    const float* const bias = v.bias.data();
    for (index_t i = 0; i < count; ++i) out[i] = static_cast<float>(sums[i]) * (s[i] * token_scale) + bias[i];
  }

  /// h of a token into h_.
  void activate_token(index_t token) {
    const index_t f = problem.d_ff;
    const bool square = problem.activation.kind == ActivationKind::relu2, linear = problem.activation.kind == ActivationKind::identity;
    float* const h = h_.data();
    dequantize(problem.gated ? gate_ : up_, data<std::int32_t>(problem.gated ? gate_sums_ : up_sums_) + token * f, scale(token), f, h);
    if (is_smooth(problem.activation)) {
      smooth_step(problem.activation.kind, f, h);
    } else if (!linear) {
      for (index_t j = 0; j < f; ++j) h[j] = std::max(h[j], 0.0f);
    }
    if (square) {
      for (index_t j = 0; j < f; ++j) h[j] *= h[j];
    }
    if (!problem.gated) return;
    u_.resize(h_.size());
    dequantize(up_, data<std::int32_t>(up_sums_) + token * f, scale(token), f, u_.data());
    const bool both = problem.activation.kind == ActivationKind::drelu;
    for (index_t j = 0; j < f; ++j) h[j] *= both ? std::max(u_[static_cast<std::size_t>(j)], 0.0f) : u_[static_cast<std::size_t>(j)];
  }

  Vectors up_, gate_, down_;
  OwnedMemory x_q_, h_q_, up_sums_, gate_sums_, y_sums_;
  std::vector<float> h_, u_, scales_;  // [F], [F], [batch]
};

}  // namespace

std::unique_ptr<OneDnnFfn::State> make_int8_state() { return std::make_unique<Int8State>(); }

}  // namespace signsplit::baselines
