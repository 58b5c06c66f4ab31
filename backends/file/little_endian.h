// 32-bit little-endian numbers in bytes.
#pragma once

#include <cstdint>

namespace mobula {

inline void PutU32(uint32_t value, char* at) noexcept {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<char>(value >> (8 * i) & 0xff);
}

inline uint32_t GetU32(const char* at) noexcept {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

}  // namespace mobula
