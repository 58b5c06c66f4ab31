// Tests of engine/config/references.h.
#include "engine/config/references.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace mobula {
namespace {

std::optional<std::string> TestEnvironment(std::string_view name) {
  if (name == "REGION") return "eu-west-1";
  if (name == "EMPTY") return "";
  if (name == "NESTED") return "${env:REGION}";
  return std::nullopt;
}

absl::StatusOr<std::string> Resolve(std::string_view text) {
  return ResolveReferences(text, TestEnvironment);
}

std::string ErrorOf(std::string_view text) {
  const auto resolved = Resolve(text);
  return resolved.ok() ? "no error" : std::string(resolved.status().message());
}

class ReferenceFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }
  void TearDown() override {
    ::unlink(Path().c_str());
    ::rmdir(folder_.c_str());
  }
  std::string Path() const { return folder_ + "/value"; }
  std::string Reference() const { return "${file:" + Path() + "}"; }
  void Write(std::string_view content) { std::ofstream(Path(), std::ios::binary) << content; }

  std::string folder_ = ::testing::TempDir() + "references_XXXXXX";
};

TEST(ReferencesTest, VariablesAndDefaults) {
  EXPECT_EQ(*Resolve("plain $ {text}"), "plain $ {text}");
  EXPECT_EQ(*Resolve("${env:REGION}"), "eu-west-1");
  EXPECT_EQ(*Resolve("a-${env:REGION}-${env:NONE:-b}-c"), "a-eu-west-1-b-c");
  EXPECT_EQ(*Resolve("${env:NONE:-}"), "");
  EXPECT_EQ(*Resolve("${env:EMPTY:-default}"), "default");
  EXPECT_EQ(*Resolve("${env:EMPTY}"), "");
}

TEST(ReferencesTest, WhatComesInIsNotLookedAtAgain) {
  EXPECT_EQ(*Resolve("${env:NESTED}"), "${env:REGION}");
}

TEST(ReferencesTest, ErrorsNameTheReference) {
  EXPECT_EQ(ErrorOf("x${env:NONE}"), "${env:NONE}: is not set, and has no default (:-…)");
  EXPECT_EQ(ErrorOf("${env:}"), "${env:}: is not a name of a variable");
  EXPECT_EQ(ErrorOf("${env:1A}"), "${env:1A}: is not a name of a variable");
  EXPECT_EQ(ErrorOf("${env:A"), "${env:A: the closing } is missing");
  EXPECT_EQ(ErrorOf("${HOME}"),
            "${HOME}: expected ${env:NAME}, ${env:NAME:-default} or ${file:path}");
  EXPECT_EQ(ErrorOf("${file:}"),
            "${file:}: expected ${env:NAME}, ${env:NAME:-default} or ${file:path}");
  EXPECT_EQ(ErrorOf("${file:/nonexistent/x}"),
            "${file:/nonexistent/x}: cannot be read: No such file or directory");
  EXPECT_EQ(ErrorOf("${file:/}"), "${file:/}: is not a regular file");
}

TEST_F(ReferenceFileTest, OneLineEndIsLeftOut) {
  Write("secret\n");
  EXPECT_EQ(*Resolve(Reference()), "secret");
  Write("secret\r\n");
  EXPECT_EQ(*Resolve(Reference()), "secret");
  Write("two\n\n");
  EXPECT_EQ(*Resolve(Reference()), "two\n");
}

TEST_F(ReferenceFileTest, LargeFilesAreRefused) {
  Write(std::string(65536, 'x'));
  EXPECT_TRUE(Resolve(Reference()).ok());
  Write(std::string(65537, 'x'));
  EXPECT_EQ(ErrorOf(Reference()), Reference() + ": is larger than 64KiB");
}

TEST_F(ReferenceFileTest, APipeDoesNotHoldUsUp) {
  ASSERT_EQ(::mkfifo(Path().c_str(), 0600), 0);
  EXPECT_EQ(ErrorOf(Reference()), Reference() + ": is not a regular file");
}

}  // namespace
}  // namespace mobula
