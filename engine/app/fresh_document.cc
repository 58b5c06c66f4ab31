// A walk over strings and numbers of a JSON text, without a parser: it need not be right about anything else.
// Tested by tests/unit/engine/app/fresh_document_test.cc.
#include "engine/app/fresh_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace mobula {
namespace {

constexpr double kTimeMax = 1e11;  // seconds; beyond is no time, and far below what an int64 holds

bool IsHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

template <typename T>
T FromHex(std::string_view text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

bool IsTraceId(std::string_view s) {
  return s.size() == 35 && s.starts_with("1-") && s[10] == '-' && IsHex(s.substr(2, 8)) &&
         IsHex(s.substr(11));
}

// The 8 hex digits of the epoch and the 24 random ones.
std::string FreshTraceId(std::string_view epoch, std::string_view random, std::string_view dash,
                         const FreshShift& shift) {
  const auto seconds =
      static_cast<uint32_t>(FromHex<uint32_t>(epoch) + static_cast<uint64_t>(shift.seconds));
  return fmt::format("{:08x}{}{}{:016x}", seconds, dash, random.substr(0, 8),
                     FromHex<uint64_t>(random.substr(8)) ^ shift.trace_mask);
}

std::string FreshString(std::string_view key, std::string_view value, const FreshShift& shift) {
  if (value.size() == 16 && IsHex(value)) {
    return fmt::format("{:016x}", FromHex<uint64_t>(value) ^ shift.id_mask);
  }
  if (IsTraceId(value)) {
    return "1-" + FreshTraceId(value.substr(2, 8), value.substr(11), "-", shift);
  }
  // The W3C form; elsewhere 32 hex digits are anything, an MD5 sum for one.
  if (key == "trace_id" && value.size() == 32 && IsHex(value)) {
    return FreshTraceId(value.substr(0, 8), value.substr(8), "", shift);
  }
  return std::string(value);
}

std::string FreshTime(std::string_view number, int64_t seconds) {
  double value = 0;
  std::from_chars(number.data(), number.data() + number.size(), value);
  if (!(value > 0 && value < kTimeMax)) return std::string(number);
  if (number.find_first_of("eE") != std::string_view::npos) {
    return fmt::format("{:.6f}", value + static_cast<double>(seconds));
  }
  // The digits of the fraction stay as they were sent.
  const size_t point = std::min(number.find('.'), number.size());
  int64_t whole = 0;
  std::from_chars(number.data(), number.data() + point, whole);
  return fmt::format("{}{}", whole + seconds, number.substr(point));
}

// Calls string(key, value) for every string value, time(number) for every time and other(bytes) for all the
// bytes between, in order, so that their arguments together are the document.
template <typename String, typename Number, typename Other>
void Walk(std::string_view text, String&& string, Number&& time, Other&& other) {
  std::string_view key;
  size_t told = 0;  // everything before was handed out
  size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (c == '"') {
      size_t end = i + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      if (end >= text.size()) break;
      const std::string_view content = text.substr(i + 1, end - i - 1);
      const size_t next = text.find_first_not_of(" \t\r\n", end + 1);
      if (next != std::string_view::npos && text[next] == ':') {
        key = content;
      } else {
        other(text.substr(told, i + 1 - told));
        string(key, content);
        told = end;
      }
      i = end + 1;
    } else if ((c >= '0' && c <= '9') || c == '-') {
      const size_t end = std::min(text.find_first_not_of("0123456789+-.eE", i), text.size());
      if (key == "start_time" || key == "end_time") {
        other(text.substr(told, i - told));
        time(text.substr(i, end - i));
        told = end;
      }
      i = end;
    } else {
      ++i;
    }
  }
  other(text.substr(told));
}

}  // namespace

std::string Refresh(std::string_view document, const FreshShift& shift) {
  std::string out;
  out.reserve(document.size() + 64);
  Walk(
      document,
      [&](std::string_view key, std::string_view value) { out += FreshString(key, value, shift); },
      [&](std::string_view number) { out += FreshTime(number, shift.seconds); },
      [&](std::string_view bytes) { out += bytes; });
  return out;
}

double LatestTime(std::string_view document) {
  double latest = 0;
  Walk(
      document, [](std::string_view, std::string_view) {},
      [&](std::string_view number) {
        double value = 0;
        std::from_chars(number.data(), number.data() + number.size(), value);
        if (value < kTimeMax) latest = std::max(latest, value);
      },
      [](std::string_view) {});
  return latest;
}

}  // namespace mobula
