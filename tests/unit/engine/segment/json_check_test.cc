// The strict checker: RFC 8259, and nothing that only simdjson minds.
#include "engine/segment/json_check.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace mobula {
namespace {

std::string Nested(size_t arrays) {
  return "{\"a\":" + std::string(arrays, '[') + std::string(arrays, ']') + "}";
}

TEST(JsonCheckTest, AcceptsWhatTheGrammarAllows) {
  for (const std::string_view text : {
           "{}",
           " \t\r\n{ } \n",
           "{\"\":[]}",
           "{\"a\":{},\"a\":[{},[],[[]]]}",
           "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00Af\"}",
           "{\"a\":[true,false,null]}",
           "{\"a\":[0,-0,10,-12.50,1e5,1E+5,2.5e-10,0e0]}",
           "{\"a\":1e400,\"b\":\"\\ud800\"}",
           "{\"a\":\"\x7f\xc3\xa9\"}",
       }) {
    EXPECT_TRUE(IsJsonObject(text)) << text;
  }
  EXPECT_TRUE(IsJsonObject("{\"a\":" + std::string(60000, '9') + "}"));
}

TEST(JsonCheckTest, RefusesEverythingElse) {
  using std::string_view_literals::operator""sv;
  for (const std::string_view text : {
           ""sv,
           " "sv,
           "[]"sv,
           "1"sv,
           "null"sv,
           "\"a\""sv,
           "{"sv,
           "}"sv,
           "{]"sv,
           "{}}"sv,
           "{}x"sv,
           "{} {}"sv,
           "{}\0"sv,
           "\xEF\xBB\xBF{}"sv,
           "{,}"sv,
           "{\"a\"}"sv,
           "{\"a\":}"sv,
           "{\"a\",1}"sv,
           "{\"a\":1,}"sv,
           "{\"a\":1 \"b\":2}"sv,
           "{\"a\":1,,\"b\":2}"sv,
           "{a:1}"sv,
           "{1:1}"sv,
           "{\"a\":[1,]}"sv,
           "{\"a\":[,1]}"sv,
           "{\"a\":[1 2]}"sv,
           "{\"a\":[1}"sv,
           "{\"a\":[1}]"sv,
           "{\"a\":[\"b\":1]}"sv,
           "{\"a\":01}"sv,
           "{\"a\":+1}"sv,
           "{\"a\":-}"sv,
           "{\"a\":.5}"sv,
           "{\"a\":1.}"sv,
           "{\"a\":1.e5}"sv,
           "{\"a\":1e}"sv,
           "{\"a\":1e+}"sv,
           "{\"a\":0x1}"sv,
           "{\"a\":NaN}"sv,
           "{\"a\":tru}"sv,
           "{\"a\":truex}"sv,
           "{\"a\":True}"sv,
           "{\"a\":nul"sv,
           "{\"a\":\"}"sv,
           "{\"a\":\"\\"sv,
           "{\"a\":\"\\\"}"sv,
           "{\"a\":\"\\x\"}"sv,
           "{\"a\":\"\\u12\"}"sv,
           "{\"a\":\"\\u12g4\"}"sv,
           "{\"a\":\"\\U0041\"}"sv,
           "{\"a\":\"\x1f\"}"sv,
           "{\"a\":\"\0\"}"sv,
           "{\"a\":\"\n\"}"sv,
           "{\"a\":1\f}"sv,
           "{\"a\":\xc2\xa0"
           "1}"sv,
           "{/* */}"sv,
       }) {
    EXPECT_FALSE(IsJsonObject(text)) << text;
  }
}

TEST(JsonCheckTest, RefusesEveryPrefixOfADocument) {
  const std::string document = "{\"a\":[1.5e3,\"\\u0041\",{\"b\":null}],\"c\":true}";
  ASSERT_TRUE(IsJsonObject(document));
  for (size_t length = 0; length < document.size(); ++length) {
    EXPECT_FALSE(IsJsonObject(std::string_view(document).substr(0, length))) << length;
  }
}

TEST(JsonCheckTest, CountsTheObjectAsTheFirstLevel) {
  EXPECT_TRUE(IsJsonObject("{}", 1));
  EXPECT_FALSE(IsJsonObject("{}", 0));
  EXPECT_TRUE(IsJsonObject(Nested(9), 10));
  EXPECT_FALSE(IsJsonObject(Nested(10), 10));
}

TEST(JsonCheckTest, RemembersWhichBracketIsOpenAtAnyDepth) {
  std::string open;
  std::string close;
  for (int i = 0; i < 10000; ++i) {
    open += i % 3 == 0 ? "[" : "{\"a\":";
    close.insert(0, i % 3 == 0 ? "]" : "}");
  }
  EXPECT_TRUE(IsJsonObject("{\"a\":" + open + "1" + close + "}"));
  for (const size_t at : {0, 63, 64, 5000, 9999}) {
    std::string wrong = close;
    wrong[at] = wrong[at] == ']' ? '}' : ']';
    EXPECT_FALSE(IsJsonObject("{\"a\":" + open + "1" + wrong + "}")) << at;
  }
}

TEST(JsonCheckTest, HoldsTheDeepestNestingADatagramCanBring) {
  EXPECT_TRUE(IsJsonObject(Nested(32000)));
  EXPECT_FALSE(IsJsonObject("{\"a\":" + std::string(65500, '[')));
  EXPECT_FALSE(IsJsonObject(Nested(kJsonDepthMax)));
}

}  // namespace
}  // namespace mobula
