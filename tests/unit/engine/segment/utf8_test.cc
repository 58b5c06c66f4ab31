// The UTF-8 repair, byte by byte as Go does it.
#include "engine/segment/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace mobula {
namespace {

std::string Repaired(std::string_view bytes) {
  std::string out(kUtf8RepairGrowth * bytes.size(), '\0');
  out.resize(RepairUtf8(bytes, out.data()));
  return out;
}

std::string Replacements(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += "\xEF\xBF\xBD";
  return out;
}

TEST(Utf8Test, LeavesValidTextAlone) {
  for (const std::string_view text :
       {"", "abc", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBD", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
    EXPECT_EQ(Repaired(text), text);
  }
  EXPECT_EQ(Repaired(std::string_view("\0", 1)), std::string(1, '\0'));
}

TEST(Utf8Test, ReplacesEachBadByte) {
  const struct {
    std::string_view bytes;
    int count;
  } kCases[] = {
      {"\x80", 1},
      {"\xBF\xBF", 2},
      {"\xC0\x80", 2},  // overlong NUL
      {"\xC1\xBF", 2},
      {"\xE0\x80\x80", 3},  // overlong
      {"\xE0\x9F\xBF", 3},
      {"\xED\xA0\x80", 3},  // an encoded surrogate
      {"\xED\xBF\xBF", 3},
      {"\xF0\x80\x80\x80", 4},  // overlong
      {"\xF0\x8F\xBF\xBF", 4},
      {"\xF4\x90\x80\x80", 4},  // above U+10FFFF
      {"\xF5\x80\x80\x80", 4},
      {"\xFE", 1},
      {"\xFF", 1},
      {"\xC3", 1},  // cut short
      {"\xE2\x82", 2},
      {"\xF0\x9F\x98", 3},
  };
  for (const auto& [bytes, count] : kCases) {
    EXPECT_FALSE(IsValidUtf8(bytes));
    EXPECT_EQ(Repaired(bytes), Replacements(count));
    EXPECT_EQ(Repaired("a" + std::string(bytes) + "b"), "a" + Replacements(count) + "b");
  }
}

TEST(Utf8Test, GoesOnWithTheByteThatBrokeTheCharacter) {
  EXPECT_EQ(Repaired("\xE2\x82\xC3\xA9"), Replacements(2) + "\xC3\xA9");
  EXPECT_EQ(Repaired("\xC3\"x"), Replacements(1) + "\"x");
}

TEST(Utf8Test, GrowsAtMostThreefold) {
  EXPECT_EQ(Repaired(std::string(65536, '\xFF')).size(), kUtf8RepairGrowth * 65536);
}

}  // namespace
}  // namespace mobula
