#include "backends/file/dead_letter_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <regex>
#include <thread>

#include "engine/base/log.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::FileSizeLimit;
using testing::ReadFile;
using testing::TemporaryFolder;
using testing::WriteFile;

class DeadLetterFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<DeadLetterFile> Open(uint64_t size = 64U << 20) {
    auto file = DeadLetterFile::Open({.path = folder_ / "dead.jsonl", .size = size}, log_.get());
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  // The file's one line without its time.
  std::string Line() {
    static const std::regex kTime(
        "^\\{\"time\":\"20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z\",");
    const std::string text = ReadFile(folder_ / "dead.jsonl");
    EXPECT_TRUE(std::regex_search(text, kTime)) << text;
    return std::regex_replace(text, kTime, "{");
  }

  mode_t Mode(std::string_view name) {
    struct stat status {};
    EXPECT_EQ(::stat((folder_ / name).c_str(), &status), 0) << name;
    return status.st_mode & 07777;
  }

  TemporaryFolder folder_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
};

TEST_F(DeadLetterFileTest, WritesTextAsAJsonString) {
  Open()->Write("invalid_json", "", "", "{\"a\": \"\\u00e9\", \xc3\xa9\n\x01");
  EXPECT_EQ(Line(),
            "{\"reason\":\"invalid_json\",\"backend\":\"\",\"code\":\"\",\"encoding\":\"text\","
            "\"document\":\"{\\\"a\\\": \\\"\\\\u00e9\\\", \xc3\xa9\\u000a\\u0001\"}\n");
}

TEST_F(DeadLetterFileTest, WritesOtherBytesInBase64) {
  Open()->Write("refused", "prod", "InvalidTraceId", std::string_view("\xff\0{}", 4));
  EXPECT_EQ(Line(),
            "{\"reason\":\"refused\",\"backend\":\"prod\",\"code\":\"InvalidTraceId\","
            "\"encoding\":\"base64\",\"document\":\"/wB7fQ==\"}\n");
}

TEST_F(DeadLetterFileTest, JudgesUtf8Strictly) {
  const auto file = Open();
  const std::vector<std::string> good = {"\xc2\x80",        "\xdf\xbf",     "\xe0\xa0\x80",
                                         "\xed\x9f\xbf",    "\xef\xbf\xbf", "\xf0\x90\x80\x80",
                                         "\xf4\x8f\xbf\xbf"};
  const std::vector<std::string> bad = {"\x80",
                                        "\xc1\xbf",
                                        "\xc2",
                                        "\xe0\x9f\xbf",
                                        "\xed\xa0\x80",
                                        "\xe2\x82",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xe2\x28\xa1"};
  for (const std::string& text : good) file->Write("r", "", "", text);
  for (const std::string& text : bad) file->Write("r", "", "", text);
  const std::string text = ReadFile(folder_ / "dead.jsonl");
  size_t texts = 0;
  size_t base64 = 0;
  for (size_t at = 0; (at = text.find("\"encoding\":\"text\"", at)) != std::string::npos; ++at)
    ++texts;
  for (size_t at = 0; (at = text.find("\"encoding\":\"base64\"", at)) != std::string::npos; ++at)
    ++base64;
  EXPECT_EQ(texts, good.size());
  EXPECT_EQ(base64, bad.size());
}

TEST_F(DeadLetterFileTest, KeepsOneGenerationAndIsPrivate) {
  const auto file = Open(1000);
  for (int i = 0; i < 100; ++i) file->Write("r", "", "", std::string(100, 'x'));
  EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"dead.jsonl", "dead.jsonl.1"}));
  for (const char* name : {"dead.jsonl", "dead.jsonl.1"}) {
    struct stat status {};
    ASSERT_EQ(stat((folder_ / name).c_str(), &status), 0);
    EXPECT_LE(status.st_size, 1000);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
  }
}

TEST_F(DeadLetterFileTest, CountsAndTellsWhatItCouldNotWrite) {
  const auto file = Open();
  {
    const FileSizeLimit limit(10);
    file->Write("invalid_json", "", "", "x");
  }
  EXPECT_EQ(file->lost(), 1U);
  EXPECT_NE(lines_.find("cannot keep a refused document"), std::string::npos);
  file->Write("invalid_json", "", "", "x");
  EXPECT_EQ(file->lost(), 1U);
  Line();
}

TEST_F(DeadLetterFileTest, ASuccessorHasTheFileWhenThePredecessorEnds) {
  auto first = Open();
  const DeadLetterConfig config{.path = folder_ / "dead.jsonl", .size = 1000};
  EXPECT_FALSE(DeadLetterFile::Open(config, log_.get()).ok());
  const auto second = DeadLetterFile::Open(config, log_.get(), OtherWriter::kPredecessor);
  ASSERT_TRUE(second.ok()) << second.status();
  (*second)->Write("r", "", "", "early");
  EXPECT_EQ((*second)->lost(), 1U);
  first.reset();
  (*second)->Write("r", "", "", "late");
  EXPECT_EQ((*second)->lost(), 1U);
  EXPECT_NE(ReadFile(config.path).find("late"), std::string::npos);
}

TEST_F(DeadLetterFileTest, FollowsNoLink) {
  WriteFile(folder_ / "victim", "precious\n");
  ASSERT_EQ(::symlink((folder_ / "victim").c_str(), (folder_ / "dead.jsonl").c_str()), 0);
  const auto linked = DeadLetterFile::Open({.path = folder_ / "dead.jsonl"}, log_.get());
  EXPECT_EQ(linked.status().message(),
            "a symbolic link is not followed: " + (folder_ / "dead.jsonl"));
  ASSERT_EQ(::unlink((folder_ / "dead.jsonl").c_str()), 0);
  ASSERT_EQ(::link((folder_ / "victim").c_str(), (folder_ / "dead.jsonl").c_str()), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(
      DeadLetterFile::Open({.path = folder_ / "dead.jsonl"}, log_.get()).status()));
  EXPECT_EQ(ReadFile(folder_ / "victim"), "precious\n");
}

TEST_F(DeadLetterFileTest, WhatOthersOwnIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  WriteFile(folder_ / "dead.jsonl", "");
  ASSERT_EQ(::chown((folder_ / "dead.jsonl").c_str(), 65534, 65534), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(
      DeadLetterFile::Open({.path = folder_ / "dead.jsonl"}, log_.get()).status()));
}

TEST_F(DeadLetterFileTest, WhatOthersMayReadBecomesPrivate) {
  WriteFile(folder_ / "dead.jsonl", "");
  ASSERT_EQ(::chmod((folder_ / "dead.jsonl").c_str(), 0664), 0);  // as fsGroup of Kubernetes does
  const auto file = Open();
  EXPECT_EQ(Mode("dead.jsonl"), 0600U);
}

TEST_F(DeadLetterFileTest, ItsFolderIsPrivateAndThoseAboveAreForTheGroup) {
  const mode_t before = ::umask(0);
  const auto file = DeadLetterFile::Open({.path = folder_ / "a/b/dead.jsonl"}, log_.get());
  ::umask(before);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(Mode("a"), 0750U);
  EXPECT_EQ(Mode("a/b"), 0700U);
  EXPECT_EQ(Mode("a/b/dead.jsonl"), 0600U);
}

TEST_F(DeadLetterFileTest, LinesOfSeveralThreadsStayWhole) {
  const auto file = Open();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i) file->Write("r", "b", "c", "document");
      });
    }
  }
  std::ifstream in(folder_ / "dead.jsonl");
  int count = 0;
  for (std::string line; std::getline(in, line); ++count) {
    EXPECT_TRUE(line.starts_with("{\"time\":") && line.ends_with("\"document\":\"document\"}"))
        << line;
  }
  EXPECT_EQ(count, 800);
}

TEST_F(DeadLetterFileTest, ReopenFollowsTheName) {
  const auto file = Open();
  file->Write("one", "", "", "x");
  std::filesystem::rename(folder_ / "dead.jsonl", folder_ / "old");
  file->Reopen();
  file->Write("two", "", "", "x");
  EXPECT_NE(ReadFile(folder_ / "old").find("\"one\""), std::string::npos);
  EXPECT_NE(ReadFile(folder_ / "dead.jsonl").find("\"two\""), std::string::npos);
}

TEST_F(DeadLetterFileTest, OpenSaysWhyItCannot) {
  const auto file = DeadLetterFile::Open({.path = folder_ / ".", .size = 1}, log_.get());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mobula
