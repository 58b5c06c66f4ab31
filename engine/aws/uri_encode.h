// Percent-encoding as signatures, forms and queries of AWS want it: everything but letters, digits and "-._~".
//
// Room: warm and cold.
#pragma once

#include <string>
#include <string_view>

namespace mobula {

inline void AppendUriEncoded(std::string_view text, std::string* out) {
  constexpr std::string_view kUnreserved =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : text) {
    if (kUnreserved.find(c) != std::string_view::npos) {
      *out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      *out += '%';
      *out += kDigits[byte >> 4];
      *out += kDigits[byte & 15];
    }
  }
}

}  // namespace mobula
