// The shared AWS files against a slow reference: any text as the config file.
#include <sys/mman.h>
#include <unistd.h>

#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "engine/aws/shared_profile.h"
#include "tests/fuzz/expect.h"

namespace {

std::string Trim(const std::string& text) {
  std::string out;
  std::string blanks;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      if (!out.empty()) blanks += c;
    } else {
      out += blanks + c;
      blanks.clear();
    }
  }
  return out;
}

// The settings of the section, or nothing when there is none.
std::optional<std::map<std::string, std::string>> Expected(const std::string& text,
                                                           const std::string& name) {
  std::optional<std::map<std::string, std::string>> settings;
  bool inside = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string trimmed = Trim(line);
    if (trimmed.empty() || trimmed[0] == '#' || trimmed[0] == ';') continue;
    if (trimmed[0] == '[') {
      const size_t end = trimmed.find(']');
      if (end == std::string::npos) {
        inside = false;
        continue;
      }
      std::istringstream words(trimmed.substr(1, end - 1));
      std::string section;
      for (std::string word; words >> word;) section += (section.empty() ? "" : " ") + word;
      inside = section == "profile " + name || (name == "default" && section == name);
      if (inside && !settings) settings.emplace();
      continue;
    }
    const size_t equals = trimmed.find('=');
    if (!inside || line[0] == ' ' || line[0] == '\t' || equals == std::string::npos) continue;
    std::string key = Trim(trimmed.substr(0, equals));
    for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    std::string value = Trim(trimmed.substr(equals + 1));
    for (const char* comment : {" #", " ;", "\t#", "\t;"}) {
      value = value.substr(0, value.find(comment));
    }
    settings->emplace(key, Trim(value));
  }
  return settings;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  const int fd = ::memfd_create("config", MFD_CLOEXEC);
  EXPECT(fd >= 0);
  EXPECT(::write(fd, data, size) == static_cast<ssize_t>(size));
  const mobula::SharedProfile::Paths paths{"", "/proc/self/fd/" + std::to_string(fd)};
  for (const char* name : {"default", "x", "a b"}) {
    const auto profile = mobula::SharedProfile::Load(paths, name);
    EXPECT(profile.ok() || size > (1 << 20));
    if (!profile.ok()) continue;
    const auto expected = Expected(text, name);
    EXPECT(profile->exists() == expected.has_value());
    if (!expected) continue;
    for (const auto& [key, value] : *expected) EXPECT(profile->Get(key) == value);
    EXPECT(profile->Get("no such key") == "" || expected->count("no such key") == 1);
  }
  ::close(fd);
  return 0;
}
