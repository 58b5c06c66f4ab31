// Tests of engine/filter/filter_parser.h and filter_lexer.h: what is refused, with which words and where.
#include "engine/filter/filter_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/filter/filter.h"

namespace mobula {
namespace {

std::string ErrorOf(std::string_view text) {
  const auto filter = Filter::ParseForDocument(text);
  return filter.ok() ? "no error" : std::string(filter.status().message());
}

TEST(FilterParserTest, ErrorsSayWhereAndWhat) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "line 1, position 1: the expression is empty"},
      {" \n ", "line 2, position 1: the expression is empty"},
      {"(fault", "line 1, position 6: missing ')' at end of expression"},
      {"service(\"shop\"", "line 1, position 14: missing ')' at end of expression"},
      {"service(\"shop\") { fault", "line 1, position 23: missing '}' at end of expression"},
      {"ok AND madeup = 1", "line 1, position 8: Invalid input symbol: 'madeup'"},
      {"ok\nAND madeup", "line 2, position 5: Invalid input symbol: 'madeup'"},
      {"user = \"\xc3\x85\" madeup", "line 1, position 12: Invalid input symbol: 'madeup'"},
      {"fault)", "line 1, position 6: Invalid input symbol: ')'"},
      {"fault & ok", "line 1, position 7: Invalid input symbol: '&'"},
      {"fault \xe2\x82\xac", "line 1, position 7: Invalid input symbol: '\xe2\x82\xac'"},
      {"fault =", "line 1, position 7: missing value at end of expression"},
      {"fault AND", "line 1, position 9: unexpected end of expression"},
      {"!", "line 1, position 1: unexpected end of expression"},
      {"OR fault", "line 1, position 1: Invalid input symbol: 'OR'"},
      {"\"shop\"", "line 1, position 1: Invalid input symbol: '\"shop\"'"},
      {"fault \"shop\"", "line 1, position 7: Invalid input symbol: '\"shop\"'"},
      {"user = alice",
       "line 1, position 8: Invalid input symbol: 'alice'; text needs double quotes"},
      {"http.status CONTAINS \"4\"",
       "line 1, position 13: operator CONTAINS does not fit http.status"},
      {"ok > 1", "line 1, position 4: operator > does not fit ok"},
      {"http.url < \"a\"", "line 1, position 10: operator < does not fit http.url"},
      {"ok = 1", "line 1, position 6: expected true or false, not 1"},
      {"ok = \"yes\"", "line 1, position 6: expected true or false, not \"yes\""},
      {"http.url = 5", "line 1, position 12: expected text in double quotes, not 5"},
      {"http.status = true", "line 1, position 15: expected a number, not true"},
      {"annotation.a > \"b\"", "line 1, position 16: expected a number, not \"b\""},
      {"annotation.a CONTAINS 4", "line 1, position 23: expected text in double quotes, not 4"},
      {"annotation.a.b", "line 1, position 1: Invalid input symbol: 'annotation.a.b'"},
      {"annotation.", "line 1, position 1: Invalid input symbol: 'annotation.'"},
      {"annotation", "line 1, position 1: Invalid input symbol: 'annotation'"},
      {"annotation[a", "line 1, position 12: missing ']' after an annotation's key"},
      {"annotation[]", "line 1, position 12: expected the key of an annotation"},
      {"responsetime > 1s", "line 1, position 16: Invalid input symbol: '1s'"},
      {"responsetime > 1e999", "line 1, position 16: Invalid input symbol: '1e999'"},
      {"user = \"a", "line 1, position 8: missing '\"' at end of string"},
      {"user = \"\\x\"", "line 1, position 9: invalid escape in a string"},
      {"user = \"\\u12\"", "line 1, position 9: invalid escape in a string"},
      {"user = \"\\", "line 1, position 9: invalid escape in a string"},
      {"user = \"\\ud800\"", "line 1, position 9: half a surrogate pair in a string"},
      {"user = \"a\nb\"", "line 1, position 10: control character in a string"},
      {"service(\"shop\") { service(\"auth\") }",
       "line 1, position 19: service(...) inside a body"},
      {"service(\"shop\") {}", "line 1, position 18: Invalid input symbol: '}'"},
      {"service(shop)", "line 1, position 9: Invalid input symbol: 'shop'"},
      {"service(id())", "line 1, position 12: Invalid input symbol: ')'"},
      {"service(id(kind: \"x\"))", "line 1, position 12: Invalid input symbol: 'kind'"},
      {"service(id(name: x))", "line 1, position 18: Invalid input symbol: 'x'"},
      {"service", "line 1, position 1: Invalid input symbol: 'service'"},
  };
  for (const auto& [text, error] : cases) EXPECT_EQ(ErrorOf(text), error) << text;
}

TEST(FilterParserTest, WhatNeedsATraceIsNamed) {
  for (const std::string word : {"partial", "inferred", "root", "Remote", "group.name = \"g\"",
                                 "rootcause.fault.service { name = \"x\" }"}) {
    const std::string error = ErrorOf("ok AND " + word);
    EXPECT_EQ(error.find("line 1, position 8: "), 0U) << error;
    EXPECT_NE(error.find("needs a whole trace and cannot be used in a route"), std::string::npos)
        << error;
  }
  EXPECT_EQ(ErrorOf("edge(\"a\", \"b\")"),
            "line 1, position 1: edge(...) needs a whole trace and cannot be used in a route");
  EXPECT_EQ(ErrorOf("instance.id = \"i\""),
            "line 1, position 1: instance.id cannot be used in a route");
}

TEST(FilterParserTest, LimitsHold) {
  const auto repeated = [](const std::string& unit, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += unit;
    return out;
  };
  EXPECT_EQ(ErrorOf(repeated("(", 50) + "ok" + repeated(")", 50)), "no error");
  EXPECT_EQ(ErrorOf(repeated("(", 51) + "ok" + repeated(")", 51)),
            "line 1, position 52: nested deeper than 50");
  EXPECT_EQ(ErrorOf(repeated("!", 1998) + "ok"), "no error");
  EXPECT_EQ(ErrorOf(repeated("ok ", 200)), "no error");
  EXPECT_NE(ErrorOf(repeated("ok ", 201)).find("more than 200 conditions"), std::string::npos);
  EXPECT_EQ(ErrorOf(repeated(" ", 1999) + "ok"),
            "line 1, position 2001: longer than 2000 characters");
}

TEST(FilterParserTest, ProgramsOnlyLeadForward) {
  const auto tests =
      ParseDocumentFilter("!(ok or fault and not (error user)) service(\"x\") { !name or type }");
  ASSERT_TRUE(tests.ok());
  for (size_t i = 0; i < tests->size(); ++i) {
    EXPECT_GT((*tests)[i].on_true, i);
    EXPECT_GT((*tests)[i].on_false, i);
  }
}

TEST(FilterParserTest, AnyBytesEndInAProgramOrAnError) {
  constexpr std::string_view kWords[] = {"ok",
                                         "fault",
                                         "AND",
                                         "OR",
                                         "NOT",
                                         "!",
                                         "(",
                                         ")",
                                         "{",
                                         "}",
                                         "service(",
                                         "id(",
                                         "name:",
                                         "\"x\"",
                                         "5",
                                         "=",
                                         "!=",
                                         "CONTAINS",
                                         "http.url",
                                         ",",
                                         "annotation.k",
                                         "user",
                                         "\xff",
                                         "\"\\u00",
                                         "annotation[a.b]",
                                         "<=",
                                         "edge("};
  uint32_t state = 7;
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      state = state * 1664525 + 1013904223;
      text += kWords[(state >> 16) % std::size(kWords)];
      if ((state >> 9 & 3) != 0) text += ' ';
    }
    (void)ParseDocumentFilter(text);
  }
}

}  // namespace
}  // namespace mobula
