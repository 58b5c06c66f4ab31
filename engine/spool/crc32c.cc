// A table and two instructions.
// Tested by tests/unit/engine/spool/crc32c_test.cc.
#include "engine/spool/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mobula {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bits reversed

constexpr std::array<uint32_t, 256> kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ kPolynomial : crc >> 1;
    table[i] = crc;
  }
  return table;
}();

// Step8 and Step1 feed eight bytes and one.
#if defined(__x86_64__)
#define MOBULA_CRC_TARGET __attribute__((target("sse4.2")))
bool HasInstruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }
MOBULA_CRC_TARGET uint32_t Step8(uint32_t crc, uint64_t bytes) noexcept {
  return static_cast<uint32_t>(_mm_crc32_u64(crc, bytes));
}
MOBULA_CRC_TARGET uint32_t Step1(uint32_t crc, uint8_t byte) noexcept {
  return _mm_crc32_u8(crc, byte);
}
#elif defined(__aarch64__)
#define MOBULA_CRC_TARGET
bool HasInstruction() noexcept { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
uint32_t Step8(uint32_t crc, uint64_t bytes) noexcept {
  asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(bytes));
  return crc;
}
uint32_t Step1(uint32_t crc, uint8_t byte) noexcept {
  asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
  return crc;
}
#endif

#if defined(MOBULA_CRC_TARGET)
MOBULA_CRC_TARGET uint32_t ByInstruction(std::string_view bytes, uint32_t crc) noexcept {
  crc = ~crc;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    uint64_t eight = 0;
    std::memcpy(&eight, bytes.data(), sizeof(eight));
    crc = Step8(crc, eight);
  }
  for (const char c : bytes) crc = Step1(crc, static_cast<uint8_t>(c));
  return ~crc;
}
#endif

}  // namespace

uint32_t Crc32cByTable(std::string_view bytes, uint32_t crc) noexcept {
  crc = ~crc;
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

uint32_t Crc32c(std::string_view bytes, uint32_t crc) noexcept {
#if defined(MOBULA_CRC_TARGET)
  static const bool kHasInstruction = HasInstruction();
  if (kHasInstruction) return ByInstruction(bytes, crc);
#endif
  return Crc32cByTable(bytes, crc);
}

}  // namespace mobula
