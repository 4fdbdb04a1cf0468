// AlignedBuffer: owned raw memory for packed weights and workspaces, aligned and placed for streaming reads.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace signsplit {

/// Move-only block of bytes. Aligned to 64 bytes, or, from kHugePage up, to kHugePage with huge pages asked of the system
/// (where it grants none, ordinary pages). Fresh memory is zero.
class AlignedBuffer {
 public:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;  ///< bytes

  AlignedBuffer() = default;
  /// Empty (data() == nullptr) when bytes == 0 or when the system has no such memory: check data().
  explicit AlignedBuffer(std::size_t bytes) noexcept;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();

  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A copy in memory of its own (empty when there is no memory for it).
[[nodiscard]] AlignedBuffer clone(const AlignedBuffer& source) noexcept;

}  // namespace signsplit
