// The layers and inputs of golden data. Every value depends on the seed and its own index only.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <new>

#include "signsplit/golden.hpp"
#include "signsplit/synthetic.hpp"

namespace signsplit {
namespace {

enum Stream : std::uint64_t { kUp = 16, kGate, kDown, kUpBias, kGateBias, kDownBias, kX };  // of one seed

using Value = std::function<double(index_t row, index_t column)>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

/// A set is seven functions of an index. Rows of up and gate and columns of down are hidden units.
struct Recipe {
  Value up, gate, down;                 // up and gate [F, D], down [D, F]
  Value up_bias, gate_bias, down_bias;  // row 0
  Value x;                              // [B, D]
};

class Maker {
 public:
  Maker(const Problem& problem, double active, std::uint64_t seed)
      : problem_(problem), active_(active), seed_(seed), d_(static_cast<double>(problem.d_model)),
        f_(static_cast<double>(problem.d_ff)) {}

  [[nodiscard]] Recipe recipe(DataSet set) const {
    switch (set) {
      case DataSet::exact: return exact();
      case DataSet::cancellation: return cancellation();
      case DataSet::outliers: return outliers();
      case DataSet::scales: return scales();
      case DataSet::subnormals: return subnormals();
      case DataSet::nonfinite: return nonfinite();
      case DataSet::random:
      case DataSet::given: break;
    }
    return random();
  }

 private:
  /// Normal values of a stream, in a matrix of `columns`.
  [[nodiscard]] Value normal(Stream stream, index_t columns, double scale, double mean = 0.0) const {
    return [seed = random_bits(seed_, stream), columns, scale, mean](index_t row, index_t column) {
      return mean + scale * random_normal(seed, static_cast<std::uint64_t>(row * columns + column));
    };
  }

  /// Integers in [−limit, limit], `density` of them drawn, the others zero.
  [[nodiscard]] Value integers(Stream stream, index_t columns, int limit, double density = 1.0) const {
    return [seed = random_bits(seed_, stream), columns, limit, density](index_t row, index_t column) {
      const std::uint64_t bits = random_bits(seed, static_cast<std::uint64_t>(row * columns + column));
      if (static_cast<double>(bits >> 32) >= density * 0x1p32) return 0.0;
      return static_cast<double>(static_cast<int>((bits & 0xffffffffu) % static_cast<unsigned>(2 * limit + 1)) - limit);
    };
  }

  /// The mean of the bias that leaves `active` of the units open, of pre-activations with variance 1.
  [[nodiscard]] double opening_bias() const {
    const Activation a = problem_.activation;
    if (!closes_units(a)) return 0.0;
    const double threshold = a.kind == ActivationKind::fatrelu ? static_cast<double>(a.threshold) : 0.0;
    if (active_ == 1.0) return threshold + 40.0;
    // drelu is active where gate and up are both open.
    return threshold + normal_quantile(a.kind == ActivationKind::drelu ? std::sqrt(active_) : active_);
  }

  [[nodiscard]] Recipe random() const {
    const index_t d = problem_.d_model, f = problem_.d_ff;
    const double opening = opening_bias();
    const bool up_decides = !problem_.gated || problem_.activation.kind == ActivationKind::drelu;
    return {.up = normal(kUp, d, 1.0 / std::sqrt(d_)),
            .gate = normal(kGate, d, 1.0 / std::sqrt(d_)),
            .down = normal(kDown, f, 1.0 / std::sqrt(f_)),
            .up_bias = normal(kUpBias, f, 0.25, up_decides ? opening : 0.0),
            .gate_bias = normal(kGateBias, f, 0.25, opening),
            .down_bias = normal(kDownBias, d, 0.25),
            .x = normal(kX, d, 1.0)};
  }

  /// Sums stay below 2^24 by a wide margin on average; the bounds of golden data tell whether they all did.
  [[nodiscard]] Recipe exact() const {
    const index_t d = problem_.d_model, f = problem_.d_ff;
    const int degree = (problem_.activation.kind == ActivationKind::relu2 ? 2 : 1) + (problem_.gated ? 1 : 0);
    // h ~ (4·D·density)^(degree/2), times F terms of about 1.2·density.
    const double largest = std::pow(0x1p20 / (1.2 * f_ * std::pow(4.0 * d_, 0.5 * degree)), 1.0 / (0.5 * degree + 1.0));
    const double density = std::min(1.0, largest);
    return {.up = integers(kUp, d, 2, density),
            .gate = integers(kGate, d, 2, density),
            .down = integers(kDown, f, 2, density),
            .up_bias = integers(kUpBias, f, 4),
            .gate_bias = integers(kGateBias, f, 4),
            .down_bias = integers(kDownBias, d, 100),
            .x = integers(kX, d, 2)};
  }

  [[nodiscard]] Recipe cancellation() const {
    Recipe recipe = random();
    const auto paired = [](const Value& value) {
      return [value](index_t row, index_t column) {
        return column % 2 == 0 ? value(row, column) : -value(row, column - 1);
      };
    };
    recipe.up = paired(recipe.up);
    recipe.gate = paired(recipe.gate);
    recipe.x = [value = recipe.x](index_t row, index_t column) {
      return column % 2 == 0 ? value(row, column) : value(row, column - 1) + 0x1p-10 * value(row, column);
    };
    const index_t f = problem_.d_ff;
    recipe.up_bias = normal(kUpBias, f, 0x1p-10);
    recipe.gate_bias = normal(kGateBias, f, 0x1p-10);
    recipe.down_bias = normal(kDownBias, problem_.d_model, 0x1p-10);
    return recipe;
  }

  [[nodiscard]] Recipe outliers() const {
    Recipe recipe = random();
    recipe.x = [value = recipe.x](index_t row, index_t column) {
      return value(row, column) * (column % 61 == 7 ? 1000.0 : 1.0);
    };
    recipe.down = [value = recipe.down](index_t row, index_t column) {
      return value(row, column) * (column % 37 == 5 ? 1000.0 : 1.0);
    };
    return recipe;
  }

  [[nodiscard]] Recipe scales() const {
    Recipe recipe = random();
    const auto by_unit = [](index_t unit) { return static_cast<int>(unit * 7 % 41) - 20; };
    const auto rows = [by_unit](const Value& value) {
      return [value, by_unit](index_t row, index_t column) { return std::ldexp(value(row, column), by_unit(row)); };
    };
    const auto columns = [by_unit](const Value& value) {
      return [value, by_unit](index_t row, index_t column) { return std::ldexp(value(row, column), by_unit(column)); };
    };
    recipe.up = rows(recipe.up);
    recipe.gate = rows(recipe.gate);
    recipe.up_bias = columns(recipe.up_bias);
    recipe.gate_bias = columns(recipe.gate_bias);
    recipe.down = [value = recipe.down, by_unit](index_t row, index_t column) {
      return std::ldexp(value(row, column), by_unit(column + row));
    };
    recipe.x = [value = recipe.x](index_t row, index_t column) {
      return std::ldexp(value(row, column), static_cast<int>(row * 13 % 21) - 10);
    };
    return recipe;
  }

  [[nodiscard]] Recipe subnormals() const {
    Recipe recipe = random();
    // Every seventh unit is larger: some products are normal, so that a kernel that flushes is not merely silent.
    recipe.down = [value = recipe.down](index_t row, index_t column) {
      return std::ldexp(value(row, column), column % 7 == 0 ? -120 : -128);
    };
    recipe.down_bias = [value = recipe.down_bias](index_t row, index_t column) {
      return std::ldexp(value(row, column), -130);
    };
    return recipe;
  }

  [[nodiscard]] Recipe nonfinite() const {
    Recipe recipe = random();
    const index_t d = problem_.d_model, f = problem_.d_ff;
    recipe.x = [value = recipe.x, d](index_t row, index_t column) {
      if (column == std::min(d - 1, index_t{2}) && row % 3 == 1) return static_cast<double>(kNan);
      if (column == d / 2 && row % 3 == 2) return static_cast<double>(kInfinity);
      return value(row, column);
    };
    const bool has_nan = problem_.dtype != DType::int8;  // which has only finite weights
    recipe.down = [value = recipe.down, d, f, has_nan](index_t row, index_t column) {
      return has_nan && row == d / 3 && column == f / 2 ? static_cast<double>(kNan) : value(row, column);
    };
    recipe.down_bias = [value = recipe.down_bias, d](index_t row, index_t column) {
      return column == d - 1 ? -static_cast<double>(kInfinity) : value(row, column);
    };
    return recipe;
  }

  Problem problem_;
  double active_;
  std::uint64_t seed_;
  double d_, f_;
};

/// One element as stored; int8 takes integers in [−127, 127] only.
void store(DType dtype, float value, std::byte* to) {
  const auto copy = [to](auto element) { std::memcpy(to, &element, sizeof element); };
  switch (dtype) {
    case DType::f32: return copy(value);
    case DType::bf16: return copy(to_bf16(value));
    case DType::f16: return copy(to_f16(value));
    case DType::int8: return copy(static_cast<std::int8_t>(value));
  }
}

std::vector<std::byte> matrix_of(DType dtype, index_t rows, index_t columns, const Value& value) {
  const auto size = static_cast<std::size_t>(dtype_bytes(dtype));
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * columns) * size);
  std::byte* to = bytes.data();
  for (index_t row = 0; row < rows; ++row) {
    for (index_t column = 0; column < columns; ++column, to += size) {
      store(dtype, static_cast<float>(value(row, column)), to);
    }
  }
  return bytes;
}

std::vector<float> vector_of(index_t rows, index_t columns, const Value& value) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(rows * columns));
  for (index_t row = 0; row < rows; ++row) {
    for (index_t column = 0; column < columns; ++column) values.push_back(static_cast<float>(value(row, column)));
  }
  return values;
}

/// A layer of the recipe. int8: the integers of the set `exact` are q itself, with scales of 1; the values of the other sets
/// are rounded to int8 from f32.
Result<Weights> layer_of(const Problem& problem, DataSet set, const Recipe& recipe) {
  const index_t d = problem.d_model, f = problem.d_ff;
  const bool rounded = problem.dtype == DType::int8 && set != DataSet::exact;
  const DType dtype = rounded ? DType::f32 : problem.dtype;
  const auto up = matrix_of(dtype, f, d, recipe.up), down = matrix_of(dtype, d, f, recipe.down);
  const auto gate = problem.gated ? matrix_of(dtype, f, d, recipe.gate) : std::vector<std::byte>();
  const auto up_bias = vector_of(1, f, recipe.up_bias), down_bias = vector_of(1, d, recipe.down_bias);
  const auto gate_bias = problem.gated ? vector_of(1, f, recipe.gate_bias) : std::vector<float>();
  LayerTensors layer{.d_model = d, .d_ff = f, .dtype = dtype, .activation = problem.activation,
                     .up = up, .down = down, .gate = gate,
                     .up_bias = up_bias, .gate_bias = gate_bias, .down_bias = down_bias};
  if (!rounded) layer.group = problem.group;
  const Problem stored{.dtype = dtype, .group = layer.group};
  const auto ones = [&](index_t rows, index_t length) {
    return std::vector<float>(static_cast<std::size_t>(rows * scale_count(stored, 0, length)), 1.0f);
  };
  const std::vector<float> input_scales = ones(f, d), down_scales = ones(d, f);
  layer.up_scale = input_scales;
  layer.down_scale = down_scales;
  if (problem.gated) layer.gate_scale = input_scales;
  Result<Weights> packed = Weights::pack(layer);
  return packed && rounded ? packed->quantize(problem.group) : std::move(packed);
}

Status validate_request(const Problem& problem, DataSet set, double active) {
  if (Status status = validate(problem); !status) return status;
  if (set == DataSet::given) return invalid_argument("the set `given` is not one that can be made");
  if (active > 0.0 && active <= 1.0) return {};
  return invalid_argument("the fraction of active units must be above 0 and at most 1 (got " + std::to_string(active) + ")");
}

}  // namespace

Result<GoldenInput> golden_input(const Problem& problem, DataSet set, double active, std::uint64_t seed) try {
  if (Status status = validate_request(problem, set, active); !status) return status;
  const index_t d = problem.d_model;
  const Recipe recipe = Maker(problem, active, seed).recipe(set);
  Result<Weights> weights = layer_of(problem, set, recipe);
  if (!weights) return weights.status();
  return GoldenInput{std::move(*weights), vector_of(problem.batch, d, recipe.x), problem.batch};
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for a golden layer");
}

}  // namespace signsplit
