// An environment and a home directory of a test's own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "engine/aws/credentials.h"

namespace mobula::testing {

class FakeHome {
 public:
  FakeHome() {
    std::string path = (std::filesystem::temp_directory_path() / "mobula-home-XXXXXX").string();
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    path_ = path;
    variables["HOME"] = path;
    std::filesystem::create_directory(path_ / ".aws");
  }
  ~FakeHome() { std::filesystem::remove_all(path_); }
  FakeHome(const FakeHome&) = delete;
  FakeHome& operator=(const FakeHome&) = delete;

  // Writes a file below the home directory.
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return path_ / name; }

  [[nodiscard]] Environment environment() const {
    return [this](std::string_view name) -> std::optional<std::string> {
      const auto found = variables.find(std::string(name));
      if (found == variables.end() || found->second.empty()) return std::nullopt;
      return found->second;
    };
  }

  std::map<std::string, std::string> variables;

 private:
  std::filesystem::path path_;
};

}  // namespace mobula::testing
