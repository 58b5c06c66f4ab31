// Tests of engine/app/daemon_command.h and engine/app/migrate_command.h.
#include "engine/app/daemon_command.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/app/migrate_command.h"
#include "engine/config/daemon_settings.h"
#include "engine/config/loader.h"

namespace mobula {
namespace {

using Words = std::vector<std::string>;

TEST(IsDaemonCommandLineTest, ByNameOrByADashInFront) {
  for (const Words& words :
       {Words{"xray"}, Words{"/usr/bin/xray", "-c", "x"}, Words{"./xray", "run"},
        Words{"xray", "--help"}, Words{"mobula"}, Words{"mobula", "-n", "a"},
        Words{"/usr/bin/mobula", "--config=x"}, Words{"mobula", "-v"},
        Words{"mobula", "--help", "-v"}, Words{"mobula", "--"}}) {
    EXPECT_TRUE(IsDaemonCommandLine(words)) << words.back();
  }
  for (const Words& words :
       {Words{"mobula", "run", "-c", "x"}, Words{"mobula", "--help"}, Words{"mobula", "-h"},
        Words{"mobula", "--version"}, Words{"/opt/xray/mobula", "check"}, Words{"mobula", "bogus"},
        Words{"mobula", ""}, Words{"xray2", "run"}}) {
    EXPECT_FALSE(IsDaemonCommandLine(words)) << words.back();
  }
}

struct Outcome {
  int status;
  std::string out;
  std::string err;
};

Outcome Ran(const Words& args) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const int status = DaemonCommand(args);
  Outcome outcome{status, ::testing::internal::GetCapturedStdout(), ""};
  outcome.err = ::testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(DaemonCommandTest, WhatEndsAtOnce) {
  const Outcome version = Ran({"-n", "us-east-1", "-c", "/nonexistent/cfg.yaml", "--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(version.out.substr(0, 28), "AWS X-Ray daemon version: 0.");
  const Outcome help = Ran({"-h"});
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.out, DaemonUsage());
  const Outcome wrong = Ran({"-m", "lots"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_EQ(wrong.err, "invalid value \"lots\" for flag -m: parse error\n");
  EXPECT_EQ(wrong.out, DaemonUsage());
}

class DaemonFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  std::string folder_ = ::testing::TempDir() + "daemon_test_XXXXXX";
};

TEST_F(DaemonFileTest, AMistakeIsToldOnStderrAndInTheNamedLogFile) {
  const std::string file = Write("cfg.yaml", "Version: 2\nBogus: 1\n");
  const std::string log = folder_ + "/new/xray.log";
  const Outcome outcome = Ran({"-f", log, "-c", file});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find(" [Error] Bogus flag is invalid. "), std::string::npos);
  std::ifstream in(log);
  const std::string told((std::istreambuf_iterator<char>(in)), {});
  EXPECT_NE(told.find(" [Error] Bogus flag is invalid. "), std::string::npos);
}

TEST_F(DaemonFileTest, EveryLineOfAMistakeIsTold) {
  const std::string file = Write("cfg.yaml",
                                 "Version: 2\nSocket: {UDPAddress: \"127.0.0.1:99999\", "
                                 "TCPAddress: nowhere}\nEndpoint: no url\n");
  const Outcome outcome = Ran({"-c", file});
  EXPECT_EQ(outcome.status, 1);
  for (const std::string key :
       {"cfg.yaml:2:22: Socket.UDPAddress: ", "cfg.yaml:2:53: Socket.TCPAddress: ",
        "cfg.yaml:3:11: Endpoint: "}) {
    EXPECT_NE(outcome.err.find(key), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(outcome.err.find("\\x0a"), std::string::npos) << outcome.err;
}

TEST_F(DaemonFileTest, ANamedFileIsTheOnlyOneRead) {
  const std::string broken = Write("broken.yaml", "Version: 99\n");
  const std::string good = Write("good.yaml", "Version: 2\nRegion: eu-west-1\n");
  DaemonFlags flags;
  flags.config = good;
  const auto loaded = LoadDaemonConfig(flags, {broken});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->origin, good);
  EXPECT_FALSE(LoadDaemonConfig({}, {broken, good}).ok());
}

TEST_F(DaemonFileTest, TheFirstPlaceThatExistsIsRead) {
  const std::string good = Write("good.yaml", "Version: 2\nRegion: eu-west-1\nWhatever: 1\n");
  const auto loaded = LoadDaemonConfig({}, {folder_ + "/none.yaml", good, folder_});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->origin, good);
  // One that is there and cannot be read is not passed over.
  EXPECT_FALSE(LoadDaemonConfig({}, {folder_, good}).ok());
}

TEST_F(DaemonFileTest, WithoutAnyFileTheDefaultsApply) {
  DaemonFlags flags;
  flags.region = "eu-north-1";
  flags.log_level = "loud";
  const auto loaded = LoadDaemonConfig(flags, {folder_ + "/none.yaml"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->origin, "built-in defaults");
  EXPECT_EQ(loaded->config.udp.address, "127.0.0.1:2000");
  ASSERT_EQ(loaded->config.warnings.size(), 1U);
  EXPECT_EQ(loaded->config.log.level, LogLevel::kInfo);
}

TEST_F(DaemonFileTest, MigratePrintsWhatTheDaemonModeRuns) {
  const std::string file = Write("cfg.yaml", "Version: 2\nRegion: eu-west-1\nConcurrency: 3\n");
  const auto text = MigrateDaemonFile(file);
  ASSERT_TRUE(text.ok()) << text.status();
  DaemonFlags flags;
  flags.config = file;
  const auto loaded = LoadDaemonConfig(flags, {});
  const auto migrated = ParseConfig(*text, "migrated");
  ASSERT_TRUE(loaded.ok() && migrated.ok());
  EXPECT_TRUE(loaded->config.of_daemon);
  EXPECT_EQ(loaded->config.udp.address, migrated->udp.address);
  EXPECT_EQ(std::get<XrayBackendConfig>(loaded->config.backends.at(0).settings).concurrency,
            std::get<XrayBackendConfig>(migrated->backends.at(0).settings).concurrency);
  EXPECT_FALSE(MigrateDaemonFile(Write("b.yaml", "Version: 2\nBogus: 1\n")).ok());
  const auto refused = MigrateDaemonFile(Write("c.yaml", "Version: 2\nEndpoint: no url\n"));
  EXPECT_EQ(refused.status().message(),
            folder_ +
                "/c.yaml:2:11: Endpoint: \"no url\": expected a URL such as "
                "https://xray.example:443");
}

TEST_F(DaemonFileTest, FlagsWinOverVariablesAndThoseOverTheFile) {
  DaemonFlags flags;
  flags.config = Write("cfg.yaml", "Version: 2\nRegion: eu-west-1\nConcurrency: 3\n");
  flags.region = "us-east-1";
  flags.buffer_memory = 100000;
  ::setenv("MOBULA_BACKENDS_XRAY_REGION", "ap-south-1", 1);
  ::setenv("MOBULA_BACKENDS_XRAY_CONCURRENCY", "7", 1);
  const auto loaded = LoadDaemonConfig(flags, {});
  flags.region.reset();
  const auto without = LoadDaemonConfig(flags, {});
  ::unsetenv("MOBULA_BACKENDS_XRAY_REGION");
  ::unsetenv("MOBULA_BACKENDS_XRAY_CONCURRENCY");
  ASSERT_TRUE(loaded.ok() && without.ok()) << loaded.status() << without.status();
  const auto& xray = std::get<XrayBackendConfig>(loaded->config.backends.at(0).settings);
  EXPECT_EQ(xray.region, "us-east-1");
  EXPECT_EQ(xray.concurrency, 7);
  EXPECT_EQ(std::get<XrayBackendConfig>(without->config.backends.at(0).settings).region,
            "ap-south-1");
  EXPECT_EQ(loaded->config.buffer.memory, 64ULL << 30);
  EXPECT_EQ(loaded->config.warnings.size(), 1U);
}

}  // namespace
}  // namespace mobula
