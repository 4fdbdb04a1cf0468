#include "signsplit/problem.hpp"

#include <algorithm>
#include <cmath>

namespace signsplit {
namespace {

Status validate_extent(const char* field, index_t value) {
  if (value >= 1 && value <= kMaxExtent) return {};
  return invalid_argument("problem." + std::string(field) + " must be in [1, " + std::to_string(kMaxExtent) + "] (got " +
                          std::to_string(value) + ")");
}

}  // namespace

std::string_view to_string(Arithmetic arithmetic) noexcept { return arithmetic == Arithmetic::w8a8 ? "w8a8" : "f32"; }

std::optional<Arithmetic> parse_arithmetic(std::string_view text) noexcept {
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::w8a8}) {
    if (text == to_string(arithmetic)) return arithmetic;
  }
  return std::nullopt;
}

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
  const index_t summed = problem.group == 0 ? std::max(problem.d_model, problem.d_ff) : problem.group;
  if (problem.arithmetic == Arithmetic::w8a8 && summed > kMaxIntegerSum) {
    return invalid_argument("problem.arithmetic w8a8 sums at most " + std::to_string(kMaxIntegerSum) +
                            " products of a group in an int32 (got " + std::to_string(summed) + "): use a smaller group");
  }
  return {};
}

index_t weight_bytes(const Problem& problem) noexcept {
  const index_t stride = round_up(problem.d_model, 64);
  const index_t input_scales = (matrix_count(problem) - 1) * problem.d_ff * scale_count(problem, 0, problem.d_model);
  return matrix_count(problem) * problem.d_ff * stride * dtype_bytes(problem.dtype) + input_scales * kScaleBytes +
         down_scale_bytes(problem);
}

std::string describe(const Problem& problem) {
  const std::string name = to_string(problem.activation, problem.gated);
  const bool name_says_gated = problem.activation.kind == ActivationKind::drelu || name != to_string(problem.activation);
  std::string type(to_string(problem.dtype));
  if (problem.group != 0) type += "/" + std::to_string(problem.group);
  if (problem.arithmetic != Arithmetic::f32) type += " " + std::string(to_string(problem.arithmetic));
  return std::to_string(problem.d_model) + "x" + std::to_string(problem.d_ff) + " " + type +
         (problem.gated && !name_says_gated ? " gated " : " ") + name + ", batch " + std::to_string(problem.batch);
}

}  // namespace signsplit
