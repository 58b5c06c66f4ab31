// The X-Ray daemon's file and flags: any text is settings that our loader reads the same, or an error fit to be
// shown.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/daemon_flags.h"
#include "engine/config/daemon_settings.h"
#include "engine/config/loader.h"
#include "tests/fuzz/expect.h"

namespace {

using namespace mobula;

void ExpectMessage(const absl::Status& status) {
  const std::string message(status.message());
  EXPECT(!message.empty() && message.size() < 65536);
  EXPECT(std::none_of(message.begin(), message.end(), [](char c) {
    return c != '\n' && (static_cast<unsigned char>(c) < ' ' || c == '\x7f');
  }));
}

void CheckMigration(const DaemonSettings& settings) {
  const auto migrated = MigrateDaemonSettings(settings, "fuzz.yaml");
  if (!migrated.ok()) return ExpectMessage(migrated.status());
  ConfigInput input;
  input.environment = [](std::string_view) { return std::optional<std::string>(); };
  input.names = migrated->names;
  // What flags said stands in the text as well.
  const auto alone = ParseConfig(migrated->text, "migrated", input);
  input.sets = migrated->sets;
  const auto config = ParseConfig(migrated->text, "migrated", input);
  EXPECT(alone.ok() == config.ok());
  if (!config.ok()) return ExpectMessage(config.status());
  EXPECT(config->udp.address == settings.udp_address.value);
  EXPECT(config->proxy.address == settings.tcp_address.value || settings.tcp_address.value.empty());
  EXPECT(config->backends.size() == 1);
  const auto& xray = std::get<XrayBackendConfig>(config->backends.front().settings);
  EXPECT(xray.region == settings.region.value);
  EXPECT(xray.endpoint == settings.endpoint.value);
  EXPECT(xray.role.role_arn == settings.role_arn.value);
  EXPECT(xray.http_proxy == settings.proxy_address.value);
  EXPECT(xray.tls.verify != settings.no_verify_ssl.value);
  EXPECT(config->aws.metadata != settings.local_mode.value);
  EXPECT(settings.log_path.value.empty() || settings.log_path.value == "-" ||
         config->log.path == settings.log_path.value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(data, data + size);
  // A first line beginning with "-" is a command line.
  DaemonFlags flags;
  if (!text.empty() && text.front() == '-' && text.compare(0, 3, "---") != 0) {
    const size_t line = std::min(text.find('\n'), text.size());
    std::vector<std::string> args;
    for (size_t begin = 0; begin < line;) {
      const size_t end = std::min(text.find(' ', begin), line);
      args.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    if (const absl::Status status = ParseDaemonFlags(args, &flags); !status.ok()) {
      ExpectMessage(status);
    }
    text.erase(0, line);
  }
  const auto strict = ParseDaemonFile(text, "fuzz.yaml", DaemonKeys::kStrict);
  auto loose = ParseDaemonFile(text, "fuzz.yaml", DaemonKeys::kLoose);
  if (!strict.ok()) ExpectMessage(strict.status());
  if (!loose.ok()) ExpectMessage(loose.status());
  // What the strict reading accepts, the loose one reads alike.
  EXPECT(!strict.ok() || loose.ok());
  if (!loose.ok()) return 0;
  if (strict.ok()) {
    EXPECT(strict->region.value == loose->region.value);
    CheckMigration(*strict);
  }
  ApplyDaemonFlags(flags, &*loose);
  CheckMigration(*loose);
  return 0;
}
