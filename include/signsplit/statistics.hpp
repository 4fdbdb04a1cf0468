// Statistics: what a run did, counted while it ran. The simulator's byte counts are tested for equality against these.
#pragma once

#include <string>

#include "signsplit/portability.hpp"

namespace signsplit {

/// Counters of one run (or, added up, of many). Bytes are those the kernels asked for, rows padded to 64 elements;
/// a row of weights counts once per kernel call that reads it, whatever the batch.
struct Statistics {
  std::uint64_t bytes_up = 0;          ///< of W1 (the `up` matrix), first reads and re-reads
  std::uint64_t bytes_gate = 0;        ///< of Wg
  std::uint64_t bytes_down = 0;        ///< of W2
  std::uint64_t bytes_plane = 0;       ///< of the certificate's plane, its scales and norms (certified strategy)
  std::uint64_t bytes_scales = 0;      ///< of the scales of int8 weights: of up and gate with every row that is read, of down once
  std::uint64_t bytes_up_again = 0;    ///< part of bytes_up and bytes_gate that the run had read before (repairs)
  std::uint64_t bytes_down_again = 0;  ///< part of bytes_down that the run had read before (second and later pushes, repairs)
  std::uint64_t bytes_x = 0;           ///< of x, read once per part
  std::uint64_t bytes_h = 0;           ///< of h, stored and loaded
  std::uint64_t bytes_y = 0;           ///< of the partial y: written once per part and read once by the reduction
  std::uint64_t tiles = 0;             ///< up_tile and down_tile events
  std::uint64_t active = 0;            ///< open units, counted per token
  std::uint64_t active_union = 0;      ///< units open for at least one token of their batch
  std::uint64_t pushed_rows = 0;       ///< rows of W2 read by down_tile
  std::uint64_t repaired = 0;          ///< rows of W2 read by correct
  std::uint64_t redone = 0;            ///< rows of W1 (and Wg) read again by correct
  std::uint64_t rechecked = 0;         ///< (unit, token) pairs whose sign was settled by the exact accumulator
  std::uint64_t certified = 0;         ///< units that the plane proves dead: nothing of their row is read (certified strategy)
  std::uint64_t refined = 0;           ///< units that it leaves: their row is read, or its first K tiles (certified strategy)

  friend constexpr bool operator==(const Statistics&, const Statistics&) = default;

  constexpr Statistics& operator+=(const Statistics& other);
};

/// A counter's name and place.
struct Counter {
  const char* name;
  std::uint64_t Statistics::* field;
};
/// Every counter, in declaration order.
inline constexpr Counter kCounters[] = {
    {"bytes_up", &Statistics::bytes_up},
    {"bytes_gate", &Statistics::bytes_gate},
    {"bytes_down", &Statistics::bytes_down},
    {"bytes_plane", &Statistics::bytes_plane},
    {"bytes_scales", &Statistics::bytes_scales},
    {"bytes_up_again", &Statistics::bytes_up_again},
    {"bytes_down_again", &Statistics::bytes_down_again},
    {"bytes_x", &Statistics::bytes_x},
    {"bytes_h", &Statistics::bytes_h},
    {"bytes_y", &Statistics::bytes_y},
    {"tiles", &Statistics::tiles},
    {"active", &Statistics::active},
    {"active_union", &Statistics::active_union},
    {"pushed_rows", &Statistics::pushed_rows},
    {"repaired", &Statistics::repaired},
    {"redone", &Statistics::redone},
    {"rechecked", &Statistics::rechecked},
    {"certified", &Statistics::certified},
    {"refined", &Statistics::refined}};

constexpr Statistics& Statistics::operator+=(const Statistics& other) {
  for (const Counter& counter : kCounters) this->*counter.field += other.*counter.field;
  return *this;
}

/// JSON text of one line: every counter, in declaration order.
[[nodiscard]] std::string to_json(const Statistics& statistics);

/// Weight bytes read in all.
constexpr std::uint64_t weight_bytes(const Statistics& s) {
  return s.bytes_up + s.bytes_gate + s.bytes_down + s.bytes_plane + s.bytes_scales;
}

}  // namespace signsplit
