// Activation functions: their names, and the one definition of what each computes on f32, shared by host and device.
//
// Rules that every executor follows, because lossless skipping depends on them (docs/exactness.md):
//   * a NaN pre-activation gives NaN, never zero;
//   * a closed unit gives +0, never −0;
//   * of a gated unit whose gate is closed, the up value is not looked at: h = +0. (Units with non-finite weights, and
//     all units when x is not finite, are the exception: they are evaluated as IEEE 754 says, so 0·∞ = NaN shows.)
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "signsplit/portability.hpp"

namespace signsplit {

enum class ActivationKind : std::uint8_t {
  identity,  ///< z
  relu,      ///< max(z, 0)
  relu2,     ///< max(z, 0)² (Nemotron, BitNet)
  fatrelu,   ///< z if z > t, else 0 (ProSparse, MiniCPM-S); t ≥ 0
  drelu,     ///< gated only: max(g, 0) · max(u, 0) (TurboSparse)
};

/// An activation function. Whether the FFN is gated is a property of the Problem, not of the activation; drelu is
/// defined for gated FFNs only.
struct Activation {
  ActivationKind kind = ActivationKind::relu;
  float threshold = 0.0f;  ///< t of fatrelu; 0 for all others

  friend constexpr bool operator==(const Activation&, const Activation&) = default;
};

/// The name of the files' metadata and of `--activation`: identity, relu, relu2, fatrelu:T, drelu; with `gated`, relu is
/// called reglu.
[[nodiscard]] std::string to_string(const Activation& activation, bool gated = false);

struct ParsedActivation {
  Activation activation;
  bool must_be_gated = false;  ///< The name is defined for gated FFNs only (reglu, drelu).
};
/// Parses identity, relu, relu2, fatrelu:T (T a decimal, ≥ 0), reglu, drelu; nullopt for any other text.
[[nodiscard]] std::optional<ParsedActivation> parse_activation(std::string_view text);

/// max(z, 0), NaN for NaN, +0 for z ≤ 0.
SIGNSPLIT_HD constexpr float relu(float z) { return z <= 0.0f ? 0.0f : z; }

/// The activation of one pre-activation. For drelu, the factor that the gate contributes.
SIGNSPLIT_HD constexpr float activate(Activation a, float z) {
  switch (a.kind) {
    case ActivationKind::identity: return z;
    case ActivationKind::relu: return relu(z);
    case ActivationKind::relu2: return relu(z) * relu(z);
    case ActivationKind::fatrelu: return z <= a.threshold ? 0.0f : z;
    case ActivationKind::drelu: return relu(z);
  }
  return z;
}

/// True when the unit is open: its pre-activation z (of a gated unit, the gate's) lets something through. NaN is open.
SIGNSPLIT_HD constexpr bool is_open(Activation a, float z) {
  return a.kind == ActivationKind::identity || !(z <= (a.kind == ActivationKind::fatrelu ? a.threshold : 0.0f));
}

/// h of a gated unit from its gate g and up value u. `ieee` asks for the plain IEEE product (non-finite weights or x).
SIGNSPLIT_HD constexpr float activate_gated(Activation a, float g, float u, bool ieee) {
  const float factor = a.kind == ActivationKind::drelu ? relu(u) : u;
  if (!ieee && (!is_open(a, g) || (a.kind == ActivationKind::drelu && u <= 0.0f))) return 0.0f;
  return activate(a, g) * factor;
}

}  // namespace signsplit
