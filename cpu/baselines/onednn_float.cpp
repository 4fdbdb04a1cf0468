// The oneDNN baseline for f32, bf16 and f16: matmul primitives with the bias and the activation fused.
#include <new>

#include "cpu/baselines/onednn_state.hpp"

namespace signsplit::baselines {
namespace {

/// The activation as post-ops. Of a gated FFN: of the gate, before it is multiplied by u.
dnnl::post_ops activation_post_operations(const Activation& activation) {
  dnnl::post_ops operations;
  using enum ActivationKind;
  if (activation.kind == identity) return operations;
  if (is_smooth(activation)) {
    append_eltwise(operations, activation.kind == gelu        ? dnnl::algorithm::eltwise_gelu_erf
                               : activation.kind == gelu_tanh ? dnnl::algorithm::eltwise_gelu_tanh
                                                              : dnnl::algorithm::eltwise_swish, 1.0f);
    return operations;
  }
  append_eltwise(operations, dnnl::algorithm::eltwise_relu);
  if (activation.kind == relu2) append_eltwise(operations, dnnl::algorithm::eltwise_square);
  return operations;
}

class FloatState final : public OneDnnFfn::State {
 public:
  void build(const Weights& weights) override;
  void execute(const float* input, float* output) override;

 private:
  void build_hidden(const Weights& weights, memory::data_type type);
  void connect();
  PackedMatrix view_of(const Weights& weights, Matrix matrix, index_t in, index_t out, index_t in_stride, index_t out_stride);

  memory x, y;              // the caller's, f32
  OwnedMemory x_rounded;    // 16-bit types only
  OwnedMemory u, h;         // [B, F]; u when gated
  dnnl::reorder round_x;    // 16-bit types only
  AlignedBuffer widened_;   // the matrix being packed, as f32
};

memory::data_type stored_type(DType dtype) {
  return dtype == DType::f32 ? memory::data_type::f32 : dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f16;
}

/// The packed matrix, or its copy in f32 where it is widened. One at a time.
PackedMatrix FloatState::view_of(const Weights& weights, Matrix matrix, index_t in, index_t out, index_t in_stride, index_t out_stride) {
  const std::byte* data = matrix == Matrix::up ? weights.up() : matrix == Matrix::gate ? weights.gate() : weights.down();
  if (arithmetic != OneDnnArithmetic::widened) return {data, stored_type(weights.dtype()), in, out, in_stride, out_stride};
  const auto row = static_cast<std::size_t>(weights.stride());
  widened_ = AlignedBuffer(static_cast<std::size_t>(weights.d_ff()) * row * sizeof(float));
  if (widened_.data() == nullptr) throw std::bad_alloc();
  auto* const rows = reinterpret_cast<float*>(widened_.data());
  for (index_t j = 0; j < weights.d_ff(); ++j) weights.read_row(matrix, j, 0, {rows + static_cast<std::size_t>(j) * row, row});
  return {widened_.data(), memory::data_type::f32, in, out, in_stride, out_stride};
}

/// The primitives of z, h (and u).
void FloatState::build_hidden(const Weights& weights, memory::data_type type) {
  const auto f32 = memory::data_type::f32;
  const auto view = [&](Matrix matrix) { return view_of(weights, matrix, weights.d_model(), weights.d_ff(), 1, weights.stride()); };
  dnnl::post_ops operations = activation_post_operations(problem.activation);
  h = allocate(row_major(problem.batch, problem.d_ff, type), engine);
  if (!problem.gated) {
    up = make_product({view(Matrix::up), weights.up_bias(), type, type, type, operations}, problem.batch,
                      engine, stream);
    return;
  }
  // u stays f32 (it is small); the gate's product multiplies by it before h is rounded.
  const memory::desc u_layout = row_major(problem.batch, problem.d_ff, f32);
  u = allocate(u_layout, engine);
  dnnl::post_ops up_operations;
  if (problem.activation.kind == ActivationKind::drelu) append_eltwise(up_operations, dnnl::algorithm::eltwise_relu);
  operations.append_binary(dnnl::algorithm::binary_mul, u_layout);
  up = make_product({view(Matrix::up), weights.up_bias(), type, type, f32, up_operations}, problem.batch,
                    engine, stream);
  gate = make_product({view(Matrix::gate), weights.gate_bias(), type, type, type, operations},
                      problem.batch, engine, stream);
}

void FloatState::build(const Weights& weights) {
  const auto f32 = memory::data_type::f32;
  const auto type = arithmetic == OneDnnArithmetic::bf16 ? memory::data_type::bf16
                    : arithmetic == OneDnnArithmetic::f16 ? memory::data_type::f16
                                                          : f32;
  const memory::desc boundary = row_major(problem.batch, problem.d_model, f32);
  x = memory(boundary, engine, nullptr);
  y = memory(boundary, engine, nullptr);
  if (type != f32) {
    x_rounded = allocate(row_major(problem.batch, problem.d_model, type), engine);
    round_x = dnnl::reorder(dnnl::reorder::primitive_desc(engine, boundary, engine, x_rounded.handle.get_desc()));
  }
  build_hidden(weights, type);
  const PackedMatrix down_matrix = view_of(weights, Matrix::down, weights.d_ff(), weights.d_model(), weights.stride(), 1);
  down = make_product({down_matrix, weights.down_bias(), type, type, f32}, problem.batch, engine, stream);
  widened_ = {};
  connect();
}

/// Argument lists are made once: run() shall not pay for them.
void FloatState::connect() {
  const memory& source = round_x ? x_rounded.handle : x;
  up.arguments.insert_or_assign(DNNL_ARG_SRC, source);
  up.arguments.insert_or_assign(DNNL_ARG_DST, problem.gated ? u.handle : h.handle);
  if (problem.gated) {
    const int position = activation_post_operations(problem.activation).len();  // of the multiplication by u
    gate.arguments.insert_or_assign(DNNL_ARG_SRC, source);
    gate.arguments.insert_or_assign(DNNL_ARG_DST, h.handle);
    gate.arguments.insert_or_assign(DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1, u.handle);
  }
  down.arguments.insert_or_assign(DNNL_ARG_SRC, h.handle);
  down.arguments.insert_or_assign(DNNL_ARG_DST, y);
}

void FloatState::execute(const float* input, float* output) {
  // memory is a shared handle: the argument lists see the new pointers.
  x.set_data_handle(const_cast<float*>(input));
  y.set_data_handle(output);
  if (round_x) round_x.execute(stream, x, x_rounded.handle);
  up.primitive.execute(stream, up.arguments);
  if (problem.gated) gate.primitive.execute(stream, gate.arguments);
  down.primitive.execute(stream, down.arguments);
  stream.wait();
}

}  // namespace

std::unique_ptr<OneDnnFfn::State> make_float_state() { return std::make_unique<FloatState>(); }

}  // namespace signsplit::baselines
