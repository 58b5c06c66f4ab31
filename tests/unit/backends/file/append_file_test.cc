#include "backends/file/append_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/log.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::FileSizeLimit;
using testing::ReadFile;
using testing::TemporaryFolder;
using testing::WriteFile;

class AppendFileTest : public ::testing::Test {
 protected:
  // Records of this test's binary format: 4 bytes each, after "HEAD".
  static AppendFile::Options Fours(const std::string& path) {
    AppendFile::Options options;
    options.path = path;
    options.header = "HEAD";
    options.whole_bytes = [](int fd) -> absl::StatusOr<std::optional<uint64_t>> {
      char first[4] = {};
      if (pread(fd, first, 4, 0) == 4 && std::string_view(first, 4) != "HEAD") return std::nullopt;
      struct stat status {};
      EXPECT_EQ(fstat(fd, &status), 0);
      const uint64_t size = static_cast<uint64_t>(status.st_size);
      return std::min<uint64_t>(size - size % 4, whole_max);
    };
    return options;
  }
  static AppendFile::Options Lines(const std::string& path) {
    AppendFile::Options options;
    options.path = path;
    return options;
  }

  static inline uint64_t whole_max = UINT64_MAX;
  TemporaryFolder folder_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
};

TEST_F(AppendFileTest, CreatesTheFoldersAboveAndTheFileWithTheirModes) {
  const mode_t before = umask(0);
  AppendFile file(Lines(folder_ / "a/b/c.jsonl"), log_.get());
  EXPECT_TRUE(file.Append("one\n").ok());
  umask(before);
  struct stat status {};
  ASSERT_EQ(stat((folder_ / "a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750U);
  ASSERT_EQ(stat((folder_ / "a/b/c.jsonl").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

TEST_F(AppendFileTest, AUsersOwnLinkIsFollowed) {
  WriteFile(folder_ / "there", "one\n");
  ASSERT_EQ(symlink((folder_ / "there").c_str(), (folder_ / "x").c_str()), 0);
  ASSERT_EQ(chmod((folder_ / "there").c_str(), 0644), 0);
  AppendFile file(Lines(folder_ / "x"), log_.get());
  EXPECT_TRUE(file.Append("two\n").ok());
  EXPECT_EQ(ReadFile(folder_ / "there"), "one\ntwo\n");
  struct stat status {};
  ASSERT_EQ(stat((folder_ / "there").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644U);
}

TEST_F(AppendFileTest, ContinuesAnExistingFileWithoutASecondHeader) {
  const std::string path = folder_ / "x";
  for (int i = 0; i < 2; ++i) {
    AppendFile file(Fours(path), log_.get());
    ASSERT_TRUE(file.Append("aaaa").ok());
  }
  EXPECT_EQ(ReadFile(path), "HEADaaaaaaaa");
}

TEST_F(AppendFileTest, RefusesASecondWriterClearly) {
  AppendFile first(Lines(folder_ / "x"), log_.get());
  ASSERT_TRUE(first.Open().ok());
  AppendFile second(Lines(folder_ / "x"), log_.get());
  const absl::Status status = second.Open();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find("another writer"), std::string::npos);
  first.Close();
  EXPECT_TRUE(second.Append("x\n").ok());
}

TEST_F(AppendFileTest, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(AppendFile(Lines(folder_ / "."), log_.get()).Open().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(AppendFile(Lines(folder_ / "pipe"), log_.get()).Open().code(),
            absl::StatusCode::kInvalidArgument);
  WriteFile(folder_ / "file", "");
  EXPECT_EQ(AppendFile(Lines(folder_ / "file/below"), log_.get()).Open().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(AppendFileTest, LeavesNothingOfAnAppendThatFailedHalfWay) {
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("aaaa").ok());
  {
    const FileSizeLimit limit(14);
    const absl::Status status = file.Append("bbbbccccdddd");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_NE(std::string(status.message()).find(folder_ / "x"), std::string::npos);
  }
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADaaaa");
  EXPECT_TRUE(file.Append("bbbbccccdddd").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADaaaabbbbccccdddd");
}

TEST_F(AppendFileTest, LeavesNoHeaderWhenTheFirstAppendFails) {
  AppendFile file(Fours(folder_ / "x"), log_.get());
  {
    const FileSizeLimit limit(6);
    EXPECT_FALSE(file.Append("bbbb").ok());
  }
  EXPECT_EQ(ReadFile(folder_ / "x"), "");
  EXPECT_TRUE(file.Append("bbbb").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADbbbb");
}

TEST_F(AppendFileTest, EndsATornLastLineWithANewline) {
  WriteFile(folder_ / "x", "one\ntw");
  AppendFile file(Lines(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("three\n").ok());
  ASSERT_TRUE(file.Append("four\n").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "one\ntw\nthree\nfour\n");
  EXPECT_NE(lines_.find("has no end"), std::string::npos);
}

TEST_F(AppendFileTest, CutsATornRecordOff) {
  WriteFile(folder_ / "x", "HEADaaaabb");
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("cccc").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADaaaacccc");
  EXPECT_NE(lines_.find("cut off"), std::string::npos);
}

TEST_F(AppendFileTest, SetsAFileOfAnotherFormatAside) {
  WriteFile(folder_ / "x", "{\"not\": \"ours\"}\n");
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("cccc").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADcccc");
  const std::vector<std::string> names = folder_.Names();
  ASSERT_EQ(names.size(), 2U);
  EXPECT_TRUE(names[1].starts_with("x.damaged-")) << names[1];
  EXPECT_EQ(ReadFile(folder_ / names[1]), "{\"not\": \"ours\"}\n");
}

TEST_F(AppendFileTest, SetsADamagedFileAsideInsteadOfCuttingMuch) {
  std::string bytes = "HEADaaaa";
  bytes.append(AppendFile::kTornBytesMax + 1, '\0');
  WriteFile(folder_ / "x", bytes);
  whole_max = 8;
  AppendFile file(Fours(folder_ / "x"), log_.get());
  EXPECT_TRUE(file.Append("cccc").ok());
  whole_max = UINT64_MAX;
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADcccc");
  EXPECT_EQ(folder_.Names().size(), 2U);
}

TEST_F(AppendFileTest, RotatesBySizeAndKeepsSoMany) {
  AppendFile::Options options = Fours(folder_ / "x.gz");
  options.suffix = ".gz";
  options.rotate_size = 12;
  options.rotate_keep = 2;
  AppendFile file(options, log_.get());
  for (const char* record : {"aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg"}) {
    ASSERT_TRUE(file.Append(record).ok());
  }
  EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"x.1.gz", "x.2.gz", "x.gz"}));
  EXPECT_EQ(ReadFile(folder_ / "x.gz"), "HEADgggg");
  EXPECT_EQ(ReadFile(folder_ / "x.1.gz"), "HEADeeeeffff");
  EXPECT_EQ(ReadFile(folder_ / "x.2.gz"), "HEADccccdddd");
}

TEST_F(AppendFileTest, WritesOneAppendThatIsLargerThanTheRotationSize) {
  AppendFile::Options options = Lines(folder_ / "x");
  options.rotate_size = 4;
  AppendFile file(options, log_.get());
  ASSERT_TRUE(file.Append("a long line\n").ok());
  ASSERT_TRUE(file.Append("b\n").ok());
  EXPECT_EQ(ReadFile(folder_ / "x.1"), "a long line\n");
  EXPECT_EQ(ReadFile(folder_ / "x"), "b\n");
}

TEST_F(AppendFileTest, GoesOnInTheSameFileWhenRotationFails) {
  AppendFile::Options options = Lines(folder_ / "x");
  options.rotate_size = 4;
  options.rotate_keep = 1;
  AppendFile file(options, log_.get());
  ASSERT_TRUE(file.Append("one\n").ok());
  // A folder with something in it cannot be renamed over.
  std::filesystem::create_directories(folder_ / "x.1/full");
  ASSERT_TRUE(file.Append("two\n").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "one\ntwo\n");
  EXPECT_NE(lines_.find("cannot rotate the file"), std::string::npos);
}

TEST_F(AppendFileTest, ReopenFollowsTheNameAfterARename) {
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("aaaa").ok());
  EXPECT_TRUE(file.Reopen().ok());  // nothing happened: the same file goes on
  ASSERT_TRUE(file.Append("bbbb").ok());
  std::filesystem::rename(folder_ / "x", folder_ / "x.old");
  ASSERT_TRUE(file.Append("cccc").ok());
  ASSERT_TRUE(file.Reopen().ok());
  ASSERT_TRUE(file.Append("dddd").ok());
  EXPECT_EQ(ReadFile(folder_ / "x.old"), "HEADaaaabbbbcccc");
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADdddd");
}

TEST_F(AppendFileTest, ReopenKeepsTheOldFileWhenTheNewOneCannotBeHad) {
  AppendFile file(Lines(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("one\n").ok());
  std::filesystem::rename(folder_ / "x", folder_ / "x.old");
  std::filesystem::create_directory(folder_ / "x");
  EXPECT_FALSE(file.Reopen().ok());
  EXPECT_TRUE(file.Append("two\n").ok());
  EXPECT_EQ(ReadFile(folder_ / "x.old"), "one\ntwo\n");
}

TEST_F(AppendFileTest, ComesBackAfterTheFileWasDeleted) {
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("aaaa").ok());
  std::filesystem::remove(folder_ / "x");
  ASSERT_TRUE(file.Append("bbbb").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADbbbb");
}

TEST_F(AppendFileTest, BeginsAnewAfterTheFileWasTruncated) {
  AppendFile file(Fours(folder_ / "x"), log_.get());
  ASSERT_TRUE(file.Append("aaaa").ok());
  std::filesystem::resize_file(folder_ / "x", 0);
  ASSERT_TRUE(file.Append("bbbb").ok());
  EXPECT_EQ(ReadFile(folder_ / "x"), "HEADbbbb");
}

TEST_F(AppendFileTest, AppendAndSyncPutsTheBytesThere) {
  AppendFile::Options options = Lines(folder_ / "x");
  options.sync = true;
  AppendFile file(options, log_.get());
  EXPECT_TRUE(file.AppendAndSync("one\n").ok());
  file.Close();
  EXPECT_EQ(ReadFile(folder_ / "x"), "one\n");
}

TEST(FileErrorTest, SaysWhatItMeansAndWhere) {
  EXPECT_EQ(FileError(ENOSPC, "/x").ToString(), "RESOURCE_EXHAUSTED: no space left on device: /x");
  EXPECT_EQ(FileError(EACCES, "/x").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(FileError(EROFS, "/x").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(FileError(EIO, "/x").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(FileError(EMFILE, "/x").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mobula
