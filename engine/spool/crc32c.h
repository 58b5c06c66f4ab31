// CRC32C (Castagnoli), by the processor's instruction where it has one: Debian 12 packages no library for it.
//
// Room:    warm.
// Threads: any.
#pragma once

#include <cstdint>
#include <string_view>

namespace mobula {

// Of `bytes` alone, or going on after what gave `crc`.
[[nodiscard]] uint32_t Crc32c(std::string_view bytes, uint32_t crc = 0) noexcept;

// The same by a table: where the instruction is missing, and to compare with.
[[nodiscard]] uint32_t Crc32cByTable(std::string_view bytes, uint32_t crc = 0) noexcept;

}  // namespace mobula
