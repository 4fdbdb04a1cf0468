#include "cpu/baselines/onednn_matmul.hpp"

#include <omp.h>

#include <algorithm>
#include <new>
#include <optional>

namespace signsplit::baselines {
namespace {

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

/// Borrows memory that oneDNN will only read. (Its interface knows no const.)
memory borrow(const void* data, const memory::desc& layout, const dnnl::engine& engine) {
  return {layout, engine, const_cast<void*>(data)};
}

bool is_reference(const std::string& implementation) { return implementation.starts_with("ref"); }

OwnedMemory reorder_weights(const PackedMatrix& matrix, const memory::desc& wanted, const dnnl::engine& engine,
                            dnnl::stream& stream) {
  const memory::desc packed({matrix.in, matrix.out}, matrix.type, memory::dims{matrix.in_stride, matrix.out_stride});
  memory source = borrow(matrix.data, packed, engine);
  OwnedMemory reordered = allocate(wanted, engine);
  dnnl::reorder(source, reordered.handle).execute(stream, source, reordered.handle);
  stream.wait();
  return reordered;
}

}  // namespace

void append_eltwise(dnnl::post_ops& operations, dnnl::algorithm algorithm, float alpha) {
#if DNNL_VERSION_MAJOR >= 3
  operations.append_eltwise(algorithm, alpha, 0.0f);
#else
  operations.append_eltwise(1.0f, algorithm, alpha, 0.0f);
#endif
}

OwnedMemory allocate(const memory::desc& layout, const dnnl::engine& engine) {
  OwnedMemory owned{AlignedBuffer(layout.get_size()), {}};
  if (owned.buffer.data() == nullptr) throw std::bad_alloc();
  owned.handle = memory(layout, engine, owned.buffer.data());
  return owned;
}

memory::desc row_major(index_t rows, index_t columns, memory::data_type type) {
  return {{rows, columns}, type, memory::format_tag::ab};
}

ThreadCount::ThreadCount(int threads) : before_(omp_get_max_threads()) {
  if (threads > 0 && threads != before_) omp_set_num_threads(threads);
}
ThreadCount::~ThreadCount() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
}

Product make_product(const ProductSpec& spec, index_t batch, const dnnl::engine& engine, dnnl::stream& stream) {
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
  product.weights = reorder_weights(matrix, description.weights_desc(), engine, stream);
  product.primitive = dnnl::matmul(description);
  product.arguments.emplace(DNNL_ARG_WEIGHTS, product.weights.handle);
  if (bias) {
    product.bias = allocate(*bias, engine);
    std::copy(spec.bias.begin(), spec.bias.end(), reinterpret_cast<float*>(product.bias.buffer.data()));
    product.arguments.emplace(DNNL_ARG_BIAS, product.bias.handle);
  }
  return product;
}

}  // namespace signsplit::baselines
