// Tests of engine/config/overrides.h, as the loader uses it: who wins, which names there are, which are refused.
#include "engine/config/overrides.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/config/loader.h"

namespace mobula {
namespace {

constexpr std::string_view kSmallest = "backends: { out: { type: null } }\n";

ConfigInput Input(Variables variables, std::vector<std::string> sets) {
  ConfigInput input;
  input.sets = std::move(sets);
  input.environment = [](std::string_view) { return std::nullopt; };
  input.variables = [variables] { return variables; };
  return input;
}

Config Parse(std::string_view text, Variables variables, std::vector<std::string> sets = {}) {
  auto config = ParseConfig(text, "test.yaml", Input(std::move(variables), std::move(sets)));
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : Config();
}

std::string ErrorOf(std::string_view text, Variables variables,
                    std::vector<std::string> sets = {}) {
  const auto config = ParseConfig(text, "test.yaml", Input(std::move(variables), std::move(sets)));
  return config.ok() ? "no error" : std::string(config.status().message());
}

const XrayBackendConfig& Xray(const Config& config, size_t i = 0) {
  return std::get<XrayBackendConfig>(config.backends.at(i).settings);
}

TEST(OverridesTest, FlagsWinOverTheEnvironmentAndThatOverTheFile) {
  const std::string file = std::string(kSmallest) +
                           "batch: { documents: 1, age: 1s }\nlog: { level: warn, format: text }\n"
                           "receivers: { udp: { workers: 3 } }\n";
  const Config config = Parse(file,
                              {{"MOBULA_BATCH_DOCUMENTS", "2"},
                               {"MOBULA_LOG_LEVEL", "error"},
                               {"MOBULA_RECEIVERS_UDP_ADDRESS", "[::1]:3000"},
                               {"MOBULA_RECEIVERS_UDP_ALLOW", "[10.0.0.0/8, \"fd00::/8\"]"}},
                              {"log.level=info", "--log.level=debug"});
  EXPECT_EQ(config.udp.workers, 3);
  EXPECT_EQ(config.batch.documents, 2);
  EXPECT_EQ(config.udp.address, "[::1]:3000");
  EXPECT_EQ(config.udp.allow.size(), 2U);
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.format, LogFormat::kText);
}

TEST(OverridesTest, TheEnvironmentAlone) {
  const Config config =
      Parse("", {{"MOBULA_BACKENDS_PROD_EU_TYPE", "xray"},
                 {"MOBULA_BACKENDS_PROD_EU_TLS_VERIFY", "false"},
                 {"MOBULA_BACKENDS_PROD_EU_REGION", "eu-west-1"},
                 {"MOBULA_DEAD_LETTER_PATH", "d"},
                 {"MOBULA_ROUTES", "[{ when: fault, to: [prod_eu] }, { to: [] }]"}});
  ASSERT_EQ(config.backends.size(), 1U);
  EXPECT_EQ(config.backends[0].name, "prod_eu");
  EXPECT_EQ(Xray(config).region, "eu-west-1");
  EXPECT_FALSE(Xray(config).tls.verify);
  EXPECT_EQ(config.dead_letter.path, "d");
  ASSERT_EQ(config.routes.size(), 2U);
  EXPECT_EQ(config.routes[0].to, std::vector<std::string>{"prod_eu"});
}

TEST(OverridesTest, AVariableIsAboutABackendOfTheFileOrOfAFlagOrOfAnotherVariable) {
  const Config config = Parse("backends: { prod-eu: { type: xray } }\n",
                              {{"MOBULA_BACKENDS_PROD_EU_REGION", "eu-west-1"},
                               {"MOBULA_BACKENDS_PROD_EU_TYPE", "xray"},
                               {"MOBULA_BACKENDS_FROM_FLAG_REGION", "eu-west-2"}},
                              {"--backends.from-flag.type=xray"});
  ASSERT_EQ(config.backends.size(), 2U);
  EXPECT_EQ(config.backends[0].name, "prod-eu");
  EXPECT_EQ(Xray(config, 0).region, "eu-west-1");
  EXPECT_EQ(config.backends[1].name, "from-flag");
  EXPECT_EQ(Xray(config, 1).region, "eu-west-2");
  const Config whole = Parse("", {{"MOBULA_BACKENDS", "{ a-b: { type: xray } }"},
                                  {"MOBULA_BACKENDS_A_B_REGION", "eu-west-3"}});
  EXPECT_EQ(Xray(whole).region, "eu-west-3");
}

TEST(OverridesTest, ListsAndMapsAreYaml) {
  const Config config =
      Parse("backends: { p: { type: xray } }\n",
            {{"MOBULA_BACKENDS_P_ROLE_ARN", "arn:aws:iam::222222222222:role/x"},
             {"MOBULA_BACKENDS_P_SESSION_TAGS", "{ Team: a b, cost: \"1\" }"},
             {"MOBULA_BACKENDS_P_VIA", "[{ role_arn: \"arn:aws:iam::333333333333:role/y\" }]"}});
  EXPECT_EQ(Xray(config).role.role_arn, "arn:aws:iam::222222222222:role/x");
  EXPECT_EQ(Xray(config).role.session_tags,
            (std::vector<std::pair<std::string, std::string>>{{"Team", "a b"}, {"cost", "1"}}));
  ASSERT_EQ(Xray(config).via.size(), 1U);
  EXPECT_EQ(Xray(config).via[0].role_arn, "arn:aws:iam::333333333333:role/y");
}

TEST(OverridesTest, EmptyVariablesAreNone) {
  EXPECT_EQ(Parse(kSmallest, {{"MOBULA_LOG_LEVEL", ""}, {"MOBULA_LOG_LEVLE", ""}}).log.level,
            LogLevel::kInfo);
}

TEST(OverridesTest, TheFirstOfTwoOfOneNameCountsAsInAShell) {
  EXPECT_EQ(
      Parse(kSmallest, {{"MOBULA_LOG_LEVEL", "warn"}, {"MOBULA_LOG_LEVEL", "debug"}}).log.level,
      LogLevel::kWarn);
}

TEST(OverridesTest, UnknownVariablesOfOursAreRefused) {
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_RECEIVERS_UDP_ADDRES", ":2000"}}),
            "environment MOBULA_RECEIVERS_UDP_ADDRES: unknown variable (did you mean "
            "\"MOBULA_RECEIVERS_UDP_ADDRESS\"?)");
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_LOG_XYZZY_AND_MORE", "1"}}),
            "environment MOBULA_LOG_XYZZY_AND_MORE: unknown variable");
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_BACKENDS_OUT_QUOTE", "1MiB"}}),
            "environment MOBULA_BACKENDS_OUT_QUOTE: unknown variable (did you mean "
            "\"MOBULA_BACKENDS_OUT_QUOTA\"?)");
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_BACKENDS_ELSEWHERE_REGION", "eu-west-1"}}),
            "environment MOBULA_BACKENDS_ELSEWHERE_REGION: no backend is named \"elsewhere\": "
            "MOBULA_BACKENDS_ELSEWHERE_TYPE=xray would make one");
  EXPECT_EQ(ErrorOf("backends: { prod: { type: xray } }\n", {{"MOBULA_BACKENDS_PRD_REGION", "x"}}),
            "environment MOBULA_BACKENDS_PRD_REGION: no backend is named \"prd\" (did you mean "
            "\"prod\"?)");
  EXPECT_EQ(ErrorOf("", {{"MOBULA_BACKENDS_prod_TYPE", "xray"}}),
            "environment MOBULA_BACKENDS_prod_TYPE: unknown variable");
}

TEST(OverridesTest, OtherVariablesAreLeftAlone) {
  Parse(kSmallest, {{"MOBULA_BIN", "x"},
                    {"MOBULA_LONG", "1"},
                    {"MOBULA_LOGGER", "x"},
                    {"MOBULA_PORT_2000_UDP", "udp://10.0.0.1:2000"},
                    {"mobula_log_level", "x"},
                    {"MOBULA_ADMIN_SERVICE_HOST", "10.0.0.1"},
                    {"MOBULA_ADMIN_SERVICE_PORT", "2010"},
                    {"MOBULA_ADMIN_SERVICE_PORT_METRICS", "2010"},
                    {"MOBULA_ADMIN_PORT", "tcp://10.0.0.1:2010"},
                    {"MOBULA_ADMIN_PORT_2010_TCP", "tcp://10.0.0.1:2010"},
                    {"MOBULA_ADMIN_PORT_2010_TCP_ADDR", "10.0.0.1"},
                    {"PATH", "/bin"}});
  EXPECT_NE(ErrorOf(kSmallest, {{"MOBULA_ADMIN_PORT", "2010"}}), "no error");
}

TEST(OverridesTest, AmbiguousNamesAreRefused) {
  EXPECT_EQ(ErrorOf("backends: { a-b: { type: xray }, a_b: { type: xray } }\n",
                    {{"MOBULA_BACKENDS_A_B_REGION", "eu-west-1"}}),
            "environment MOBULA_BACKENDS_A_B_REGION: ambiguous, backends.a-b.region or "
            "backends.a_b.region: rename a backend, or use the file or a flag");
  // What stands after the name may be part of it.
  EXPECT_EQ(ErrorOf("backends: { a: { type: xray }, a_sts: { type: xray } }\n",
                    {{"MOBULA_BACKENDS_A_STS_ENDPOINT", "https://x"}}),
            "environment MOBULA_BACKENDS_A_STS_ENDPOINT: ambiguous, backends.a.sts_endpoint or "
            "backends.a_sts.endpoint: rename a backend, or use the file or a flag");
}

TEST(OverridesTest, MistakesSayWhereTheyStandInTheOrderOfFileEnvironmentFlags) {
  EXPECT_EQ(ErrorOf(std::string(kSmallest) + "batch: { documents: 0 }\n",
                    {{"MOBULA_LOG_LEVEL", "loud"},
                     {"MOBULA_ROUTES", "[{ to: [nowhere] }]"},
                     {"MOBULA_BACKENDS_MORE_TYPE", "file"}},
                    {"--log.format=loud", "receivers.udp.workers=none"}),
            "test.yaml:2:21: batch.documents: \"0\": expected a number from 1 to 64\n"
            "environment MOBULA_BACKENDS_MORE_TYPE: backends.more.path: missing: expected the "
            "file's path; `-` is standard output\n"
            "environment MOBULA_LOG_LEVEL: log.level: \"loud\": expected debug, info, warn or "
            "error\n"
            "environment MOBULA_ROUTES: routes[0].to[0]: no backend is named \"nowhere\"\n"
            "--log.format: \"loud\": expected auto, text, json or daemon\n"
            "--set receivers.udp.workers: \"none\": expected auto, per-core or a number from 1 to "
            "64");
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_ROUTES", "[{"}}).rfind("environment MOBULA_ROUTES: 1:", 0),
            0U);
}

TEST(OverridesTest, BytesThatAreNoTextAreRefused) {
  EXPECT_EQ(ErrorOf(kSmallest, {{"MOBULA_LOG_PATH", "a\xff"}}),
            "environment MOBULA_LOG_PATH: not UTF-8");
  EXPECT_EQ(ErrorOf(kSmallest, {}, {"log.path=a\xff"}), "--set log.path: not UTF-8");
}

TEST(OverridesTest, APasswordIsNotTold) {
  const std::string secret = "http://user:hunter2@proxy:port";
  for (const std::string& error : {
           ErrorOf("",
                   {{"MOBULA_BACKENDS_A_TYPE", "xray"}, {"MOBULA_BACKENDS_A_HTTP_PROXY", secret}}),
           ErrorOf("", {}, {"backends.a.type=xray", "backends.a.http_proxy=" + secret}),
           ErrorOf("", {}, {"backends.a.type=xray", "--backends.a.http_proxy=" + secret}),
           ErrorOf("", {}, {"backends.a.http_proxy:" + secret}),
           ErrorOf("", {}, {"backends.a.type=xray", "backends.a.endpoint=" + secret}),
       }) {
    EXPECT_NE(error, "no error");
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
}

TEST(OverridesTest, ARootThatIsNoMapStaysAMistake) {
  EXPECT_NE(ErrorOf("- backends\n", {{"MOBULA_BACKENDS_A_TYPE", "null"}}, {"log.level=info"})
                .find("test.yaml:1:1: a list: expected a map"),
            std::string::npos);
}

}  // namespace
}  // namespace mobula
