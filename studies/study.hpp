// What the studies share: the layers they look at, the tables and the plot they fill, and how both are written.
//
// A study is a function from settings to findings. It uses the public headers and nothing else of the library.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "signsplit/cpu.hpp"
#include "signsplit/status.hpp"
#include "signsplit/weights.hpp"

namespace signsplit::studies {

/// A layer and inputs for it.
struct Layer {
  std::string name;
  Weights weights;
  std::vector<float> x;  ///< [tokens, D]
  index_t tokens = 0;
};

struct Settings {
  std::vector<Layer> layers;  ///< real ones first
  bool small = false;         ///< as fast as can be, for tests: fewer points, no large shapes
  int threads = 0;
  std::uint64_t seed = 1;
};

/// Text, or a number; a number that is not finite stands for "not defined here".
using Cell = std::variant<std::string, double>;

struct Table {
  std::string name;                  ///< key in the JSON
  std::vector<std::string> columns;  ///< keys of its rows
  std::vector<std::vector<Cell>> rows = {};

  /// The number of a row in the column of that name; NaN when there is none.
  [[nodiscard]] double number(std::size_t row, std::string_view column) const;
};

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points = {};
};

struct Plot {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  std::vector<Series> series = {};
};

struct Findings {
  std::vector<Table> tables;
  Plot plot;
};

struct Study {
  std::string_view name;      ///< of the program, study_<name>
  std::string_view question;
  Result<Findings> (*run)(const Settings& settings);
};

/// Command line, default layers, tables on standard output, --json and --svg. Returns the exit status.
int run_study(int argc, char** argv, const Study& study);

/// The executor's options with that many threads.
[[nodiscard]] inline cpu::Options with_threads(int threads) {
  cpu::Options options;
  options.threads = threads;
  return options;
}

/// A layer of independent Gaussian weights, a tenth of its units open.
[[nodiscard]] Result<Layer> gaussian_layer(std::string name, const Problem& problem, index_t tokens, const Settings& settings);

/// Median seconds of each call. They take turns, so that what changes on the machine changes for all.
[[nodiscard]] std::vector<double> interleaved_medians(const std::vector<std::function<void()>>& calls, int rounds);

[[nodiscard]] Study lossless();
[[nodiscard]] Study ignore_crossovers();
[[nodiscard]] Study overflow();
[[nodiscard]] Study small_batch();
[[nodiscard]] Study folded();
[[nodiscard]] Study piecewise_linear();
[[nodiscard]] Study additive_offset();
[[nodiscard]] Study progressive();

}  // namespace signsplit::studies
