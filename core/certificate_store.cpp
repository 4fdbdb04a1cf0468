// What a layer keeps of its certificates, and how it does without its first matrix.
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "signsplit/certificate.hpp"
#include "signsplit/residual.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

struct CertificateStore::State {
  std::mutex mutex;
  struct Entry {
    std::shared_ptr<const Certificate> certificate;
    std::shared_ptr<const Residual> residual;  // when it was asked for
  };
  std::vector<Entry> entries;

  Result<Entry*> find(const Weights& weights, CertificateFormat format) {
    for (Entry& known : entries) {
      if (known.certificate->format() == format) return &known;
    }
    Result<Certificate> built = Certificate::build(weights, format);
    if (!built) return built.status();
    entries.push_back({std::make_shared<const Certificate>(std::move(built).value()), nullptr});
    return &entries.back();
  }
};

CertificateStore::CertificateStore() : state_(std::make_unique<State>()) {}
CertificateStore::~CertificateStore() = default;

Result<std::shared_ptr<const Certificate>> CertificateStore::get(const Weights& weights, CertificateFormat format) try {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->find(weights, format);
  if (!found) return found.status();
  return (*found)->certificate;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the certificate of a layer");
}

Result<std::shared_ptr<const Residual>> CertificateStore::get_residual(const Weights& weights, CertificateFormat format) try {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->find(weights, format);
  if (!found) return found.status();
  State::Entry& entry = **found;
  if (entry.residual == nullptr) {
    Result<Residual> built = Residual::build(weights, *entry.certificate);
    if (!built) return built.status();
    entry.residual = std::make_shared<const Residual>(std::move(built).value());
  }
  return entry.residual;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the residual of a layer");
}

Result<std::shared_ptr<CertificateStore>> CertificateStore::clone() const try {
  const std::lock_guard lock(state_->mutex);
  auto copy = std::make_shared<CertificateStore>();
  for (const State::Entry& entry : state_->entries) {
    Result<Certificate> certificate = entry.certificate->clone();
    if (!certificate) return certificate.status();
    copy->state_->entries.push_back({std::make_shared<const Certificate>(std::move(certificate).value()), nullptr});
    State::Entry& cloned = copy->state_->entries.back();
    if (entry.residual == nullptr) continue;
    Result<Residual> residual = entry.residual->clone();
    if (!residual) return residual.status();
    cloned.residual = std::make_shared<const Residual>(std::move(residual).value());
  }
  return copy;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for the certificate of a layer");
}

Result<std::shared_ptr<const Certificate>> Weights::certificate(CertificateFormat format) const {
  return certificates_->get(*this, format);
}

Result<std::shared_ptr<const Residual>> Weights::residual(CertificateFormat format) const {
  return certificates_->get_residual(*this, format);
}

Status Weights::give_up_first_matrix(CertificateFormat format) {
  auto built = residual(format);
  if (!built) return built.status();
  auto plane = certificate(format);
  if (!plane) return plane.status();
  kept_certificate_ = std::move(plane).value();
  kept_residual_ = std::move(built).value();
  (gated() ? gate_ : up_) = AlignedBuffer();
  return {};
}

Status Weights::has_for(const Plan& plan) const {
  const bool restores = plan.placement == Placement::residual && !has_first_matrix() && format_of(plan) == kept_certificate_->format();
  return restores ? Status{} : require_first_matrix();
}

Status Weights::require_first_matrix() const {
  if (has_first_matrix()) return {};
  const CertificateFormat format = kept_certificate_->format();
  return invalid_argument("the layer's first matrix was given up for plane and residual: it runs certified with placement residual "
                          "and plane_group " + std::to_string(format.group) + " only");
}

std::size_t Weights::stored_bytes() const noexcept {
  const std::size_t matrices = up_.size() + gate_.size() + down_.size() + up_scales_.size() + gate_scales_.size() + down_scales_.size();
  return matrices + (has_first_matrix() ? 0 : kept_certificate_->bytes() + kept_residual_->bytes());
}

}  // namespace signsplit
