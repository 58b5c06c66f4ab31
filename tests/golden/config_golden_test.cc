// Golden tests of the configuration: tests/golden/config/NAME.yaml must give NAME.expected, its errors or
// its warnings; and each configuration that is shipped must load without either.
// With MOBULA_UPDATE_GOLDEN in the environment, what is found becomes what is expected.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/config/loader.h"

namespace mobula {
namespace {

namespace fs = std::filesystem;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<fs::path> FilesIn(const fs::path& folder, std::string_view extension) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == extension) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string Outcome(const fs::path& path) {
  ConfigInput input;
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    return std::nullopt;
  };
  const auto config = ParseConfig(ReadAll(path), path.filename().string(), input);
  if (!config.ok()) return std::string(config.status().message()) + "\n";
  std::string out = "good\n";
  for (const std::string& warning : config->warnings) out += "warning: " + warning + "\n";
  return out;
}

TEST(ConfigGoldenTest, EveryFileGivesWhatIsExpected) {
  const bool update = std::getenv("MOBULA_UPDATE_GOLDEN") != nullptr;
  const std::vector<fs::path> paths = FilesIn(fs::path(GOLDEN_FOLDER) / "config", ".yaml");
  EXPECT_GE(paths.size(), 25U);
  for (fs::path path : paths) {
    const std::string outcome = Outcome(path);
    EXPECT_EQ(outcome.find("hunter2"), std::string::npos) << path;
    path.replace_extension(".expected");
    if (update) std::ofstream(path, std::ios::binary) << outcome;
    EXPECT_EQ(outcome, ReadAll(path)) << path;
  }
}

TEST(ConfigGoldenTest, NoExpectationWithoutItsFile) {
  for (fs::path path : FilesIn(fs::path(GOLDEN_FOLDER) / "config", ".expected")) {
    path.replace_extension(".yaml");
    EXPECT_TRUE(fs::exists(path)) << path;
  }
}

TEST(ShippedConfigTest, EachLoadsWithoutAWarning) {
  const std::vector<fs::path> paths = FilesIn(CONFIG_FOLDER, ".yaml");
  EXPECT_GE(paths.size(), 2U);
  for (const fs::path& path : paths) {
    ConfigInput input;
    input.path = path.string();
    input.environment = [](std::string_view) { return std::nullopt; };
    const auto config = LoadConfig(input);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_TRUE(config->warnings.empty()) << config->warnings.front();
  }
}

}  // namespace
}  // namespace mobula
