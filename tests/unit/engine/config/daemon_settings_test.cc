// Tests of engine/config/daemon_settings.h: what the daemon's file means, what is refused, and that the
// migrated text means the same to our loader.
#include "engine/config/daemon_settings.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/config/loader.h"

namespace mobula {
namespace {

DaemonSettings Parsed(const std::string& text, DaemonKeys keys = DaemonKeys::kStrict) {
  const auto settings = ParseDaemonFile(text, "cfg.yaml", keys);
  EXPECT_TRUE(settings.ok()) << settings.status() << "\n" << text;
  return settings.ok() ? *settings : DaemonSettings();
}

std::string Refused(const std::string& text, DaemonKeys keys = DaemonKeys::kStrict) {
  const auto settings = ParseDaemonFile(text, "cfg.yaml", keys);
  EXPECT_FALSE(settings.ok()) << text;
  return settings.ok() ? "" : std::string(settings.status().message());
}

void ExpectStart(const std::string& text, const std::string& start) {
  EXPECT_EQ(text.substr(0, start.size()), start);
}

ConfigInput WithoutEnvironment() {
  ConfigInput input;
  input.environment = [](std::string_view) { return std::optional<std::string>(); };
  return input;
}

Config Migrated(const DaemonSettings& settings) {
  const auto migrated = MigrateDaemonSettings(settings, "cfg.yaml");
  EXPECT_TRUE(migrated.ok()) << migrated.status();
  if (!migrated.ok()) return {};
  const auto config = ParseConfig(migrated->text, "migrated", WithoutEnvironment());
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << migrated->text;
  return config.ok() ? *config : Config();
}

const XrayBackendConfig& Xray(const Config& config) {
  EXPECT_EQ(config.backends.size(), 1U);
  return std::get<XrayBackendConfig>(config.backends.at(0).settings);
}

constexpr char kEveryKey[] = R"(TotalBufferSizeMB: 24
Concurrency: 4
Endpoint: "https://xray.example:8443"
Region: "sa-east-1"
Socket:
  UDPAddress: "0.0.0.0:2001"
  TCPAddress: "0.0.0.0:2002"
Logging:
  LogRotation: false
  LogLevel: dev
  LogPath: "/var/log/xray/xray.log"
LocalMode: true
ResourceARN: "arn:aws:ec2:sa-east-1:123456789012:instance/i-1"
RoleARN: "arn:aws:iam::123456789012:role/xray"
NoVerifySSL: true
ProxyAddress: "http://proxy.example:3128"
Version: 2
)";

TEST(DaemonFileTest, EveryKeyTakesEffect) {
  const Config config = Migrated(Parsed(kEveryKey));
  EXPECT_EQ(config.udp.address, "0.0.0.0:2001");
  EXPECT_EQ(config.proxy.address, "0.0.0.0:2002");
  EXPECT_EQ(config.buffer.memory, 24ULL << 20);
  EXPECT_FALSE(config.aws.metadata);
  EXPECT_EQ(config.log.format, LogFormat::kDaemon);
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.path, "/var/log/xray/xray.log");
  EXPECT_EQ(config.log.rotate_size, 0U);
  const XrayBackendConfig& xray = Xray(config);
  EXPECT_EQ(xray.region, "sa-east-1");
  EXPECT_EQ(xray.endpoint, "https://xray.example:8443");
  EXPECT_EQ(xray.concurrency, 4);
  EXPECT_EQ(xray.resource_arn, "arn:aws:ec2:sa-east-1:123456789012:instance/i-1");
  EXPECT_EQ(xray.role.role_arn, "arn:aws:iam::123456789012:role/xray");
  EXPECT_EQ(xray.role.session_name, "xray-daemon");
  EXPECT_FALSE(xray.tls.verify);
  EXPECT_EQ(xray.http_proxy, "http://proxy.example:3128");
  EXPECT_TRUE(xray.telemetry);
}

TEST(DaemonFileTest, DefaultsAreTheDaemons) {
  for (const std::string text :
       {"Version: 1", "Version: 2\n",
        "Version: 2\nTotalBufferSizeMB: 0\nConcurrency: 0\nEndpoint: \"\"\nRegion: ''\nSocket:\n"
        "  UDPAddress: \"\"\n  TCPAddress:\nLogging:\n  LogRotation:\n  LogLevel: \"\"\n"
        "  LogPath: ~\nLocalMode:\nResourceARN: null\nRoleARN:\nNoVerifySSL:\nProxyAddress: "
        "\"\"\n"}) {
    const Config config = Migrated(Parsed(text));
    EXPECT_EQ(config.udp.address, "127.0.0.1:2000");
    EXPECT_EQ(config.proxy.address, "127.0.0.1:2000");
    EXPECT_EQ(config.buffer.memory, 0U);
    EXPECT_TRUE(config.aws.metadata);
    EXPECT_EQ(config.log.format, LogFormat::kDaemon);
    EXPECT_EQ(config.log.level, LogLevel::kInfo);
    EXPECT_EQ(config.log.path, "-");
    EXPECT_TRUE(config.warnings.empty());
    const XrayBackendConfig& xray = Xray(config);
    EXPECT_EQ(xray.region, "");
    EXPECT_EQ(xray.endpoint, "");
    EXPECT_EQ(xray.concurrency, 0);
    EXPECT_TRUE(xray.tls.verify);
    EXPECT_TRUE(xray.role.role_arn.empty());
  }
}

TEST(DaemonFileTest, TheLogFileIsRotatedUnlessToldOtherwise) {
  const Config config = Migrated(Parsed("Version: 2\nLogging: {LogPath: a.log}\n"));
  EXPECT_EQ(config.log.path, "a.log");
  EXPECT_EQ(config.log.rotate_size, 50ULL << 20);
  EXPECT_EQ(config.log.rotate_keep, 1);
}

TEST(DaemonFileTest, EveryLevel) {
  const std::vector<std::pair<std::string, LogLevel>> levels = {
      {"dev", LogLevel::kDebug}, {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo},
      {"prod", LogLevel::kInfo}, {"warn", LogLevel::kWarn},   {"error", LogLevel::kError}};
  for (const auto& [word, level] : levels) {
    EXPECT_EQ(Migrated(Parsed("Version: 2\nLogging:\n  LogLevel: " + word)).log.level, level);
  }
}

TEST(DaemonFileTest, AnUnknownLevelIsRefused) {
  for (const std::string level : {"loud", "Info", "PROD", "trace"}) {
    for (const DaemonKeys keys : {DaemonKeys::kStrict, DaemonKeys::kLoose}) {
      const std::string said = Refused("Version: 2\nLogging:\n  LogLevel: " + level, keys);
      EXPECT_EQ(said, "Error occur when using config flag: cfg.yaml:3:13: Logging.LogLevel: \"" +
                          level + "\": expected dev, debug, info, warn, error or prod");
    }
  }
}

TEST(DaemonFileTest, VersionsAreChecked) {
  ExpectStart(Refused("Region: us-east-1\n"), "Config Version is missing. ");
  ExpectStart(Refused("- Version: 2\n"), "Config Version is missing. ");
  for (const std::string version : {"3", "0", "-1", "20", "", "~"}) {
    ExpectStart(Refused("Version: " + version + "\nRegion: a\n"),
                "Config Version Setting is not correct. cfg.yaml:1:");
  }
  for (const std::string empty : {"", "{}", "# nothing\n", "---\n"}) {
    ExpectStart(Refused(empty), "Config Version Setting is not correct. cfg.yaml: ");
  }
  for (const std::string version : {"1", "2", "0x2", "1.0", "2 # two"}) {
    Parsed("Version: " + version);
  }
}

TEST(DaemonFileTest, UnknownKeysAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"Regoin: a", "Regoin flag is invalid. "},
      {"region: a", "region flag is invalid. "},
      {"Socket:\n  UDP: a", "Socket.UDP flag is invalid. "},
      {"Socket:\n  udpaddress: a", "Socket.udpaddress flag is invalid. "},
      {"Logging:\n  Level: a", "Logging.Level flag is invalid. "},
      {"Socket:", "Socket flag is invalid. "},
      {"Socket: [1]", "Socket flag is invalid. "},
      {"Region: {a: 1}", "Region.a flag is invalid. "},
      {"UDPAddress: a", "UDPAddress flag is invalid. "},
      {"Processor: {Other: 1}", "Processor.Other flag is invalid. "},
      {"\"a\\nb\": 1", "a\\x0ab flag is invalid. "}};
  for (const auto& [text, start] : texts) ExpectStart(Refused("Version: 2\n" + text), start);
}

TEST(DaemonFileTest, KeysOfOlderFilesAreRefusedByName) {
  for (const std::string key :
       {"Profile: {CPU: x}", "Profile: {Memory: x}", "Socket: {BufferSizeKB: 64}",
        "Logging: {LogFormat: x}", "Processor: {BatchProcessorQueueSize: 20}"}) {
    const std::string path = key.substr(0, key.find(':')) + "." +
                             key.substr(key.find('{') + 1, key.rfind(':') - key.find('{') - 1);
    ExpectStart(Refused("Version: 2\n" + key), path + " flag is not supported any more. ");
  }
  for (const std::string key : {"LogRotation: true", "MemoryLimit: 100"}) {
    ExpectStart(Refused("Version: 2\n" + key),
                key.substr(0, key.find(':')) +
                    " flag is not supported. Use X-Ray Daemon Config "
                    "Migration Script");
  }
  for (const std::string key : {"Region", "Endpoint", "Routine"}) {
    ExpectStart(Refused("Version: 2\nProcessor:\n  " + key + ": x"),
                "Processor." + key + " flag is not supported. Use X-Ray Daemon Config Migration");
  }
}

TEST(DaemonFileTest, MistakesAreToldInTheDaemonsOrder) {
  // Syntax, missing version, the first bad key, types, the version's value.
  ExpectStart(Refused("Bogus: [\n"), "Error occur when using config flag: cfg.yaml:");
  ExpectStart(Refused("Bogus: 1\nConcurrency: many\n"), "Config Version is missing.");
  ExpectStart(Refused("Concurrency: many\nBogus: 1\nMemoryLimit: 1\nVersion: 9\n"),
              "Bogus flag is invalid.");
  ExpectStart(Refused("MemoryLimit: 1\nBogus: 1\nVersion: 9\n"), "MemoryLimit flag is not");
  ExpectStart(Refused("Version: 9\nConcurrency: many\n"), "Error occur when using config flag: ");
  ExpectStart(Refused("Version: 9\n"), "Config Version Setting is not correct.");
}

TEST(DaemonFileTest, ADefaultFileMayHoldUnknownKeys) {
  const DaemonSettings settings = Parsed(
      "Version: 2\nWhatever: 1\nSocket:\nProfile: {CPU: x}\nLogging: {Level: debug}\nRegion: a\n",
      DaemonKeys::kLoose);
  EXPECT_EQ(settings.region.value, "a");
  EXPECT_EQ(settings.udp_address.value, "127.0.0.1:2000");
  ExpectStart(Refused("Whatever: 1\n", DaemonKeys::kLoose), "Config Version is missing.");
  ExpectStart(Refused("Version: 2\nSocket: [1]\n", DaemonKeys::kLoose),
              "Error occur when using config flag: cfg.yaml:2:9: Socket: expected a section");
  ExpectStart(Refused("Version: 2\nRegion: {a: 1}\n", DaemonKeys::kLoose),
              "Error occur when using config flag: cfg.yaml:2:9: Region: expected text");
}

TEST(DaemonFileTest, WrongTypesAreRefused) {
  for (const std::string text :
       {"Concurrency: many", "Concurrency: true", "Concurrency: \"8\"", "Concurrency: [8]",
        "Concurrency: {}", "TotalBufferSizeMB: 24MB", "TotalBufferSizeMB: 1e99",
        "LocalMode: perhaps", "LocalMode: 1", "LocalMode: \"true\"", "NoVerifySSL: []",
        "Socket:\n  UDPAddress: [1]", "Region: [a]", "Logging:\n  LogRotation: 0", "\tRegion: a",
        "Region: \"a", "Concurrency: 8\n---\nVersion: 2"}) {
    ExpectStart(Refused("Version: 2\n" + text), "Error occur when using config flag: cfg.yaml:");
  }
  for (const std::string text : {"Version: two", "Version: \"2\"", "Version: [2]", "just words"}) {
    ExpectStart(Refused(text), "Error occur when using config flag: cfg.yaml:1:");
  }
  ExpectStart(
      Refused("Version: '2'"),
      "Error occur when using config flag: cfg.yaml:1:10: Version: \"2\": expected a number, "
      "without quotes");
}

TEST(DaemonFileTest, ScalarsAreThoseOfYaml11) {
  const std::string version = "Version: 2\n";
  for (const std::string word : {"y", "Yes", "on", "ON", "true", "TRUE"}) {
    EXPECT_TRUE(Parsed(version + "LocalMode: " + word).local_mode.value) << word;
  }
  for (const std::string word : {"n", "No", "off", "OFF", "false", "False"}) {
    const DaemonSettings settings = Parsed(version + "Logging: {LogRotation: " + word + "}");
    EXPECT_FALSE(settings.log_rotation.value) << word;
    EXPECT_EQ(settings.log_rotation.source, "Logging.LogRotation");
  }
  EXPECT_EQ(Parsed(version + "TotalBufferSizeMB: 0x18").buffer_mb.value, 24);
  EXPECT_EQ(Parsed(version + "TotalBufferSizeMB: 2_4").buffer_mb.value, 24);
  EXPECT_EQ(Parsed(version + "TotalBufferSizeMB: 24.0").buffer_mb.value, 24);
  EXPECT_EQ(Parsed(version + "TotalBufferSizeMB: -5").buffer_mb.value, -5);
  EXPECT_EQ(Parsed(version + "Region: 12").region.value, "12");
  EXPECT_EQ(Parsed(version + "Region: yes").region.value, "yes");
  EXPECT_EQ(Parsed("\xef\xbb\xbf" + version + "Region: |\n  a").region.value, "a");
}

TEST(DaemonFileTest, TheLastOfRepeatedKeysCounts) {
  EXPECT_EQ(Parsed("Version: 9\nRegion: a\nRegion: b\nVersion: 2").region.value, "b");
  EXPECT_EQ(Parsed("Version: 2\nRegion: a\nRegion:").region.value, "");
}

TEST(DaemonFileTest, KeysThatNeverHadAnEffectAreAccepted) {
  Parsed(
      "Version: 2\nproxyserver: {idleconntimeout: x, maxidleconnsperhost: [1], maxidleconns: 2}");
}

TEST(DaemonFileTest, NegativeConcurrencyIsRefused) {
  ExpectStart(
      Refused("Version: 2\nConcurrency: -1"),
      "Error occur when using config flag: cfg.yaml:2:14: Concurrency: \"-1\": nothing would");
}

TEST(DaemonFileTest, AFileThatIsNotThereIsNamed) {
  const auto settings = LoadDaemonFile("/nonexistent/xray.yaml", DaemonKeys::kStrict);
  ASSERT_FALSE(settings.ok());
  ExpectStart(std::string(settings.status().message()),
              "Error occur when using config flag: /nonexistent/xray.yaml");
}

TEST(DaemonFileTest, AFileThatAnybodyMayChangeIsWarnedOfSinceTheDaemonTakesIt) {
  const std::string path = testing::TempDir() + "xray.yaml";
  std::ofstream(path) << "Version: 2\n";
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  const auto settings = LoadDaemonFile(path, DaemonKeys::kStrict);
  ASSERT_TRUE(settings.ok()) << settings.status();
  ASSERT_EQ(settings->warnings.size(), 1U);
  ExpectStart(settings->warnings[0], path + ": anybody may change it (mode 0666)");
}

TEST(DaemonFlagsOverFileTest, FlagsWin) {
  DaemonFlags flags;
  ASSERT_TRUE(ParseDaemonFlags({"-n", "us-east-2", "-b", ":1", "-t", ":2", "-o=false", "-m", "5",
                                "-r", "arn:aws:iam::210987654321:role/other", "-a", "arn:x", "-f",
                                "b.log", "-l", "warn", "-p", "http://other:1"},
                               &flags)
                  .ok());
  DaemonSettings settings = Parsed(kEveryKey);
  ApplyDaemonFlags(flags, &settings);
  EXPECT_TRUE(settings.warnings.empty());
  const Config config = Migrated(settings);
  EXPECT_EQ(config.udp.address, ":1");
  EXPECT_EQ(config.proxy.address, ":2");
  EXPECT_EQ(config.buffer.memory, 5ULL << 20);
  EXPECT_TRUE(config.aws.metadata);
  EXPECT_EQ(config.log.level, LogLevel::kWarn);
  EXPECT_EQ(config.log.path, "b.log");
  EXPECT_EQ(Xray(config).region, "us-east-2");
  EXPECT_EQ(Xray(config).role.role_arn, "arn:aws:iam::210987654321:role/other");
  EXPECT_EQ(Xray(config).resource_arn, "arn:x");
  EXPECT_EQ(Xray(config).http_proxy, "http://other:1");
}

TEST(DaemonFlagsOverFileTest, EmptyFlagsTakeTheFilesValuesAway) {
  DaemonFlags flags;
  ASSERT_TRUE(
      ParseDaemonFlags({"-n", "", "-r=", "-f", "", "-p", "", "-m", "0", "-b", ""}, &flags).ok());
  DaemonSettings settings = Parsed(kEveryKey);
  ApplyDaemonFlags(flags, &settings);
  const Config config = Migrated(settings);
  EXPECT_EQ(Xray(config).region, "");
  EXPECT_EQ(Xray(config).role.role_arn, "");
  EXPECT_EQ(Xray(config).http_proxy, "");
  EXPECT_EQ(config.buffer.memory, 0U);
  EXPECT_EQ(config.log.path, "-");
  EXPECT_EQ(config.udp.address, "127.0.0.1:2000");
}

TEST(DaemonFlagsOverFileTest, AnUnknownLevelIsIgnoredWithAWarning) {
  DaemonFlags flags;
  flags.log_level = "loud";
  DaemonSettings settings = Parsed("Version: 2\nLogging: {LogLevel: warn}");
  ApplyDaemonFlags(flags, &settings);
  EXPECT_EQ(settings.log_level.value, "warn");
  ASSERT_EQ(settings.warnings.size(), 1U);
  ExpectStart(settings.warnings[0], "-l loud: ignored");
}

TEST(MigrateTest, SaysWhereEachValueCameFrom) {
  DaemonFlags flags;
  flags.region = "us-east-2";
  DaemonSettings settings =
      Parsed("Version: 2\nTotalBufferSizeMB: 24\nSocket: {UDPAddress: \":2000\"}");
  ApplyDaemonFlags(flags, &settings);
  const auto migrated = MigrateDaemonSettings(settings, "/aws/xray/config.yaml");
  ASSERT_TRUE(migrated.ok());
  EXPECT_EQ(
      migrated->text,
      R"(# The X-Ray daemon's settings from /aws/xray/config.yaml, as a configuration of Mobula.
# Behind each value: the daemon's key or flag that it came from.
receivers:
  udp:
    address: ":2000"  # Socket.UDPAddress
  proxy:
    address: "127.0.0.1:2000"  # the daemon's default
buffer:
  fit: shrink  # the daemon starts in containers of any size
  memory: 24MiB  # TotalBufferSizeMB
backends:
  xray:
    type: xray
    region: "us-east-2"  # -n
log:
  format: daemon  # the daemon's lines
  level: info  # the daemon's default: prod
  path: "-"  # the daemon's default: standard output
)");
  EXPECT_EQ(migrated->sets, std::vector<std::string>{"backends.xray.region=us-east-2"});
  EXPECT_EQ(migrated->names, (std::map<std::string, std::string>{
                                 {"receivers.udp.address", "cfg.yaml:3:22: Socket.UDPAddress"},
                                 {"buffer.memory", "cfg.yaml:2:20: TotalBufferSizeMB"},
                                 {"backends.xray.region", "-n"}}));
  EXPECT_TRUE(migrated->warnings.empty());
}

TEST(MigrateTest, WhatFlagsSayIsThereOnceMore) {
  DaemonFlags flags;
  ASSERT_TRUE(ParseDaemonFlags({"-n", "us-east-2", "-b",   ":1",    "-t", ":2",        "-o=false",
                                "-m", "5",         "-r",   "arn:r", "-a", "arn:x",     "-f",
                                "-",  "-l",        "prod", "-p",    "p",  "--takeover"},
                               &flags)
                  .ok());
  DaemonSettings settings = Parsed(kEveryKey);
  ApplyDaemonFlags(flags, &settings);
  EXPECT_EQ(MigrateDaemonSettings(settings, "cfg.yaml")->sets,
            (std::vector<std::string>{
                "receivers.udp.address=:1", "receivers.proxy.address=:2", "buffer.memory=5MiB",
                "backends.xray.region=us-east-2", "backends.xray.role_arn=arn:r",
                "backends.xray.resource_arn=arn:x", "backends.xray.http_proxy=p", "aws.metadata=on",
                "log.level=info", "log.path=./-", "takeover=true"}));
}

TEST(MigrateTest, MistakesHaveTheDaemonsNames) {
  DaemonFlags flags;
  flags.proxy_address = "ftp://user:hunter2@proxy";
  flags.region = "EU";
  DaemonSettings settings = Parsed(
      "Version: 2\nSocket:\n  TCPAddress: nowhere\nEndpoint: http://user:hunter2@xray\nRoleARN: "
      "x\n");
  ApplyDaemonFlags(flags, &settings);
  const auto migrated = MigrateDaemonSettings(settings, "cfg.yaml");
  ASSERT_TRUE(migrated.ok());
  ConfigInput input = WithoutEnvironment();
  input.sets = migrated->sets;
  input.names = migrated->names;
  input.variables = [] {
    return Variables{{"MOBULA_BACKENDS_XRAY_TIMEOUT", "soon"},
                     {"MOBULA_BACKENDS_XRAY_REGION", "X"}};
  };
  const auto config = ParseConfig(migrated->text, "migrated", input);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(
      config.status().message(),
      "cfg.yaml:3:15: Socket.TCPAddress: \"nowhere\": expected auto, off or an address such as "
      "127.0.0.1:2000, [::1]:2000 or :2000\n"
      "cfg.yaml:4:11: Endpoint: \"http://user:***@xray\": expected a URL such as "
      "https://xray.example:443\n"
      "cfg.yaml:5:10: RoleARN: \"x\": expected the ARN of a role such as "
      "arn:aws:iam::123456789012:role/xray-writer\n"
      "environment MOBULA_BACKENDS_XRAY_TIMEOUT: backends.xray.timeout: \"soon\": expected a "
      "duration from 100ms to 10m, such as 250ms, 1s or 2m\n"
      "-n: \"EU\": expected an AWS region such as eu-west-1\n"
      "-p: expected a URL such as http://proxy.example:3128 or "
      "http://user:password@proxy.example:3128");
}

TEST(MigrateTest, TooLittleMemoryIsRefused) {
  for (const int64_t mb : {1, 2}) {
    DaemonSettings settings;
    settings.buffer_mb = {mb, "-m"};
    const auto text = MigrateDaemonSettings(settings, "flags");
    EXPECT_EQ(text.status().message(),
              "Not enough Buffers Memory Allocated. Min Buffers Memory required: 3 MB.");
  }
  DaemonSettings settings;
  settings.buffer_mb = {3, "-m"};
  EXPECT_EQ(Migrated(settings).buffer.memory, 3ULL << 20);
  settings.buffer_mb = {-1, "-m"};
  EXPECT_EQ(Migrated(settings).buffer.memory, 0U);
}

TEST(MigrateTest, OddTextsStayWhatTheyAre) {
  DaemonSettings settings;
  settings.log_path = {"/tmp/\"odd\" \\ # : {path}", "-f"};
  EXPECT_EQ(Migrated(settings).log.path, settings.log_path.value);
  settings.log_path = {"-", "-f"};
  EXPECT_EQ(Migrated(settings).log.path, "./-");
  settings.log_path = {"/tmp/${env:HOME}", "-f"};
  EXPECT_FALSE(MigrateDaemonSettings(settings, "flags").ok());
  settings.log_path = {"\xff", "-f"};
  EXPECT_EQ(MigrateDaemonSettings(settings, "flags").status().message(), "-f: not UTF-8");
}

TEST(MigrateTest, MoreThanThereIsIsCutAndTold) {
  DaemonSettings settings;
  settings.concurrency = {5000, "Concurrency", "cfg.yaml:2:14"};
  settings.buffer_mb = {65537, "-m"};
  const auto migrated = MigrateDaemonSettings(settings, "cfg.yaml");
  ASSERT_TRUE(migrated.ok());
  EXPECT_EQ(migrated->warnings,
            (std::vector<std::string>{
                "-m: 65537: taken as 65536, the most there is",
                "cfg.yaml:2:14: Concurrency: 5000: taken as 1024, the most there is"}));
  const Config config = Migrated(settings);
  EXPECT_EQ(config.buffer.memory, 64ULL << 30);
  EXPECT_EQ(Xray(config).concurrency, 1024);
}

TEST(DaemonFileTest, AConfigurationOfMobulaIsToldFromAFileOfTheDaemon) {
  for (const std::string text : {"backends: {}\n", "receivers: {}\nlog: {}\n"}) {
    for (const DaemonKeys keys : {DaemonKeys::kStrict, DaemonKeys::kLoose}) {
      EXPECT_EQ(Refused(text, keys),
                "Config Version is missing. cfg.yaml is a configuration of Mobula, not of the "
                "X-Ray daemon: run it with `mobula run -c cfg.yaml`.");
    }
  }
}

TEST(DaemonFileTest, NoPasswordIsToldWhereverItStands) {
  const std::string said = Refused("Version: 2\nLogging:\n  LogLevel: http://user:hunter2@proxy\n");
  EXPECT_EQ(said.find("hunter2"), std::string::npos) << said;
}

}  // namespace
}  // namespace mobula
