// The header rule: two spellings known by heart, everything else by Go's encoding/json semantics.
// Tested by tests/unit/engine/segment/framing_test.cc and tests/fuzz/framing_fuzz.cc.
#include "engine/segment/framing.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/segment/json_check.h"

namespace mobula {
namespace {

// The two spellings in use: the SDKs' and the documentation's.
constexpr std::string_view kHeaderDense = "{\"format\":\"json\",\"version\":1}\n";
constexpr std::string_view kHeaderBlanks = "{\"format\": \"json\", \"version\": 1}\n";

// Go's decoder calls anything deeper a syntax error.
constexpr size_t kGoDepthMax = 10000;

// The members of the outermost object, in order. REQUIRES: IsJsonObject(text).
class MemberCursor {
 public:
  explicit MemberCursor(std::string_view text) : rest_(text) {
    SkipBlanks();
    rest_.remove_prefix(1);  // the brace
  }

  // Steps to the next member; false after the last.
  bool Next() {
    SkipBlanks();
    if (rest_.front() == '}') return false;
    if (rest_.front() == ',') {
      rest_.remove_prefix(1);
      SkipBlanks();
    }
    key_ = Cut(StringLength());
    SkipBlanks();
    rest_.remove_prefix(1);  // the colon
    SkipBlanks();
    value_ = Cut(ValueLength());
    return true;
  }

  // Both as sent; strings with their quotes and escapes.
  [[nodiscard]] std::string_view key() const { return key_; }
  [[nodiscard]] std::string_view value() const { return value_; }

 private:
  void SkipBlanks() { rest_.remove_prefix(rest_.find_first_not_of(kJsonBlanks)); }

  std::string_view Cut(size_t length) {
    const std::string_view cut = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return cut;
  }

  // Of the string that begins at `first`, quotes included.
  [[nodiscard]] size_t StringLength(size_t first = 0) const {
    size_t i = first + 1;
    while (rest_[i] != '"') i += rest_[i] == '\\' ? 2 : 1;
    return i + 1 - first;
  }

  [[nodiscard]] size_t ValueLength() const {
    if (rest_.front() == '"') return StringLength();
    if (rest_.front() != '{' && rest_.front() != '[') return rest_.find_first_of(",} \t\r\n");
    size_t open = 0;
    size_t i = 0;
    do {
      const char c = rest_[i];
      if (c == '{' || c == '[') ++open;
      if (c == '}' || c == ']') --open;
      i += c == '"' ? StringLength(i) : 1;
    } while (open > 0);
    return i;
  }

  std::string_view rest_;
  std::string_view key_;
  std::string_view value_;
};

// Takes one character off the inside of a JSON string, decoded as far as a comparison with ASCII
// letters needs it: what can equal no letter is answered as 0.
uint32_t TakeCharacter(std::string_view& inside) {
  constexpr uint32_t kLongS = 0x17F;
  constexpr std::string_view kLongSUtf8 = "\xC5\xBF";
  if (inside.starts_with(kLongSUtf8)) {
    inside.remove_prefix(kLongSUtf8.size());
    return kLongS;
  }
  const auto first = static_cast<unsigned char>(inside.front());
  if (first != '\\') {
    inside.remove_prefix(1);
    return first < 0x80 ? first : 0;
  }
  if (inside[1] != 'u') {
    inside.remove_prefix(2);
    return 0;
  }
  uint32_t code_point = 0;
  std::from_chars(inside.data() + 2, inside.data() + 6, code_point, 16);
  inside.remove_prefix(6);
  return code_point;
}

// Whether a JSON string, given with its quotes, equals `word` (ASCII, lower case) under Unicode's
// simple case folding. Of the characters outside ASCII only the long s folds to one of the letters
// used here.
bool EqualsFolded(std::string_view quoted, std::string_view word) {
  std::string_view inside = quoted.substr(1, quoted.size() - 2);
  for (const char expected : word) {
    if (inside.empty()) return false;
    uint32_t c = TakeCharacter(inside);
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (c == 0x17F) c = 's';
    if (c != static_cast<unsigned char>(expected)) return false;
  }
  return inside.empty();
}

bool IsValidHeader(std::string_view line) {
  if (!IsJsonObject(line, kGoDepthMax)) return false;
  bool format_ok = false;
  int64_t version = 0;
  for (MemberCursor member(line); member.Next();) {
    const std::string_view value = member.value();
    if (EqualsFolded(member.key(), "format")) {
      if (value.front() == '"') format_ok = EqualsFolded(value, "json");
    } else if (EqualsFolded(member.key(), "version")) {
      int64_t number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error == std::errc() && end == value.data() + value.size()) version = number;
    }
  }
  return format_ok && version == 1;
}

// Everything but a known header with a body behind it.
[[gnu::noinline]] Frame SplitOther(std::string_view datagram) {
  if (datagram.empty()) return {RejectReason::kEmpty, {}, {}};
  const size_t lf = datagram.find('\n');
  if (lf == std::string_view::npos) return {RejectReason::kMissingHeader, datagram, {}};
  Frame frame{RejectReason::kNone, datagram.substr(0, lf), datagram.substr(lf + 1)};
  if (frame.body.empty()) {
    frame.reject = RejectReason::kMissingSegment;
  } else if (!IsValidHeader(frame.header)) {
    frame.reject = RejectReason::kInvalidHeader;
  }
  return frame;
}

template <size_t kLength>
bool BeginsWith(std::string_view datagram, const char* known) {
  // More than the header: an empty body is a matter for SplitOther.
  return datagram.size() > kLength && std::memcmp(datagram.data(), known, kLength) == 0;
}

Frame SplitAt(std::string_view datagram, size_t header_length) {
  return {RejectReason::kNone, datagram.substr(0, header_length - 1),
          datagram.substr(header_length)};
}

}  // namespace

Frame Framing::Split(std::string_view datagram) noexcept {
  if (BeginsWith<kHeaderDense.size()>(datagram, kHeaderDense.data())) {
    return SplitAt(datagram, kHeaderDense.size());
  }
  if (BeginsWith<kHeaderBlanks.size()>(datagram, kHeaderBlanks.data())) {
    return SplitAt(datagram, kHeaderBlanks.size());
  }
  return SplitOther(datagram);
}

}  // namespace mobula
