// Tests of engine/config/effective.h. How it is printed: tests/unit/engine/app/config_command_test.cc.
#include "engine/config/effective.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "engine/config/loader.h"

namespace mobula {
namespace {

YamlNode Effective(std::string_view text, Variables variables = {},
                   std::vector<std::string> sets = {}) {
  ConfigInput input;
  input.sets = std::move(sets);
  input.environment = [](std::string_view) { return "hunter2-hunter2-hunter2"; };
  input.variables = [variables] { return variables; };
  auto tree = ParseEffective(text, "test.yaml", input);
  EXPECT_TRUE(tree.ok()) << tree.status();
  return tree.ok() ? *tree : YamlNode();
}

// "value # origin" of the node that the keys lead to; "none" without one.
std::string At(const YamlNode& tree, std::initializer_list<std::string_view> keys) {
  const YamlNode* node = &tree;
  for (const std::string_view key : keys) {
    node = node->Find(key);
    if (node == nullptr) return "none";
  }
  return node->text + " # " + node->origin;
}

TEST(EffectiveTest, EveryValueSaysWhereItCameFrom) {
  const YamlNode tree =
      Effective("backends:\n  a:\n    type: xray\n    region: eu-west-1\nlog: { path: x }\n",
                {{"MOBULA_LOG_LEVEL", "warn"}, {"MOBULA_BACKENDS_A_TIMEOUT", "2s"}},
                {"log.format=json", "--batch.documents=3"});
  EXPECT_EQ(At(tree, {"backends", "a", "region"}), "eu-west-1 # test.yaml:4");
  EXPECT_EQ(At(tree, {"backends", "a", "timeout"}), "2s # MOBULA_BACKENDS_A_TIMEOUT");
  EXPECT_EQ(At(tree, {"log", "path"}), "x # test.yaml:5");
  EXPECT_EQ(At(tree, {"log", "level"}), "warn # MOBULA_LOG_LEVEL");
  EXPECT_EQ(At(tree, {"log", "format"}), "json # --set");
  EXPECT_EQ(At(tree, {"log", "rotate", "size"}), "50MiB # default");
  EXPECT_EQ(At(tree, {"batch", "documents"}), "3 # --batch.documents");
  EXPECT_EQ(At(tree, {"backends", "a", "concurrency"}), "auto # default");
}

TEST(EffectiveTest, WhatHasNoValueIsLeftOut) {
  const YamlNode tree = Effective("backends: { a: { type: xray } }\n");
  EXPECT_EQ(At(tree, {"dead_letter", "path"}), "none");
  EXPECT_EQ(At(tree, {"routes"}), "none");
  EXPECT_EQ(At(tree, {"backends", "a", "role_arn"}), "none");
  // A default that means nothing without its neighbour would be refused when it is read again.
  EXPECT_EQ(At(tree, {"backends", "a", "session_name"}), "none");
  EXPECT_EQ(At(tree, {"backends", "a", "path"}), "none");
  const YamlNode with_role = Effective(
      "backends: { a: { type: xray, role_arn: \"arn:aws:iam::222222222222:role/x\" } }\n");
  EXPECT_EQ(At(with_role, {"backends", "a", "session_name"}), "xray-daemon # default");
}

TEST(EffectiveTest, SecretsAreNotInIt) {
  const YamlNode tree = Effective(
      "backends:\n"
      "  a: { type: xray, http_proxy: \"http://user:hunter2@proxy:3128\" }\n"
      "  b: { type: xray, http_proxy: \"http://user:${env:SECRET}@proxy:3128\" }\n"
      "  c: { type: xray, profile: \"${env:SECRET}\" }\n");
  EXPECT_EQ(At(tree, {"backends", "a", "http_proxy"}), "http://user:***@proxy:3128 # test.yaml:2");
  EXPECT_EQ(At(tree, {"backends", "b", "http_proxy"}),
            "http://user:${env:SECRET}@proxy:3128 # test.yaml:3");
  EXPECT_EQ(At(tree, {"backends", "c", "profile"}), "${env:SECRET} # test.yaml:4");
}

TEST(EffectiveTest, OfASecretOnlyWhereItIsIsShown) {
  const auto token = [](const std::string& text) {
    return At(Effective("backends: { a: { type: null } }\nadmin: { token: \"" + text + "\" }\n"),
              {"admin", "token"});
  };
  EXPECT_EQ(token("0123456789abcdef"), "*** # test.yaml:2");
  EXPECT_EQ(token("0123456789abcdef${env:SECRET}"), "*** # test.yaml:2");
  EXPECT_EQ(token("${env:SECRET}0123456789abcdef"), "*** # test.yaml:2");
  EXPECT_EQ(token("${env:GONE:-0123456789abcdef}"), "*** # test.yaml:2");
  EXPECT_EQ(token("${env:SECRET}${env:SECRET}${env:SECRET}"), "*** # test.yaml:2");
  EXPECT_EQ(token("${env:TOKEN}"), "${env:TOKEN} # test.yaml:2");
}

}  // namespace
}  // namespace mobula
