// Small layers and inputs on disk, sound and unsound, for tests of the command.
#pragma once

#include <cstdint>
#include <string>

#include "scratch_directory.hpp"

namespace signsplit::test {

inline constexpr int kD = 96, kF = 160, kTokens = 5;  // D and F are no multiples of 64: tails everywhere

/// A sound layer [F, D] (bf16, relu, biases, about 30 % active) and input [kTokens, D]: layer.safetensors and x.npy.
/// `gated` makes it ReGLU.
void write_layer(const ScratchDirectory& scratch, const std::string& name = "layer.safetensors", bool gated = false);
void write_input(const ScratchDirectory& scratch, const std::string& name = "x.npy", int rows = kTokens, int columns = kD);

/// Both, in a directory of their own.
struct LayerFiles : ScratchDirectory {
  explicit LayerFiles(bool gated = false) {
    write_layer(*this, "layer.safetensors", gated);
    write_input(*this);
  }
};

/// A safetensors file with this header, `payload` zero bytes behind it, and, unless 0, this number in the length field.
void write_raw_safetensors(const std::string& file, const std::string& header, std::size_t payload,
                           std::uint64_t claimed_length = 0);

/// A .npy (format 1.0) with this header dictionary and `payload` zero bytes behind it.
void write_raw_npy(const std::string& file, const std::string& dictionary, std::size_t payload);

/// The first `bytes` bytes of a file, in another.
void write_truncated(const std::string& from, const std::string& to, std::size_t bytes);

}  // namespace signsplit::test
