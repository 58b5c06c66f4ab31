// The configuration: any text is a configuration that keeps its promises, or an error fit to be shown.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/config/loader.h"
#include "tests/fuzz/expect.h"

namespace {

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' || (static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
  });
}

bool IsBackend(const mobula::Config& config, std::string_view name) {
  return std::any_of(config.backends.begin(), config.backends.end(),
                     [&](const mobula::BackendConfig& backend) { return backend.name == name; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobula::ConfigInput input;
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    return std::nullopt;
  };
  std::string text(data, data + size);
  // A first line beginning with "--set " is given as that flag.
  constexpr std::string_view kSet = "--set ";
  if (text.compare(0, kSet.size(), kSet) == 0) {
    const size_t end = std::min(text.find('\n'), text.size());
    input.sets.push_back(text.substr(kSet.size(), end - kSet.size()));
    text.erase(0, end);
  }
  const auto config = mobula::ParseConfig(text, "fuzz.yaml", input);
  if (!config.ok()) {
    const std::string message(config.status().message());
    EXPECT(!message.empty() && message.size() < 65536);
    EXPECT(IsPrintable(message));
    EXPECT(message.find("hunter2") == std::string::npos ||
           text.find("hunter2") != std::string::npos || !input.sets.empty());
    return 0;
  }
  EXPECT(!config->backends.empty());
  EXPECT(config->batch.documents >= 1 && config->batch.documents <= 64);
  EXPECT(config->udp.workers >= -1 && config->udp.workers <= 64);
  for (const mobula::RouteConfig& route : config->routes) {
    for (const std::string& name : route.to) EXPECT(IsBackend(*config, name));
  }
  for (const std::string& warning : config->warnings) EXPECT(IsPrintable(warning));
  return 0;
}
