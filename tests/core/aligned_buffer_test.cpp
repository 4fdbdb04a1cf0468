// Aligned memory.
#include "signsplit/aligned_buffer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

namespace {

using signsplit::AlignedBuffer;

constexpr std::size_t kHuge = std::size_t{2} << 20;

}  // namespace

TEST_CASE("buffers are aligned, zero, and as long as asked") {
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{1000}, kHuge - 1, kHuge, kHuge + 1, 3 * kHuge + 5}) {
    CAPTURE(bytes);
    AlignedBuffer buffer(bytes);
    REQUIRE(buffer.data() != nullptr);
    CHECK(buffer.size() == bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % (bytes >= kHuge ? kHuge : 64) == 0);
    CHECK(std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::fill(buffer.data(), buffer.data() + bytes, std::byte{0xa5});
    const AlignedBuffer copy = clone(buffer);
    REQUIRE(copy.size() == bytes);
    CHECK(copy.data() != buffer.data());
    CHECK(std::equal(copy.data(), copy.data() + bytes, buffer.data()));
  }
}

TEST_CASE("no memory is an empty buffer") {
  CHECK(AlignedBuffer(0).data() == nullptr);
  CHECK(AlignedBuffer(0).size() == 0);
  for (const std::size_t bytes : {SIZE_MAX, SIZE_MAX - kHuge, SIZE_MAX / 2, std::size_t{1} << 60}) {
    const AlignedBuffer buffer(bytes);
    CHECK(buffer.data() == nullptr);
    CHECK(buffer.size() == 0);
  }
  CHECK(clone(AlignedBuffer()).data() == nullptr);
}

TEST_CASE("moving hands the memory over") {
  AlignedBuffer first(100);
  std::byte* const data = first.data();
  AlignedBuffer second(std::move(first));
  CHECK(second.data() == data);
  CHECK(first.data() == nullptr);  // NOLINT(bugprone-use-after-move): documented to be empty
  AlignedBuffer third(kHuge);
  third = std::move(second);
  CHECK(third.data() == data);
  CHECK(third.size() == 100);
}
