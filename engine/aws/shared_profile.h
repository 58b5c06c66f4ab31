// The shared AWS files: named profiles of settings.
//
// Room:   cold.
// Errors: a file that does not exist is empty; one that cannot be read is an error naming it.
// Limits: 1 MiB per file. Indented lines (nested settings) and lines that are no setting are passed over; so is all
//         of a section whose name has no closing bracket.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"

namespace mobula {

class SharedProfile {
 public:
  struct Paths {
    std::string credentials;
    std::string config;
  };
  static Paths FindPaths(const Environment& environment);
  // `configured`, else AWS_PROFILE, AWS_DEFAULT_PROFILE, "default".
  static std::string FindName(const std::string& configured, const Environment& environment);

  // Reads both files; what the credentials file says wins.
  static absl::StatusOr<SharedProfile> Load(const Paths& paths, const std::string& name);

  // Whether some profile of either file may have a credential_process.
  static bool MentionPrograms(const Paths& paths);
  // Those of the files that hold keys and may be read by others than root, us and our groups.
  static std::vector<std::string> ExposedFiles(const Paths& paths);

  // The [sso-session `name`] of the config file.
  static absl::StatusOr<SharedProfile> LoadSsoSession(const Paths& paths, const std::string& name);

  // Whether either file has it.
  [[nodiscard]] bool exists() const noexcept { return exists_; }
  // A setting; empty when it is not there. `key` in lower case.
  [[nodiscard]] std::string Get(std::string_view key) const;
  // The first line, of either file, that is neither a section nor a setting: "/root/.aws/credentials:3"; empty when
  // there is none.
  [[nodiscard]] const std::string& odd_line() const noexcept { return odd_line_; }

 private:
  void Parse(std::string_view text, const std::string& path, std::string_view section,
             std::string_view alternative);

  std::vector<std::pair<std::string, std::string>> settings_;  // the first of a name counts
  bool exists_ = false;
  std::string odd_line_;
};

}  // namespace mobula
