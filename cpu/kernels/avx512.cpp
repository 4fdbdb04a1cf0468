// Kernels for avx512. Nothing but the instantiation: the code is in tile_kernels.hpp.
#include "lanes_avx512.hpp"
#include "tile_kernels.hpp"

namespace signsplit::cpu {

extern const KernelTable kernels_avx512;
constinit const KernelTable kernels_avx512 = make_table<LanesAvx512>();

}  // namespace signsplit::cpu
