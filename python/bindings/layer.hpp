// A layer as Python holds it: the packed weights, and the executor that the last run left behind.
#pragma once

#include <mutex>
#include <optional>
#include <utility>

#include "signsplit/cpu.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::python {

/// Any number of threads may run one layer at once. Immovable: executors borrow the weights.
class Layer {
 public:
  explicit Layer(Weights&& weights) : weights_(std::move(weights)) {}

  [[nodiscard]] const Weights& weights() const noexcept { return weights_; }

  /// An executor and the options that it was made with; of isa, the one selected.
  struct Executor {
    cpu::Options options;
    cpu::Ffn ffn;
  };
  /// The executor that was given back last, if it fits; else a new one. Decoding calls with one plan over and over: its
  /// workspace is then allocated once.
  [[nodiscard]] Result<Executor> acquire(const Plan& plan, index_t batch, cpu::Options options);
  void give_back(Executor&& executor);

 private:
  Weights weights_;
  std::mutex mutex_;
  std::optional<Executor> idle_;  // after weights_: it borrows them
};

}  // namespace signsplit::python
