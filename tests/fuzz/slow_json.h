// A slow reference for what engine/segment does fast: written the most obvious way, sharing no code
// with it, for tests and benches only.
//
// Room: test. Allocates freely; time is at worst quadratic.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mobula::slow {

// --- UTF-8 --------------------------------------------------------------------------------------

inline std::string Utf8(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | (c >> 6)), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) {
    return {byte(0xE0 | (c >> 12)), byte(0x80 | ((c >> 6) & 0x3F)), byte(0x80 | (c & 0x3F))};
  }
  return {byte(0xF0 | (c >> 18)), byte(0x80 | ((c >> 12) & 0x3F)), byte(0x80 | ((c >> 6) & 0x3F)),
          byte(0x80 | (c & 0x3F))};
}

// The character at the front, if encoding it again gives the same bytes; its length is then Utf8's.
inline std::optional<uint32_t> FrontCharacter(std::string_view bytes) {
  for (size_t length = 1; length <= 4 && length <= bytes.size(); ++length) {
    const auto first = static_cast<uint8_t>(bytes[0]);
    uint32_t c = length == 1 ? first : first & (0x7Fu >> length);
    for (size_t i = 1; i < length; ++i) c = (c << 6) | (static_cast<uint8_t>(bytes[i]) & 0x3F);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    if (c <= 0x10FFFF && !surrogate && Utf8(c) == bytes.substr(0, length)) return c;
  }
  return std::nullopt;
}

inline std::string Repaired(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const std::optional<uint32_t> c = FrontCharacter(bytes);
    out += Utf8(c.value_or(0xFFFD));
    bytes.remove_prefix(c ? Utf8(*c).size() : 1);
  }
  return out;
}

// --- JSON ---------------------------------------------------------------------------------------

// One of { } [ ] : , or 's' for a string, 'n' for a number, 'w' for true, false and null.
struct Token {
  char kind;
  std::string text;
};

inline bool IsDigits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

inline bool IsNumber(std::string text) {
  if (text.starts_with('-')) text.erase(0, 1);
  const size_t e = text.find_first_of("eE");
  if (e != std::string::npos) {
    std::string exponent = text.substr(e + 1);
    if (exponent.starts_with('+') || exponent.starts_with('-')) exponent.erase(0, 1);
    if (!IsDigits(exponent)) return false;
    text.erase(e);
  }
  const size_t dot = text.find('.');
  if (dot != std::string::npos) {
    if (!IsDigits(text.substr(dot + 1))) return false;
    text.erase(dot);
  }
  return IsDigits(text) && (text == "0" || !text.starts_with('0'));
}

// `text` with its quotes.
inline bool IsString(const std::string& text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return false;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (static_cast<uint8_t>(text[i]) < 0x20 || text[i] == '"') return false;
    if (text[i] != '\\') continue;
    ++i;
    if (i + 1 >= text.size()) return false;  // that was the closing quote's backslash
    if (text[i] == 'u') {
      const std::string digits = text.substr(i + 1, 4);
      if (digits.size() != 4 ||
          digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        return false;
      }
      i += 4;
    } else if (std::string("\"\\/bfnrt").find(text[i]) == std::string::npos) {
      return false;
    }
  }
  return true;
}

// The tokens of `text`; nothing when some bytes are no token.
inline std::optional<std::vector<Token>> Tokens(std::string_view text) {
  std::vector<Token> tokens;
  size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (std::string_view(" \t\r\n").find(c) != std::string_view::npos) {
      ++i;
    } else if (std::string_view("{}[]:,").find(c) != std::string_view::npos) {
      tokens.push_back({c, std::string(1, c)});
      ++i;
    } else if (c == '"') {
      size_t end = i + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      if (end >= text.size()) return std::nullopt;
      tokens.push_back({'s', std::string(text.substr(i, end + 1 - i))});
      if (!IsString(tokens.back().text)) return std::nullopt;
      i = end + 1;
    } else {
      const size_t end = std::min(text.find_first_of("{}[]:,\" \t\r\n", i), text.size());
      const std::string word(text.substr(i, end - i));
      if (word == "true" || word == "false" || word == "null") {
        tokens.push_back({'w', word});
      } else if (IsNumber(word)) {
        tokens.push_back({'n', word});
      } else {
        return std::nullopt;
      }
      i = end;
    }
  }
  return tokens;
}

// Whether what stood between two brackets is what may stand there: empty, or items with commas
// between. 'v' is any value that is no string.
inline bool IsInside(char open, const std::string& inside) {
  if (inside.empty()) return true;
  const size_t item = open == '{' ? 3 : 1;
  for (size_t i = 0;; i += item + 1) {
    if (i + item > inside.size()) return false;
    const char value = inside[i + item - 1];
    if (value != 's' && value != 'v') return false;
    if (open == '{' && (inside[i] != 's' || inside[i + 1] != ':')) return false;
    if (i + item == inside.size()) return true;
    if (inside[i + item] != ',') return false;
  }
}

// Shortens the innermost brackets to a value until one is left, and tells how deep they were
// nested. Nothing when the tokens are not one JSON object.
inline std::optional<size_t> DepthOfObject(const std::vector<Token>& tokens) {
  if (tokens.empty() || tokens.front().kind != '{') return std::nullopt;
  std::string stack;
  size_t depth = 0;
  size_t deepest = 0;
  for (const Token& token : tokens) {
    if (token.kind == '}' || token.kind == ']') {
      const size_t open = stack.find_last_of("{[");
      if (open == std::string::npos || stack[open] != (token.kind == '}' ? '{' : '[')) {
        return std::nullopt;
      }
      if (!IsInside(stack[open], stack.substr(open + 1))) return std::nullopt;
      stack.erase(open);
      stack += 'v';
      --depth;
    } else {
      stack += token.kind == 'n' || token.kind == 'w' ? 'v' : token.kind;
      if (token.kind == '{' || token.kind == '[') deepest = std::max(deepest, ++depth);
    }
  }
  if (stack != "v") return std::nullopt;
  return deepest;
}

// A string token's characters; half of a surrogate pair stays what it is.
inline std::vector<uint32_t> Characters(const std::string& quoted) {
  std::vector<uint32_t> out;
  for (size_t i = 1; i + 1 < quoted.size();) {
    if (quoted[i] == '\\' && quoted[i + 1] == 'u') {
      const auto unit = static_cast<uint32_t>(std::stoul(quoted.substr(i + 2, 4), nullptr, 16));
      if (unit >= 0xDC00 && unit < 0xE000 && !out.empty() && out.back() >= 0xD800 &&
          out.back() < 0xDC00) {
        out.back() = 0x10000 + ((out.back() - 0xD800) << 10) + (unit - 0xDC00);
      } else {
        out.push_back(unit);
      }
      i += 6;
    } else if (quoted[i] == '\\') {
      const std::string names = "\"\\/bfnrt";
      const std::string meanings = "\"\\/\b\f\n\r\t";
      out.push_back(static_cast<uint8_t>(meanings[names.find(quoted[i + 1])]));
      i += 2;
    } else {
      const std::optional<uint32_t> c = FrontCharacter(std::string_view(quoted).substr(i));
      out.push_back(c.value_or(0xFFFD));
      i += c ? Utf8(*c).size() : 1;
    }
  }
  return out;
}

inline bool HasLoneSurrogate(const std::string& quoted) {
  for (const uint32_t c : Characters(quoted)) {
    if (c >= 0xD800 && c < 0xE000) return true;
  }
  return false;
}

inline std::string Decoded(const std::string& quoted) {
  std::string out;
  for (const uint32_t c : Characters(quoted)) out += Utf8(c);
  return out;
}

// The members of the outermost object: key token and first token of the value.
inline std::vector<std::pair<Token, Token>> Members(const std::vector<Token>& object) {
  std::vector<std::pair<Token, Token>> members;
  int depth = 0;
  for (size_t i = 0; i < object.size(); ++i) {
    if (depth == 1 && object[i].kind == ':') members.emplace_back(object[i - 1], object[i + 1]);
    if (object[i].kind == '{' || object[i].kind == '[') ++depth;
    if (object[i].kind == '}' || object[i].kind == ']') --depth;
  }
  return members;
}

// --- the header ---------------------------------------------------------------------------------

// Lower case by Unicode's simple folding, as far as it leads to an ASCII letter.
inline std::string Folded(const std::string& quoted) {
  std::string out;
  for (const uint32_t c : Characters(quoted)) {
    if (c == 0x17F) {
      out += 's';  // the long s
    } else if (c == 0x212A) {
      out += 'k';  // the Kelvin sign
    } else if (c >= 'A' && c <= 'Z') {
      out += static_cast<char>(c + 32);
    } else {
      out += Utf8(c);
    }
  }
  return out;
}

// What Go's encoding/json leaves in `struct { Format string; Version int }`, and whether that is
// json, 1.
inline bool IsHeader(std::string_view line) {
  const auto tokens = Tokens(line);
  if (!tokens) return false;
  const auto depth = DepthOfObject(*tokens);
  if (!depth || *depth > 10000) return false;
  std::string format;
  long long version = 0;
  for (const auto& [key, value] : Members(*tokens)) {
    if (Folded(key.text) == "format" && value.kind == 's') format = Folded(value.text);
    if (Folded(key.text) == "version" && value.kind == 'n' &&
        value.text.find_first_of(".eE") == std::string::npos) {
      try {
        version = std::stoll(value.text);
      } catch (const std::out_of_range&) {
        continue;  // Go passes over what no int can hold
      }
    }
  }
  return format == "json" && version == 1;
}

}  // namespace mobula::slow
