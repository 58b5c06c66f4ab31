// The configuration: any text is a configuration that keeps its promises, or an error fit to be shown.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/config/loader.h"
#include "engine/config/option_flags.h"
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

// First lines that begin with "--set ", with "--" and an option's name, or with MOBULA_NAME= are given as those.
// Answers the lines behind them.
std::string TakeOverrides(std::string text, mobula::ConfigInput* input) {
  constexpr std::string_view kSet = "--set ";
  mobula::Variables variables;
  while (true) {
    const std::string line = text.substr(0, text.find('\n'));
    const size_t equals = line.find('=');
    if (line.starts_with(kSet)) {
      input->sets.push_back(line.substr(kSet.size()));
    } else if (mobula::IsOptionFlag(line)) {
      const auto sets = mobula::SetsFromFlags({line});
      if (sets.ok()) {
        input->sets.insert(input->sets.end(), sets->begin(), sets->end());
      } else {
        EXPECT(IsPrintable(std::string(sets.status().message())));
      }
    } else if (line.starts_with("MOBULA_") && equals != std::string::npos) {
      variables.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    } else {
      break;
    }
    text.erase(0, line.size() + 1);
  }
  input->variables = [variables = std::move(variables)] { return variables; };
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobula::ConfigInput input;
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    return std::nullopt;
  };
  const std::string whole(data, data + size);
  const std::string text = TakeOverrides(whole, &input);
  const auto config = mobula::ParseConfig(text, "fuzz.yaml", input);
  if (!config.ok()) {
    const std::string message(config.status().message());
    EXPECT(!message.empty() && message.size() < 65536);
    EXPECT(IsPrintable(message));
    EXPECT(message.find("hunter2") == std::string::npos ||
           whole.find("hunter2") != std::string::npos || !input.sets.empty());
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
