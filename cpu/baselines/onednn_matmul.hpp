// Matmul primitives of oneDNN over packed weights: what both of its baselines are made of.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <string>
#include <unordered_map>

#include "signsplit/aligned_buffer.hpp"
#include "signsplit/portability.hpp"

namespace signsplit::baselines {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;

/// 2.x has operation descriptors and scaled post-ops, 3.x neither.
void append_eltwise(dnnl::post_ops& operations, dnnl::algorithm algorithm, float alpha = 0.0f);

/// oneDNN memory in one of our buffers: its weights get the same kind of pages as ours.
struct OwnedMemory {
  AlignedBuffer buffer;
  memory handle;
};
/// Throws std::bad_alloc.
[[nodiscard]] OwnedMemory allocate(const memory::desc& layout, const dnnl::engine& engine);

[[nodiscard]] memory::desc row_major(index_t rows, index_t columns, memory::data_type type);

/// Sets OpenMP's thread count for a scope: oneDNN divides work by it both when a primitive is made and when it runs.
class ThreadCount {
 public:
  explicit ThreadCount(int threads);
  ~ThreadCount();
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

/// How a packed matrix is seen by matmul, whose weights are [in, out].
struct PackedMatrix {
  const std::byte* data;
  memory::data_type type;
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

/// Reorders the weights into the layout that oneDNN prefers. Throws dnnl::error, also where oneDNN has only a reference
/// implementation: no engine would ship one, and no comparison with one is fair.
[[nodiscard]] Product make_product(const ProductSpec& spec, index_t batch, const dnnl::engine& engine, dnnl::stream& stream);

}  // namespace signsplit::baselines
