#include "engine/config/reload.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "engine/config/loader.h"
#include "engine/config/options.h"

namespace mobula {
namespace {

Config Parse(const std::string& text) {
  ConfigInput input;
  input.environment = [](std::string_view) { return std::nullopt; };
  absl::StatusOr<Config> config = ParseConfig(text, "test.yaml", input);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : Config();
}

constexpr char kPlain[] = "backends: { out: { type: xray } }\n";

// Another value of every option that there is once.
constexpr char kAllChanged[] = R"(
receivers:
  udp: { address: "0.0.0.0:3000", engine: recvmmsg, workers: 2, receive_buffer: 1MiB, sockets: 3, validate: strict,
         allow: [10.0.0.0/8], source_rate: 5, source_burst: 6 }
  unix: { path: /tmp/other.sock, mode: "0600" }
  proxy: { address: off, backend: two, paths: all, rules_age: 5s }
buffer:
  memory: 32MiB
  fit: shrink
  spool: { path: /var/spool/other, size: 2MiB, age: 1h, file_size: 1MiB, fsync: 3s }
batch: { documents: 7, age: 250ms }
dead_letter: { path: /tmp/dead.jsonl, size: 1MiB }
admin: { address: "127.0.0.1:3010", token: 0123456789abcdef, tls: { cert: /tmp/c, key: /tmp/k, client_ca: /tmp/a } }
aws: { metadata: off }
log: { level: error, format: json, path: /tmp/other.log, rotate: { size: 1MiB, keep: 9 } }
shutdown: { grace: 3s }
takeover: true
security: { user: nobody, seccomp: log }
backends: { two: { type: xray, region: eu-west-1 }, file: { type: file, path: /tmp/f } }
routes: [{ to: [two] }]
)";

TEST(KeepForRestartTest, TellsNothingOfTheSame) {
  const Config running = Parse(kPlain);
  Config next = Parse(kPlain);
  EXPECT_TRUE(KeepForRestart(running, &next).empty());
}

TEST(KeepForRestartTest, NamesAndKeepsEveryOptionThatIsNotLive) {
  const Config running = Parse(kPlain);
  Config next = Parse(kAllChanged);
  std::set<std::string> expected;
  for (const Option& option : Options()) {
    if (option.live || option.path.find('*') != std::string::npos ||
        option.path.rfind("routes[]", 0) == 0) {
      continue;
    }
    expected.insert(option.path.substr(0, option.path.find('[')));
  }
  std::set<std::string> told;
  for (const OptionChange& change : KeepForRestart(running, &next)) told.insert(change.path);
  EXPECT_EQ(told, expected);
  EXPECT_EQ(next.udp.address, running.udp.address);
  EXPECT_EQ(next.buffer.spool.fsync, running.buffer.spool.fsync);
  EXPECT_EQ(next.log.format, running.log.format);
  EXPECT_TRUE(KeepForRestart(running, &next).empty()) << "all of them were kept";
}

TEST(KeepForRestartTest, LeavesTheRestAsItIsToBe) {
  const Config running = Parse(kPlain);
  Config next = Parse(kAllChanged);
  (void)KeepForRestart(running, &next);
  EXPECT_EQ(next.log.level, LogLevel::kError);
  EXPECT_EQ(next.shutdown.grace, std::chrono::seconds(3));
  EXPECT_EQ(next.proxy.backend, "two");
  EXPECT_EQ(next.backends.size(), 2U);
  EXPECT_EQ(next.routes.size(), 1U);
}

TEST(KeepForRestartTest, ShowsOldAndNewAsPeopleWriteThem) {
  const Config running = Parse(kPlain);
  Config next = Parse(
      "receivers: { udp: { workers: per-core, receive_buffer: 1048576, allow: [10.0.0.0/8, "
      "fd00::/8] "
      "}, unix: { path: /run/x } }\n"
      "batch: { age: 1500ms }\n"
      "backends: { out: { type: xray } }\n");
  std::vector<std::string> told;
  for (const OptionChange& change : KeepForRestart(running, &next)) {
    told.push_back(change.path + ": " + change.from + " -> " + change.to);
  }
  EXPECT_EQ(told, (std::vector<std::string>{"receivers.udp.workers: auto -> per-core",
                                            "receivers.udp.receive_buffer: 8MiB -> 1MiB",
                                            "receivers.udp.allow: none -> 10.0.0.0/8, fd00::/8",
                                            "receivers.unix.path: none -> /run/x",
                                            "batch.age: 1s -> 1500ms"}));
}

TEST(KeepForRestartTest, ShowsNoSecret) {
  const std::string rest = "backends: { out: { type: xray } }\n";
  const Config running = Parse("admin: { token: 0123456789abcdef }\n" + rest);
  Config next = Parse("admin: { token: fedcba9876543210 }\n" + rest);
  std::vector<OptionChange> changes = KeepForRestart(running, &next);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].path, "admin.token");
  EXPECT_EQ(changes[0].from, "***");
  EXPECT_EQ(changes[0].to, "***");
  EXPECT_EQ(next.admin.token, running.admin.token);
  next = Parse(rest);
  changes = KeepForRestart(running, &next);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].from + changes[0].to, "***none");
}

TEST(BackendConfigTest, ComparesAllOfItsSettings) {
  const std::string text =
      "backends: { out: { type: xray, role_arn: \"arn:aws:iam::123456789012:role/a\", timeout: 3s "
      "} }\n";
  EXPECT_TRUE(Parse(text).backends[0].settings == Parse(text).backends[0].settings);
  std::string other = text;
  other.replace(other.find("role/a"), 6, "role/b");
  EXPECT_FALSE(Parse(text).backends[0].settings == Parse(other).backends[0].settings);
}

}  // namespace
}  // namespace mobula
