// The GPU interface of a build without CUDA: it says so.
#include "signsplit/gpu.hpp"

namespace signsplit::gpu {

namespace {
Status no_cuda() { return unsupported("this build has no CUDA: configure with SIGNSPLIT_CUDA=ON where nvcc is installed"); }
}  // namespace

bool built_with_cuda() noexcept { return false; }

Result<std::vector<Device>> devices() { return no_cuda(); }
Result<Device> find_device(int) { return no_cuda(); }
Status can_run(const Plan&, const Problem&, const Options&) { return no_cuda(); }
std::size_t workspace_bytes(const Plan&, const Problem&, const Options&) { return 0; }
Result<std::size_t> free_bytes(int) { return no_cuda(); }
Result<double> time_read(std::span<const DeviceLayer* const>) { return no_cuda(); }
Result<DeviceFigures> measure_device(int, bool, const Progress&) { return no_cuda(); }

// No layer and no Ffn can come into being, so that their other members are never called; they exist to be linked.
struct DeviceLayer::State {
  Problem problem;
};
Result<DeviceLayer> DeviceLayer::upload(const Weights&, int) { return no_cuda(); }
Result<DeviceLayer> DeviceLayer::clone() const { return no_cuda(); }
DeviceLayer::DeviceLayer(DeviceLayer&&) noexcept = default;
DeviceLayer& DeviceLayer::operator=(DeviceLayer&&) noexcept = default;
DeviceLayer::~DeviceLayer() = default;
Problem DeviceLayer::problem(index_t) const noexcept { return state_->problem; }
int DeviceLayer::device() const noexcept { return 0; }
std::size_t DeviceLayer::bytes() const noexcept { return 0; }

struct Ffn::State {
  Report report;
  Plan plan;
  Problem problem;
};
Result<Ffn> Ffn::create(const DeviceLayer&, const Plan&, index_t, const Options&) { return no_cuda(); }
Ffn::Ffn(Ffn&&) noexcept = default;
Ffn& Ffn::operator=(Ffn&&) noexcept = default;
Ffn::~Ffn() = default;
Status Ffn::run(std::span<const float>, std::span<float>, std::span<std::uint8_t>) { return no_cuda(); }
Status Ffn::rebind(const DeviceLayer&) { return no_cuda(); }
Result<double> Ffn::run_chain(std::span<const DeviceLayer* const>, std::span<const float>, std::span<float>) { return no_cuda(); }
const Report& Ffn::report() const noexcept { return state_->report; }
const Plan& Ffn::plan() const noexcept { return state_->plan; }
const Problem& Ffn::problem() const noexcept { return state_->problem; }

}  // namespace signsplit::gpu
