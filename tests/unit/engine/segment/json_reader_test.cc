// Tests of engine/segment/json_reader.h.
#include "engine/segment/json_reader.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

using Kind = JsonValue::Kind;

TEST(JsonReaderTest, ReadsEveryKind) {
  const auto value =
      ParseJson(R"( {"null":null,"yes":true,"int":-3,"big":18446744073709551615,"real":1.5e3,)"
                R"("text":"a\u00e9\n","list":[1,[],{}],"":{"in":"side"},"twice":1,"twice":2} )");
  ASSERT_TRUE(value);
  EXPECT_EQ(value->kind, Kind::kObject);
  EXPECT_EQ(value->Find("null")->kind, Kind::kNull);
  EXPECT_TRUE(value->Find("yes")->boolean);
  EXPECT_EQ(value->Find("int")->number, -3);
  EXPECT_EQ(value->Find("big")->number, 18446744073709551615.0);
  EXPECT_EQ(value->Find("real")->number, 1500);
  EXPECT_EQ(value->FindString("text"), "a\xc3\xa9\n");
  EXPECT_EQ(value->Find("list")->items.size(), 3U);
  EXPECT_EQ(value->Find("")->FindString("in"), "side");
  EXPECT_EQ(value->Find("twice")->number, 1);
  EXPECT_EQ(value->Find("missing"), nullptr);
  EXPECT_EQ(value->FindString("int"), "");
  EXPECT_EQ(value->FindString("missing"), "");
  EXPECT_EQ(value->Find("list")->Find("x"), nullptr);
}

TEST(JsonReaderTest, RootsOfEveryKindAreFine) {
  EXPECT_EQ(ParseJson("null")->kind, Kind::kNull);
  EXPECT_EQ(ParseJson("[]")->kind, Kind::kArray);
  EXPECT_EQ(ParseJson("\"x\"")->string, "x");
  EXPECT_EQ(ParseJson("7")->number, 7);
}

TEST(JsonReaderTest, AnswersNothingForWhatIsNoJson) {
  for (const char* text :
       {"", " ", "{", "[1,]", "{\"a\":1}x", "nul", "<html>", "{\"a\" 1}", "\"\xff\""}) {
    EXPECT_FALSE(ParseJson(text)) << text;
  }
}

TEST(JsonReaderTest, KeepsItsLimits) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseJson(nested(60)));
  EXPECT_FALSE(ParseJson(nested(100)));
  std::string many = "[0";
  for (int i = 0; i < 10000; ++i) many += ",0";
  EXPECT_FALSE(ParseJson(many + "]"));
  EXPECT_FALSE(ParseJson("\"" + std::string(1 << 20, 'a') + "\""));
}

}  // namespace
}  // namespace mobula
