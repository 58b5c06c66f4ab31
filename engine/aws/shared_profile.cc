// Tested by tests/unit/engine/aws/shared_profile_test.cc and tests/fuzz/profile_fuzz.cc.
#include "engine/aws/shared_profile.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "absl/strings/ascii.h"
#include "engine/base/file_exposure.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

// A file that does not exist is empty.
absl::StatusOr<std::string> ReadFile(const std::string& path) {
  if (path.empty()) return std::string();
  absl::StatusOr<std::string> text = ReadSmallFile(path, kFileBytesMax);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

// Whether the file has `word`, in lower case, anywhere.
bool Mentions(const std::string& path, std::string_view word) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return false;
  absl::AsciiStrToLower(&*text);
  return text->find(word) != std::string::npos;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && absl::ascii_isspace(static_cast<unsigned char>(text.front()))) {
    text.remove_prefix(1);
  }
  while (!text.empty() && absl::ascii_isspace(static_cast<unsigned char>(text.back()))) {
    text.remove_suffix(1);
  }
  return text;
}

// The value of a setting, without a comment behind it: " #" or " ;".
std::string_view WithoutComment(std::string_view value) {
  for (size_t i = 1; i < value.size(); ++i) {
    if ((value[i] == '#' || value[i] == ';') && (value[i - 1] == ' ' || value[i - 1] == '\t')) {
      return Trim(value.substr(0, i));
    }
  }
  return value;
}

}  // namespace

SharedProfile::Paths SharedProfile::FindPaths(const Environment& environment) {
  const std::optional<std::string> home = environment("HOME");
  const auto find = [&](std::string_view variable, std::string_view standard) {
    std::string path = environment(variable).value_or("");
    if (path.starts_with("~/") && home) path = *home + path.substr(1);
    if (path.empty() && home) path = fmt::format("{}/.aws/{}", *home, standard);
    return path;
  };
  return {find("AWS_SHARED_CREDENTIALS_FILE", "credentials"), find("AWS_CONFIG_FILE", "config")};
}

std::string SharedProfile::FindName(const std::string& configured, const Environment& environment) {
  if (!configured.empty()) return configured;
  if (const auto name = environment("AWS_PROFILE")) return *name;
  return environment("AWS_DEFAULT_PROFILE").value_or("default");
}

absl::StatusOr<SharedProfile> SharedProfile::Load(const Paths& paths, const std::string& name) {
  SharedProfile profile;
  ASSIGN_OR_RETURN(const std::string credentials, ReadFile(paths.credentials));
  profile.Parse(credentials, paths.credentials, name, name);
  ASSIGN_OR_RETURN(const std::string config, ReadFile(paths.config));
  const std::string section = "profile " + name;
  profile.Parse(config, paths.config, section, name == "default" ? name : section);
  return profile;
}

bool SharedProfile::MentionPrograms(const Paths& paths) {
  return Mentions(paths.credentials, "credential_process") ||
         Mentions(paths.config, "credential_process");
}

std::vector<std::string> SharedProfile::ExposedFiles(const Paths& paths) {
  std::vector<std::string> exposed;
  for (const std::string& path : {paths.credentials, paths.config}) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    const FileExposure exposure = fd.valid() ? ExposureOf(fd.get()) : FileExposure();
    if ((exposure.anybody_reads || exposure.group_reads) &&
        Mentions(path, "aws_secret_access_key")) {
      exposed.push_back(path);
    }
  }
  return exposed;
}

absl::StatusOr<SharedProfile> SharedProfile::LoadSsoSession(const Paths& paths,
                                                            const std::string& name) {
  SharedProfile session;
  ASSIGN_OR_RETURN(const std::string config, ReadFile(paths.config));
  const std::string section = "sso-session " + name;
  session.Parse(config, paths.config, section, section);
  return session;
}

void SharedProfile::Parse(std::string_view text, const std::string& path, std::string_view section,
                          std::string_view alternative) {
  bool inside = false;
  for (size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::string_view trimmed = Trim(line);
    if (trimmed.empty() || trimmed.front() == '#' || trimmed.front() == ';') continue;
    if (trimmed.front() == '[') {
      const size_t end = trimmed.find(']');
      if (end == std::string_view::npos) {
        inside = false;
        if (odd_line_.empty()) odd_line_ = fmt::format("{}:{}", path, number);
        continue;
      }
      // "[profile  name]": any blanks between the words.
      std::string found(Trim(trimmed.substr(1, end - 1)));
      for (char& c : found) {
        if (absl::ascii_isspace(static_cast<unsigned char>(c))) c = ' ';
      }
      absl::RemoveExtraAsciiWhitespace(&found);
      inside = found == section || found == alternative;
      exists_ = exists_ || inside;
      continue;
    }
    const size_t equals = trimmed.find('=');
    const bool nested = line.front() == ' ' || line.front() == '\t';
    if (!nested && equals == std::string_view::npos && odd_line_.empty()) {
      odd_line_ = fmt::format("{}:{}", path, number);
    }
    if (!inside || nested || equals == std::string_view::npos) continue;
    std::string key(Trim(trimmed.substr(0, equals)));
    absl::AsciiStrToLower(&key);
    settings_.emplace_back(std::move(key), WithoutComment(Trim(trimmed.substr(equals + 1))));
  }
}

std::string SharedProfile::Get(std::string_view key) const {
  for (const auto& [name, value] : settings_) {
    if (name == key) return value;
  }
  return "";
}

}  // namespace mobula
