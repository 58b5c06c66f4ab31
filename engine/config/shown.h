// Text that came from outside as it may stand in a message.
//
// Room: cold.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/base/printable.h"

namespace mobula {

// One line, no controls, at most `limit` bytes of `text`.
inline std::string Shown(std::string_view text, size_t limit = 80) {
  if (text.size() <= limit) return Printable(text);
  // Not within a character, if it is one.
  size_t end = limit;
  while (end + 3 > limit && end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
    --end;
  return Printable(text.substr(0, end)) + "…";
}

}  // namespace mobula
