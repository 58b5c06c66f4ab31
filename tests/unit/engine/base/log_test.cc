// Tests of engine/base/log.h.
#include "engine/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/printable.h"

namespace mobula {
namespace {

using std::chrono::seconds;

size_t CountLines(const std::string& text) {
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

class LogTest : public ::testing::Test {
 protected:
  std::unique_ptr<Log> Make(LogFormat format) {
    Log::Options options;
    options.format = format;
    options.level = LogLevel::kDebug;
    return Log::ForTesting(&lines_, options, [this] { return now_; });
  }

  std::string lines_;
  Time now_ = Time() + seconds(1000);
};

TEST_F(LogTest, TextLineHasTimeLevelMessageAndFields) {
  auto log = Make(LogFormat::kText);
  log->Info("started", "receiver bound", {{"address", "127.0.0.1:2000"}, {"workers", 2}});
  EXPECT_TRUE(std::regex_match(
      lines_, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  receiver bound  )"
                         R"(address=127\.0\.0\.1:2000 workers=2\n)")))
      << lines_;
}

TEST_F(LogTest, TheLevelCanChange) {
  auto log = Make(LogFormat::kText);
  log->SetLevel(LogLevel::kError);
  log->Info("e", "hidden");
  EXPECT_FALSE(log->Enabled(LogLevel::kWarn));
  log->SetLevel(LogLevel::kDebug);
  log->Debug("e", "shown");
  EXPECT_EQ(lines_.find("hidden"), std::string::npos);
  EXPECT_NE(lines_.find("shown"), std::string::npos);
}

TEST_F(LogTest, TextQuotesValuesThatNeedIt) {
  auto log = Make(LogFormat::kText);
  log->Info("e", "m", {{"a", "with blanks"}, {"b", ""}, {"c", "x=y"}, {"d", "say \"hi\" \\o/"}});
  EXPECT_NE(lines_.find(R"(  a="with blanks" b="" c="x=y" d="say \"hi\" \\o/")"), std::string::npos)
      << lines_;
}

TEST_F(LogTest, ForeignBytesCannotForgeALine) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    lines_.clear();
    auto log = Make(format);
    log->Info("e", "m", {{"v", "a\nb\x1b[31m\xff\xc2\x9b\xe2\x80\xa8\x7f\xc3\xa9"}});
    EXPECT_EQ(CountLines(lines_), 1U);
    EXPECT_EQ(lines_.find('\x1b'), std::string::npos);
    EXPECT_EQ(lines_.find('\xff'), std::string::npos);
    EXPECT_EQ(lines_.find("\xc2\x9b"), std::string::npos);
    EXPECT_NE(lines_.find("\xc3\xa9"), std::string::npos);
  }
}

TEST_F(LogTest, TextEscapesBytesAsHex) {
  auto log = Make(LogFormat::kText);
  log->Info("e", "m", {{"v", "a\nb\xff"}});
  EXPECT_NE(lines_.find(R"(v=a\x0ab\xff)"), std::string::npos) << lines_;
}

TEST_F(LogTest, JsonLineIsOneObject) {
  auto log = Make(LogFormat::kJson);
  log->Info("bound", "say \"hi\"\n", {{"n", 7}, {"s", "\xff\\"}, {"f", 0.0 / 0.0}});
  EXPECT_TRUE(std::regex_match(
      lines_,
      std::regex(
          R"(\{"time":"[-0-9T:.]+Z","level":"info","event":"bound","message":"say \\"hi\\"\\u000a",)"
          R"("n":7,"s":"\\\\xff\\\\","f":"-?nan"\}\n)")))
      << lines_;
}

// Sets the time zone for as long as it lives.
class TimeZone {
 public:
  explicit TimeZone(const char* name) {
    ::setenv("TZ", name, 1);
    ::tzset();
  }
  ~TimeZone() {
    ::unsetenv("TZ");
    ::tzset();
  }
};

TEST_F(LogTest, DaemonLineHasLocalTimeAndNoFields) {
  const std::string time = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)";
  const std::vector<std::pair<const char*, std::string>> zones = {
      {"UTC0", "Z"}, {"IST-5:30", R"(\+05:30)"}, {"NST3:30", "-03:30"}};
  for (const auto& [zone, offset] : zones) {
    const TimeZone set(zone);
    lines_.clear();
    auto log = Make(LogFormat::kDaemon);
    log->Debug("e", "one", {{"field", "value"}});
    log->Info("e", "two");
    log->Warn("f", "three");
    log->Error("g", "four \x1b[2J\n[Error] forged");
    EXPECT_TRUE(std::regex_match(
        lines_, std::regex(time + offset + R"( \[Debug\] one\n)" + time + offset +
                           R"( \[Info\] two\n)" + time + offset + R"( \[Warn\] three\n)" + time +
                           offset + R"( \[Error\] four \\x1b\[2J\\x0a\[Error\] forged\n)")))
        << lines_;
  }
}

TEST_F(LogTest, DaemonLineTellsRepeats) {
  auto log = Make(LogFormat::kDaemon);
  for (int i = 0; i < 5; ++i) log->Error("sending_failed", "Sending segment batch failed with: x");
  EXPECT_EQ(CountLines(lines_), 1U);
  now_ += seconds(10);
  log->Error("sending_failed", "Sending segment batch failed with: x");
  EXPECT_NE(lines_.find("failed with: x (and 4 more like it before)\n"), std::string::npos)
      << lines_;
}

TEST_F(LogTest, DaemonLinesStayUnder4096Bytes) {
  auto log = Make(LogFormat::kDaemon);
  log->Info("e", std::string(60000, 'A'));
  EXPECT_LE(lines_.size(), 4096U);
  EXPECT_GT(lines_.size(), 4000U);
  EXPECT_EQ(lines_.substr(lines_.size() - 7), " [cut]\n");
}

TEST_F(LogTest, LinesStayUnder4096BytesAndClosed) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    for (const std::string unit : {"x", "\xc3\xa9", "\n", "\"", " "}) {
      lines_.clear();
      std::string value;
      while (value.size() < 9000) value += unit;
      auto log = Make(format);
      log->Info("e", "m", {{"v", value}, {"after", "gone"}});
      EXPECT_LE(lines_.size(), 4096U);
      EXPECT_GT(lines_.size(), 4000U);
      EXPECT_EQ(lines_.find("gone"), std::string::npos);
      const std::string end = format == LogFormat::kText ? " [cut]\n" : "\",\"cut\":true}\n";
      EXPECT_EQ(lines_.substr(lines_.size() - end.size()), end);
    }
  }
}

TEST_F(LogTest, RepeatsAreCountedAndTold) {
  auto log = Make(LogFormat::kText);
  for (int i = 0; i < 5; ++i) log->Warn("bad_datagram", "refused", {{"key", "10.0.0.1"}});
  EXPECT_EQ(CountLines(lines_), 1U);
  log->Warn("bad_datagram", "refused", {{"key", "10.0.0.2"}});
  EXPECT_EQ(CountLines(lines_), 2U);
  now_ += seconds(10);
  log->Warn("bad_datagram", "refused", {{"key", "10.0.0.1"}});
  EXPECT_EQ(CountLines(lines_), 3U);
  EXPECT_NE(lines_.find("key=10.0.0.1 repeated=4\n"), std::string::npos) << lines_;
}

TEST_F(LogTest, ABurstMayBeLonger) {
  Log::Options options;
  options.burst = 3;
  auto log = Log::ForTesting(&lines_, options, [this] { return now_; });
  for (int i = 0; i < 5; ++i) log->Warn("bad_datagram", "refused", {{"key", "a"}});
  EXPECT_EQ(CountLines(lines_), 3U);
  now_ += seconds(10);
  for (int i = 0; i < 5; ++i) log->Warn("bad_datagram", "refused", {{"key", "a"}});
  EXPECT_EQ(CountLines(lines_), 6U);
  EXPECT_NE(lines_.find("repeated=2"), std::string::npos) << lines_;
}

TEST_F(LogTest, InfoIsNeverHeldBack) {
  auto log = Make(LogFormat::kText);
  for (int i = 0; i < 5; ++i) log->Info("tick", "tock");
  EXPECT_EQ(CountLines(lines_), 5U);
}

TEST_F(LogTest, AFloodOfKeysStaysBounded) {
  auto log = Make(LogFormat::kText);
  for (int i = 0; i < 10000; ++i) log->Warn("bad_datagram", "refused", {{"key", i}});
  const size_t first = CountLines(lines_);
  EXPECT_LE(first, 256U);
  now_ += seconds(11);
  log->Warn("bad_datagram", "refused", {{"key", "another"}});
  EXPECT_EQ(CountLines(lines_), first + 1);
  now_ += seconds(11);
  lines_.clear();
  log->Warn("bad_datagram", "refused");
  EXPECT_NE(lines_.find("repeated="), std::string::npos) << lines_;
}

TEST_F(LogTest, LevelsBelowTheChosenOneAreNotWritten) {
  Log::Options options;
  options.level = LogLevel::kWarn;
  auto log = Log::ForTesting(&lines_, options, {});
  log->Info("e", "m");
  EXPECT_TRUE(lines_.empty());
  EXPECT_FALSE(log->Enabled(LogLevel::kInfo));
  log->Error("e", "m");
  EXPECT_EQ(CountLines(lines_), 1U);
}

TEST(LogFileTest, WritesWholeLinesFromManyThreads) {
  std::string path = ::testing::TempDir() + "log_test_XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  Log::Options options;
  options.path = path;
  options.format = LogFormat::kJson;
  {
    auto log = Log::Open(options);
    ASSERT_TRUE(log.ok());
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log] {
        for (int i = 0; i < 200; ++i) (*log)->Info("e", std::string(300, 'x'));
      });
    }
  }
  std::ifstream in(path);
  std::string line;
  int count = 0;
  while (std::getline(in, line)) {
    ++count;
    EXPECT_EQ(line.front(), '{');
    EXPECT_EQ(line.back(), '}');
  }
  EXPECT_EQ(count, 800);
  ::unlink(path.c_str());
}

TEST(LogFileTest, AnUnwritablePathIsAnError) {
  Log::Options options;
  options.path = "/dev/null/folder/mobula.log";
  const auto log = Log::Open(options);
  ASSERT_FALSE(log.ok());
  EXPECT_NE(log.status().message().find("/dev/null/folder/mobula.log"), std::string::npos);
}

// A log file in a folder of its own.
class LogFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    options_.format = LogFormat::kDaemon;
    options_.path = folder_ + "/a/b/xray.log";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Log> Open() {
    auto log = Log::Open(options_);
    EXPECT_TRUE(log.ok()) << log.status();
    return log.ok() ? *std::move(log) : nullptr;
  }
  static std::string Read(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string folder_ = ::testing::TempDir() + "log_test_XXXXXX";
  Log::Options options_;
};

TEST_F(LogFolderTest, MakesFoldersAndAppends) {
  Open()->Info("e", "first");
  Open()->Info("e", "second");
  const std::string text = Read(options_.path);
  EXPECT_EQ(CountLines(text), 2U);
  EXPECT_LT(text.find("first"), text.find("second"));
}

TEST_F(LogFolderTest, RotatesBySizeAndKeepsAsManyAsTold) {
  options_.rotate_size = 1000;
  options_.rotate_keep = 2;
  const auto log = Open();
  for (int i = 0; i < 100; ++i) log->Info("e", "line " + std::to_string(i) + std::string(100, 'x'));
  for (const std::string end : {"", ".1", ".2"}) {
    const std::string text = Read(options_.path + end);
    EXPECT_LE(text.size(), 1000U) << end;
    EXPECT_GT(text.size(), 100U) << end;
  }
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".3"));
  // No line is lost on the way from one to the next.
  const std::string text =
      Read(options_.path + ".2") + Read(options_.path + ".1") + Read(options_.path);
  const size_t lines = CountLines(text);
  for (size_t i = 100 - lines; i < 100; ++i) {
    EXPECT_NE(text.find("line " + std::to_string(i) + "x"), std::string::npos) << i;
  }
}

TEST_F(LogFolderTest, WhatIsThereAlreadyCountsForTheRotation) {
  options_.rotate_size = 1000;
  Open()->Info("e", std::string(900, 'a'));
  Open()->Info("e", std::string(900, 'b'));
  EXPECT_NE(Read(options_.path + ".1").find("aaa"), std::string::npos);
  EXPECT_NE(Read(options_.path).find("bbb"), std::string::npos);
}

TEST_F(LogFolderTest, AFileThatCannotBeRotatedKeepsGrowing) {
  options_.rotate_size = 1000;
  const auto log = Open();
  // A folder with something in it in the place of `.1`.
  std::filesystem::create_directories(options_.path + ".1/in/the/way");
  for (int i = 0; i < 30; ++i) log->Info("e", std::string(100, 'x'));
  EXPECT_EQ(CountLines(Read(options_.path)), 30U);
}

TEST_F(LogFolderTest, ReopensUnderItsName) {
  const auto log = Open();
  log->Info("e", "first");
  std::filesystem::rename(options_.path, options_.path + ".moved");
  log->Info("e", "second");
  EXPECT_TRUE(log->Reopen().ok());
  log->Info("e", "third");
  EXPECT_EQ(CountLines(Read(options_.path + ".moved")), 2U);
  EXPECT_EQ(CountLines(Read(options_.path)), 1U);
  // The folder is gone and cannot be made: the open file stays.
  std::filesystem::rename(folder_ + "/a", folder_ + "/c");
  std::ofstream(folder_ + "/a") << "in the way";
  EXPECT_FALSE(log->Reopen().ok());
  log->Info("e", "fourth");
  EXPECT_EQ(CountLines(Read(folder_ + "/c/b/xray.log")), 2U);
}

TEST(LogStreamTest, ADashIsStandardOutput) {
  Log::Options options;
  options.path = "-";
  options.format = LogFormat::kDaemon;
  const auto log = Log::Open(options);
  ASSERT_TRUE(log.ok());
  ::testing::internal::CaptureStdout();
  (*log)->Info("e", "hello");
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("[Info] hello\n"), std::string::npos);
  EXPECT_TRUE((*log)->Reopen().ok());
  EXPECT_FALSE(std::filesystem::exists("-"));
}

// A FIFO as the log file stands for a stderr nobody reads.
TEST(LogFileTest, AFullOrBrokenPipeNeitherBlocksNorEndsTheProgram) {
  std::string folder = ::testing::TempDir() + "log_test_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  Log::Options options;
  options.path = path;
  auto log = Log::Open(options);
  ASSERT_TRUE(log.ok());
  for (int i = 0; i < 100; ++i) (*log)->Info("e", std::string(4000, 'x'));
  ::close(reader);
  for (int i = 0; i < 3; ++i) (*log)->Info("e", "nobody listens");
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
}

TEST(LogLevelTest, NamesRoundTrip) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    const auto parsed = ParseLogLevel(LogLevelName(level));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, level);
  }
  EXPECT_FALSE(ParseLogLevel("verbose").ok());
}

TEST(LogJsonFieldTest, WritesJsonAsItIs) {
  std::string lines;
  Log::Options options;
  options.format = LogFormat::kJson;
  const auto log = Log::ForTesting(&lines, options, {});
  log->Info("e", "m", {LogField::Json("ledger", "{\"n\":[1]}")});
  EXPECT_NE(lines.find(",\"ledger\":{\"n\":[1]}}\n"), std::string::npos) << lines;
}

// Pieces that forge lines, terminals or fields where they are let through, and plain bytes between them.
std::string Hostile(std::mt19937* random) {
  constexpr std::string_view kPieces[] = {"\n",
                                          "\r\n",
                                          "\x1b[2J",
                                          "\x1b]0;title\a",
                                          "\xc2\x9b",
                                          "\xc2\x85",
                                          "\xe2\x80\xa8",
                                          "\xe2\x80\xa9",
                                          "\xe2\x80\xae",
                                          "\x7f",
                                          "\"",
                                          "\\",
                                          "\\u000a",
                                          "=",
                                          " ",
                                          "\"}\n{\"level\":\"error\"",
                                          "\xff",
                                          "\xc0\x8a",
                                          "\xed\xa0\x80",
                                          "\xf0\x9f",
                                          "ü",
                                          "\b\b\b"};
  std::string text;
  for (size_t pieces = (*random)() % 12; pieces > 0; --pieces) {
    const size_t which = (*random)() % (std::size(kPieces) + 4);
    if (which < std::size(kPieces)) {
      text += kPieces[which];
    } else {
      text += static_cast<char>((*random)() & 0xffU);
    }
  }
  if ((*random)() % 50 == 0) text.append((*random)() % 6000, 'x').append("\n\x1b");
  return text;
}

TEST_F(LogTest, NoTextForgesALineInAnyFormat) {
  std::mt19937 random(20261123);
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson, LogFormat::kDaemon}) {
    Log::Options options;
    options.format = format;
    std::string lines;
    const auto log = Log::ForTesting(&lines, options, {});
    for (int i = 0; i < 20000; ++i) {
      const std::string message = Hostile(&random);
      const std::string key = Hostile(&random);
      const std::string value = Hostile(&random);
      lines.clear();
      log->Info("event", message, {{key, value}, {"source", Hostile(&random)}});
      ASSERT_FALSE(lines.empty());
      ASSERT_LE(lines.size(), 4096U);
      ASSERT_EQ(lines.back(), '\n');
      lines.pop_back();
      // Nothing in it but what Printable would leave.
      ASSERT_EQ(Printable(lines), lines) << i;
      if (format == LogFormat::kJson) {
        ASSERT_EQ(lines.substr(0, 9), "{\"time\":\"");
        ASSERT_EQ(lines.back(), '}');
        // Each quote that is not escaped is one of ours: an even number, and none of a member that was made up.
        size_t quotes = 0;
        for (size_t at = 0; at < lines.size(); ++at) {
          if (lines[at] == '\\') {
            ++at;
          } else {
            quotes += lines[at] == '"' ? 1 : 0;
          }
        }
        ASSERT_EQ(quotes % 2, 0U) << lines;
        ASSERT_EQ(lines.find("\"level\":\"error\""), std::string::npos) << lines;
      }
    }
  }
}

}  // namespace
}  // namespace mobula
