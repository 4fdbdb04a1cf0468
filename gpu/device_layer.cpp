#include "device_layer.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

namespace signsplit::gpu {

namespace {

/// One byte per unit where `is_nonfinite(j)`; empty when no unit is.
template <class IsNonfinite>
std::vector<std::uint8_t> nonfinite_rows(index_t d_ff, const IsNonfinite& is_nonfinite) {
  std::vector<std::uint8_t> rows(static_cast<std::size_t>(d_ff));
  for (index_t j = 0; j < d_ff; ++j) rows[static_cast<std::size_t>(j)] = is_nonfinite(j) ? 1 : 0;
  if (std::find(rows.begin(), rows.end(), std::uint8_t{1}) == rows.end()) rows.clear();
  return rows;
}

/// Fills `to`; false, with the reason in `status`, when it could not be.
template <class T>
bool fill(LayerArray<T>& to, std::span<const T> from, Status& status) {
  auto copy = upload(from, "a layer");
  status = copy.status();
  if (!copy) return false;
  to = {std::move(*copy), from.size()};
  return true;
}

template <class T>
bool fill(LayerArray<T>& to, const LayerArray<T>& from, Status& status) {
  auto copy = allocate<T>(from.count, "a layer");
  status = copy.status();
  if (!copy || from.count == 0) return copy.ok();
  to = {std::move(*copy), from.count};
  status = cuda_status(cudaMemcpy(to.data.get(), from.get(), from.count * sizeof(T), cudaMemcpyDeviceToDevice), "copying a layer");
  return status.ok();
}

std::span<const std::uint16_t> bits(std::span<const bf16> scales) {
  static_assert(sizeof(bf16) == sizeof(std::uint16_t));
  return {reinterpret_cast<const std::uint16_t*>(scales.data()), scales.size()};
}

}  // namespace

namespace {
std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}
}  // namespace

Result<const DeviceCertificate*> DeviceLayer::State::certificate(CertificateFormat format) const {
  const std::lock_guard lock(certificates_mutex);
  for (const auto& known : certificates) {
    if (known->format == format) return known.get();
  }
  const auto built = source->certificate(format);
  if (!built) return built.status();
  auto made = std::make_unique<DeviceCertificate>();
  made->format = format;
  made->threshold = (*built)->threshold();
  const auto bytes = static_cast<std::size_t>((*built)->panels() * (*built)->layout().bytes());
  Status status;
  if (!fill(made->panels, std::span((*built)->panel(0), bytes), status)) return status;
  certificates.push_back(std::move(made));
  return certificates.back().get();
}

DeviceLayer::DeviceLayer(DeviceLayer&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
DeviceLayer& DeviceLayer::operator=(DeviceLayer&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
DeviceLayer::~DeviceLayer() { delete state_; }

Problem DeviceLayer::problem(index_t batch) const noexcept {
  Problem problem = state_->problem;
  problem.batch = batch;
  return problem;
}
int DeviceLayer::device() const noexcept { return state_->device; }
std::size_t DeviceLayer::bytes() const noexcept {
  return state_->matrix_bytes() * static_cast<std::size_t>(matrix_count(state_->problem));
}

Result<DeviceLayer> DeviceLayer::upload(const Weights& weights, int device) {
  if (Status status = weights.require_first_matrix(); !status) return status;
  if (Status status = cuda_status(cudaSetDevice(device), "selecting a device"); !status) return status;
  DeviceLayer layer(new State);
  State& to = *layer.state_;
  to.id = next_id();
  to.source = &weights;
  to.problem = weights.problem();
  to.device = device;
  const auto matrix = [&](const std::byte* data) {
    return data == nullptr ? std::span<const std::byte>()
                           : std::span(data, static_cast<std::size_t>(weights.d_ff() * weights.row_bytes()));
  };
  const auto input_rows = nonfinite_rows(weights.d_ff(), [&](index_t j) { return weights.input_row_nonfinite(j); });
  const auto down_rows = nonfinite_rows(weights.d_ff(), [&](index_t j) { return weights.down_row_nonfinite(j); });
  Status status;
  const bool filled = fill(to.up, matrix(weights.up()), status) && fill(to.gate, matrix(weights.gate()), status) &&
                      fill(to.down, matrix(weights.down()), status) && fill(to.up_bias, weights.up_bias(), status) &&
                      fill(to.gate_bias, weights.gate_bias(), status) && fill(to.down_bias, weights.down_bias(), status) &&
                      fill(to.up_norms, weights.up_norms(), status) && fill(to.gate_norms, weights.gate_norms(), status) &&
                      fill(to.up_scales, bits(weights.up_scales()), status) &&
                      fill(to.gate_scales, bits(weights.gate_scales()), status) &&
                      fill(to.down_scales, bits(weights.down_scales()), status) &&
                      fill(to.input_nonfinite, std::span<const std::uint8_t>(input_rows), status) &&
                      fill(to.down_nonfinite, std::span<const std::uint8_t>(down_rows), status);
  if (!filled) return status;
  return layer;
}

Result<DeviceLayer> DeviceLayer::clone() const {
  if (Status status = cuda_status(cudaSetDevice(state_->device), "selecting a device"); !status) return status;
  const State& from = *state_;
  DeviceLayer layer(new State);
  State& to = *layer.state_;
  to.id = next_id();
  to.source = from.source;
  to.problem = from.problem;
  to.device = from.device;
  Status status;
  const bool filled = fill(to.up, from.up, status) && fill(to.gate, from.gate, status) && fill(to.down, from.down, status) &&
                      fill(to.up_bias, from.up_bias, status) && fill(to.gate_bias, from.gate_bias, status) &&
                      fill(to.down_bias, from.down_bias, status) && fill(to.up_norms, from.up_norms, status) &&
                      fill(to.gate_norms, from.gate_norms, status) && fill(to.up_scales, from.up_scales, status) &&
                      fill(to.gate_scales, from.gate_scales, status) && fill(to.down_scales, from.down_scales, status) &&
                      fill(to.input_nonfinite, from.input_nonfinite, status) &&
                      fill(to.down_nonfinite, from.down_nonfinite, status);
  if (!filled) return status;
  if (status = wait_for_default_stream(); !status) return status;
  return layer;
}

}  // namespace signsplit::gpu
