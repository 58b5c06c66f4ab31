// Tests of engine/config/option_flags.h.
#include "engine/config/option_flags.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

using Strings = std::vector<std::string>;

std::string ErrorOf(const Strings& args) {
  const auto sets = SetsFromFlags(args);
  return sets.ok() ? "no error" : std::string(sets.status().message());
}

TEST(OptionFlagsTest, WhatIsAnOptionFlag) {
  for (const char* arg : {"--log.level", "--log.level=debug", "--receivers.udp.addres",
                          "--lgo.level", "--routes=[]", "--backends", "--backends.prod.region"}) {
    EXPECT_TRUE(IsOptionFlag(arg)) << arg;
  }
  for (const char* arg : {"", "-", "--", "--set", "--set=log.level=debug", "--version", "-c",
                          "log.level", "--to=127.0.0.1:2000", "--.", "agent.yaml"}) {
    EXPECT_FALSE(IsOptionFlag(arg)) << arg;
  }
}

TEST(OptionFlagsTest, TheValueStandsBehindTheEqualsSignOrNext) {
  const auto sets = SetsFromFlags({"--log.level=debug", "--log.path", "-", "--routes=[{to: [a]}]",
                                   "--backends.prod.endpoint", "http://x?a=b",
                                   "--backends.prod.session_tags.Team=a=b", "--log.path="});
  ASSERT_TRUE(sets.ok()) << sets.status();
  EXPECT_EQ(*sets, (Strings{"--log.level=debug", "--log.path=-", "--routes=[{to: [a]}]",
                            "--backends.prod.endpoint=http://x?a=b",
                            "--backends.prod.session_tags.Team=a=b", "--log.path="}));
  EXPECT_TRUE(SetsFromFlags({})->empty());
}

TEST(OptionFlagsTest, MistakesNameTheFlagAndNeverItsValue) {
  EXPECT_EQ(ErrorOf({"--log.levle=x"}),
            "--log.levle: unknown option (did you mean \"--log.level\"?)");
  EXPECT_EQ(ErrorOf({"--lgo.level", "x"}),
            "--lgo.level: unknown option (did you mean \"--log.level\"?)");
  EXPECT_EQ(
      ErrorOf({"--backends.prod.http_poxy=http://u:hunter2@p"}),
      "--backends.prod.http_poxy: unknown option (did you mean \"--backends.prod.http_proxy\"?)");
  EXPECT_EQ(ErrorOf({"--backends.A.type=xray"}),
            "--backends.A.type: a backend's name is 1 to 63 of a-z, 0-9, _ and -");
  EXPECT_EQ(ErrorOf({"http://user:hunter2@proxy"}), "unexpected argument: http://user:***@proxy");
  EXPECT_EQ(ErrorOf({"--verbose"}), "--verbose: unknown option");
  EXPECT_EQ(ErrorOf({"--routes[0].to=x"}), "--routes[0].to: unknown option");
  EXPECT_EQ(ErrorOf({"--log.level"}), "--log.level: its value is missing");
  EXPECT_EQ(ErrorOf({"--log.level", "--log.path=x"}), "--log.level: its value is missing");
  EXPECT_EQ(ErrorOf({"agent.yaml"}), "unexpected argument: agent.yaml");
  EXPECT_EQ(ErrorOf({"--"}), "unexpected argument: --");
}

}  // namespace
}  // namespace mobula
