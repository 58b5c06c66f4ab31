// Tests of engine/config/yaml_tree.h.
#include "engine/config/yaml_tree.h"

#include <gtest/gtest.h>

#include <string>

namespace mobula {
namespace {

std::string ErrorOf(std::string_view text) {
  const auto tree = ParseYamlTree(text);
  return tree.ok() ? "no error" : std::string(tree.status().message());
}

TEST(YamlTreeTest, KeepsValuesOrderAndPlaces) {
  const auto tree = ParseYamlTree("b: 1\na: { c: 'x y', d: [2, \"3\"] }\n");
  ASSERT_TRUE(tree.ok());
  ASSERT_EQ(tree->kind, YamlNode::Kind::kMap);
  ASSERT_EQ(tree->children.size(), 2U);
  EXPECT_EQ(tree->children[0].key, "b");
  EXPECT_EQ(tree->children[0].text, "1");
  EXPECT_EQ(tree->children[0].line, 1);
  EXPECT_EQ(tree->children[0].column, 4);
  const YamlNode* c = tree->Find("a")->Find("c");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->text, "x y");
  EXPECT_EQ(c->key_line, 2);
  EXPECT_EQ(c->key_column, 6);
  const YamlNode* d = tree->Find("a")->Find("d");
  ASSERT_EQ(d->kind, YamlNode::Kind::kList);
  EXPECT_EQ(d->children[1].text, "3");
}

TEST(YamlTreeTest, NullKnowsWhetherItWasSpelledOut) {
  const auto tree = ParseYamlTree(
      "\xef\xbb\xbf"
      "a:\nb: null\nc: ~\nd: \"null\"\n");
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->Find("a")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(tree->Find("a")->text, "");
  EXPECT_EQ(tree->Find("b")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(tree->Find("b")->text, "null");
  EXPECT_EQ(tree->Find("c")->text, "~");
  EXPECT_EQ(tree->Find("d")->kind, YamlNode::Kind::kScalar);
}

TEST(YamlTreeTest, AnEmptyTextIsNothing) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n"}) {
    const auto tree = ParseYamlTree(text);
    ASSERT_TRUE(tree.ok()) << text;
    EXPECT_EQ(tree->kind, YamlNode::Kind::kNull) << text;
  }
}

TEST(YamlTreeTest, AliasesAreCopiedToTheirPlace) {
  const auto tree = ParseYamlTree("a: &x { k: v }\nb: *x\n");
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->Find("b")->Find("k")->text, "v");
  EXPECT_EQ(tree->Find("b")->line, 2);
}

TEST(YamlTreeTest, MergeKeysFillInWhatIsNotSaid) {
  const auto tree = ParseYamlTree(
      "one: &one { a: 1, b: 1 }\ntwo: &two { b: 2, c: 2 }\n"
      "x: { <<: *one, a: own }\ny: { <<: [*one, *two] }\n");
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->Find("x")->Find("a")->text, "own");
  EXPECT_EQ(tree->Find("x")->Find("b")->text, "1");
  EXPECT_EQ(tree->Find("x")->children.size(), 2U);
  EXPECT_EQ(tree->Find("y")->Find("b")->text, "1");
  EXPECT_EQ(tree->Find("y")->Find("c")->text, "2");
  EXPECT_EQ(ErrorOf("x: { <<: 1 }"), "1:10: <<: expected a map, or a list of maps");
}

TEST(YamlTreeTest, AQuoteIsClosed) {
  for (const std::string before : {"", "b: '\xc3\xa4' # \xe2\x80\xa6\n"}) {
    const std::string line = before.empty() ? "1" : "2";
    for (const std::string value : {"\"x\n", "'x\n", "'it''s\n", "\"x\\\"\n", "\"x\n\n  y\n"}) {
      EXPECT_EQ(ErrorOf(before + "a: " + value), line + ":4: the closing quote is missing")
          << value;
    }
    EXPECT_EQ(ErrorOf(before + "a: &x \"x\n"), line + ":4: the closing quote is missing");
    for (const std::string value : {"\"x\n y\"\n", "'it''s'\n", "\"x\\\"\"\n", "''\n", "|\n  \"x\n",
                                    "&x \"x\"\n", "don't\n", "!!str \"x\"\n"}) {
      EXPECT_EQ(ErrorOf(before + "a: " + value), "no error") << value;
    }
  }
}

TEST(YamlTreeTest, ErrorsHaveAPlace) {
  EXPECT_EQ(ErrorOf("a: [1, 2"), "1:9: not YAML: end of sequence flow not found");
  EXPECT_EQ(ErrorOf("a: 1\n---\nb: 2\n").substr(0, 4), "2:1:");
  EXPECT_EQ(ErrorOf("a: *x\n").substr(0, 4), "1:4:");
  EXPECT_EQ(ErrorOf("[a]: 1\n"), "1:1: a key must be a plain word");
  EXPECT_EQ(ErrorOf("a: !env X\n"), "1:4: tags (!name) have no meaning here");
  EXPECT_EQ(ErrorOf("a: &x [*x]\n"), "1:8: an alias inside the value it stands for");
}

TEST(YamlTreeTest, BombsEndAtTheLimits) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) bomb += last + ", ";
    bomb += last + "]\n";
  }
  EXPECT_NE(ErrorOf(bomb).find("more than 10000 values"), std::string::npos);

  std::string fat = "a: &a \"" + std::string(100'000, 'x') + "\"\nb: [";
  for (int i = 0; i < 1000; ++i) fat += "*a, ";
  EXPECT_NE(ErrorOf(fat + "1]\n").find("more than 4 MiB of text"), std::string::npos);

  EXPECT_NE(ErrorOf(std::string(1'000'000, '[')).find("nested deeper than 50"), std::string::npos);
  std::string deep;
  for (int i = 0; i < 60; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_NE(ErrorOf(deep).find("nested deeper than 50"), std::string::npos);
}

TEST(YamlTreeTest, AnyBytesEndInATreeOrAnError) {
  std::string noise;
  uint32_t state = 1;
  for (int round = 0; round < 300; ++round) {
    noise.clear();
    for (int i = 0; i < 60; ++i) {
      state = state * 1664525 + 1013904223;
      constexpr std::string_view kAlphabet = "ab:-?[]{},#&*!|>'\"%@` \n\t~\xff\x01";
      noise += kAlphabet[(state >> 16) % kAlphabet.size()];
    }
    (void)ParseYamlTree(noise);
  }
}

}  // namespace
}  // namespace mobula
