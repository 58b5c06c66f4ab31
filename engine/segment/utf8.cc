// UTF-8 check (simdjson's) and repair (ours).
// Tested by tests/unit/engine/segment/utf8_test.cc and tests/fuzz/utf8_fuzz.cc.
#include "engine/segment/utf8.h"

#include <simdjson.h>

#include <cstring>

namespace mobula {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool IsContinuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// The length of the valid character `bytes` begins with; 0 when it begins with none.
// The second byte is where overlong forms, surrogates and what lies above U+10FFFF are told apart.
size_t CharacterLength(std::string_view bytes) {
  const auto at = [bytes](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (bytes.size() < length) return 0;
  const unsigned char second_min = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char second_max = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (at(1) < second_min || at(1) > second_max) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (!IsContinuation(at(i))) return 0;
  }
  return length;
}

}  // namespace

bool IsValidUtf8(std::string_view bytes) noexcept {
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

size_t RepairUtf8(std::string_view bytes, char* out) noexcept {
  char* const out_first = out;
  while (!bytes.empty()) {
    const size_t length = CharacterLength(bytes);
    if (length == 0) {
      std::memcpy(out, kReplacement.data(), kReplacement.size());
      out += kReplacement.size();
      bytes.remove_prefix(1);
    } else {
      std::memcpy(out, bytes.data(), length);
      out += length;
      bytes.remove_prefix(length);
    }
  }
  return static_cast<size_t>(out - out_first);
}

}  // namespace mobula
