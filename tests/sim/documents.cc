#include "tests/sim/documents.h"

#include <fmt/format.h>

#include <charconv>
#include <iterator>

namespace mobula::sim {
namespace {

constexpr std::string_view kJson = R"({"n":")";
constexpr std::string_view kOtlp = "T1S";
constexpr size_t kDigits = 16;

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Text that does not shrink much, up to `size` bytes in all.
void Pad(uint64_t number, size_t size, std::string* out) {
  static constexpr char kLetters[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr size_t kLettersAtOnce = 10;
  size_t at = out->size();
  if (at >= size) return;
  out->resize(size + kLettersAtOnce);
  for (; at < size; at += kLettersAtOnce) {
    uint64_t bits = Mix(number * 0x9e3779b97f4a7c15 + at);
    for (size_t i = 0; i < kLettersAtOnce; ++i, bits >>= 6) (*out)[at + i] = kLetters[bits & 63];
  }
  out->resize(size);
}

}  // namespace

DocumentKind KindOf(Style style) {
  return style == Style::kOtlp         ? DocumentKind::kOtlp
         : style == Style::kHugeNumber ? DocumentKind::kUnscanned
                                       : DocumentKind::kJson;
}

std::string IdOf(uint64_t number, Style style) {
  if (style == Style::kWithoutId || style == Style::kOtlp) return "";
  if (style == Style::kUpdate && number > 0) --number;
  return fmt::format("{:016x}", Mix(number + 1));
}

void WriteDocument(uint64_t number, const Shape& shape, std::string* out) {
  out->clear();
  const auto to = std::back_inserter(*out);
  if (shape.style == Style::kOtlp) {
    fmt::format_to(to, "{}{:016x}", kOtlp, number);
    Pad(number, shape.size, out);
    return;
  }
  fmt::format_to(to, "{}{:016x}\",\"trace_id\":\"1-5f000000-{:08x}{:016x}\",\"name\":\"svc{}\"",
                 kJson, number, Mix(number) & 0xffffffff, Mix(~number), shape.service);
  if (const std::string id = IdOf(number, shape.style); !id.empty()) {
    fmt::format_to(to, ",\"id\":\"{}\"", id);
  }
  if (shape.style == Style::kHugeNumber) out->append(",\"start_time\":1e999");
  if (shape.style == Style::kEscapes) {
    out->append(",\"annotations\":{\"quoted\":\"");
    for (size_t i = 0; i < 20; ++i) out->append(R"(\"\\\n\u00e9)");
    out->append("\"}");
  }
  out->append(",\"user\":\"");
  Pad(shape.style == Style::kOrdinary ? 0 : number, shape.size, out);
  out->append("\"}");
}

std::optional<uint64_t> NumberOf(std::string_view document) {
  const size_t at = document.starts_with(kJson)   ? kJson.size()
                    : document.starts_with(kOtlp) ? kOtlp.size()
                                                  : document.size();
  if (document.size() < at + kDigits) return std::nullopt;
  uint64_t number = 0;
  const char* const end = document.data() + at + kDigits;
  const auto [stop, error] = std::from_chars(document.data() + at, end, number, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

}  // namespace mobula::sim
