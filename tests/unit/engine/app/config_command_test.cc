// Tests of engine/app/config_command.h.
#include "engine/app/config_command.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace mobula {
namespace {

ConfigInput Input(Variables variables = {}, std::vector<std::string> sets = {}) {
  ConfigInput input;
  input.sets = std::move(sets);
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    return std::nullopt;
  };
  input.variables = [variables] { return variables; };
  return input;
}

std::string Print(std::string_view text, const ConfigInput& input = Input(),
                  PrintFormat format = PrintFormat::kYaml) {
  const auto tree = ParseEffective(text, "test.yaml", input);
  EXPECT_TRUE(tree.ok()) << tree.status();
  return tree.ok() ? FormatConfig(*tree, format) : "";
}

// Every line of `text` without its comment, which is the last thing on it.
std::string WithoutOrigins(const std::string& text) {
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    std::string line = text.substr(begin, end - begin);
    const size_t comment = line.rfind("  # ");
    if (comment != line.npos) line.resize(line.find_last_not_of(' ', comment) + 1);
    out += line + '\n';
    begin = end + 1;
  }
  return out;
}

constexpr std::string_view kEverything = R"(
receivers:
  udp: { address: "[::1]:2000", workers: 2 }
  unix: { path: "/run/a b.sock", mode: 0600 }
  proxy: { address: off, backend: "null", rules_age: 0s }
backends:
  "null":
    type: xray
    region: eu-west-1
    role_arn: "arn:aws:iam::222222222222:role/x"
    external_id: "0123"
    session_tags: { Team: "a b", "0": "", "null": "null", "ü: -": "a: b" }
    via:
      - session_tags: { a: b }
        role_arn: "arn:aws:iam::333333333333:role/y"
      - role_arn: "arn:aws:iam::444444444444:role/z"
    http_proxy: "http://user:${env:SECRET}@proxy:3128"
    telemetry: true
  archive: { type: file, path: "-", fsync: 5s }
  sink: { type: null }
routes:
  - when: |
      annotation.a = "x # y" AND
      http.url ENDSWITH "\\"
    to: [null, archive]
  - { when: fault, to: [] }
  - { to: [sink] }
log: { path: "null", level: "${env:LEVEL:-debug}", rotate: { size: never } }
dead_letter: { path: "back\\slash \"quote\" tab?" }
)";

TEST(ConfigCommandTest, WhatIsPrintedIsReadAgainAndPrintedAlike) {
  const std::string printed = Print(kEverything);
  const std::string again = Print(printed);
  EXPECT_EQ(WithoutOrigins(printed), WithoutOrigins(again));
  EXPECT_EQ(again.find("# default"), std::string::npos) << again;
  EXPECT_EQ(printed.find("hunter2"), std::string::npos) << printed;
  const auto first = ParseConfig(kEverything, "a", Input());
  const auto second = ParseConfig(printed, "b", Input());
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->unix_socket.mode, second->unix_socket.mode);
  EXPECT_EQ(first->routes[0].when, second->routes[0].when);
  EXPECT_EQ(first->routes[0].to, second->routes[0].to);
  EXPECT_EQ(first->dead_letter.path, second->dead_letter.path);
  EXPECT_EQ(first->log.path, second->log.path);
  const auto& role = std::get<XrayBackendConfig>(first->backends[0].settings);
  const auto& role_again = std::get<XrayBackendConfig>(second->backends[0].settings);
  EXPECT_EQ(role.role, role_again.role);
  EXPECT_EQ(role.via, role_again.via);
  EXPECT_EQ(role.http_proxy, role_again.http_proxy);
}

TEST(ConfigCommandTest, CommentsStandInOneColumn) {
  const std::string printed = Print(
      "backends: { a: { type: file, path: p } }\nroutes: [{ when: fault, to: [a] }, { to: [a] }]\n",
      Input({{"MOBULA_LOG_LEVEL", "warn"}}, {"--log.rotate.keep=2"}));
  EXPECT_NE(printed.find("    type: file                 # test.yaml:1\n"), std::string::npos)
      << printed;
  EXPECT_NE(printed.find("routes:\n"
                         "  - when: fault                # test.yaml:2\n"
                         "    to: [a]                    # test.yaml:2\n"
                         "  - to: [a]                    # test.yaml:2\n"),
            std::string::npos)
      << printed;
  EXPECT_NE(printed.find("log:\n"
                         "  level: warn                  # MOBULA_LOG_LEVEL\n"
                         "  format: auto                 # default\n"
                         "  rotate:\n"
                         "    size: 50MiB                # default\n"
                         "    keep: 2                    # --log.rotate.keep\n"),
            std::string::npos)
      << printed;
}

TEST(ConfigCommandTest, JsonHasNameValueAndOrigin) {
  const std::string printed = Print(
      "backends: { a: { type: xray, role_arn: \"arn:aws:iam::222222222222:role/x\",\n"
      "  via: [{ role_arn: \"arn:aws:iam::333333333333:role/y\" }], session_tags: { T: \"ü\" "
      "} } }\n"
      "routes: [{ to: [] }, { to: [a] }]\n",
      Input({{"MOBULA_LOG_PATH", "a\\b"}}), PrintFormat::kJson);
  for (
      const std::string_view line : {
          R"({"name": "backends.a.type", "value": "xray", "origin": "test.yaml:1"})",
          R"({"name": "backends.a.via[0].role_arn", "value": "arn:aws:iam::333333333333:role/y", "origin": "test.yaml:2"})",
          R"({"name": "backends.a.session_tags.T", "value": "ü", "origin": "test.yaml:2"})",
          R"({"name": "routes[0].to", "value": [], "origin": "test.yaml:3"})",
          R"({"name": "routes[1].to", "value": ["a"], "origin": "test.yaml:3"})",
          R"({"name": "log.path", "value": "a\\b", "origin": "MOBULA_LOG_PATH"})",
          R"({"name": "batch.documents", "value": "50", "origin": "default"})",
      }) {
    EXPECT_NE(printed.find("  " + std::string(line)), std::string::npos) << line << "\n" << printed;
  }
  EXPECT_EQ(printed.substr(0, 4), "[\n  ");
  EXPECT_EQ(printed.substr(printed.size() - 5), "\"}\n]\n");
}

TEST(ConfigCommandTest, PrintsToStandardOutputOrSaysWhatIsWrong) {
  ConfigInput input = Input({{"MOBULA_BACKENDS_OUT_TYPE", "null"}});
  input.default_path = "/nonexistent/mobula.yaml";
  ::testing::internal::CaptureStdout();
  const absl::Status status = PrintConfigCommand(input, PrintFormat::kYaml);
  const std::string printed = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_NE(printed.find("# MOBULA_BACKENDS_OUT_TYPE\n"), std::string::npos) << printed;
  input.variables = [] { return Variables(); };
  EXPECT_FALSE(PrintConfigCommand(input, PrintFormat::kYaml).ok());
}

}  // namespace
}  // namespace mobula
