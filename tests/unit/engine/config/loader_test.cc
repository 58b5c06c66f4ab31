// Tests of engine/config/loader.h: values and defaults. The messages are the goldens' business.
#include "engine/config/loader.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::string_view kSmallest = "backends: { out: { type: null } }\n";

Config Parse(std::string_view text, std::vector<std::string> sets = {},
             std::map<std::string, std::string, std::less<>> environment = {}) {
  ConfigInput input;
  input.sets = std::move(sets);
  input.environment = [environment](std::string_view name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  };
  auto config = ParseConfig(text, "test.yaml", input);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : Config();
}

std::string ErrorOf(std::string_view text, std::vector<std::string> sets = {}) {
  ConfigInput input;
  input.sets = std::move(sets);
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    return std::nullopt;
  };
  const auto config = ParseConfig(text, "test.yaml", input);
  return config.ok() ? "no error" : std::string(config.status().message());
}

TEST(LoaderTest, WhatIsNotSaidKeepsItsDefault) {
  const Config config = Parse(kSmallest);
  const Config defaults;
  EXPECT_EQ(config.udp.address, defaults.udp.address);
  EXPECT_EQ(config.udp.workers, defaults.udp.workers);
  EXPECT_EQ(config.udp.receive_buffer, defaults.udp.receive_buffer);
  EXPECT_EQ(config.batch.documents, 50);
  EXPECT_EQ(config.admin.address, "127.0.0.1:2010");
  EXPECT_FALSE(config.log.format.has_value());
  EXPECT_TRUE(config.routes.empty());
  EXPECT_TRUE(config.warnings.empty());
  ASSERT_EQ(config.backends.size(), 1U);
  EXPECT_EQ(config.backends[0].name, "out");
  EXPECT_EQ(config.backends[0].type(), "null");
}

TEST(LoaderTest, EveryOptionReachesItsPlace) {
  const Config config = Parse(R"(
receivers:
  udp: { address: ":0", engine: recvmmsg, workers: per-core, receive_buffer: 1MiB, sockets: 4, validate: strict,
         allow: [10.0.0.0/8, "fd00::/8"], source_rate: 500, source_burst: 700 }
  unix: { path: /run/m.sock, mode: 0600 }
  proxy: { address: ":1", backend: prod, paths: all, rules_age: 5s }
buffer:
  memory: 24MiB
  fit: shrink
  spool: { path: /var/lib/mobula, size: 2GiB, age: 2h, file_size: 1MiB, fsync: 100ms }
batch: { documents: 10, age: 250ms }
backends:
  prod:
    timeout: 3s
    tls: { ca: /etc/ca.pem, verify: false }
    region: eu-west-1
    endpoint: "https://xray.example:8443"
    profile: p
    concurrency: 7
    quota: 1MiB
    role_arn: "arn:aws:iam::222222222222:role/x"
    external_id: id
    session_name: me
    duration: 30m
    session_tags: { team: payments, empty: "" }
    source_identity: who
    via:
      - { role_arn: "arn:aws:iam::333333333333:role/y", external_id: id2, session_name: me2, duration: 12h,
          session_tags: { a: b }, source_identity: who2 }
      - { role_arn: "arn:aws:iam::444444444444:role/z" }
    sts_endpoint: https://sts.example
    fips: true
    dual_stack: false
    http_proxy: http://u:p@proxy:3128
    telemetry: off
    resource_arn: arn:x
    type: xray
  archive: { type: file, path: /tmp/a, format: framed, compression: zstd, rotate: { size: 100MB, keep: 3 }, fsync: 5s }
routes:
  - { when: "fault", to: [prod, archive] }
  - { to: [] }
dead_letter: { path: /tmp/d, size: 1MiB }
admin: { address: off, token: "0123456789abcde=", tls: { cert: /c, key: /k, client_ca: /a } }
aws: { metadata: off }
log: { level: debug, format: daemon, path: /tmp/l, rotate: { size: 1MiB, keep: 9 } }
shutdown: { grace: 2m }
)");
  EXPECT_EQ(config.udp.address, ":0");
  EXPECT_EQ(config.udp.engine, ReceiveEngine::kRecvmmsg);
  EXPECT_EQ(config.udp.workers, -1);
  EXPECT_EQ(config.udp.receive_buffer, 1U << 20);
  EXPECT_EQ(config.udp.sockets, 4);
  EXPECT_EQ(config.udp.validate, Validate::kStrict);
  ASSERT_EQ(config.udp.allow.size(), 2U);
  EXPECT_EQ(config.udp.allow[0], ParseIpNetwork("10.0.0.0/8"));
  EXPECT_EQ(config.udp.allow[1], ParseIpNetwork("fd00::/8"));
  EXPECT_EQ(config.udp.source_rate, 500);
  EXPECT_EQ(config.udp.source_burst, 700);
  EXPECT_EQ(config.unix_socket.path, "/run/m.sock");
  EXPECT_EQ(config.unix_socket.mode, 0600);
  EXPECT_EQ(config.proxy.address, ":1");
  EXPECT_EQ(config.proxy.backend, "prod");
  EXPECT_EQ(config.proxy.paths, ProxyPaths::kAll);
  EXPECT_EQ(config.proxy.rules_age, seconds(5));
  EXPECT_EQ(config.buffer.memory, 24U << 20);
  EXPECT_EQ(config.buffer.fit, BufferFit::kShrink);
  EXPECT_EQ(config.buffer.spool.path, "/var/lib/mobula");
  EXPECT_EQ(config.buffer.spool.size, 2U << 30);
  EXPECT_EQ(config.buffer.spool.age, std::chrono::hours(2));
  EXPECT_EQ(config.buffer.spool.file_size, 1U << 20);
  EXPECT_EQ(config.buffer.spool.fsync, FsyncPolicy::kInterval);
  EXPECT_EQ(config.buffer.spool.fsync_interval, milliseconds(100));
  EXPECT_EQ(config.batch.documents, 10);
  EXPECT_EQ(config.batch.age, milliseconds(250));
  ASSERT_EQ(config.backends.size(), 2U);
  EXPECT_EQ(config.backends[0].quota, 1U << 20);
  const auto& xray = std::get<XrayBackendConfig>(config.backends[0].settings);
  EXPECT_EQ(xray.region, "eu-west-1");
  EXPECT_EQ(xray.endpoint, "https://xray.example:8443");
  EXPECT_EQ(xray.profile, "p");
  AwsRole role;
  role.role_arn = "arn:aws:iam::222222222222:role/x";
  role.external_id = "id";
  role.session_name = "me";
  role.duration = minutes(30);
  role.session_tags = {{"team", "payments"}, {"empty", ""}};
  role.source_identity = "who";
  EXPECT_EQ(xray.role, role);
  ASSERT_EQ(xray.via.size(), 2U);
  role = {"arn:aws:iam::333333333333:role/y",
          "id2",
          "me2",
          std::chrono::hours(12),
          {{"a", "b"}},
          "who2"};
  EXPECT_EQ(xray.via[0], role);
  EXPECT_EQ(xray.via[1].role_arn, "arn:aws:iam::444444444444:role/z");
  EXPECT_EQ(xray.via[1].session_name, "xray-daemon");
  EXPECT_EQ(xray.sts_endpoint, "https://sts.example");
  EXPECT_EQ(xray.fips, std::optional<bool>(true));
  EXPECT_EQ(xray.dual_stack, std::optional<bool>(false));
  EXPECT_EQ(xray.http_proxy, "http://u:p@proxy:3128");
  EXPECT_FALSE(xray.telemetry);
  EXPECT_EQ(xray.resource_arn, "arn:x");
  EXPECT_EQ(xray.concurrency, 7);
  EXPECT_EQ(xray.timeout, seconds(3));
  EXPECT_EQ(xray.tls.ca, "/etc/ca.pem");
  EXPECT_FALSE(xray.tls.verify);
  const auto& file = std::get<FileBackendConfig>(config.backends[1].settings);
  EXPECT_EQ(file.path, "/tmp/a");
  EXPECT_EQ(file.format, FileFormat::kFramed);
  EXPECT_EQ(file.compression, Compression::kZstd);
  EXPECT_EQ(file.rotate_size, 100'000'000U);
  EXPECT_EQ(file.rotate_keep, 3);
  EXPECT_EQ(file.fsync, FsyncPolicy::kInterval);
  EXPECT_EQ(file.fsync_interval, seconds(5));
  ASSERT_EQ(config.routes.size(), 2U);
  EXPECT_EQ(config.routes[0].when, "fault");
  EXPECT_EQ(config.routes[0].to, (std::vector<std::string>{"prod", "archive"}));
  EXPECT_TRUE(config.routes[1].to.empty());
  EXPECT_EQ(config.dead_letter.path, "/tmp/d");
  EXPECT_EQ(config.dead_letter.size, 1U << 20);
  EXPECT_EQ(config.admin.address, "off");
  EXPECT_EQ(config.admin.token, "0123456789abcde=");
  EXPECT_EQ(config.admin.tls.cert, "/c");
  EXPECT_EQ(config.admin.tls.key, "/k");
  EXPECT_EQ(config.admin.tls.client_ca, "/a");
  EXPECT_FALSE(config.aws.metadata);
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.format, LogFormat::kDaemon);
  EXPECT_EQ(config.log.path, "/tmp/l");
  EXPECT_EQ(config.log.rotate_size, 1U << 20);
  EXPECT_EQ(config.log.rotate_keep, 9);
  EXPECT_EQ(config.shutdown.grace, minutes(2));
}

TEST(LoaderTest, SetWinsOverTheFileAndMakesWhatIsMissing) {
  const Config config = Parse("log: { level: warn }\nbackends: { out: { type: file, path: a } }\n",
                              {"log.level=debug", "receivers.udp.address=[::1]:3000",
                               "backends.out.path=-", "backends.more.type=null", "log.level=error",
                               "routes=[{ when: 'name = \"a=b\"', to: [more] }]"});
  EXPECT_EQ(config.log.level, LogLevel::kError);
  EXPECT_EQ(config.udp.address, "[::1]:3000");
  ASSERT_EQ(config.backends.size(), 2U);
  EXPECT_EQ(std::get<FileBackendConfig>(config.backends[0].settings).path, "-");
  EXPECT_EQ(config.backends[1].type(), "null");
  ASSERT_EQ(config.routes.size(), 1U);
  EXPECT_EQ(config.routes[0].when, "name = \"a=b\"");
}

TEST(LoaderTest, SetsAlone) {
  EXPECT_EQ(Parse("", {"backends.out.type=null"}).backends.size(), 1U);
}

TEST(LoaderTest, BooleansThatAToolMadeOfOnAndOffAreTaken) {
  const Config config = Parse(
      "aws: { metadata: false }\nbackends: { a: { type: xray, telemetry: true, fips: auto } }\n");
  EXPECT_FALSE(config.aws.metadata);
  EXPECT_TRUE(std::get<XrayBackendConfig>(config.backends[0].settings).telemetry);
  EXPECT_FALSE(std::get<XrayBackendConfig>(config.backends[0].settings).fips.has_value());
}

TEST(LoaderTest, ANameSpelledNullIsAName) {
  EXPECT_EQ(Parse("receivers: { proxy: { backend: null } }\nbackends: { null: { type: xray } }\n")
                .proxy.backend,
            "null");
}

TEST(LoaderTest, MistakesInSetsAreToldWithTheFlag) {
  EXPECT_EQ(ErrorOf(kSmallest, {"receivers.udp.adress=:2000"}),
            "--set receivers.udp.adress: unknown key (did you mean \"address\"?)");
  EXPECT_EQ(ErrorOf(kSmallest, {"batch.documents=many"}),
            "--set batch.documents: \"many\": expected a number from 1 to 64");
  EXPECT_EQ(ErrorOf(kSmallest, {"verbose"}),
            "--set verbose: expected path=value, such as log.level=debug");
  EXPECT_EQ(ErrorOf(kSmallest, {"routes=[{"}).substr(0, 16), "--set routes: 1:");
}

TEST(LoaderTest, ReferencesAreResolvedInValues) {
  const Config config =
      Parse("backends: { out: { type: file, path: \"${env:DATA:-run}/s.jsonl\" } }\n", {},
            {{"DATA", "/data"}});
  EXPECT_EQ(std::get<FileBackendConfig>(config.backends[0].settings).path, "/data/s.jsonl");
}

TEST(LoaderTest, AResolvedValueIsNeverTold) {
  for (const char* text : {
           "backends: { out: { type: null } }\nlog: { level: \"${env:SECRET}\" }\n",
           "backends: { out: { type: null } }\nbatch: { age: \"${env:SECRET}\" }\n",
           "backends: { out: { type: null } }\nreceivers: { udp: { address: \"${env:SECRET}\" } "
           "}\n",
           "backends: { out: { type: null } }\nroutes: [{ when: \"${env:SECRET}\", to: [out] }]\n",
           "backends: { out: { type: null } }\nroutes: [{ to: [\"${env:SECRET}\"] }]\n",
           "backends: { out: { type: \"${env:SECRET}\" } }\n",
           "backends: { out: { type: xray, endpoint: \"${env:SECRET}\" } }\n",
       }) {
    const std::string error = ErrorOf(text);
    EXPECT_NE(error.find("${env:SECRET}"), std::string::npos) << error;
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
}

TEST(LoaderTest, AllMistakesAreToldInTheOrderOfTheFile) {
  EXPECT_EQ(ErrorOf("routes: [{ to: [nowhere] }]\nbackends: { out: { type: nul } }\nlogs: 1\n"),
            "test.yaml:1:17: routes[0].to[0]: no backend is named \"nowhere\"\n"
            "test.yaml:2:26: backends.out.type: \"nul\": expected xray, file or null (did you mean "
            "\"null\"?)\n"
            "test.yaml:3:1: logs: unknown key (did you mean \"log\"?)");
}

TEST(LoaderTest, AThousandMistakesAreCutShort) {
  std::string text(kSmallest);
  for (int i = 0; i < 1000; ++i) text += "unheard_of_" + std::to_string(i) + ": 1\n";
  const std::string error = ErrorOf(text);
  EXPECT_LT(error.size(), 20'000U);
  EXPECT_NE(error.find("test.yaml: and 950 more"), std::string::npos);
}

TEST(LoaderTest, ControlBytesOfTheFileNeverReachAMessage) {
  const std::string error = ErrorOf("\"a\\e[31m\\nb\": 1\nlog: { level: \"\\e]0;x\\a\" }\n");
  for (const char c : error)
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= ' ') << error;
}

TEST(LoaderTest, WarnsOfWhatIsHardlyMeant) {
  EXPECT_EQ(Parse("backends: { a: { type: null }, b: { type: null } }\n"
                  "routes: [{ to: [a] }, { when: fault, to: [a] }]\n")
                .warnings,
            (std::vector<std::string>{
                "test.yaml:2:23: routes[1]: never reached: routes[0] takes everything",
                "test.yaml:1:35: backends.b: no route leads to it"}));
  EXPECT_EQ(
      Parse("backends: { a: { type: null } }\nroutes: [{ when: fault, to: [a] }]\n").warnings,
      (std::vector<std::string>{"test.yaml:2:9: routes: documents that match none of them are "
                                "dropped, counted as filtered"}));
}

TEST(LoadConfigTest, ReadsAFileAndSaysWhyNot) {
  std::string path = ::testing::TempDir() + "loader_test_XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  std::ofstream(path) << kSmallest;
  ConfigInput input;
  input.path = path;
  EXPECT_TRUE(LoadConfig(input).ok());
  std::ofstream(path) << std::string((1 << 20) + 1, '#');
  EXPECT_EQ(LoadConfig(input).status().message(), path + ": larger than 1MiB");
  ::unlink(path.c_str());
  const absl::Status missing = LoadConfig(input).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.message().find(path), absl::string_view::npos);
  input.path = "/";
  EXPECT_FALSE(LoadConfig(input).ok());
}

TEST(LoadConfigTest, WithoutAPathTheDefaultFileIsReadIfItExists) {
  std::string path = ::testing::TempDir() + "loader_test_XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  std::ofstream(path) << kSmallest;
  ConfigInput input;
  input.environment = [](std::string_view) { return std::nullopt; };
  input.default_path = path;
  EXPECT_EQ(ConfigPath(input), path);
  EXPECT_TRUE(LoadConfig(input).ok());
  ::unlink(path.c_str());
  EXPECT_EQ(ConfigPath(input), "");
  EXPECT_EQ(LoadConfig(input).status().message(),
            "no configuration file (-c FILE, or " + path +
                "): backends: at least one is needed, such as --backends.out.type=xray or "
                "MOBULA_BACKENDS_OUT_TYPE=xray");
  input.sets = {"--backends.out.type=null"};
  EXPECT_TRUE(LoadConfig(input).ok());
}

TEST(LoadConfigTest, AFileThatAnybodyMayChangeIsRefused) {
  const std::string path = testing::TempDir() + "anybody.yaml";
  std::ofstream(path) << "backends: { out: { type: \"null\" } }\n";
  ConfigInput input;
  input.path = path;
  ASSERT_EQ(chmod(path.c_str(), 0646), 0);
  EXPECT_EQ(
      LoadConfig(input).status().message(),
      path + ": anybody may change it (mode 0646), and so where segments go: chmod o-w " + path);
  EXPECT_FALSE(LoadEffective(input).ok());
  ASSERT_EQ(chmod(path.c_str(), 0664), 0);
  const auto config = LoadConfig(input);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->warnings.empty());
}

TEST(LoadConfigTest, WarnsOfASecretThatAnybodyMayRead) {
  const std::string path = testing::TempDir() + "secret.yaml";
  ConfigInput input;
  input.path = path;
  input.environment = [](std::string_view) { return "http://user:word@proxy.example:3128"; };
  const auto warnings = [&](const std::string& proxy, mode_t mode) {
    std::ofstream(path) << "backends: { aws: { type: xray, http_proxy: \"" << proxy << "\" } }\n";
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    const auto config = LoadConfig(input);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->warnings : std::vector<std::string>();
  };
  EXPECT_EQ(warnings("http://user:word@proxy.example:3128", 0644),
            std::vector<std::string>{path +
                                     ": holds a password, and anybody may read it (mode 0644): "
                                     "chmod o-r " +
                                     path});
  EXPECT_TRUE(warnings("http://user:word@proxy.example:3128", 0640).empty());
  EXPECT_TRUE(warnings("http://proxy.example:3128", 0644).empty());
  EXPECT_TRUE(warnings("${env:PROXY}", 0644).empty());
}

TEST(LoadConfigTest, WarnsOfAFileThatBelongsToSomebodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  const std::string path = testing::TempDir() + "stranger.yaml";
  std::ofstream(path) << "backends: { out: { type: \"null\" } }\n";
  ASSERT_EQ(chown(path.c_str(), 54321, 0), 0);
  ConfigInput input;
  input.path = path;
  const auto config = LoadConfig(input);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->warnings, std::vector<std::string>{
                                  path + ": belongs to user 54321, who may change it: chown root " +
                                  path + ", or run as that user"});
  std::filesystem::remove(path);
}

TEST(LoadConfigTest, TheProcessesOwnEnvironmentCountsWhenNoneIsGiven) {
  ::setenv("MOBULA_BATCH_DOCUMENTS", "7", 1);
  const auto config = ParseConfig(kSmallest, "test.yaml");
  const auto with_its_own = ParseConfig(kSmallest, "test.yaml", [] {
    ConfigInput input;
    input.environment = [](std::string_view) { return std::nullopt; };
    return input;
  }());
  ::unsetenv("MOBULA_BATCH_DOCUMENTS");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->batch.documents, 7);
  EXPECT_EQ(with_its_own->batch.documents, 50);
}

TEST(LoaderTest, AFileOfTheDaemonIsToldAtOnce) {
  EXPECT_EQ(ErrorOf("Region: eu-west-1\nVersion: 2\nSocket: {UDPAddress: \":2000\"}\n"),
            "test.yaml:2:1: Version: this is a file of the X-Ray daemon: `mobula config migrate "
            "test.yaml` makes a configuration of it, `xray -c test.yaml` runs it as it is");
}

TEST(LoaderTest, NoPasswordIsToldWhereverItStands) {
  for (const std::string option : {"log.level", "batch.documents", "shutdown.grace",
                                   "admin.address", "buffer.memory", "receivers.proxy.backend"}) {
    const std::string error = ErrorOf(kSmallest, {option + "=http://user:hunter2@proxy"});
    EXPECT_NE(error.find("user:***@proxy"), std::string::npos) << error;
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
}

TEST(LoaderTest, APathOfASocketMayBeGivenAsItsAddress) {
  const std::string start = std::string(kSmallest) + "receivers: { unix: { path: ";
  EXPECT_EQ(Parse(start + "\"unix:/run/m.sock\" } }").unix_socket.path, "/run/m.sock");
  EXPECT_EQ(Parse(start + "\"unix:" + std::string(107, 'x') + "\" } }").unix_socket.path,
            std::string(107, 'x'));
  EXPECT_NE(ErrorOf(start + "\"unix:\" } }"), "");
  EXPECT_NE(ErrorOf(start + "\"unix:" + std::string(108, 'x') + "\" } }"), "");
}

}  // namespace
}  // namespace mobula
