// Golden tests of the configuration: tests/golden/config/NAME.yaml must give NAME.expected, its errors or
// its warnings; NAME.printed, where it is there, is what `config print` makes of it; and each configuration that
// is shipped must load without either.
// With MOBULA_UPDATE_GOLDEN in the environment, what is found becomes what is expected.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/app/config_command.h"
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

ConfigInput Input() {
  ConfigInput input;
  input.environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SECRET") return "hunter2";
    if (name == "TOKEN") return "hunter2-hunter2-hunter2";
    return std::nullopt;
  };
  return input;
}

std::string Outcome(const fs::path& path) {
  const auto config = ParseConfig(ReadAll(path), path.filename().string(), Input());
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

std::string Printed(const std::string& text, const std::string& name) {
  const auto tree = ParseEffective(text, name, Input());
  EXPECT_TRUE(tree.ok()) << tree.status();
  return tree.ok() ? FormatConfig(*tree, PrintFormat::kYaml) : "";
}

// Without the comments, and the blanks before them.
std::string ValuesOf(const std::string& printed) {
  std::istringstream in(printed);
  std::string out;
  for (std::string line; std::getline(in, line);) {
    const size_t comment = line.rfind("  # ");
    if (comment != line.npos) line.resize(line.find_last_not_of(' ', comment) + 1);
    out += line + '\n';
  }
  return out;
}

TEST(ConfigGoldenTest, WhatIsPrintedOfAGoodFileIsReadAgainAndPrintedAlike) {
  const bool update = std::getenv("MOBULA_UPDATE_GOLDEN") != nullptr;
  size_t compared = 0;
  std::vector<fs::path> paths = FilesIn(fs::path(GOLDEN_FOLDER) / "config", ".yaml");
  for (const fs::path& path : FilesIn(CONFIG_FOLDER, ".yaml")) paths.push_back(path);
  for (fs::path path : paths) {
    if (Outcome(path).rfind("good\n", 0) != 0) continue;
    const std::string printed = Printed(ReadAll(path), path.filename().string());
    EXPECT_EQ(printed.find("hunter2"), std::string::npos) << path;
    EXPECT_EQ(ValuesOf(Printed(printed, "printed")), ValuesOf(printed)) << path;
    path.replace_extension(".printed");
    if (!fs::exists(path)) continue;
    if (update) std::ofstream(path, std::ios::binary) << printed;
    EXPECT_EQ(printed, ReadAll(path)) << path;
    ++compared;
  }
  EXPECT_GE(compared, 2U);
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
