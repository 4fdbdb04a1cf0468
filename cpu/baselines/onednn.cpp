#include "cpu/baselines/onednn.hpp"

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <new>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "signsplit/aligned_buffer.hpp"

namespace signsplit::baselines {
namespace {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;

// ---- the two generations of the API: 2.x has operation descriptors and scaled post-ops, 3.x neither ----------------

void append_eltwise(dnnl::post_ops& operations, dnnl::algorithm algorithm) {
#if DNNL_VERSION_MAJOR >= 3
  operations.append_eltwise(algorithm, 0.0f, 0.0f);
#else
  operations.append_eltwise(1.0f, algorithm, 0.0f, 0.0f);
#endif
}

dnnl::matmul::primitive_desc describe_matmul(const dnnl::engine& engine, const memory::desc& source,
                                             const memory::desc& weights, const std::optional<memory::desc>& bias,
                                             const memory::desc& destination, const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  return bias ? dnnl::matmul::primitive_desc(engine, source, weights, *bias, destination, attributes)
              : dnnl::matmul::primitive_desc(engine, source, weights, destination, attributes);
#else
  const auto operation = bias ? dnnl::matmul::desc(source, weights, *bias, destination)
                              : dnnl::matmul::desc(source, weights, destination);
  return {operation, attributes, engine};
#endif
}

// ---- memory -----------------------------------------------------------------------------------------------------

/// oneDNN memory in one of our buffers: its weights get the same kind of pages as ours.
struct OwnedMemory {
  AlignedBuffer buffer;
  memory handle;
};

OwnedMemory allocate(const memory::desc& layout, const dnnl::engine& engine) {
  OwnedMemory owned{AlignedBuffer(layout.get_size()), {}};
  if (owned.buffer.data() == nullptr) throw std::bad_alloc();
  owned.handle = memory(layout, engine, owned.buffer.data());
  return owned;
}

/// Borrows memory that oneDNN will only read. (Its interface knows no const.)
memory borrow(const void* data, const memory::desc& layout, const dnnl::engine& engine) {
  return {layout, engine, const_cast<void*>(data)};
}

memory::desc row_major(index_t rows, index_t columns, memory::data_type type) {
  return {{rows, columns}, type, memory::format_tag::ab};
}

/// Sets OpenMP's thread count for a scope: oneDNN divides work by it both when a primitive is made and when it runs.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) {
    if (threads > 0 && threads != before_) omp_set_num_threads(threads);
  }
  ~ThreadCount() {
    if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

// ---- one product ------------------------------------------------------------------------------------------------

/// How a packed matrix is seen by matmul, whose weights are [in, out].
struct PackedMatrix {
  const std::byte* data;
  index_t in, out, in_stride, out_stride;
};

struct ProductSpec {
  PackedMatrix matrix;
  std::span<const float> bias;     // [out] or empty
  memory::data_type source_type, weight_type, destination_type;
  dnnl::post_ops post_operations = {};
};

/// destination [B, out] = post(source [B, in] · weights [in, out] + bias).
struct Product {
  OwnedMemory weights, bias;
  dnnl::matmul primitive;
  Arguments arguments;
  std::string implementation;
};

/// Reference implementations are there to be correct: no engine would ship one, and no comparison with one is fair.
bool is_reference(const std::string& implementation) { return implementation.starts_with("ref"); }

OwnedMemory reorder_weights(const PackedMatrix& matrix, DType stored, const memory::desc& wanted,
                            const dnnl::engine& engine, dnnl::stream& stream) {
  const memory::desc packed({matrix.in, matrix.out},
                            stored == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16,
                            memory::dims{matrix.in_stride, matrix.out_stride});
  memory source = borrow(matrix.data, packed, engine);
  OwnedMemory reordered = allocate(wanted, engine);
  dnnl::reorder(source, reordered.handle).execute(stream, source, reordered.handle);
  stream.wait();
  return reordered;
}

Product make_product(const ProductSpec& spec, DType stored, index_t batch, const dnnl::engine& engine,
                     dnnl::stream& stream) {
  const PackedMatrix& matrix = spec.matrix;
  const memory::desc any({matrix.in, matrix.out}, spec.weight_type, memory::format_tag::any);
  std::optional<memory::desc> bias;
  if (!spec.bias.empty()) bias = row_major(1, matrix.out, memory::data_type::f32);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(spec.post_operations);
  const auto description = describe_matmul(engine, row_major(batch, matrix.in, spec.source_type), any, bias,
                                           row_major(batch, matrix.out, spec.destination_type), attributes);

  Product product;
  product.implementation = description.impl_info_str();
  if (is_reference(product.implementation)) {
    throw dnnl::error(dnnl_unimplemented, "oneDNN has only a reference implementation of this matmul");
  }
  product.weights = reorder_weights(matrix, stored, description.weights_desc(), engine, stream);
  product.primitive = dnnl::matmul(description);
  product.arguments.emplace(DNNL_ARG_WEIGHTS, product.weights.handle);
  if (bias) {
    product.bias = allocate(*bias, engine);
    std::copy(spec.bias.begin(), spec.bias.end(), reinterpret_cast<float*>(product.bias.buffer.data()));
    product.arguments.emplace(DNNL_ARG_BIAS, product.bias.handle);
  }
  return product;
}

/// The activation as post-ops. Of a gated FFN: of the gate, before it is multiplied by u.
dnnl::post_ops activation_post_operations(const Activation& activation) {
  dnnl::post_ops operations;
  if (activation.kind == ActivationKind::identity) return operations;
  append_eltwise(operations, dnnl::algorithm::eltwise_relu);
  if (activation.kind == ActivationKind::relu2) append_eltwise(operations, dnnl::algorithm::eltwise_square);
  return operations;
}

}  // namespace

std::string_view to_string(OneDnnArithmetic arithmetic) noexcept {
  switch (arithmetic) {
    case OneDnnArithmetic::f32: return "f32";
    case OneDnnArithmetic::bf16: return "bf16";
    case OneDnnArithmetic::widened: return "bf16 weights widened to f32";
  }
  return "";
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

struct OneDnnFfn::State {
  Problem problem;
  int threads = 0;
  OneDnnArithmetic arithmetic = OneDnnArithmetic::f32;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::string description;

  memory x, y;              // the caller's, f32
  OwnedMemory x_rounded;    // bf16 only
  OwnedMemory u, h;         // [B, F]; u when gated
  dnnl::reorder round_x;    // bf16 only
  Product up, gate, down;   // gate when gated

  void build(const Weights& weights);
  void build_hidden(const Weights& weights, memory::data_type type);
  void connect();
  void execute(const float* input, float* output);
};

/// The primitives of z, h (and u).
void OneDnnFfn::State::build_hidden(const Weights& weights, memory::data_type type) {
  const auto f32 = memory::data_type::f32;
  const auto view = [&](const std::byte* data) {
    return PackedMatrix{data, weights.d_model(), weights.d_ff(), 1, weights.stride()};
  };
  dnnl::post_ops operations = activation_post_operations(problem.activation);
  h = allocate(row_major(problem.batch, problem.d_ff, type), engine);
  if (!problem.gated) {
    up = make_product({view(weights.up()), weights.up_bias(), type, type, type, operations}, problem.dtype, problem.batch,
                      engine, stream);
    return;
  }
  // u stays f32 (it is small); the gate's product multiplies by it before h is rounded.
  const memory::desc u_layout = row_major(problem.batch, problem.d_ff, f32);
  u = allocate(u_layout, engine);
  dnnl::post_ops up_operations;
  if (problem.activation.kind == ActivationKind::drelu) append_eltwise(up_operations, dnnl::algorithm::eltwise_relu);
  operations.append_binary(dnnl::algorithm::binary_mul, u_layout);
  up = make_product({view(weights.up()), weights.up_bias(), type, type, f32, up_operations}, problem.dtype, problem.batch,
                    engine, stream);
  gate = make_product({view(weights.gate()), weights.gate_bias(), type, type, type, operations}, problem.dtype,
                      problem.batch, engine, stream);
}

void OneDnnFfn::State::build(const Weights& weights) {
  const auto f32 = memory::data_type::f32;
  const auto type = arithmetic == OneDnnArithmetic::bf16 ? memory::data_type::bf16 : f32;
  const memory::desc boundary = row_major(problem.batch, problem.d_model, f32);
  x = memory(boundary, engine, nullptr);
  y = memory(boundary, engine, nullptr);
  if (type != f32) {
    x_rounded = allocate(row_major(problem.batch, problem.d_model, type), engine);
    round_x = dnnl::reorder(dnnl::reorder::primitive_desc(engine, boundary, engine, x_rounded.handle.get_desc()));
  }
  build_hidden(weights, type);
  const PackedMatrix down_matrix{weights.down(), weights.d_ff(), weights.d_model(), weights.stride(), 1};
  down = make_product({down_matrix, weights.down_bias(), type, type, f32}, problem.dtype, problem.batch, engine, stream);
  connect();
  description = "oneDNN " + onednn_version() + ", " + std::string(to_string(arithmetic)) + ", " + up.implementation +
                " + " + down.implementation;
}

/// Argument lists are made once: run() shall not pay for them.
void OneDnnFfn::State::connect() {
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

void OneDnnFfn::State::execute(const float* input, float* output) {
  // memory is a shared handle: the argument lists see the new pointers.
  x.set_data_handle(const_cast<float*>(input));
  y.set_data_handle(output);
  if (round_x) round_x.execute(stream, x, x_rounded.handle);
  up.primitive.execute(stream, up.arguments);
  if (problem.gated) gate.primitive.execute(stream, gate.arguments);
  down.primitive.execute(stream, down.arguments);
  stream.wait();
}

Result<OneDnnFfn> OneDnnFfn::create(const Weights& weights, index_t batch, int threads) {
  const Problem problem = weights.problem(batch);
  if (Status status = validate(problem); !status.ok()) return status;
  if (problem.activation.kind == ActivationKind::fatrelu && problem.activation.threshold != 0.0f) {
    return unsupported("oneDNN has no post-op for fatrelu with a threshold above zero");
  }
  using enum OneDnnArithmetic;
  const std::vector<OneDnnArithmetic> choices =
      problem.dtype == DType::f32 ? std::vector{f32} : std::vector{bf16, widened};
  Status refusal;
  for (const OneDnnArithmetic choice : choices) {
    try {
      const ThreadCount scope(threads);
      auto state = std::make_unique<State>();
      state->problem = problem;
      state->threads = threads;
      state->arithmetic = choice;
      state->build(weights);
      return OneDnnFfn(std::move(state));
    } catch (const dnnl::error& error) {
      refusal = unsupported("oneDNN " + onednn_version() + " refused " + describe(problem) + ": " + error.what());
    } catch (const std::bad_alloc&) {
      return io_error("not enough memory for oneDNN's copy of the weights");
    }
  }
  return refusal;
}

Status OneDnnFfn::run(std::span<const float> x, std::span<float> y) {
  const auto elems = static_cast<std::size_t>(state_->problem.batch * state_->problem.d_model);
  if (x.size() != elems) return invalid_argument("x must have batch * d_model elements");
  if (y.size() != elems) return invalid_argument("y must have batch * d_model elements");
  try {
    const ThreadCount scope(state_->threads);
    state_->execute(x.data(), y.data());
  } catch (const dnnl::error& error) {
    return unsupported(std::string("oneDNN failed to run: ") + error.what());
  } catch (const std::bad_alloc&) {
    return io_error("not enough memory for oneDNN's scratch memory");
  }
  return {};
}

OneDnnFfn::OneDnnFfn(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
OneDnnFfn::OneDnnFfn(OneDnnFfn&&) noexcept = default;
OneDnnFfn& OneDnnFfn::operator=(OneDnnFfn&&) noexcept = default;
OneDnnFfn::~OneDnnFfn() = default;

OneDnnArithmetic OneDnnFfn::arithmetic() const noexcept { return state_->arithmetic; }
const std::string& OneDnnFfn::description() const noexcept { return state_->description; }
std::size_t OneDnnFfn::weight_bytes() const noexcept {
  return state_->up.weights.buffer.size() + state_->gate.weights.buffer.size() + state_->down.weights.buffer.size();
}

}  // namespace signsplit::baselines
