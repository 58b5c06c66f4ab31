// Tests of engine/config/daemon_flags.h.
#include "engine/config/daemon_flags.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mobula {
namespace {

using Args = std::vector<std::string>;

DaemonFlags Parsed(const Args& args) {
  DaemonFlags flags;
  const absl::Status status = ParseDaemonFlags(args, &flags);
  EXPECT_TRUE(status.ok()) << status;
  return flags;
}

std::string Refused(const Args& args) {
  DaemonFlags flags;
  const absl::Status status = ParseDaemonFlags(args, &flags);
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

TEST(DaemonFlagsTest, EverySpellingOfAValueIsTheSame) {
  for (const Args& args : {Args{"-n", "eu-west-1"}, Args{"--n", "eu-west-1"}, Args{"-n=eu-west-1"},
                           Args{"-region", "eu-west-1"}, Args{"--region=eu-west-1"}}) {
    EXPECT_EQ(Parsed(args).region, "eu-west-1") << args.front();
  }
}

TEST(DaemonFlagsTest, EveryFlagHasTwoNames) {
  const DaemonFlags brief =
      Parsed({"-a", "1", "-o", "-m", "2",  "-n", "3",  "-b", "4",  "-t", "5",
              "-r", "6", "-c", "7",  "-f", "8",  "-l", "9",  "-p", "10", "-v"});
  const DaemonFlags full = Parsed({"--resource-arn",
                                   "1",
                                   "--local-mode",
                                   "--buffer-memory",
                                   "2",
                                   "--region",
                                   "3",
                                   "--bind",
                                   "4",
                                   "--bind-tcp",
                                   "5",
                                   "--role-arn",
                                   "6",
                                   "--config",
                                   "7",
                                   "--log-file",
                                   "8",
                                   "--log-level",
                                   "9",
                                   "--proxy-address",
                                   "10",
                                   "--version"});
  for (const DaemonFlags& flags : {brief, full}) {
    EXPECT_EQ(flags.resource_arn, "1");
    EXPECT_EQ(flags.local_mode, true);
    EXPECT_EQ(flags.buffer_memory, 2);
    EXPECT_EQ(flags.region, "3");
    EXPECT_EQ(flags.bind, "4");
    EXPECT_EQ(flags.bind_tcp, "5");
    EXPECT_EQ(flags.role_arn, "6");
    EXPECT_EQ(flags.config, "7");
    EXPECT_EQ(flags.log_file, "8");
    EXPECT_EQ(flags.log_level, "9");
    EXPECT_EQ(flags.proxy_address, "10");
    EXPECT_EQ(flags.version, true);
    EXPECT_FALSE(flags.help);
  }
}

TEST(DaemonFlagsTest, OneOfOursHasOneName) {
  EXPECT_EQ(Parsed({"-n", "a"}).takeover, std::nullopt);
  EXPECT_EQ(Parsed({"--takeover", "-n", "a"}).takeover, true);
  EXPECT_EQ(Parsed({"--takeover=false"}).takeover, false);
}

TEST(DaemonFlagsTest, TheLastOneCounts) {
  EXPECT_EQ(Parsed({"-n", "a", "--region", "b", "-n=c"}).region, "c");
  EXPECT_EQ(Parsed({"-n", "a", "-n", ""}).region, "");
  EXPECT_EQ(Parsed({"-o", "-o=false"}).local_mode, false);
}

TEST(DaemonFlagsTest, AValueMayBeginWithADash) {
  const DaemonFlags flags = Parsed({"-n", "-b", "-f", "--"});
  EXPECT_EQ(flags.region, "-b");
  EXPECT_EQ(flags.log_file, "--");
  EXPECT_FALSE(flags.bind.has_value());
}

TEST(DaemonFlagsTest, ASwitchTakesItsValueOnlyBehindEquals) {
  for (const std::string word : {"1", "t", "T", "true", "True", "TRUE"}) {
    EXPECT_EQ(Parsed({"-o=" + word}).local_mode, true);
  }
  for (const std::string word : {"0", "f", "F", "false", "False", "FALSE"}) {
    EXPECT_EQ(Parsed({"--local-mode=" + word}).local_mode, false);
  }
  const DaemonFlags flags = Parsed({"-o", "false", "-n", "unread"});
  EXPECT_EQ(flags.local_mode, true);
  EXPECT_FALSE(flags.region.has_value());
  EXPECT_EQ(Refused({"-o=yes"}), "invalid boolean value \"yes\" for -o: parse error");
  EXPECT_EQ(Refused({"-v="}), "invalid boolean value \"\" for -v: parse error");
}

TEST(DaemonFlagsTest, EndsAtTheFirstOperand) {
  for (const std::string end : {"extra", "-", "--", ""}) {
    const DaemonFlags flags = Parsed({"-n", "a", end, "-n", "b", "--bogus"});
    EXPECT_EQ(flags.region, "a") << end;
  }
}

TEST(DaemonFlagsTest, HelpEndsTheReading) {
  EXPECT_TRUE(Parsed({"-n", "a", "-h", "--bogus"}).help);
  EXPECT_TRUE(Parsed({"--help=1"}).help);
  EXPECT_EQ(Refused({"--bogus", "-h"}), "flag provided but not defined: -bogus");
}

TEST(DaemonFlagsTest, MistakesAreToldInGosWords) {
  EXPECT_EQ(Refused({"-n", "a", "-x=1"}), "flag provided but not defined: -x");
  EXPECT_EQ(Refused({"-e", "http://x"}), "flag provided but not defined: -e");
  EXPECT_EQ(Refused({"-m"}), "flag needs an argument: -m");
  EXPECT_EQ(Refused({"--region"}), "flag needs an argument: -region");
  EXPECT_EQ(Refused({"-m", "abc"}), "invalid value \"abc\" for flag -m: parse error");
  EXPECT_EQ(Refused({"-m", "http://u:hunter2@p"}),
            "invalid value \"http://u:***@p\" for flag -m: parse error");
  EXPECT_EQ(Refused({"--buffer-memory="}),
            "invalid value \"\" for flag -buffer-memory: parse error");
  for (const std::string arg : {"---n", "-=", "--=x", "---"}) {
    EXPECT_EQ(Refused({arg, "x"}), "bad flag syntax: " + arg);
  }
  EXPECT_EQ(Refused({"-\x1b[2J"}), "flag provided but not defined: -\\x1b[2J");
  EXPECT_LT(Refused({"-m", std::string(100000, 'x')}).size(), 300U);
}

TEST(DaemonFlagsTest, NumbersAreGoLiterals) {
  const std::vector<std::pair<std::string, int64_t>> good = {{"16", 16},
                                                             {"+16", 16},
                                                             {"-3", -3},
                                                             {"0x10", 16},
                                                             {"0X1f", 31},
                                                             {"020", 16},
                                                             {"0o20", 16},
                                                             {"0b101", 5},
                                                             {"1_6", 16},
                                                             {"0x_1_0", 16},
                                                             {"0_20", 16},
                                                             {"0", 0},
                                                             {"-0", 0},
                                                             {"9223372036854775807", INT64_MAX},
                                                             {"-9223372036854775808", INT64_MIN}};
  for (const auto& [text, value] : good) EXPECT_EQ(ParseGoInt(text), value) << text;
  for (const std::string text : {"",
                                 "+",
                                 "-",
                                 "--1",
                                 "+-1",
                                 "1.5",
                                 "16MB",
                                 " 16",
                                 "16 ",
                                 "08",
                                 "0x",
                                 "0xg",
                                 "1__6",
                                 "_16",
                                 "16_",
                                 "0b2",
                                 "1e3",
                                 "9223372036854775808",
                                 "-9223372036854775809",
                                 "0x-1",
                                 "99999999999999999999999"}) {
    EXPECT_EQ(ParseGoInt(text), std::nullopt) << text;
  }
}

TEST(DaemonFlagsTest, TheUsageNamesEveryFlag) {
  const std::string usage = DaemonUsage();
  EXPECT_EQ(usage.substr(0, usage.find('\n')), "Usage: X-Ray [options]");
  size_t at = 0;
  for (const std::string row :
       {"\t-a\t--resource-arn\tA", "\t-o\t--local-mode\tD", "\t-m\t--buffer-memory\tM",
        "\t-n\t--region\tA", "\t-b\t--bind\t\tU", "\t-t\t--bind-tcp\tT", "\t-r\t--role-arn\tR",
        "\t-c\t--config\tC", "\t-f\t--log-file\tL", "\t-l\t--log-level\td",
        "\t-p\t--proxy-address\tH", "\t\t--takeover\tT", "\t-v\t--version\tP",
        "\t-h\t--help\t\tP"}) {
    const size_t found = usage.find("\n" + row, at);
    EXPECT_NE(found, std::string::npos) << row;
    at = found;
  }
}

}  // namespace
}  // namespace mobula
