// gelu, gelu_tanh and silu of a tile: loops over their one definition, which the compiler turns into vectors of the instruction set that a file
// is compiled for. Whatever it makes of them, the bits are the same.
#pragma once

#include "signsplit/smooth_activation.hpp"

namespace signsplit::cpu {
namespace {

/// h[i] = activation(z[i]); h may be z. Blocks of known length into memory that nobody else sees: else a loop looks whether z and h overlap,
/// and has no vectors where they do.
template <class Activation>
void apply_to_all(const float* z, index_t count, float* h, Activation activation) {
  constexpr index_t kBlock = 16;
  index_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    float block[kBlock];
    for (index_t j = 0; j < kBlock; ++j) block[j] = activation(z[i + j]);
    for (index_t j = 0; j < kBlock; ++j) h[i + j] = block[j];
  }
  for (; i < count; ++i) h[i] = activation(z[i]);
}

void gelu_of_all(const float* z, index_t count, float* h) {
  apply_to_all(z, count, h, [](float value) { return gelu(value); });
}
void gelu_tanh_of_all(const float* z, index_t count, float* h) {
  apply_to_all(z, count, h, [](float value) { return gelu_tanh(value); });
}
void silu_of_all(const float* z, index_t count, float* h) {
  apply_to_all(z, count, h, [](float value) { return silu(value); });
}

}  // namespace
}  // namespace signsplit::cpu
