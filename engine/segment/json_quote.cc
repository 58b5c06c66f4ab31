// Tested by tests/unit/engine/segment/json_quote_test.cc.
#include "engine/segment/json_quote.h"

#include "engine/segment/utf8.h"

namespace mobula {

std::string JsonQuote(std::string_view text) {
  std::string repaired;
  if (!IsValidUtf8(text)) {
    repaired.resize(text.size() * kUtf8RepairGrowth);
    repaired.resize(RepairUtf8(text, repaired.data()));
    text = repaired;
  }
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == 0x7f) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + '"';
}

}  // namespace mobula
