// What every kernel takes: one plain struct, by value.
#pragma once

#include "launch_shape.hpp"
#include "signsplit/certificate_panel.hpp"

namespace signsplit::gpu {

/// Device pointers of a packed layer (Weights says the layouts), null where the layer has no such array.
struct DeviceWeights {
  const std::byte *up = nullptr, *gate = nullptr, *down = nullptr;  ///< [F, d_padded], rows 16-byte aligned
  const float *up_bias = nullptr, *gate_bias = nullptr;             ///< [F]
  const float* down_bias = nullptr;                                 ///< [D]
  const float *up_norms = nullptr, *gate_norms = nullptr;           ///< [F], read under sign_split
  const std::uint16_t *up_scales = nullptr, *gate_scales = nullptr; ///< int8: bfloat16 [F, scale groups]
  const std::uint16_t* down_scales = nullptr;                       ///< int8: bfloat16 [scale groups, d_padded]
  const std::uint8_t* input_nonfinite = nullptr;                    ///< [F]; null: no row of up or gate, nor bias, is
  const std::uint8_t* down_nonfinite = nullptr;                     ///< [F]; null: no row of down is
};

/// certified: the layer's certificate and the quantized x (quantize_token), device pointers.
struct DevicePlane {
  PanelLayout layout;
  float threshold = 0.0f;
  const std::byte* panels = nullptr;        ///< [panels of 16 units], layout.bytes() each, 16-byte aligned
  const QuantizedQuad* quads = nullptr;     ///< [batch, d_padded / 4], 8-byte aligned
  const QuantizedGroup* groups = nullptr;   ///< [batch, layout.groups()]
  const float* margins = nullptr;           ///< [batch]
};

struct KernelArguments {
  Plan plan;                            ///< with the launch's reduce_tile, which changes no bit
  Problem problem;
  WalkShape shape;
  LaunchShape launch;
  WorkspaceLayout layout;
  DeviceWeights weights;
  DevicePlane plane;
  const float* x = nullptr;             ///< [batch, d_model]
  float* y = nullptr;                   ///< [batch, d_model]
  std::uint8_t* active_mask = nullptr;  ///< [batch, d_ff] or null
  std::byte* workspace = nullptr;       ///< layout.bytes, 256-byte aligned
  bool evict_first = true;              ///< ask the second-level cache to drop weights first: they are read once
};

/// Everything that plan, problem and device determine; the pointers are left to the caller. launch.fits() says whether the
/// plan can run.
SIGNSPLIT_HD constexpr KernelArguments make_arguments(const Plan& plan, const Problem& problem, DeviceLimits limits) {
  KernelArguments a;
  a.plan = plan;
  a.problem = problem;
  a.shape = walk_shape(problem);
  a.launch = launch_shape(plan, problem, limits);
  a.layout = workspace_layout(plan, problem, a.launch);
  a.plan.reduce_tile = a.launch.reduce_tile;
  if (plan.strategy == Strategy::certified) a.plane.layout = {a.shape.d_padded, plan.plane_group};
  return a;
}

/// Groups of a panel that fit in a stage, beside the panel's head and tail.
SIGNSPLIT_HD constexpr int groups_per_stage(const KernelArguments& a) {
  return static_cast<int>((a.launch.stage_bytes - plane_ends_bytes()) / ((a.plane.layout.group + PanelLayout::kCodes) * kPanelRows));
}

/// The kernels of a plan: `fused`, or `first` and then `second`.
enum class KernelKind : std::uint8_t {
  fused,   ///< both products and the reduction
  first,   ///< product 1, activation, store h
  second,  ///< product 2 and the reduction; copies W2 before it waits for `first`
};
SIGNSPLIT_HD constexpr int kernel_count(const Plan& plan) { return plan.strategy == Strategy::unfused ? 2 : 1; }
SIGNSPLIT_HD constexpr KernelKind kernel_kind_at(const Plan& plan, int index) {
  if (plan.strategy != Strategy::unfused) return KernelKind::fused;
  return index == 0 ? KernelKind::first : KernelKind::second;
}

}  // namespace signsplit::gpu
