#include "engine/segment/json_quote.h"

#include <gtest/gtest.h>

#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

TEST(JsonQuoteTest, EscapesWhatJsonDoesNotAllow) {
  EXPECT_EQ(JsonQuote(""), R"("")");
  EXPECT_EQ(JsonQuote("a \"b\" \\c"), R"("a \"b\" \\c")");
  EXPECT_EQ(JsonQuote(std::string_view("\0\n\x1f\x7f", 4)), R"("\u0000\u000a\u001f\u007f")");
}

TEST(JsonQuoteTest, EveryByteIsReadBackOrReplaced) {
  for (int c = 0; c < 256; ++c) {
    const std::string text = {'x', static_cast<char>(c), 'y'};
    const auto read = ParseJson("[" + JsonQuote(text) + "]");
    ASSERT_TRUE(read) << c;
    EXPECT_EQ(read->items[0].string, c < 0x80 ? text : "x\xef\xbf\xbdy") << c;
  }
  EXPECT_EQ(JsonQuote("h\xc3\xa9 \xf0\x9f\x98\x80"), "\"h\xc3\xa9 \xf0\x9f\x98\x80\"");
}

}  // namespace
}  // namespace mobula
