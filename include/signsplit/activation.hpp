// Activation functions: their names, and the one definition of what each computes on f32, shared by host and device.
//
// Rules that every executor follows, because lossless skipping depends on them (docs/exactness.md):
//   * a NaN pre-activation gives NaN, never zero;
//   * a closed unit gives +0, never −0;
//   * gelu, gelu_tanh, silu and identity close no unit: every one is open, and h is what IEEE 754 says, −0 included;
//   * of a gated unit whose gate is closed, the up value is not looked at: h = +0. (Units with non-finite weights, and
//     all units when x is not finite, are the exception: they are evaluated as IEEE 754 says, so 0·∞ = NaN shows.)
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "signsplit/portability.hpp"
#include "signsplit/smooth_activation.hpp"

namespace signsplit {

enum class ActivationKind : std::uint8_t {
  identity,  ///< z
  relu,      ///< max(z, 0)
  relu2,     ///< max(z, 0)² (Nemotron, BitNet)
  fatrelu,   ///< z if z > t, else 0 (ProSparse, MiniCPM-S); t ≥ 0
  drelu,     ///< gated only: max(g, 0) · max(u, 0) (TurboSparse)
  gelu,      ///< z·Φ(z) = z/2 · erfc(−z/√2) (BERT, GPT-NeoX)
  gelu_tanh, ///< z/2 · (1 + tanh(√(2/π)·(z + 0.044715·z³))) (GPT-2, Gemma)
  silu,      ///< z / (1 + e^−z) (Llama, Mistral, Qwen: as the gate, swiglu)
};

/// An activation function. Whether the FFN is gated is a property of the Problem, not of the activation; drelu is
/// defined for gated FFNs only.
struct Activation {
  ActivationKind kind = ActivationKind::relu;
  float threshold = 0.0f;  ///< t of fatrelu; 0 for all others

  friend constexpr bool operator==(const Activation&, const Activation&) = default;
};

/// The names that parse_activation() knows, for messages.
inline constexpr const char* kActivationNames =
    "relu, relu2, fatrelu:T, identity, gelu, gelu_tanh, silu, and with a gate reglu, drelu, geglu, geglu_tanh, swiglu";

/// The name of the files' metadata and of `--activation`: one of kActivationNames; with `gated`, relu is called reglu, gelu geglu,
/// gelu_tanh geglu_tanh, and silu swiglu.
[[nodiscard]] std::string to_string(const Activation& activation, bool gated = false);

struct ParsedActivation {
  Activation activation;
  bool must_be_gated = false;  ///< The name is defined for gated FFNs only (reglu, drelu, geglu, geglu_tanh, swiglu).
};
/// Parses one of kActivationNames (T a decimal, ≥ 0); nullopt for any other text.
[[nodiscard]] std::optional<ParsedActivation> parse_activation(std::string_view text);

/// max(z, 0), NaN for NaN, +0 for z ≤ 0.
SIGNSPLIT_HD constexpr float relu(float z) { return z <= 0.0f ? 0.0f : z; }

/// gelu, gelu_tanh or silu: no units are closed, and h is an approximation of the real function, within 0.5 + 2^-19 ulp.
SIGNSPLIT_HD constexpr bool is_smooth(Activation a) {
  return a.kind == ActivationKind::gelu || a.kind == ActivationKind::gelu_tanh || a.kind == ActivationKind::silu;
}
/// Whether a unit can be closed: there is a threshold, at and below which h is 0.
SIGNSPLIT_HD constexpr bool closes_units(Activation a) { return a.kind != ActivationKind::identity && !is_smooth(a); }

/// The three smooth ones. On a host it is kept out of the code around it: of activate(), which inlines where the kind is known.
#if !defined(__CUDA_ARCH__)
__attribute__((noinline, cold))
#endif
SIGNSPLIT_HD inline float smooth_activation(ActivationKind kind, float z) {
  return kind == ActivationKind::gelu ? gelu(z) : kind == ActivationKind::gelu_tanh ? gelu_tanh(z) : silu(z);
}

/// The activation of one pre-activation. For drelu, the factor that the gate contributes.
SIGNSPLIT_HD constexpr float activate(Activation a, float z) {
  switch (a.kind) {
    case ActivationKind::identity: return z;
    case ActivationKind::relu: return relu(z);
    case ActivationKind::relu2: return relu(z) * relu(z);
    case ActivationKind::fatrelu: return z <= a.threshold ? 0.0f : z;
    case ActivationKind::drelu: return relu(z);
    case ActivationKind::gelu:
    case ActivationKind::gelu_tanh:
    case ActivationKind::silu: return smooth_activation(a.kind, z);
  }
  return z;
}

/// True when the unit is open: its pre-activation z (of a gated unit, the gate's) lets something through. NaN is open.
SIGNSPLIT_HD constexpr bool is_open(Activation a, float z) {
  return !closes_units(a) || !(z <= (a.kind == ActivationKind::fatrelu ? a.threshold : 0.0f));
}

/// h of a gated unit from its gate g and up value u. `ieee` asks for the plain IEEE product (non-finite weights or x).
SIGNSPLIT_HD constexpr float activate_gated(Activation a, float g, float u, bool ieee) {
  const float factor = a.kind == ActivationKind::drelu ? relu(u) : u;
  if (!ieee && (!is_open(a, g) || (a.kind == ActivationKind::drelu && u <= 0.0f))) return 0.0f;
  return activate(a, g) * factor;
}

}  // namespace signsplit
