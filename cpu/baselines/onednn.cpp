#include "cpu/baselines/onednn.hpp"

#include <new>
#include <utility>
#include <vector>

#include "cpu/baselines/onednn_state.hpp"

namespace signsplit::baselines {

namespace {

/// What oneDNN may compute with, the best first.
std::vector<OneDnnArithmetic> choices_for(DType dtype, OneDnnActivations activations) {
  using enum OneDnnArithmetic;
  if (dtype != DType::f32 && activations == OneDnnActivations::kept_f32) return {widened};
  switch (dtype) {
    case DType::f32: return {f32};
    case DType::bf16: return {bf16, widened};
    case DType::f16: return {f16, widened};
    case DType::int8: return {int8};
  }
  return {};
}

}  // namespace

std::string_view to_string(OneDnnArithmetic arithmetic) noexcept {
  switch (arithmetic) {
    case OneDnnArithmetic::f32: return "f32";
    case OneDnnArithmetic::bf16: return "bf16";
    case OneDnnArithmetic::f16: return "f16";
    case OneDnnArithmetic::int8: return "int8 (w8a8)";
    case OneDnnArithmetic::widened: return "weights widened to f32";
  }
  return "";
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

Result<OneDnnFfn> OneDnnFfn::create(const Weights& weights, index_t batch, int threads, OneDnnActivations activations) {
  const Problem problem = weights.problem(batch);
  if (Status status = validate(problem); !status.ok()) return status;
  if (Status status = weights.require_first_matrix(); !status.ok()) return status;
  if (problem.activation.kind == ActivationKind::fatrelu && problem.activation.threshold != 0.0f) {
    return unsupported("oneDNN has no post-op for fatrelu with a threshold above zero");
  }
  if (problem.group != 0 && activations == OneDnnActivations::as_weights) return unsupported("oneDNN " + onednn_version() + " has no int8 kernel with grouped scales");
  Status refusal;
  for (const OneDnnArithmetic choice : choices_for(problem.dtype, activations)) {
    try {
      const ThreadCount scope(threads);
      auto state = choice == OneDnnArithmetic::int8 ? make_int8_state() : make_float_state();
      state->problem = problem;
      state->threads = threads;
      state->arithmetic = choice;
      state->build(weights);
      return OneDnnFfn(std::move(state));
    } catch (const dnnl::error& error) {
      refusal = unsupported("oneDNN " + onednn_version() + " refused " + describe(problem) + ": " + error.what());
    } catch (const std::bad_alloc&) {
      return io_error("not enough memory for oneDNN's copy of the weights");
    }
  }
  return refusal;
}

Status OneDnnFfn::run(std::span<const float> x, std::span<float> y) {
  const auto elems = static_cast<std::size_t>(state_->problem.batch * state_->problem.d_model);
  if (x.size() != elems) return invalid_argument("x must have batch * d_model elements");
  if (y.size() != elems) return invalid_argument("y must have batch * d_model elements");
  try {
    const ThreadCount scope(state_->threads);
    state_->execute(x.data(), y.data());
  } catch (const dnnl::error& error) {
    return unsupported(std::string("oneDNN failed to run: ") + error.what());
  } catch (const std::bad_alloc&) {
    return io_error("not enough memory for oneDNN's scratch memory");
  }
  return {};
}

OneDnnFfn::OneDnnFfn(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
OneDnnFfn::OneDnnFfn(OneDnnFfn&&) noexcept = default;
OneDnnFfn& OneDnnFfn::operator=(OneDnnFfn&&) noexcept = default;
OneDnnFfn::~OneDnnFfn() = default;

OneDnnArithmetic OneDnnFfn::arithmetic() const noexcept { return state_->arithmetic; }
std::string OneDnnFfn::description() const {
  return "oneDNN " + onednn_version() + ", " + std::string(to_string(state_->arithmetic)) + ", " + state_->up.implementation +
         " + " + state_->down.implementation;
}
std::size_t OneDnnFfn::weight_bytes() const noexcept {
  return state_->up.weights.buffer.size() + state_->gate.weights.buffer.size() + state_->down.weights.buffer.size();
}

}  // namespace signsplit::baselines
