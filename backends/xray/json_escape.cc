// A table says, for each set of special bytes among eight, how to spread the eight over up to
// sixteen with room for the backslashes, and where those go: one shuffle, one OR and one store for
// eight bytes. Tested by tests/unit/backends/xray/json_escape_test.cc, measured by
// bench/micro/escape_bench.cc.
#include "backends/xray/json_escape.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mobula {
namespace {

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20; }

// The letter of a two-character escape, or 0.
char ShortEscape(char c) {
  switch (c) {
    case '"':
    case '\\':
      return c;
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    default:
      return 0;
  }
}

char* EscapeOne(char c, char* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  if (const char letter = ShortEscape(c)) {
    *out++ = '\\';
    *out++ = letter;
  } else if (IsControl(c)) {
    std::copy_n("\\u00", 4, out);
    out[4] = kDigits[static_cast<unsigned char>(c) >> 4];
    out[5] = kDigits[static_cast<unsigned char>(c) & 15];
    out += 6;
  } else {
    *out++ = c;
  }
  return out;
}

#if defined(__x86_64__) || defined(__aarch64__)
constexpr size_t kStep = 16;

// By the set of special bytes among eight: where each byte goes (0x80 and above: nowhere, zero), where the
// backslashes are, and how many bytes that makes.
struct SpreadTable {
  alignas(16) std::array<std::array<uint8_t, 16>, 256> source;
  alignas(16) std::array<std::array<uint8_t, 16>, 256> backslashes;
  std::array<uint8_t, 256> size;
};

constexpr SpreadTable MakeSpreadTable() {
  SpreadTable table{};
  for (size_t set = 0; set < 256; ++set) {
    table.source[set].fill(0x80);
    size_t at = 0;
    for (size_t i = 0; i < 8; ++i) {
      if ((set >> i & 1) != 0) table.backslashes[set][at++] = '\\';
      table.source[set][at++] = static_cast<uint8_t>(i);
    }
    table.size[set] = static_cast<uint8_t>(at);
  }
  return table;
}
constexpr SpreadTable kSpread = MakeSpreadTable();

// The last bytes of a text, filled up with bytes that need no escape.
std::array<char, kStep> LoadTail(const char* text, size_t size) {
  std::array<char, kStep> bytes;
  bytes.fill('.');
  std::memcpy(bytes.data(), text, size);
  return bytes;
}
#endif

#if defined(__x86_64__)
#define MOBULA_SIMD __attribute__((target("ssse3,popcnt")))

MOBULA_SIMD inline size_t GrowthOf(const char* text) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
  const __m128i special = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                       _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  if (_mm_movemask_epi8(control) != 0) [[unlikely]] {
    return JsonEscapedSizeScalar({text, kStep}) - kStep;
  }
  return static_cast<size_t>(_mm_popcnt_u32(static_cast<unsigned>(_mm_movemask_epi8(special))));
}

MOBULA_SIMD inline char* EscapeStep(const char* text, char* out) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
  const __m128i special = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                       _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  if (_mm_movemask_epi8(control) != 0) [[unlikely]]
    return JsonEscapeScalar({text, kStep}, out);

  const auto spread = [](__m128i eight, unsigned set, char* to) MOBULA_SIMD {
    const auto* const source = reinterpret_cast<const __m128i*>(kSpread.source[set].data());
    const auto* const slashes = reinterpret_cast<const __m128i*>(kSpread.backslashes[set].data());
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(to),
        _mm_or_si128(_mm_shuffle_epi8(eight, _mm_load_si128(source)), _mm_load_si128(slashes)));
    return to + kSpread.size[set];
  };
  const auto sets = static_cast<unsigned>(_mm_movemask_epi8(special));
  out = spread(bytes, sets & 0xff, out);
  return spread(_mm_srli_si128(bytes, 8), sets >> 8, out);
}

bool HasSimd() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("ssse3") != 0 && __builtin_cpu_supports("popcnt") != 0;
}
#elif defined(__aarch64__)
#define MOBULA_SIMD

struct Judged {
  uint8x16_t special;
  bool control;
};

inline Judged Judge(uint8x16_t bytes) {
  return {vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\'))),
          vminvq_u8(bytes) < 0x20};
}

inline size_t GrowthOf(const char* text) {
  const Judged judged = Judge(vld1q_u8(reinterpret_cast<const uint8_t*>(text)));
  if (judged.control) [[unlikely]]
    return JsonEscapedSizeScalar({text, kStep}) - kStep;
  return vaddvq_u8(vandq_u8(judged.special, vdupq_n_u8(1)));
}

inline char* EscapeStep(const char* text, char* out) {
  constexpr uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bytes = vld1q_u8(reinterpret_cast<const uint8_t*>(text));
  const Judged judged = Judge(bytes);
  if (judged.control) [[unlikely]]
    return JsonEscapeScalar({text, kStep}, out);

  const auto spread = [](uint8x16_t eight, uint8_t set, char* to) {
    vst1q_u8(reinterpret_cast<uint8_t*>(to),
             vorrq_u8(vqtbl1q_u8(eight, vld1q_u8(kSpread.source[set].data())),
                      vld1q_u8(kSpread.backslashes[set].data())));
    return to + kSpread.size[set];
  };
  const uint8x16_t sets = vandq_u8(judged.special, vld1q_u8(kBits));
  out = spread(bytes, vaddv_u8(vget_low_u8(sets)), out);
  return spread(vextq_u8(bytes, bytes, 8), vaddv_u8(vget_high_u8(sets)), out);
}

bool HasSimd() noexcept { return true; }
#endif

#ifdef MOBULA_SIMD
MOBULA_SIMD size_t EscapedSizeSimd(std::string_view text) noexcept {
  const char* from = text.data();
  size_t left = text.size();
  size_t size = left;
  for (; left >= kStep; from += kStep, left -= kStep) size += GrowthOf(from);
  return left == 0 ? size : size + GrowthOf(LoadTail(from, left).data());
}

MOBULA_SIMD char* EscapeSimd(std::string_view text, char* out) noexcept {
  const char* from = text.data();
  size_t left = text.size();
  for (; left >= kStep; from += kStep, left -= kStep) out = EscapeStep(from, out);
  if (left == 0) return out;
  return EscapeStep(LoadTail(from, left).data(), out) - (kStep - left);
}

const bool kHasSimd = HasSimd();
#endif

}  // namespace

size_t JsonEscapedSizeScalar(std::string_view text) noexcept {
  size_t size = text.size();
  for (const char c : text) size += ShortEscape(c) != 0 ? 1 : IsControl(c) ? 5 : 0;
  return size;
}

char* JsonEscapeScalar(std::string_view text, char* out) noexcept {
  for (const char c : text) out = EscapeOne(c, out);
  return out;
}

size_t JsonEscapedSize(std::string_view text) noexcept {
#ifdef MOBULA_SIMD
  if (kHasSimd) return EscapedSizeSimd(text);
#endif
  return JsonEscapedSizeScalar(text);
}

char* JsonEscape(std::string_view text, char* out) noexcept {
#ifdef MOBULA_SIMD
  if (kHasSimd) return EscapeSimd(text, out);
#endif
  return JsonEscapeScalar(text, out);
}

}  // namespace mobula
