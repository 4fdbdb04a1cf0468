// Kernels for scalar. Nothing but the instantiation: the code is in tile_kernels.hpp.
#include "lanes_scalar.hpp"
#include "tile_kernels.hpp"

namespace signsplit::cpu {

extern const KernelTable kernels_scalar;
constinit const KernelTable kernels_scalar = make_table<LanesScalar>();

}  // namespace signsplit::cpu
