// The strict JSON checker: one loop over the tokens, with one bit per open container.
// Tested by tests/unit/engine/segment/json_check_test.cc and tests/fuzz/scanner_fuzz.cc.
#include "engine/segment/json_check.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "engine/base/check.h"

namespace mobula {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Checker {
 public:
  Checker(std::string_view text, size_t depth_max)
      : next_(text.data()), end_(text.data() + text.size()), depth_max_(depth_max) {}

  bool IsObject() {
    SkipBlanks();
    if (!Take('{') || !Open(Container::kObject)) return false;
    Expect expect = Expect::kFirstMember;
    while (depth_ > 0) {
      SkipBlanks();
      switch (expect) {
        case Expect::kFirstMember:
          if (TakeClose()) {
            expect = Expect::kCommaOrClose;
            break;
          }
          [[fallthrough]];
        case Expect::kMember:
          if (!TakeString()) return false;
          SkipBlanks();
          if (!Take(':')) return false;
          expect = Expect::kValue;
          break;
        case Expect::kFirstElement:
          if (TakeClose()) {
            expect = Expect::kCommaOrClose;
            break;
          }
          [[fallthrough]];
        case Expect::kValue:
          if (Take('{')) {
            if (!Open(Container::kObject)) return false;
            expect = Expect::kFirstMember;
          } else if (Take('[')) {
            if (!Open(Container::kArray)) return false;
            expect = Expect::kFirstElement;
          } else {
            if (!TakeScalar()) return false;
            expect = Expect::kCommaOrClose;
          }
          break;
        case Expect::kCommaOrClose:
          if (Take(',')) {
            expect = InObject() ? Expect::kMember : Expect::kValue;
          } else if (!TakeClose()) {
            return false;
          }
          break;
      }
    }
    SkipBlanks();
    return next_ == end_;
  }

 private:
  enum class Container : uint8_t { kArray, kObject };
  // What may come next. The members and elements after a comma may not be a closing bracket.
  enum class Expect : uint8_t { kFirstMember, kMember, kFirstElement, kValue, kCommaOrClose };

  bool Open(Container container) {
    if (depth_ == depth_max_) return false;
    uint64_t& word = open_[depth_ / 64];
    const uint64_t bit = uint64_t{1} << (depth_ % 64);
    if (bit == 1) word = 0;  // the array starts uninitialized
    word = container == Container::kObject ? word | bit : word & ~bit;
    ++depth_;
    return true;
  }
  [[nodiscard]] bool InObject() const {
    return ((open_[(depth_ - 1) / 64] >> ((depth_ - 1) % 64)) & 1) != 0;
  }
  bool TakeClose() {
    if (!Take(InObject() ? '}' : ']')) return false;
    --depth_;
    return true;
  }

  void SkipBlanks() {
    while (next_ != end_ && (*next_ == ' ' || *next_ == '\t' || *next_ == '\r' || *next_ == '\n')) {
      ++next_;
    }
  }
  bool Take(char c) {
    if (next_ == end_ || *next_ != c) return false;
    ++next_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    if (static_cast<size_t>(end_ - next_) < word.size()) return false;
    if (std::memcmp(next_, word.data(), word.size()) != 0) return false;
    next_ += word.size();
    return true;
  }
  bool TakeDigits() {
    const char* first = next_;
    while (next_ != end_ && IsDigit(*next_)) ++next_;
    return next_ != first;
  }
  bool TakeNumber() {
    Take('-');
    if (!Take('0') && !TakeDigits()) return false;
    if (Take('.') && !TakeDigits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!TakeDigits()) return false;
    }
    return true;
  }
  bool TakeEscape() {
    if (next_ == end_) return false;
    const char c = *next_++;
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
    for (int i = 0; i < 4; ++i) {
      if (next_ == end_ || !IsHexDigit(*next_)) return false;
      ++next_;
    }
    return true;
  }
  bool TakeString() {
    if (!Take('"')) return false;
    while (next_ != end_) {
      const char c = *next_++;
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c == '\\' && !TakeEscape()) return false;
    }
    return false;
  }
  bool TakeScalar() {
    if (next_ == end_) return false;
    switch (*next_) {
      case '"':
        return TakeString();
      case 't':
        return TakeWord("true");
      case 'f':
        return TakeWord("false");
      case 'n':
        return TakeWord("null");
      default:
        return TakeNumber();
    }
  }

  const char* next_;
  const char* end_;
  size_t depth_max_;
  size_t depth_ = 0;
  std::array<uint64_t, kJsonDepthMax / 64> open_;  // one bit per open container: set for an object
};

}  // namespace

bool IsJsonObject(std::string_view text, size_t depth_max) noexcept {
  DCHECK(depth_max <= kJsonDepthMax);
  return Checker(text, depth_max).IsObject();
}

}  // namespace mobula
