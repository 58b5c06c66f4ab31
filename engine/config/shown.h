// Text that came from outside as it may stand in a message.
//
// Room: cold.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fmt/format.h"

namespace mobula {

// One line, no control bytes, at most `limit` bytes of `text`.
inline std::string Shown(std::string_view text, size_t limit = 80) {
  std::string out;
  for (const char c : text.substr(0, limit)) {
    const bool control = static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    out += control ? fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
  }
  return text.size() > limit ? out + "…" : out;
}

}  // namespace mobula
