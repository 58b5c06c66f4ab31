// Tests of backends/xray/json_escape.h: the fast forms against the slow one, the slow one against the rule.
#include "backends/xray/json_escape.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

namespace mobula {
namespace {

std::string Escaped(std::string_view text) {
  // Exactly the room that is promised to suffice, so that a sanitizer sees one byte too many.
  const size_t size = JsonEscapedSize(text);
  const std::unique_ptr<char[]> out(new char[size + kJsonEscapeSlack]);
  char* const end = JsonEscape(text, out.get());
  EXPECT_EQ(end, out.get() + size);
  return {out.get(), size};
}

std::string EscapedScalar(std::string_view text) {
  const std::unique_ptr<char[]> out(new char[text.size() * 6 + 1]);
  const std::string result(out.get(), JsonEscapeScalar(text, out.get()));
  EXPECT_EQ(JsonEscapedSizeScalar(text), result.size());
  return result;
}

TEST(JsonEscapeTest, FollowsTheRule) {
  for (const auto& escape : {Escaped, EscapedScalar}) {
    EXPECT_EQ(escape(""), "");
    EXPECT_EQ(escape("plain"), "plain");
    EXPECT_EQ(escape("{\"a\":\"b\\\"c\"}"), R"({\"a\":\"b\\\"c\"})");
    EXPECT_EQ(escape("\n\r\t"), R"(\n\r\t)");
    EXPECT_EQ(escape(std::string_view("\0\b\x1f", 3)), R"(\u0000\u0008\u001f)");
    EXPECT_EQ(escape("\x7f/<>&\xc3\xa9\xe2\x80\xa8"), "\x7f/<>&\xc3\xa9\xe2\x80\xa8");
  }
}

TEST(JsonEscapeTest, EveryByteAtEveryPlace) {
  for (int byte = 0; byte < 256; ++byte) {
    for (size_t size = 1; size <= 40; ++size) {
      for (size_t place = 0; place < size; ++place) {
        std::string text(size, 'x');
        text[place] = static_cast<char>(byte);
        ASSERT_EQ(Escaped(text), EscapedScalar(text)) << byte << " at " << place << " of " << size;
      }
    }
  }
}

TEST(JsonEscapeTest, EverySetOfSpecialBytesAmongSixteen) {
  for (unsigned set = 0; set < 65536; ++set) {
    std::string text(16, 'x');
    for (unsigned i = 0; i < 16; ++i) {
      if ((set >> i & 1) != 0) text[i] = i % 2 == 0 ? '"' : '\\';
    }
    ASSERT_EQ(Escaped(text), EscapedScalar(text)) << set;
  }
}

TEST(JsonEscapeTest, RandomTexts) {
  std::mt19937 random(20260101);  // a fixed seed: a failure repeats
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 200, ' ');
    const unsigned kind = random() % 3;
    for (char& c : text) {
      constexpr char kJson[] = "\"\"\\{}:,abcdefgh0123456789";
      c = kind == 0   ? static_cast<char>(random())
          : kind == 1 ? kJson[random() % (sizeof kJson - 1)]
                      : static_cast<char>(random() % 40);
    }
    ASSERT_EQ(Escaped(text), EscapedScalar(text));
  }
}

}  // namespace
}  // namespace mobula
