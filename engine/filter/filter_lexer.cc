// Cuts a filter expression into tokens; strings are JSON strings.
// Tested by tests/unit/engine/filter/filter_parser_test.cc.
#include "engine/filter/filter_lexer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "engine/base/status_macros.h"
#include "fmt/format.h"

namespace mobula {
namespace {

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

void AppendUtf8(uint32_t code, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<FilterToken>> Run() {
    std::vector<FilterToken> tokens;
    while (true) {
      while (at_ < text_.size() && IsBlank(text_[at_])) ++at_;
      if (at_ >= text_.size()) break;
      ASSIGN_OR_RETURN(FilterToken token, Next());
      tokens.push_back(std::move(token));
    }
    FilterToken end;
    end.offset = text_.empty() ? 0 : text_.size() - 1;
    while (end.offset > 0 && IsContinuation(text_[end.offset])) --end.offset;
    tokens.push_back(std::move(end));
    return tokens;
  }

 private:
  absl::StatusOr<FilterToken> Next() {
    const char c = text_[at_];
    if (c == '"') return String();
    if (IsDigit(c) || c == '-' || c == '+' || c == '.') return Number();
    if (IsLetter(c)) return Word();
    return Symbol();
  }

  FilterToken Make(FilterTokenKind kind, size_t begin) const {
    FilterToken token;
    token.kind = kind;
    token.symbol = text_.substr(begin, at_ - begin);
    token.offset = begin;
    return token;
  }

  absl::Status Fail(size_t offset, std::string_view what) const {
    return FilterErrorAt(text_, offset, what);
  }

  absl::StatusOr<FilterToken> Symbol() {
    const size_t begin = at_;
    const char c = text_[at_++];
    const bool equals = at_ < text_.size() && text_[at_] == '=';
    if (equals && (c == '!' || c == '<' || c == '>')) ++at_;
    if (c == '=' || c == '<' || c == '>' || at_ - begin == 2) {
      return Make(FilterTokenKind::kOperator, begin);
    }
    if (std::string_view("(){},:!").find(c) != std::string_view::npos) {
      return Make(FilterTokenKind::kMark, begin);
    }
    while (at_ < text_.size() && IsContinuation(text_[at_])) ++at_;
    return Fail(begin, fmt::format("Invalid input symbol: '{}'", text_.substr(begin, at_ - begin)));
  }

  absl::StatusOr<FilterToken> Word() {
    const size_t begin = at_;
    const auto in_word = [](char c) { return IsLetter(c) || IsDigit(c) || c == '.'; };
    while (at_ < text_.size() && in_word(text_[at_])) ++at_;
    FilterToken token = Make(FilterTokenKind::kWord, begin);
    constexpr std::string_view kAnnotation = "annotation";
    const std::string_view head = token.symbol.substr(0, kAnnotation.size());
    if (!SameWord(head, kAnnotation)) return token;
    const std::string_view rest = token.symbol.substr(kAnnotation.size());
    if (rest.empty() && at_ < text_.size() && text_[at_] == '[') return BracketedKey(begin);
    // A key with a dot of its own needs the brackets.
    if (rest.size() < 2 || rest.front() != '.' || rest.find('.', 1) != rest.npos) return token;
    token.kind = FilterTokenKind::kKey;
    token.text = rest.substr(1);
    return token;
  }

  absl::StatusOr<FilterToken> BracketedKey(size_t begin) {
    const size_t close = text_.find(']', at_);
    if (close == text_.npos) return Fail(text_.size() - 1, "missing ']' after an annotation's key");
    const std::string_view key = text_.substr(at_ + 1, close - at_ - 1);
    if (key.empty() || key.find_first_of(" \t\r\n\"[") != key.npos) {
      return Fail(at_ + 1, "expected the key of an annotation");
    }
    at_ = close + 1;
    FilterToken token = Make(FilterTokenKind::kKey, begin);
    token.text = key;
    return token;
  }

  absl::StatusOr<FilterToken> Number() {
    const size_t begin = at_;
    const auto in_number = [](char c) {
      return IsLetter(c) || IsDigit(c) || c == '.' || c == '-' || c == '+';
    };
    while (at_ < text_.size() && in_number(text_[at_])) ++at_;
    FilterToken token = Make(FilterTokenKind::kNumber, begin);
    const std::string_view digits = token.symbol;
    const char* end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, token.number);
    const bool plain = digits.find_first_not_of("0123456789.eE+-") == digits.npos;
    if (error != std::errc() || rest != end || !plain) {
      return Fail(begin, fmt::format("Invalid input symbol: '{}'", digits));
    }
    return token;
  }

  absl::StatusOr<FilterToken> String() {
    const size_t begin = at_++;
    std::string decoded;
    while (true) {
      if (at_ >= text_.size()) return Fail(begin, "missing '\"' at end of string");
      const char c = text_[at_++];
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < ' ')
        return Fail(at_ - 1, "control character in a string");
      if (c == '\\') {
        RETURN_IF_ERROR(Escape(&decoded));
      } else {
        decoded += c;
      }
    }
    FilterToken token = Make(FilterTokenKind::kString, begin);
    token.text = std::move(decoded);
    return token;
  }

  // Behind a backslash.
  absl::Status Escape(std::string* out) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const size_t begin = at_ - 1;
    const char c = at_ < text_.size() ? text_[at_++] : '\0';
    if (const size_t i = kNames.find(c); i != kNames.npos) {
      out->push_back(kMeanings[i]);
      return absl::OkStatus();
    }
    uint32_t code = 0;
    if (c != 'u' || !Hex4(&code)) return Fail(begin, "invalid escape in a string");
    if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
      at_ += 2;
      uint32_t low = 0;
      if (!Hex4(&low) || low < 0xdc00 || low > 0xdfff)
        return Fail(begin, "invalid escape in a string");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code >= 0xd800 && code <= 0xdfff) return Fail(begin, "half a surrogate pair in a string");
    AppendUtf8(code, out);
    return absl::OkStatus();
  }

  bool Hex4(uint32_t* code) {
    const std::string_view digits = text_.substr(std::min(at_, text_.size()), 4);
    const char* end = digits.data() + digits.size();
    at_ += digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, *code, 16);
    return digits.size() == 4 && error == std::errc() && rest == end;
  }

  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<FilterToken>> LexFilter(std::string_view text) {
  return Lexer(text).Run();
}

absl::Status FilterErrorAt(std::string_view text, size_t offset, std::string_view what) {
  const std::string_view before = text.substr(0, offset);
  const size_t line_begin = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::string_view column = before.substr(line_begin);
  const auto characters =
      std::count_if(column.begin(), column.end(), [](char c) { return !IsContinuation(c); });
  return absl::InvalidArgumentError(
      fmt::format("line {}, position {}: {}", lines + 1, characters + 1, what));
}

bool SameWord(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace mobula
