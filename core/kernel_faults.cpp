#include "kernel_faults.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fault_list.hpp"

namespace signsplit {
namespace {

constexpr std::pair<Cause, std::string_view> kCauses[] = {
    {Cause::none, "none"},
    {Cause::unknown, "unknown"},
    {Cause::not_written, "not_written"},
    {Cause::output_tail, "output_tail"},
    {Cause::tokens_permuted, "tokens_permuted"},
    {Cause::columns_shifted, "columns_shifted"},
    {Cause::output_transposed, "output_transposed"},
    {Cause::scaled, "scaled"},
    {Cause::missing_up_bias, "missing_up_bias"},
    {Cause::missing_gate_bias, "missing_gate_bias"},
    {Cause::missing_down_bias, "missing_down_bias"},
    {Cause::repeated_bias, "repeated_bias"},
    {Cause::wrong_sign, "wrong_sign"},
    {Cause::dropped_k_tail, "dropped_k_tail"},
    {Cause::dropped_hidden_tail, "dropped_hidden_tail"},
    {Cause::up_transposed, "up_transposed"},
    {Cause::down_transposed, "down_transposed"},
    {Cause::gate_up_swapped, "gate_up_swapped"},
    {Cause::wrong_activation, "wrong_activation"},
    {Cause::shifted_input, "shifted_input"},
    {Cause::shifted_hidden, "shifted_hidden"},
    {Cause::unrepaired_tiles, "unrepaired_tiles"},
    {Cause::rounded_operands, "rounded_operands"},
    {Cause::rounded_output, "rounded_output"},
    {Cause::low_precision_sums, "low_precision_sums"},
    {Cause::flushed_subnormals, "flushed_subnormals"}};

class Search {
 public:
  Search(const Golden& golden, std::span<const float> y, std::span<const std::uint8_t> wrong, index_t worst,
         const CheckOptions& options)
      : golden_(golden), weights_(golden.input.weights), y_(y), wrong_(wrong), options_(options),
        d_(static_cast<std::size_t>(weights_.d_model())), batch_(static_cast<std::size_t>(golden.input.batch)) {
    choose_sample(static_cast<std::size_t>(worst));
  }

  Hint run() const {
    for (const auto test : {&Search::not_written, &Search::output_tail, &Search::rounded_output, &Search::scaled,
                            &Search::tokens_permuted, &Search::output_transposed, &Search::columns_shifted,
                            &Search::recomputed, &Search::low_precision, &Search::like_low_precision}) {
      if (const Hint hint = (this->*test)(); hint.cause != Cause::none) return hint;
    }
    return {Cause::unknown, "like none of the known faults", false};
  }

 private:
  static Hint no() { return {}; }
  static Hint proven(Cause cause, std::string text) { return {cause, std::move(text), true}; }
  static Hint guess(Cause cause, std::string text) { return {cause, std::move(text), false}; }

  [[nodiscard]] double expected(std::size_t i) const { return static_cast<double>(golden_.y[i]); }
  [[nodiscard]] double got(std::size_t i) const { return static_cast<double>(y_[i]); }
  [[nodiscard]] bool usable(std::size_t i) const { return std::isfinite(golden_.y[i]) && std::isfinite(golden_.y_bound[i]); }

  /// The output at `i` is what the golden data has at `j`. Where a finite value has no bound, anything is.
  [[nodiscard]] bool alike(std::size_t i, std::size_t j) const {
    if (!std::isfinite(golden_.y[j])) return y_[i] == golden_.y[j] || (std::isnan(y_[i]) && std::isnan(golden_.y[j]));
    return !usable(j) || std::abs(got(i) - expected(j)) <= allowed_error(golden_, j, options_.output_dtype);
  }

  /// Where bounds are wide (large D and F), too much lies within them. So a fault must also explain nearly all of the
  /// error: what is left, Σ(ŷ − fault)², is at most this fraction of Σ(ŷ − y)².
  static constexpr double kLeft = 1.0 / 64.0;

  /// The outputs lie closer to what belongs at place `source(i)` than kLeft.
  template <class Source>
  [[nodiscard]] bool explained_by(Source source) const {
    double left = 0.0, all = 0.0;
    for (std::size_t i = 0; i < y_.size(); ++i) {
      const std::size_t j = source(i);
      if (j >= y_.size() || !std::isfinite(y_[i]) || !std::isfinite(y_[j]) || !usable(i) || !usable(j)) continue;
      left += square(got(i) - expected(j));
      all += square(got(i) - expected(i));
    }
    return left <= kLeft * all;
  }
  static double square(double v) { return v * v; }

  // Up to three tokens and 32 columns, the wrong ones and others: enough to tell one fault from another.
  void choose_sample(std::size_t worst) {
    constexpr std::size_t kTokens = 3, kColumnsOfAKind = 16;
    const std::size_t worst_token = worst / d_;
    for (std::size_t n = 0; n < std::min(batch_, kTokens); ++n) {
      tokens_.push_back(static_cast<index_t>((worst_token + n) % batch_));
    }
    std::vector<index_t> bad, good;
    for (std::size_t c = 0; c < d_; ++c) {
      (wrong_[worst_token * d_ + c] != 0 ? bad : good).push_back(static_cast<index_t>(c));
    }
    for (const auto& kind : {bad, good}) {
      const std::size_t count = std::min(kind.size(), kColumnsOfAKind);
      for (std::size_t n = 0; n < count; ++n) columns_.push_back(kind[n * kind.size() / count]);
    }
  }

  Hint not_written() const {
    const auto all = [this](auto&& test) { return std::all_of(y_.begin(), y_.end(), test); };
    const auto& y = golden_.y;
    const bool subnormal = std::all_of(y.begin(), y.end(), [](float v) { return std::abs(v) < 0x1p-126f; });
    if (all([](float v) { return v == 0.0f; }) && subnormal) {
      return guess(Cause::flushed_subnormals, "every output is zero, where subnormal numbers belong");
    }
    if (all([](float v) { return v == 0.0f; })) return proven(Cause::not_written, "every output is zero: nothing was written");
    if (all([](float v) { return std::isnan(v); })) return proven(Cause::not_written, "every output is NaN");
    return no();
  }

  Hint output_tail() const {
    std::size_t first_column = d_, first_token = batch_;
    bool blank = true;
    for (std::size_t i = 0; i < wrong_.size(); ++i) {
      if (wrong_[i] == 0) continue;
      first_column = std::min(first_column, i % d_);
      first_token = std::min(first_token, i / d_);
      blank = blank && (y_[i] == 0.0f || std::isnan(y_[i]));
    }
    const auto hint = [&](const std::string& what) {
      return blank ? proven(Cause::output_tail, what + " zero or NaN: not written")
                   : guess(Cause::output_tail, what + " wrong, all before are right");
    };
    if (first_column > d_ / 2) return hint("columns from " + std::to_string(first_column) + " on are");
    if (first_token > batch_ / 2) return hint("tokens from " + std::to_string(first_token) + " on are");
    return no();
  }

  Hint rounded_output() const {
    if (options_.output_dtype == DType::bf16) return no();
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (changed(Operands::to_bf16, y_[i]) != y_[i]) return no();
      if (usable(i) && !(std::abs(got(i) - expected(i)) <= allowed_error(golden_, i, DType::bf16))) return no();
    }
    return proven(Cause::rounded_output, "every output is right, but rounded to bf16");
  }

  // The factor by least squares; it must leave next to nothing of the error.
  Hint scaled() const {
    double products = 0.0, squares = 0.0, all = 0.0, left = 0.0;
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (!usable(i)) continue;
      if (!std::isfinite(y_[i])) return no();
      products += got(i) * expected(i);
      squares += square(expected(i));
    }
    const double factor = products / squares;
    if (!std::isfinite(factor) || factor == 0.0 || y_.size() < 2) return no();
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (!usable(i)) continue;
      all += square(got(i) - expected(i));
      left += square(got(i) - factor * expected(i));
      const double allowed = allowed_error(golden_, i, options_.output_dtype) + 0x1p-12 * std::abs(got(i));
      if (std::abs(got(i) - factor * expected(i)) > std::max(1.0, std::abs(factor)) * allowed) return no();
    }
    if (!(left <= kLeft * all)) return no();
    if (std::abs(factor + 1.0) < 0x1p-12) return proven(Cause::scaled, "every output has the wrong sign");
    return proven(Cause::scaled, "every output is " + std::to_string(factor) + " times what it should be");
  }

  Hint tokens_permuted() const {
    std::string order;
    std::vector<std::size_t> sources;
    bool moved = false;
    for (std::size_t b = 0; b < batch_; ++b) {
      std::size_t source = batch_;
      for (std::size_t from = 0; from < batch_ && source == batch_; ++from) {
        const std::size_t candidate = (b + from) % batch_;  // its own first
        bool same = true;
        for (std::size_t c = 0; c < d_ && same; ++c) same = alike(b * d_ + c, candidate * d_ + c);
        if (same) source = candidate;
      }
      if (source == batch_) return no();
      moved = moved || source != b;
      sources.push_back(source);
      order += (order.empty() ? "" : ", ") + std::to_string(source);
    }
    if (!moved || !explained_by([&](std::size_t i) { return sources[i / d_] * d_ + i % d_; })) return no();
    return proven(Cause::tokens_permuted, "tokens 0, 1, ... hold the results of tokens " + order);
  }

  Hint output_transposed() const {
    if (batch_ < 2) return no();
    for (std::size_t b = 0; b < batch_; ++b) {
      for (std::size_t c = 0; c < d_; ++c) {
        if (!alike(c * batch_ + b, b * d_ + c)) return no();
      }
    }
    if (!explained_by([this](std::size_t i) { return i % batch_ * d_ + i / batch_; })) return no();
    return proven(Cause::output_transposed, "the output is written as [D, B] in place of [B, D]");
  }

  Hint columns_shifted() const {
    for (const std::size_t n : {1u, 2u, 4u, 8u, 16u, 32u, 64u}) {
      if (3 * n >= d_) break;
      for (const bool later : {true, false}) {
        bool same = true;
        for (std::size_t b = 0; b < batch_ && same; ++b) {
          for (std::size_t c = n; c < d_ && same; ++c) {
            const std::size_t low = b * d_ + c - n, high = b * d_ + c;
            same = later ? alike(low, high) : alike(high, low);
          }
        }
        const auto source = [&](std::size_t i) {
          const std::size_t c = later ? i % d_ + n : i % d_ - n;
          return c < d_ ? i / d_ * d_ + c : y_.size();  // one before the first wraps round: too large as well
        };
        if (same && explained_by(source)) {
          return proven(Cause::columns_shifted, std::string("y[d] holds what belongs into y[d ") + (later ? "+ " : "- ") +
                                                    std::to_string(n) + "]");
        }
      }
    }
    return no();
  }

  /// What a model leaves of the error of the sampled outputs, as a fraction of Σ(ŷ − y)²; +∞ when one of them is outside
  /// the model's own bound, or none that is wrong is explained.
  [[nodiscard]] double left_by(std::span<const Approximate> model) const {
    bool explains = false;
    double left = 0.0, all = 0.0;
    for (std::size_t n = 0; n < model.size(); ++n) {
      const Approximate& a = model[n];
      const std::size_t i = place(n);
      if (!std::isfinite(a.reach()) || !std::isfinite(a.value) || !usable(i)) continue;
      double allowed = a.reach();
      if (allowed != 0.0) allowed += kRoundoff32 * a.largest() + kUnderflow32;
      if (options_.output_dtype == DType::bf16) allowed += 0x1p-8 * a.largest() + 0x1p-134;
      if (!(std::abs(got(i) - a.value) <= allowed)) return std::numeric_limits<double>::infinity();
      explains = explains || wrong_[i] != 0;
      const double scale = 1.0 / (static_cast<double>(golden_.y_bound[i]) + 0x1p-149);  // tiny outputs count like large ones
      left += square((got(i) - a.value) * scale);
      all += square((got(i) - expected(i)) * scale);
    }
    return explains && all > 0.0 ? left / all : std::numeric_limits<double>::infinity();
  }

  [[nodiscard]] std::size_t place(std::size_t sample) const {
    return static_cast<std::size_t>(tokens_[sample / columns_.size()]) * d_ +
           static_cast<std::size_t>(columns_[sample % columns_.size()]);
  }

  [[nodiscard]] bool no_subnormals() const {
    return std::none_of(y_.begin(), y_.end(), [](float v) { return v != 0.0f && std::abs(v) < 0x1p-126f; });
  }

  // Of the faults that fit, the one that leaves least of the error; an earlier one that leaves nearly as little goes first.
  Hint recomputed() const {
    constexpr double kBeyondDoubt = 0x1p-20;  // what rounding alone leaves
    const KernelEvaluation evaluation(weights_, golden_.input.x, tokens_, golden_.accumulation, options_.threads);
    const std::vector<Fault> faults = recomputed_faults(weights_);
    const KernelEvaluation::Hidden right = evaluation.hidden({});
    FirstProduct last = {};
    KernelEvaluation::Hidden other;
    const Fault* best = nullptr;
    double least = kLeft;
    for (const Fault& fault : faults) {
      if (fault.cause == Cause::flushed_subnormals && !no_subnormals()) continue;
      const FirstProduct& first = fault.model.first;
      const bool own = first != FirstProduct{};
      if (own && first != last) {
        other = evaluation.hidden(first);
        last = first;
      }
      const double left = left_by(evaluation.output(fault.model.second, own ? other.h : right.h, columns_));
      // Which products were flushed depends on the kernel: its bound is the evidence, and that nothing else fits.
      const bool flushed = fault.cause == Cause::flushed_subnormals && best == nullptr && left <= 1.0;
      if (!flushed && (left > least || (best != nullptr && left > 0.25 * least))) continue;
      best = &fault;
      least = left;
      if (least <= kBeyondDoubt) break;
    }
    return best != nullptr ? proven(best->cause, best->text) : no();
  }

  // Sums in bf16, k and j ascending, each addition rounded. One order of many: a match proves it, a mismatch proves nothing.
  Hint low_precision() const {
    for (const bool first_too : {true, false}) {
      std::size_t same = 0;
      for (std::size_t t = 0; t < tokens_.size(); ++t) {
        const std::vector<float> h = sequential_hidden(static_cast<std::size_t>(tokens_[t]), first_too);
        for (std::size_t c = 0; c < columns_.size(); ++c) {
          const float y = sequential_output(h, columns_[c]);
          if (y == y_[place(t * columns_.size() + c)]) ++same;
        }
      }
      if (4 * same >= 3 * tokens_.size() * columns_.size()) {
        return proven(Cause::low_precision_sums, first_too ? "both products are accumulated in bf16"
                                                           : "product 2 is accumulated in bf16");
      }
    }
    return no();
  }

  [[nodiscard]] std::vector<float> sequential_hidden(std::size_t token, bool narrow) const {
    std::vector<float> h;
    const auto x = std::span(golden_.input.x).subspan(token * d_, d_);
    const auto sum = [&](bool gate, index_t j) {
      float total = 0.0f;
      for (std::size_t k = 0; k < d_; ++k) {
        const auto column = static_cast<index_t>(k);
        total = std::fma(x[k], gate ? weights_.gate_at(j, column) : weights_.up_at(j, column), total);
        if (narrow) total = changed(Operands::to_bf16, total);
      }
      const auto bias = gate ? weights_.gate_bias() : weights_.up_bias();
      if (!bias.empty()) total += bias[static_cast<std::size_t>(j)];
      return narrow ? changed(Operands::to_bf16, total) : total;
    };
    for (index_t j = 0; j < weights_.d_ff(); ++j) {
      const float u = sum(false, j);
      h.push_back(weights_.gated() ? signsplit::activate_gated(weights_.activation(), sum(true, j), u, false)
                                   : signsplit::activate(weights_.activation(), u));
    }
    return h;
  }

  [[nodiscard]] float sequential_output(const std::vector<float>& h, index_t column) const {
    float total = 0.0f;
    for (std::size_t j = 0; j < h.size(); ++j) {
      total = changed(Operands::to_bf16, std::fma(h[j], weights_.down_at(static_cast<index_t>(j), column), total));
    }
    if (!weights_.down_bias().empty()) total += weights_.down_bias()[static_cast<std::size_t>(column)];
    return changed(Operands::to_bf16, total);
  }

  // The size of the errors alone: |error| against |y|, both at their medians, where most outputs are wrong.
  Hint like_low_precision() const {
    std::vector<double> errors, values;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (!usable(i) || !std::isfinite(y_[i])) continue;
      errors.push_back(std::abs(got(i) - expected(i)));
      values.push_back(std::abs(expected(i)));
      wrong += wrong_[i];
    }
    if (2 * wrong < y_.size() || errors.empty()) return no();
    const auto median = [](std::vector<double>& v) {
      std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
      return v[v.size() / 2];
    };
    const double ratio = median(errors) / median(values);
    if (!(ratio < 0x1p-3)) return no();
    if (ratio >= 0x1p-12) {
      return guess(Cause::low_precision_sums, "the errors have the size that sums or operands in bf16 would cause");
    }
    return guess(Cause::low_precision_sums, "the errors have the size that sums or operands in f16 or tf32 would cause");
  }

  const Golden& golden_;
  const Weights& weights_;
  std::span<const float> y_;
  std::span<const std::uint8_t> wrong_;
  CheckOptions options_;
  std::size_t d_, batch_;
  std::vector<index_t> tokens_, columns_;  // the sample
};

}  // namespace

std::string_view to_string(Cause cause) noexcept {
  for (const auto& [one, name] : kCauses) {
    if (one == cause) return name;
  }
  return {};
}

Hint find_cause(const Golden& golden, std::span<const float> y, std::span<const std::uint8_t> wrong, index_t worst,
                const CheckOptions& options) {
  return Search(golden, y, wrong, worst, options).run();
}

}  // namespace signsplit
