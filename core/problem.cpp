#include "signsplit/problem.hpp"

#include <cmath>

namespace signsplit {
namespace {

Status validate_extent(const char* field, index_t value) {
  if (value >= 1 && value <= kMaxExtent) return {};
  return invalid_argument("problem." + std::string(field) + " must be in [1, " + std::to_string(kMaxExtent) + "] (got " +
                          std::to_string(value) + ")");
}

}  // namespace

Status validate(const Problem& problem) {
  if (Status status = validate_extent("d_model", problem.d_model); !status) return status;
  if (Status status = validate_extent("d_ff", problem.d_ff); !status) return status;
  if (Status status = validate_extent("batch", problem.batch); !status) return status;
  const Activation& activation = problem.activation;
  if (activation.kind == ActivationKind::drelu && !problem.gated) {
    return invalid_argument("problem.activation drelu is defined for gated FFNs only");
  }
  if (activation.kind == ActivationKind::fatrelu && !(std::isfinite(activation.threshold) && activation.threshold >= 0.0f)) {
    return invalid_argument("problem.activation.threshold of fatrelu must be finite and not negative (got " +
                            std::to_string(activation.threshold) + ")");
  }
  if (problem.group != 0 && problem.dtype != DType::int8) {
    return invalid_argument("problem.group must be 0 for " + std::string(to_string(problem.dtype)) + ", which has no scales (got " +
                            std::to_string(problem.group) + ")");
  }
  if (problem.group < 0 || problem.group > kMaxExtent || problem.group % 64 != 0) {
    return invalid_argument("problem.group must be 0 (one scale per output row) or a positive multiple of 64 (got " +
                            std::to_string(problem.group) + ")");
  }
  if (problem.arithmetic == Arithmetic::w8a8 && problem.dtype != DType::int8) {
    return invalid_argument("problem.arithmetic w8a8 needs int8 weights (got " + std::string(to_string(problem.dtype)) + ")");
  }
  return {};
}

index_t weight_bytes(const Problem& problem) noexcept {
  return matrix_count(problem) * problem.d_ff * round_up(problem.d_model, 64) * dtype_bytes(problem.dtype);
}

std::string describe(const Problem& problem) {
  const std::string name = to_string(problem.activation, problem.gated);
  const bool name_says_gated = name == "reglu" || name == "drelu";
  return std::to_string(problem.d_model) + "x" + std::to_string(problem.d_ff) + " " + std::string(to_string(problem.dtype)) +
         (problem.gated && !name_says_gated ? " gated " : " ") + name + ", batch " + std::to_string(problem.batch);
}

}  // namespace signsplit
