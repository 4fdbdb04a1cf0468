#include "emulated_ffn.hpp"

#include "kernel_names.hpp"
#include "kernels/row_kernels.hpp"
#include "kernels/split_steps.hpp"
#include "signsplit/certificate.hpp"

namespace signsplit::test {
namespace {

/// Device memory that the tests hand out: zero bytes, 256-byte aligned.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : memory_(bytes + 256) {}
  [[nodiscard]] std::byte* data() {
    return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(memory_.data()) + 255) / 256 * 256);
  }

 private:
  std::vector<std::byte> memory_;
};

template <class Weight, int T>
EmulatedGrid::Body body_of(gpu::KernelKind kind, const gpu::KernelArguments& a) {
  switch (kind) {
    case gpu::KernelKind::first: return [&a](EmulatedBlock& block) { gpu::first_kernel<EmulatedBlock, Weight, T>(block, a); };
    case gpu::KernelKind::second: return [&a](EmulatedBlock& block) { gpu::second_kernel<EmulatedBlock, Weight, T>(block, a); };
    case gpu::KernelKind::fused: break;
  }
  if (a.plan.strategy == Strategy::sign_split) {
    return [&a](EmulatedBlock& block) { gpu::split_kernel<EmulatedBlock, Weight, T>(block, a); };
  }
  if (a.plan.strategy == Strategy::certified) {
    return [&a](EmulatedBlock& block) { gpu::certified_kernel<EmulatedBlock, Weight, T>(block, a); };
  }
  return [&a](EmulatedBlock& block) { gpu::fused_kernel<EmulatedBlock, Weight, T>(block, a); };
}

template <class Weight>
EmulatedGrid::Body body_of(gpu::KernelKind kind, const gpu::KernelArguments& a) {
  return gpu::token_block(a.problem.batch) == 1 ? body_of<Weight, 1>(kind, a) : body_of<Weight, 4>(kind, a);
}

/// Per row: it holds an infinity or a NaN. Empty when none does.
template <class IsBad>
std::vector<std::uint8_t> bad_rows(index_t rows, IsBad&& is_bad) {
  std::vector<std::uint8_t> bad(static_cast<std::size_t>(rows));
  bool any = false;
  for (index_t j = 0; j < rows; ++j) {
    bad[static_cast<std::size_t>(j)] = is_bad(j) ? 1 : 0;
    any |= is_bad(j);
  }
  return any ? bad : std::vector<std::uint8_t>{};
}

template <class T>
const T* data_or_null(std::span<const T> values) {
  return values.empty() ? nullptr : values.data();
}

const std::uint16_t* bits_or_null(std::span<const bf16> values) {
  return values.empty() ? nullptr : reinterpret_cast<const std::uint16_t*>(values.data());
}

/// x as the certificate wants it.
struct QuantizedInput {
  std::vector<QuantizedQuad> quads;
  std::vector<QuantizedGroup> groups;
  std::vector<float> margins;

  QuantizedInput() = default;
  QuantizedInput(const gpu::KernelArguments& a, std::span<const float> x) {
    const PanelLayout& layout = a.plane.layout;
    const auto batch = static_cast<std::size_t>(a.problem.batch), d = static_cast<std::size_t>(a.problem.d_model);
    const auto columns = static_cast<std::size_t>(layout.columns), count = static_cast<std::size_t>(layout.groups());
    quads.resize(batch * columns / 4);
    groups.resize(batch * count);
    for (std::size_t b = 0; b < batch; ++b) {
      std::vector<float> padded(columns);
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(b * d), d, padded.begin());
      margins.push_back(
          quantize_token(layout, padded.data(), quads.data() + b * columns / 4, groups.data() + b * count).margin);
    }
  }
};

}  // namespace

EmulatedGrid::Body emulated_kernel(gpu::KernelKind kind, const gpu::KernelArguments& a) {
  switch (a.problem.dtype) {
    case DType::f32: return body_of<gpu::WeightF32>(kind, a);
    case DType::bf16: return body_of<gpu::WeightBf16>(kind, a);
    case DType::f16: return body_of<gpu::WeightF16>(kind, a);
    case DType::int8: return body_of<gpu::WeightInt8>(kind, a);
  }
  return {};
}

Emulation emulate(const Weights& weights, const Plan& plan, std::span<const float> x, index_t batch, std::uint64_t seed,
                  gpu::DeviceLimits limits, Fault fault, bool side_by_side) {
  gpu::KernelArguments a = gpu::make_arguments(plan, weights.problem(batch), limits);
  Emulation result;
  if (!a.launch.fits()) {
    result.error = "the plan does not fit on the device";
    return result;
  }

  const auto input_bad = bad_rows(weights.d_ff(), [&](index_t j) { return weights.input_row_nonfinite(j); });
  const auto down_bad = bad_rows(weights.d_ff(), [&](index_t j) { return weights.down_row_nonfinite(j); });
  a.weights.up = weights.up();
  a.weights.gate = weights.gate();
  a.weights.down = weights.down();
  a.weights.up_bias = data_or_null(weights.up_bias());
  a.weights.gate_bias = data_or_null(weights.gate_bias());
  a.weights.down_bias = data_or_null(weights.down_bias());
  a.weights.up_norms = data_or_null(weights.up_norms());
  a.weights.gate_norms = data_or_null(weights.gate_norms());
  a.weights.up_scales = bits_or_null(weights.up_scales());
  a.weights.gate_scales = bits_or_null(weights.gate_scales());
  a.weights.down_scales = bits_or_null(weights.down_scales());
  a.weights.input_nonfinite = input_bad.empty() ? nullptr : input_bad.data();
  a.weights.down_nonfinite = down_bad.empty() ? nullptr : down_bad.data();

  QuantizedInput quantized;
  std::shared_ptr<const Certificate> certificate;
  if (plan.strategy == Strategy::certified) {
    certificate = weights.certificate(format_of(plan)).value();
    quantized = QuantizedInput(a, x);
    a.plane.threshold = certificate->threshold();
    a.plane.panels = certificate->panel(0);
    a.plane.quads = quantized.quads.data();
    a.plane.groups = quantized.groups.data();
    a.plane.margins = quantized.margins.data();
  }

  result.y.assign(x.size(), 0.0f);
  result.mask.assign(static_cast<std::size_t>(batch * weights.d_ff()), 7);
  DeviceMemory workspace(static_cast<std::size_t>(a.layout.bytes));
  a.x = x.data();
  a.y = result.y.data();
  a.active_mask = result.mask.data();
  a.workspace = workspace.data();

  std::vector<std::vector<EmulatedGrid::Kernel>> runs(1);
  for (int index = 0; index < gpu::kernel_count(plan); ++index) {
    if (index > 0 && !side_by_side) runs.emplace_back();
    result.kernels.push_back(kernel_name(gpu::kernel_kind_at(plan, index), plan.strategy, a.problem.dtype, batch));
    runs.back().push_back({emulated_kernel(gpu::kernel_kind_at(plan, index), a), a.launch.ctas, a.launch.consumer_warps,
                           static_cast<std::size_t>(a.launch.shared.bytes)});
  }
  const auto matrix_bytes = static_cast<std::size_t>(weights.d_ff() * weights.row_bytes());
  for (std::size_t run = 0; run < runs.size(); ++run) {
    EmulatedGrid grid(runs[run], seed + run, fault);
    const auto read_only = [&](const char* name, const void* data, std::size_t bytes) {
      if (data != nullptr) grid.add_region(name, data, bytes, 0, true);
    };
    const auto f = static_cast<std::size_t>(weights.d_ff()), d = static_cast<std::size_t>(weights.d_model());
    read_only("up", a.weights.up, matrix_bytes);
    read_only("gate", a.weights.gate, matrix_bytes);
    read_only("down", a.weights.down, matrix_bytes);
    read_only("up bias", a.weights.up_bias, 4 * f);
    read_only("gate bias", a.weights.gate_bias, 4 * f);
    read_only("down bias", a.weights.down_bias, 4 * d);
    read_only("up norms", a.weights.up_norms, 4 * f);
    read_only("gate norms", a.weights.gate_norms, 4 * f);
    read_only("rows of up that are not finite", a.weights.input_nonfinite, f);
    read_only("rows of down that are not finite", a.weights.down_nonfinite, f);
    read_only("scales of up", a.weights.up_scales, weights.up_scales().size_bytes());
    read_only("scales of gate", a.weights.gate_scales, weights.gate_scales().size_bytes());
    read_only("scales of down", a.weights.down_scales, weights.down_scales().size_bytes());
    read_only("x", a.x, x.size_bytes());
    if (certificate != nullptr) {
      read_only("the plane", a.plane.panels, static_cast<std::size_t>(certificate->panels() * a.plane.layout.bytes()));
      read_only("quantized x", a.plane.quads, quantized.quads.size() * sizeof(QuantizedQuad));
      read_only("groups of x", a.plane.groups, quantized.groups.size() * sizeof(QuantizedGroup));
      read_only("margins of x", a.plane.margins, quantized.margins.size() * sizeof(float));
    }
    grid.add_region("y", a.y, x.size_bytes(), 4, false);
    grid.add_region("the active mask", a.active_mask, result.mask.size(), 1, false);
    grid.add_region("the workspace", a.workspace, static_cast<std::size_t>(a.layout.bytes), 4, run > 0);
    result.error = grid.run();
    if (!result.error.empty()) return result;
    if (run + 1 == runs.size() && !grid.all_written(a.y)) result.error = "an element of y was not written";
  }
  const auto* counted = reinterpret_cast<const Statistics*>(workspace.data() + a.layout.statistics);
  for (int cta = 0; cta < a.launch.ctas; ++cta) result.statistics += counted[cta];
  return result;
}

}  // namespace signsplit::test
