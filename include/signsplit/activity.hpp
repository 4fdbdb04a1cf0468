// Activity: which hidden units of a layer are open on given inputs, how far from the threshold the others are, how many a
// certificate proves dead, and how many a K-tiled push gets wrong.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

struct ActivityOptions {
  std::vector<int> plane_bits = {8, 7, 6, 4};  ///< widths of the certificate's plane, 2 to 8
  std::vector<index_t> plane_groups = {64};    ///< elements of D that share a scale and a norm, multiples of 64, at most kMaxPlaneGroup
  std::vector<index_t> tilings = {2, 4, 8};    ///< numbers of equal K tiles (of whole 64-element blocks), 1 or more
  int threads = 0;
};

/// What a certificate of one format proves. In double, blocked Cauchy–Schwarz: S·x + b + Σ_g ‖x_g‖·‖R_g‖ below the threshold, S on a
/// grid whose scales are any numbers, x as it is: what the idea permits. And as executors decide it, bit for bit
/// (certificate.hpp): with stored scales, x quantized, all roundings counted, and the better of two bounds.
struct PlaneRate {
  int bits = 0;
  index_t group = 0;
  double proven = 0.0;           ///< of all (unit, token) pairs, in double
  double proven_of_dead = 0.0;   ///< of those whose unit is closed
  double false_survivors = 0.0;  ///< of all pairs: closed, and not proven so
  double proven_open = 0.0;      ///< of all pairs: S·x + b − the same sum of norms above the threshold
  double executed = 0.0;         ///< of all pairs: proven by every executor of a certified plan
};

/// What pushing interim results of K tiles does: sign_split, variant interim.
struct CrossingRate {
  index_t k_tiles = 0;
  double wrong = 0.0;   ///< of all pairs: tiles of an open unit below the threshold of zero, or of a closed one above it
  double pushed = 0.0;  ///< rows of W2 pushed per unit and token
};

struct ActivityReport {
  index_t units = 0, tokens = 0;
  double active = 0.0;               ///< open (unit, token) pairs, of all
  index_t never_active = 0, always_active = 0;  ///< units, over these tokens
  double z_mean = 0.0, z_sigma = 0.0;           ///< of z − threshold, over all pairs (population)
  static constexpr std::array<double, 9> kQuantiles = {0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999};
  std::array<double, kQuantiles.size()> z_quantiles{};  ///< of (z − threshold) / z_sigma
  static constexpr double kBinWidth = 0.25, kFirstBin = -8.0;  ///< bins of (z − threshold) / z_sigma; the outer ones are open
  std::array<double, 64> z_histogram{};                        ///< fraction of all pairs per bin; from kFirstBin on
  double near_threshold = 0.0;       ///< |z − threshold| < 0.1·z_sigma
  std::vector<PlaneRate> planes;     ///< groups outer, widths inner, in the order of the options
  std::vector<CrossingRate> crossings;
};

/// z is that of the gate in a gated FFN; the threshold is 0, or t of fatrelu. x is [tokens, D], tokens ≥ 1. invalid_argument
/// for sizes that do not fit, activations that close no unit (identity, gelu, ...), options out of range, and values that are not finite.
[[nodiscard]] Result<ActivityReport> measure_activity(const Weights& weights, std::span<const float> x, index_t tokens,
                                                      const ActivityOptions& options = {});

}  // namespace signsplit
