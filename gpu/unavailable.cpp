// The GPU interface of a build without CUDA: it says so.
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

namespace {
Status no_cuda() { return unsupported("this build has no CUDA: configure with SIGNSPLIT_CUDA=ON where nvcc is installed"); }
}  // namespace

bool built_with_cuda() noexcept { return false; }

Result<std::vector<Device>> devices() { return no_cuda(); }

Status can_run(const Plan&, const Problem&, int) { return no_cuda(); }

}  // namespace signsplit::gpu
