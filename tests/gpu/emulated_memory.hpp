// Memory that knows who wrote what when: the emulated GPU's shared and device memory.
//
// Every 4-byte cell (1-byte cell where bytes are written one by one) remembers its last write and who has read it since.
// Clocks order what synchronization orders (vector clocks); a read of a cell that nothing wrote, of one whose copy has
// not landed, and any two accesses, one of them a write, that no barrier puts in order, are errors. So is an access
// outside of all regions, or unaligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace signsplit::test {

struct EmulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// clock[w]: how much of warp w's work is known to be done.
using Clock = std::vector<std::uint32_t>;
inline void join(Clock& into, const Clock& other) {
  for (std::size_t i = 0; i < into.size(); ++i) into[i] = into[i] < other[i] ? other[i] : into[i];
}

/// The lane of what no single lane does: copies, and atomic updates, which any lanes may do to the same cell.
inline constexpr int kNoLane = -1;

/// One access: by which lane of which warp, in which lanes() call, knowing what.
struct Access {
  std::size_t warp = 0;
  int lane = 0;
  std::uint64_t phase = 0;  ///< numbers the lanes() calls
  const Clock* clock = nullptr;
};

class Region {
 public:
  /// `initialized`: the host wrote it. `cell_bytes` 0: read only, its accesses are not followed.
  Region(std::string name, std::byte* begin, std::size_t bytes, std::size_t cell_bytes, bool initialized, std::size_t warps)
      : name_(std::move(name)), begin_(begin), bytes_(bytes), cell_bytes_(cell_bytes), warps_(warps) {
    if (cell_bytes_ == 0) return;
    cells_.resize(bytes / cell_bytes);
    reads_.resize(cells_.size() * warps);
    for (Cell& cell : cells_) cell.state = initialized ? State::written : State::unwritten;
  }

  [[nodiscard]] bool contains(const std::byte* p, std::size_t bytes) const {
    return p >= begin_ && p + bytes <= begin_ + bytes_;
  }

  void read(const std::byte* p, std::size_t bytes, const Access& by) {
    for_cells(p, bytes, [&](std::size_t c) {
      Cell& cell = cells_[c];
      if (cell.state == State::unwritten) fail("read of memory that nothing wrote", c, by);
      if (cell.state == State::in_flight) fail("read before the copy has landed", c, by);
      check_ordered_after_write(cell, c, by, "read");
      reads_[c * warps_ + by.warp] = (*by.clock)[by.warp];
      cell.reader_lane = cell.reader_phase == by.phase && cell.reader_lane != by.lane ? kManyLanes : by.lane;
      cell.reader_phase = by.phase;
    });
  }
  void write(std::byte* p, std::size_t bytes, const Access& by) {
    if (cell_bytes_ == 0) throw EmulationError("write into read-only " + name_);
    for_cells(p, bytes, [&](std::size_t c) {
      check_free_to_write(c, by);
      set(c, State::written, by);
    });
  }
  void update_atomically(std::byte* p, std::size_t bytes, const Access& by) {
    for_cells(p, bytes, [&](std::size_t c) {
      if (cells_[c].state != State::written) fail("atomic update of memory that nothing wrote", c, by);
      check_free_to_write(c, by);
      set(c, State::written, by);
    });
  }
  /// The destination of a copy, from the moment it is issued.
  void begin_copy(std::byte* p, std::size_t bytes, const Access& by) {
    for_cells(p, bytes, [&](std::size_t c) {
      check_free_to_write(c, by);
      set(c, State::in_flight, by);
    });
    for (std::size_t i = 0; i < bytes; ++i) p[i] = std::byte{0xff};  // a NaN in every float type
  }
  void land_copy(const std::byte* p, std::size_t bytes) {
    for_cells(p, bytes, [&](std::size_t c) { cells_[c].state = State::written; });
  }
  [[nodiscard]] bool all_written() const {
    for (const Cell& cell : cells_) {
      if (cell.state != State::written) return false;
    }
    return true;
  }

 private:
  enum class State : std::uint8_t { unwritten, in_flight, written };
  static constexpr int kManyLanes = -2;
  struct Cell {
    State state = State::unwritten;
    std::uint32_t clock = 0;  // of the last write: 0, by the host
    std::size_t warp = 0;
    int lane = -1, reader_lane = -1;
    std::uint64_t phase = 0, reader_phase = 0;
  };

  template <class F>
  void for_cells(const std::byte* p, std::size_t bytes, F&& f) {
    if (cell_bytes_ == 0) return;
    const auto offset = static_cast<std::size_t>(p - begin_);
    for (std::size_t c = offset / cell_bytes_; c * cell_bytes_ < offset + bytes; ++c) f(c);
  }
  void set(std::size_t c, State state, const Access& by) {
    Cell& cell = cells_[c];
    cell.state = state;
    cell.clock = (*by.clock)[by.warp];
    cell.warp = by.warp;
    cell.lane = by.lane;
    cell.phase = by.phase;
  }
  void check_ordered_after_write(const Cell& cell, std::size_t c, const Access& by, const char* what) {
    if (cell.clock > (*by.clock)[cell.warp]) fail(std::string("race: ") + what + " after an unordered write", c, by);
    if (cell.phase == by.phase && cell.lane != by.lane && cell.clock != 0) {
      fail(std::string("race between lanes: ") + what + " after a write", c, by);
    }
  }
  void check_free_to_write(std::size_t c, const Access& by) {
    const Cell& cell = cells_[c];
    if (cell.state == State::in_flight) fail("write where a copy is in flight", c, by);
    check_ordered_after_write(cell, c, by, "write");
    for (std::size_t w = 0; w < warps_; ++w) {
      if (reads_[c * warps_ + w] > (*by.clock)[w]) fail("race: write after an unordered read", c, by);
    }
    if (cell.reader_phase == by.phase && by.phase != 0 && cell.reader_lane != by.lane) {
      fail("race between lanes: write after a read", c, by);
    }
  }
  [[noreturn]] void fail(const std::string& what, std::size_t cell, const Access& by) const {
    throw EmulationError(what + ": " + name_ + " byte " + std::to_string(cell * cell_bytes_) + ", warp " +
                         std::to_string(by.warp) + " lane " + std::to_string(by.lane));
  }

  std::string name_;
  std::byte* begin_;
  std::size_t bytes_, cell_bytes_, warps_;
  std::vector<Cell> cells_;
  std::vector<std::uint32_t> reads_;  // [cell][warp] clock of the last read
};

}  // namespace signsplit::test
