// Kernels for avx2. Nothing but the instantiation: the code is in tile_kernels.hpp.
#include "lanes_avx2.hpp"
#include "tile_kernels.hpp"

namespace signsplit::cpu {

extern const KernelTable kernels_avx2;
constinit const KernelTable kernels_avx2 = make_table<LanesAvx2>();

}  // namespace signsplit::cpu
