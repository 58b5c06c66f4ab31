// Tests of engine/config/options.h: that the table is in order with itself.
#include "engine/config/options.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace mobula {
namespace {

TEST(OptionsTest, EveryDefaultIsWhatTheOptionTakes) {
  for (const Option& option : Options()) {
    if (option.default_text.empty()) continue;
    Config config;
    BackendConfig backend;
    if (option.backend_type == "file") backend.settings = FileBackendConfig();
    RouteConfig route;
    AwsRole role;
    const OptionTarget target{&config, &backend, &route, &role, "name"};
    EXPECT_TRUE(option.set(target, option.default_text).ok()) << option.path;
  }
}

// The schema must not refuse what the loader takes; it may take more, such as what is too long.
TEST(OptionsTest, ThePatternOfAFormTakesWhatTheFormTakes) {
  const std::vector<std::string> samples = {
      "0660",
      "0000",
      "432",
      "0860",
      "06600",
      "arn:aws:iam::123456789012:role/a",
      "/run/x.sock",
      "unix:/run/x.sock",
      "unix:",
      "arn:aws-us-gov:iam::123456789012:role/a/b+c=d,e.f@g-h_i",
      "arn:aws:iam::1:role/a",
      "ab",
      "a",
      "a b",
      "Ünicode",
      "x:y/z",
      "http://proxy:3128",
      "https://u:p@proxy:3128/",
      "http://u:p@:1",
      "a<b",
      "",
      "http://[::1]:3128",
      "a\tb",
      "a!b",
      "{}",
      "[",
      "~"};
  size_t taken = 0;
  for (const Option& option : Options()) {
    if (option.kind != OptionKind::kForm) continue;
    const std::regex pattern{std::string(option.pattern), std::regex::ECMAScript};
    for (const std::string& sample : samples) {
      Config config;
      BackendConfig backend;
      AwsRole role;
      const OptionTarget target{&config, &backend, nullptr, &role, "name"};
      if (!option.set(target, sample).ok()) continue;
      ++taken;
      EXPECT_TRUE(std::regex_search(sample, pattern)) << option.path << ": " << sample;
    }
  }
  EXPECT_GT(taken, 20U);
}

TEST(OptionsTest, WhatIsNeededIsANeighbour) {
  for (const Option& option : Options()) {
    if (option.needs.empty()) continue;
    const std::string map = option.path.substr(0, option.path.rfind('.'));
    EXPECT_NE(FindOption(Below(map, option.needs), option.backend_type), nullptr) << option.path;
  }
}

TEST(OptionsTest, NoOptionIsThereTwice) {
  std::set<std::pair<std::string, std::string_view>> seen;
  for (const Option& option : Options()) {
    EXPECT_TRUE(seen.emplace(option.path, option.backend_type).second) << option.path;
  }
}

TEST(OptionsTest, EveryPlaceBehindASignHasItsCollection) {
  for (const Option& option : Options()) {
    for (size_t at = option.path.find_first_of("*["); at != option.path.npos;
         at = option.path.find_first_of("*[", at + 1)) {
      const std::string before = option.path.substr(0, option.path[at] == '*' ? at - 1 : at);
      EXPECT_NE(FindCollection(before, kAnyType), nullptr) << option.path;
    }
  }
}

TEST(OptionsTest, PatternOfFindsTheRowBehindNames) {
  EXPECT_EQ(PatternOf({"log", "level"}), "log.level");
  EXPECT_EQ(PatternOf({"log"}), "log");
  EXPECT_EQ(PatternOf({"backends", "prod", "session_tags", "Team"}), "backends.*.session_tags.*");
  EXPECT_EQ(PatternOf({"backends", "prod", "via"}), "backends.*.via");
  EXPECT_EQ(PatternOf({"backends", "PROD", "region"}), "");
  EXPECT_EQ(PatternOf({"routes", "0"}), "");
  EXPECT_EQ(PatternOf({"nothing"}), "");
}

}  // namespace
}  // namespace mobula
