// The cases of a comparison ready to be timed: one synthetic layer, every case opened on it and checked, and copies of the layer to rotate
// through.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/measure.hpp"

namespace signsplit::tools {

/// A case while it is measured.
struct OpenCase {
  CaseResult result;
  std::string vendor;                             ///< empty: `ffn`
  std::unique_ptr<ExecutorFfn> ffn;
  std::vector<std::unique_ptr<VendorFfn>> copies; ///< a vendor's rotation
  std::size_t next_copy = 0;
  std::vector<float> first_y;                     ///< every later call must give the same bits
  bool seldom = false;

  [[nodiscard]] bool alive() const { return result.error.empty(); }
  void fail(const Status& status) { result.error = status.message(); }
};

class OpenCases {
 public:
  /// The arguments are those of measure(); `options` and `progress` are borrowed.
  OpenCases(const Problem& problem, const MeasureOptions& options, const MeasureProgress& progress);
  /// The layer, and the cases on it. A case that cannot run says so in its result.
  [[nodiscard]] Status open(double active, std::span<const CaseRequest> requests);

  [[nodiscard]] std::vector<OpenCase>& all() { return cases_; }
  [[nodiscard]] const std::vector<OpenCase>& all() const { return cases_; }
  [[nodiscard]] Executor& executor() const { return *executor_; }
  [[nodiscard]] const Rotation& rotation() const { return rotation_; }
  [[nodiscard]] double layer_bytes() const { return static_cast<double>(weight_bytes(problem_)); }

  /// Seconds of one turn. The output is poisoned before and checked after it; a wrong one is the case's error.
  [[nodiscard]] Result<double> timed_turn(OpenCase& one);
  /// Seconds to read a layer.
  [[nodiscard]] Result<double> timed_read() { return executor_->timed_read(rotation_, options_.residency); }

 private:
  [[nodiscard]] double rotation_bytes() const { return options_.rotation_bytes > 0 ? options_.rotation_bytes : executor_->rotation_bytes(); }
  void report(double fraction, const std::string& what) const {
    if (progress_) progress_(fraction, what);
  }

  Status make_layer(double active);
  void add(const CaseRequest& request);
  void open_on_layer(OpenCase& one);
  void check_all();
  void check(OpenCase& one, const std::vector<float>& exact);
  Result<std::vector<float>> row_fused_output(index_t parts);
  Status copy_layers();
  void copy_vendor(OpenCase& one);
  void check_again(OpenCase& one);

  Problem problem_;
  const MeasureOptions& options_;
  const MeasureProgress& progress_;
  std::unique_ptr<Executor> own_executor_;
  Executor* executor_;
  std::unique_ptr<Executor> exact_executor_;  // runs on the CPU's layers with the exact mask
  std::optional<Weights> weights_;  // the layer, of which the rotation holds copies
  Rotation rotation_;
  std::vector<float> x_, y_;
  std::vector<OpenCase> cases_;
  std::map<index_t, std::vector<float>> row_fused_;  // by parts
};

}  // namespace signsplit::tools
