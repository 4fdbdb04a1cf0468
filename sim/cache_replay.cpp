#include "signsplit/sim/cache_replay.hpp"

#include <algorithm>

#include "address_sink.hpp"

namespace signsplit::sim {
namespace {

using Line = std::uint64_t;

/// One cache: sets of lines. Under LRU a set is kept in order of use; under PLRU a tree of bits points away from what was used.
class Cache {
 public:
  explicit Cache(const CacheGeometry& geometry)
      : ways_(static_cast<std::size_t>(geometry.ways)),
        sets_(static_cast<Line>(geometry.capacity_bytes / (geometry.ways * geometry.line_bytes))),
        plru_(geometry.policy == Replacement::plru),
        lines_(ways_ * static_cast<std::size_t>(sets_), kNone),
        bits_(plru_ ? ways_ * static_cast<std::size_t>(sets_) : 0, 0) {}

  /// Looks a line up and brings it in. True when it was there.
  bool access(Line line) {
    const auto set = static_cast<std::size_t>(line % sets_) * ways_;
    return plru_ ? access_plru(set, line) : access_lru(set, line);
  }

 private:
  static constexpr Line kNone = ~Line{0};

  bool access_lru(std::size_t set, Line line) {
    const auto begin = lines_.begin() + static_cast<std::ptrdiff_t>(set), end = begin + static_cast<std::ptrdiff_t>(ways_);
    auto at = std::find(begin, end, line);
    const bool hit = at != end;
    if (!hit) at = end - 1;  // the least recently used gives way
    std::copy_backward(begin, at, at + 1);
    *begin = line;
    return hit;
  }

  bool access_plru(std::size_t set, Line line) {
    std::size_t way = 0;
    while (way < ways_ && lines_[set + way] != line) ++way;
    const bool hit = way < ways_;
    if (!hit) {
      way = 0;
      while (way < ways_ && lines_[set + way] != kNone) ++way;  // a free place first
      if (way == ways_) way = victim(set);
      lines_[set + way] = line;
    }
    point_away(set, way);
    return hit;
  }

  /// Node n of the tree has the children 2n and 2n + 1; a bit says which side to give up next.
  std::size_t victim(std::size_t set) const {
    std::size_t node = 1;
    while (node < ways_) node = 2 * node + bits_[set + node];
    return node - ways_;
  }
  void point_away(std::size_t set, std::size_t way) {
    for (std::size_t node = way + ways_; node > 1; node /= 2) bits_[set + node / 2] = static_cast<std::uint8_t>(node % 2 == 0);
  }

  std::size_t ways_;
  Line sets_;
  bool plru_;
  std::vector<Line> lines_;         // (sets, ways)
  std::vector<std::uint8_t> bits_;  // (sets, ways), entry 0 of a set unused
};

Status check(std::span<const CacheGeometry> levels) {
  if (levels.empty()) return invalid_argument("replay: needs at least one level");
  for (const CacheGeometry& level : levels) {
    const std::string where = "replay: level " + level.name + ": ";
    if (level.line_bytes < 1 || (level.line_bytes & (level.line_bytes - 1)) != 0) return invalid_argument(where + "line_bytes must be a power of two");
    if (level.line_bytes != levels[0].line_bytes) return invalid_argument(where + "line_bytes must be the same on all levels");
    if (level.ways < 1 || level.capacity_bytes < 1 || level.capacity_bytes % (level.ways * level.line_bytes) != 0) {
      return invalid_argument(where + "capacity_bytes must be a multiple of ways times line_bytes");
    }
    if (level.policy == Replacement::plru && (level.ways & (level.ways - 1)) != 0) return invalid_argument(where + "plru needs ways that are a power of two");
  }
  return {};
}

Status check(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open, int rounds) {
  if (Status status = validate(problem); !status.ok()) return status;
  if (Status status = validate(plan, problem); !status.ok()) return status;
  if (plan.strategy != Strategy::unfused && plan.strategy != Strategy::row_fused && plan.strategy != Strategy::sign_split) {
    return unsupported("replay: " + label(plan) + " decides by data what it reads of W1");
  }
  if (!open.empty() && open.size() != static_cast<std::size_t>(problem.d_ff)) return invalid_argument("replay: open must have a byte per hidden unit");
  if (rounds < 1) return invalid_argument("replay: rounds must be at least 1");
  return {};
}

index_t whole_pages(index_t bytes) { return round_up(bytes, 4096); }

}  // namespace

std::vector<CacheGeometry> cache_geometry(const Machine& machine) {
  std::vector<CacheGeometry> levels;
  for (const CacheLevel& level : machine.levels) {
    CacheGeometry geometry;
    geometry.name = level.name;
    geometry.line_bytes = machine.levels.front().line_bytes;
    geometry.ways = level.ways > 0 ? level.ways : levels.empty() ? 8 : 16;
    geometry.policy = level.policy;
    const index_t set = geometry.ways * geometry.line_bytes;
    geometry.capacity_bytes = std::max<index_t>(static_cast<index_t>(level.capacity_bytes.value) / set, 1) * set;
    levels.push_back(geometry);
  }
  return levels;
}

AddressMap address_map(const Plan& plan, const Problem& problem) {
  const WalkShape shape = walk_shape(problem);
  AddressMap map;
  map.row_bytes = shape.d_padded * dtype_bytes(problem.dtype);
  const index_t matrix = whole_pages(problem.d_ff * map.row_bytes), tokens = problem.batch * shape.d_padded * 4;
  map.gate = map.up + matrix;
  map.down = map.gate + (problem.gated ? matrix : 0);
  map.x = map.down + matrix;
  map.h = map.x + whole_pages(tokens);
  map.partial_y = map.h + whole_pages(problem.d_ff * problem.batch * 4);
  map.y = map.partial_y + whole_pages(plan.parts * tokens);
  map.bytes = map.y + whole_pages(tokens);
  return map;
}

Result<std::vector<ReplayCounts>> replay(const Plan& plan, const Problem& problem, std::span<const std::uint8_t> open,
                                         std::span<const CacheGeometry> levels, int rounds) {
  try {
    if (Status status = check(plan, problem, open, rounds); !status.ok()) return status;
    if (Status status = check(levels); !status.ok()) return status;
    std::vector<Cache> caches(levels.begin(), levels.end());
    std::vector<ReplayCounts> counts;
    const auto line_bytes = static_cast<Line>(levels[0].line_bytes);
    const auto touch = [&](index_t begin, index_t bytes) {
      const Line first = static_cast<Line>(begin) / line_bytes, last = (static_cast<Line>(begin + bytes) - 1) / line_bytes;
      for (Line line = first; line <= last; ++line) {
        for (std::size_t i = 0; i < caches.size(); ++i) {
          ++counts[i].accesses;
          if (caches[i].access(line)) break;
          ++counts[i].misses;
        }
      }
    };
    for (int round = 0; round < rounds; ++round) {
      counts.clear();
      for (const CacheGeometry& level : levels) counts.push_back({level.name, 0, 0});
      touch_all(plan, problem, open, touch);
    }
    return counts;
  } catch (const std::exception& failure) {
    return io_error(std::string("replay: ") + failure.what());
  }
}

}  // namespace signsplit::sim
