// Tested by tests/unit/engine/base/printable_test.cc.
#include "engine/base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace mobula {
namespace {

std::string Escaped(std::string_view text, bool keep_lines) {
  std::string out;
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t count = CharacterBytes(text, &code);
    const std::string_view bytes = text.substr(0, std::max<size_t>(count, 1));
    if (count > 0 && (!IsControl(code) || (keep_lines && code == '\n'))) {
      out.append(bytes);
    } else {
      for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    text.remove_prefix(bytes.size());
  }
  return out;
}

}  // namespace

size_t CharacterBytes(std::string_view text, uint32_t* code) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    *code = first;
    return 1;
  }
  const size_t count = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < count) return 0;
  uint32_t value = first & (0xffU >> (count + 1));
  for (size_t i = 1; i < count; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3fU);
  }
  constexpr std::array<uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[count] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
    return 0;
  *code = value;
  return count;
}

bool IsControl(uint32_t code) noexcept {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e ||
         code == 0x200f || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

std::string Printable(std::string_view text) { return Escaped(text, false); }
std::string PrintableLines(std::string_view text) { return Escaped(text, true); }

}  // namespace mobula
