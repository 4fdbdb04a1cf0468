// The executor of builds with CUDA: a plan, a layer and a workspace on one device.
#include <cuda_runtime_api.h>

#include <optional>
#include <utility>

#include "certified_input.hpp"
#include "device_layer.hpp"
#include "launch.hpp"

namespace signsplit::gpu {

struct Ffn::State {
  Plan plan;
  Problem problem;
  Options options;
  Launchable launchable;
  Report report;
  Stream stream;
  DeviceClock clock;
  DeviceArray<float> x, y;              ///< [batch, d_model]
  std::optional<CertifiedInput> certified;
  DeviceArray<std::uint8_t> mask;       ///< [batch, d_ff], made when first asked for
  DeviceArray<std::byte> workspace;
  KernelArguments arguments;            ///< of the layer that is bound
  GraphExec graph;                      ///< one call on it; empty until first used, and under Launch::stream
  GraphExec chain;                      ///< the calls of run_chain()
  std::vector<std::uint64_t> chain_of;  ///< the ids of the layers for which `chain` was made

  [[nodiscard]] std::size_t elements() const { return static_cast<std::size_t>(problem.batch * problem.d_model); }
  Status bind(const DeviceLayer& layer);
  Status point_at(const DeviceLayer& layer, KernelArguments& call) const;
  Status send(std::span<const float> from);
  Status fetch(std::span<float> to);
  Status fetch_statistics();
  [[nodiscard]] Result<std::vector<KernelArguments>> calls_on(std::span<const DeviceLayer* const> layers) const;
  Status enqueue_calls(std::span<const KernelArguments> calls, cudaStream_t into) const;
  [[nodiscard]] Result<GraphExec> capture_calls(std::span<const KernelArguments> calls) const;
  Status launch_call(cudaStream_t into);
};

namespace {

Status check_sizes(const Problem& problem, std::span<const float> x, std::span<const float> y) {
  const auto wanted = static_cast<std::size_t>(problem.batch * problem.d_model);
  const auto complain = [&](const char* name, std::size_t got) {
    return invalid_argument(std::string(name) + " must hold batch * d_model = " + std::to_string(wanted) + " floats (got " +
                            std::to_string(got) + ")");
  };
  if (x.size() != wanted) return complain("x", x.size());
  if (y.size() != wanted) return complain("y", y.size());
  return {};
}

Status same_problem(const DeviceLayer& layer, const Problem& problem, int device) {
  if (layer.problem(problem.batch) != problem) {
    return invalid_argument("the layer is " + describe(layer.problem(problem.batch)) + ", not " + describe(problem));
  }
  if (layer.device() != device) return invalid_argument("the layer is on device " + std::to_string(layer.device()));
  return {};
}

}  // namespace

/// The arguments of a call on this layer.
Status Ffn::State::point_at(const DeviceLayer& layer, KernelArguments& call) const {
  call.weights = layer.state().pointers();
  if (!certified) return {};
  const auto certificate = layer.state().certificate(format_of(plan));
  if (!certificate) return certificate.status();
  call.plane.panels = (*certificate)->panels.get();
  call.plane.threshold = (*certificate)->threshold;
  return {};
}

Status Ffn::State::bind(const DeviceLayer& layer) {
  graph.reset();
  return point_at(layer, arguments);
}

/// x to the device; y there becomes NaN, so that what no kernel wrote shows.
Status Ffn::State::send(std::span<const float> from) {
  if (Status status = cuda_status(cudaSetDevice(options.device), "selecting a device"); !status) return status;
  const cudaError_t copied = cudaMemcpyAsync(x.get(), from.data(), from.size_bytes(), cudaMemcpyHostToDevice, stream.get());
  if (Status status = cuda_status(copied, "copying x"); !status) return status;
  if (certified) {
    if (Status status = certified->send(from, arguments, stream.get()); !status) return status;
  }
  return cuda_status(cudaMemsetAsync(y.get(), 0xff, from.size_bytes(), stream.get()), "clearing y");
}

Status Ffn::State::fetch(std::span<float> to) {
  const cudaError_t copied = cudaMemcpyAsync(to.data(), y.get(), to.size_bytes(), cudaMemcpyDeviceToHost, stream.get());
  if (Status status = cuda_status(copied, "copying y"); !status) return status;
  return cuda_status(cudaStreamSynchronize(stream.get()), "running");
}

/// Every block counted for itself.
Status Ffn::State::fetch_statistics() {
  std::vector<Statistics> of_blocks(static_cast<std::size_t>(launchable.shape().ctas));
  const cudaError_t copied = cudaMemcpy(of_blocks.data(), workspace.get() + launchable.arguments.layout.statistics,
                                        of_blocks.size() * sizeof(Statistics), cudaMemcpyDeviceToHost);
  if (Status status = cuda_status(copied, "copying statistics"); !status) return status;
  report.statistics = {};
  for (const Statistics& one : of_blocks) report.statistics += one;
  return {};
}

/// One call on each layer. Outside any capture: a layer's certificate may have to be copied to the device.
Result<std::vector<KernelArguments>> Ffn::State::calls_on(std::span<const DeviceLayer* const> layers) const {
  std::vector<KernelArguments> calls(layers.size(), arguments);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (Status status = point_at(*layers[i], calls[i]); !status) return status;
  }
  return calls;
}

Status Ffn::State::enqueue_calls(std::span<const KernelArguments> calls, cudaStream_t into) const {
  bool follows = false;
  for (const KernelArguments& call : calls) {
    if (Status status = enqueue(launchable, call, options.launch, follows, into); !status) return status;
    follows = true;
  }
  return {};
}

Result<GraphExec> Ffn::State::capture_calls(std::span<const KernelArguments> calls) const {
  return capture(stream.get(), [&](cudaStream_t into) { return enqueue_calls(calls, into); });
}

Status Ffn::State::launch_call(cudaStream_t into) {
  if (options.launch == Launch::stream || arguments.active_mask != nullptr) {
    return enqueue(launchable, arguments, options.launch, false, into);
  }
  return cuda_status(cudaGraphLaunch(graph.get(), into), "launching a graph");
}

Ffn::Ffn(Ffn&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
Ffn& Ffn::operator=(Ffn&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
Ffn::~Ffn() { delete state_; }

const Report& Ffn::report() const noexcept { return state_->report; }
const Plan& Ffn::plan() const noexcept { return state_->plan; }
const Problem& Ffn::problem() const noexcept { return state_->problem; }

Result<Ffn> Ffn::create(const DeviceLayer& layer, const Plan& plan, index_t batch, const Options& options) {
  const Problem problem = layer.problem(batch);
  if (Status status = same_problem(layer, problem, options.device); !status) return status;
  const auto device = find_device(options.device);
  if (!device) return device.status();
  auto launchable = prepare(plan, problem, *device, options);
  if (!launchable) return launchable.status();
  if (Status status = cuda_status(cudaSetDevice(options.device), "selecting a device"); !status) return status;
  if (Status status = configure(*launchable, *device); !status) return status;
  auto stream = make_stream();
  if (!stream) return stream.status();
  auto clock = DeviceClock::create();
  if (!clock) return clock.status();
  const auto elements = static_cast<std::size_t>(batch * problem.d_model);
  auto x = allocate<float>(elements, "x"), y = allocate<float>(elements, "y");
  if (!x) return x.status();
  if (!y) return y.status();
  const auto workspace_size = static_cast<std::size_t>(launchable->arguments.layout.bytes);
  auto workspace = allocate<std::byte>(workspace_size, "the workspace");
  if (!workspace) return workspace.status();
  const cudaError_t cleared = cudaMemset(workspace->get(), 0, workspace_size);
  if (Status status = cuda_status(cleared, "clearing the workspace"); !status) return status;
  if (Status status = wait_for_default_stream(); !status) return status;

  Ffn ffn(new State{.plan = plan, .problem = problem, .options = options, .launchable = std::move(*launchable),
                    .report = {.statistics = {}, .launch = options.launch, .device_s = 0}, .stream = std::move(*stream),
                    .clock = std::move(*clock), .x = std::move(*x), .y = std::move(*y), .certified = {}, .mask = {},
                    .workspace = std::move(*workspace), .arguments = {}, .graph = {}, .chain = {}, .chain_of = {}});
  State& state = *ffn.state_;
  state.arguments = state.launchable.arguments;
  state.arguments.x = state.x.get();
  state.arguments.y = state.y.get();
  state.arguments.workspace = state.workspace.get();
  if (plan.strategy == Strategy::certified) {
    auto certified = CertifiedInput::create(state.arguments);
    if (!certified) return certified.status();
    state.certified.emplace(std::move(*certified));
    state.certified->bind(state.arguments.plane);
  }
  if (Status status = state.bind(layer); !status) return status;
  return ffn;
}

Status Ffn::rebind(const DeviceLayer& layer) {
  if (Status status = same_problem(layer, state_->problem, state_->options.device); !status) return status;
  return state_->bind(layer);
}

Status Ffn::run(std::span<const float> x, std::span<float> y, std::span<std::uint8_t> active_mask) {
  State& state = *state_;
  if (Status status = check_sizes(state.problem, x, y); !status) return status;
  const auto units = static_cast<std::size_t>(state.problem.batch * state.problem.d_ff);
  if (!active_mask.empty() && active_mask.size() != units) {
    return invalid_argument("active_mask must be empty or hold batch * d_ff = " + std::to_string(units) + " bytes (got " +
                            std::to_string(active_mask.size()) + ")");
  }
  if (Status status = state.send(x); !status) return status;
  if (!active_mask.empty() && !state.mask) {
    auto mask = allocate<std::uint8_t>(units, "the mask");
    if (!mask) return mask.status();
    state.mask = std::move(*mask);
  }
  state.arguments.active_mask = active_mask.empty() ? nullptr : state.mask.get();
  if (active_mask.empty() && state.options.launch != Launch::stream && !state.graph) {
    auto graph = state.capture_calls({&state.arguments, 1});
    if (!graph) return graph.status();
    state.graph = std::move(*graph);
  }
  const auto seconds = state.clock.seconds(state.stream.get(), [&](cudaStream_t into) { return state.launch_call(into); });
  if (!seconds) return seconds.status();
  state.report.device_s = *seconds;
  if (Status status = state.fetch(y); !status) return status;
  if (!active_mask.empty()) {
    const cudaError_t copied = cudaMemcpy(active_mask.data(), state.mask.get(), units, cudaMemcpyDeviceToHost);
    if (Status status = cuda_status(copied, "copying the mask"); !status) return status;
  }
  return state.fetch_statistics();
}

Result<double> Ffn::run_chain(std::span<const DeviceLayer* const> layers, std::span<const float> x, std::span<float> y) {
  State& state = *state_;
  if (layers.empty()) return invalid_argument("a chain needs a layer");
  if (Status status = check_sizes(state.problem, x, y); !status) return status;
  std::vector<std::uint64_t> chain_of;
  for (const DeviceLayer* layer : layers) {
    if (Status status = same_problem(*layer, state.problem, state.options.device); !status) return status;
    chain_of.push_back(layer->state().id);
  }
  if (Status status = state.send(x); !status) return status;
  state.arguments.active_mask = nullptr;
  const auto calls = state.calls_on(layers);
  if (!calls) return calls.status();
  if (state.options.launch != Launch::stream && state.chain_of != chain_of) {
    auto chain = state.capture_calls(*calls);
    if (!chain) return chain.status();
    state.chain = std::move(*chain);
    state.chain_of = chain_of;
  }
  const auto seconds = state.clock.seconds(state.stream.get(), [&](cudaStream_t into) {
    if (state.options.launch == Launch::stream) return state.enqueue_calls(*calls, into);
    return cuda_status(cudaGraphLaunch(state.chain.get(), into), "launching a graph");
  });
  if (!seconds) return seconds;
  if (Status status = state.fetch(y); !status) return status;
  if (Status status = state.fetch_statistics(); !status) return status;
  state.report.device_s = *seconds / static_cast<double>(layers.size());
  return state.report.device_s;
}

Status can_run(const Plan& plan, const Problem& problem, const Options& options) {
  if (Status status = validate(problem); !status) return status;
  if (Status status = validate(plan, problem); !status) return status;
  const auto device = find_device(options.device);
  if (!device) return device.status();
  return prepare(plan, problem, *device, options).status();
}

std::size_t workspace_bytes(const Plan& plan, const Problem& problem, const Options& options) {
  const auto device = find_device(options.device);
  if (!device) return 0;
  const auto launchable = prepare(plan, problem, *device, options);
  return launchable ? static_cast<std::size_t>(launchable->arguments.layout.bytes) : 0;
}

}  // namespace signsplit::gpu
