// The definition of w8a8 as a sink of the walk: an event of a part is computed whole.
#include "signsplit/w8a8.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "int8_scale.hpp"
#include "signsplit/walk.hpp"

namespace signsplit {
namespace {

/// Tokens quantized, [batch, length].
struct Quantized {
  std::vector<std::int8_t> q;
  std::vector<float> scale;  // [batch]

  Quantized(std::span<const float> values, index_t batch)
      : q(values.size()), scale(static_cast<std::size_t>(batch)) {
    const std::size_t length = values.size() / scale.size();
    for (std::size_t b = 0; b < scale.size(); ++b) {
      scale[b] = quantize_token(values.subspan(b * length, length), std::span(q).subspan(b * length, length));
    }
  }
};

class W8a8 {
 public:
  W8a8(const Plan& plan, const Weights& weights, std::span<const float> x, index_t batch, ReferenceResult& result)
      : plan_(plan), weights_(weights), shape_(walk_shape(weights.problem(batch))), batch_(batch), x_(x, batch),
        result_(result), partial_y_(static_cast<std::size_t>(plan.parts * batch * shape_.d_padded)) {}

  void run() {
    for (int phase = 0; phase < phase_count(plan_); ++phase) {
      if (phase_at(plan_, phase) == Phase::second_product) h_.emplace_back(result_.h, batch_);
      const index_t items = item_count(plan_, shape_, phase_at(plan_, phase));
      for (index_t item = 0; item < items; ++item) walk(plan_, shape_, phase_at(plan_, phase), item, *this);
    }
  }

  void begin_part(index_t part, Phase phase) {
    const HiddenRange units = part_range(plan_, shape_, part);
    for (index_t b = 0; b < batch_; ++b) {
      if (phase == Phase::first_product) {
        for (index_t j = units.begin; j < units.end; ++j) unit(b, j);
      } else {
        for (index_t d = 0; d < weights_.d_model(); ++d) y_of(part, b, d) = column(b, d, units);
      }
    }
  }
  void reduce(ColumnRange columns) {
    const index_t end = std::min(columns.end, weights_.d_model());
    for (index_t b = 0; b < batch_; ++b) {
      for (index_t d = columns.begin; d < end; ++d) result_.y[static_cast<std::size_t>(b * weights_.d_model() + d)] = output(b, d);
    }
  }
  void certify(HiddenRange) {}
  void up_tile(HiddenRange, KRange) {}
  void activate(HiddenRange) {}
  void push(HiddenRange, KRange) {}
  void down_tile(HiddenRange) {}
  void correct(HiddenRange) {}
  void store_h(HiddenRange) {}
  void load_h(HiddenRange) {}

 private:
  float& y_of(index_t part, index_t token, index_t d) {
    return partial_y_[static_cast<std::size_t>((part * batch_ + token) * shape_.d_padded + d)];
  }

  /// Groups ascending, the integers of each exact, one FMA a group; then the token's scale.
  [[nodiscard]] float pre_activation(Matrix matrix, index_t token, index_t j) const {
    const index_t d = weights_.d_model(), groups = weights_.input_groups(), group = weights_.group() == 0 ? d : weights_.group();
    const auto* const w = reinterpret_cast<const std::int8_t*>(matrix == Matrix::gate ? weights_.gate() : weights_.up()) + j * weights_.row_bytes();
    const bf16* const scale = (matrix == Matrix::gate ? weights_.gate_scales() : weights_.up_scales()).data() + j * groups;
    const std::int8_t* const q = x_.q.data() + token * d;
    float sum = 0.0f;
    for (index_t g = 0; g < groups; ++g) {
      std::int32_t integers = 0;
      for (index_t k = g * group; k < std::min(d, (g + 1) * group); ++k) integers += q[k] * w[k];
      sum = std::fma(static_cast<float>(integers), to_float(scale[g]), sum);
    }
    sum *= x_.scale[static_cast<std::size_t>(token)];
    const std::span<const float> bias = matrix == Matrix::gate ? weights_.gate_bias() : weights_.up_bias();
    return bias.empty() ? sum : sum + bias[static_cast<std::size_t>(j)];
  }

  void unit(index_t token, index_t j) {
    const Activation a = weights_.activation();
    const auto at = static_cast<std::size_t>(token * weights_.d_ff() + j);
    const float pre = pre_activation(weights_.gated() ? Matrix::gate : Matrix::up, token, j);
    const float up = weights_.gated() ? pre_activation(Matrix::up, token, j) : 0.0f;
    const bool ieee = std::isnan(x_.scale[static_cast<std::size_t>(token)]) || weights_.input_row_nonfinite(j);
    result_.z[at] = pre;
    result_.active[at] = is_open(a, pre) && (a.kind != ActivationKind::drelu || !(up <= 0.0f)) ? 1 : 0;
    result_.h[at] = weights_.gated() ? activate_gated(a, pre, up, ieee) : signsplit::activate(a, pre);
  }

  /// A part's sum for one output: groups ascending, of each the units that lie in the part.
  [[nodiscard]] float column(index_t token, index_t d, HiddenRange units) const {
    const index_t group = weights_.group() == 0 ? weights_.d_ff() : weights_.group();
    const auto* const w = reinterpret_cast<const std::int8_t*>(weights_.down());
    const std::int8_t* const q = h_.front().q.data() + token * weights_.d_ff();
    float sum = 0.0f;
    for (index_t begin = units.begin; begin < units.end;) {
      const index_t g = begin / group, end = std::min(units.end, (g + 1) * group);
      std::int32_t integers = 0;
      for (; begin < end; ++begin) integers += q[begin] * w[begin * weights_.row_bytes() + d];
      sum = std::fma(static_cast<float>(integers), to_float(weights_.down_scales()[static_cast<std::size_t>(g * weights_.stride() + d)]), sum);
    }
    return sum;
  }

  float output(index_t token, index_t d) {
    for (index_t stride = 1; stride < plan_.parts; stride *= 2) {
      for (index_t p = 0; p + stride < plan_.parts; p += 2 * stride) y_of(p, token, d) += y_of(p + stride, token, d);
    }
    float y = (y_of(0, token, d) + 0.0f) * h_.front().scale[static_cast<std::size_t>(token)];
    if (!weights_.down_bias().empty()) y += weights_.down_bias()[static_cast<std::size_t>(d)];
    return std::isnan(y) ? std::bit_cast<float>(0x7fc00000u) : y;
  }

  Plan plan_;
  const Weights& weights_;
  WalkShape shape_;
  index_t batch_;
  Quantized x_;
  ReferenceResult& result_;
  std::vector<float> partial_y_;  // [parts, batch, d_padded]
  std::vector<Quantized> h_;      // one, from the second product on
};

}  // namespace

float quantize_token(std::span<const float> values, std::span<std::int8_t> q) noexcept {
  float largest = 0.0f;
  bool finite = true;
  for (const float v : values) {
    largest = std::max(largest, std::abs(v));
    finite = finite && std::isfinite(v);
  }
  const float scale = finite ? largest / kLargestQ : std::numeric_limits<float>::quiet_NaN();
  if (!(scale > 0.0f)) {
    std::fill(q.begin(), q.end(), std::int8_t{0});
    return scale;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    q[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(values[i] / scale), -kLargestQ, kLargestQ));
  }
  return scale;
}

Result<ReferenceResult> w8a8_reference(const Plan& plan, const Weights& weights, std::span<const float> x, index_t batch) try {
  Problem problem = weights.problem(batch);
  problem.arithmetic = Arithmetic::w8a8;
  if (Status status = validate(plan, problem); !status) return status;
  const auto tokens = static_cast<std::size_t>(batch), d = static_cast<std::size_t>(problem.d_model), f = static_cast<std::size_t>(problem.d_ff);
  if (x.size() != tokens * d) {
    return invalid_argument("x must have batch * d_model = " + std::to_string(tokens * d) + " elements (got " + std::to_string(x.size()) + ")");
  }
  ReferenceResult result{std::vector<float>(tokens * d), std::vector<float>(tokens * f), std::vector<float>(tokens * f),
                         std::vector<std::uint8_t>(tokens * f)};
  W8a8(plan, weights, x, batch, result).run();
  return result;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the w8a8 reference");
}

}  // namespace signsplit
