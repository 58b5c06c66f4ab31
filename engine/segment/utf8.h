// UTF-8: is it, and the repair that Go makes when it encodes a string: U+FFFD for every byte that
// is part of no valid character (overlong forms and encoded surrogates included).
//
// Room:    hot, but the cold branch of it. No allocation.
// Threads: any.
#pragma once

#include <cstddef>
#include <string_view>

namespace mobula {

// How much RepairUtf8 may write per byte read.
inline constexpr size_t kUtf8RepairGrowth = 3;

bool IsValidUtf8(std::string_view bytes) noexcept;

// Writes the repaired `bytes` to `out` and answers how many were written.
// REQUIRES: `out` holds kUtf8RepairGrowth * bytes.size(), and does not overlap `bytes`.
size_t RepairUtf8(std::string_view bytes, char* out) noexcept;

}  // namespace mobula
