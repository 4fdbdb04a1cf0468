// The table of an instruction set: the tile kernels are written once, as templates over a Lanes type that says what a vector
// is, and over the stored weight type. docs/exactness.md states the orders of addition kept here.
//
// Everything has internal linkage: each instruction set instantiates its own.
#pragma once

#include "apart_rows.hpp"
#include "smooth_kernels.hpp"
#include "unit_kernels.hpp"

namespace signsplit::cpu {
namespace {

template <class L>
constexpr KernelTable make_table() {
  return {L::name,
          tokens_in_registers<L>(),
          pack_x<L>,
          {dot_any_rows<L, float>, dot_any_rows<L, Bf16>, dot_any_rows<L, F16>, dot_any_rows<L, Int8>},
          {dot_streams<L, float>, dot_streams<L, Bf16>, dot_streams<L, F16>, dot_streams<L, Int8>},
          {add_any_rows<L, float>, add_any_rows<L, Bf16>, add_any_rows<L, F16>, add_any_rows<L, Int8>},
          add_part<L>,
          add_bias,
          open_units,
          count_open,
          gelu_of_all,
          gelu_tanh_of_all,
          silu_of_all};
}

}  // namespace
}  // namespace signsplit::cpu
