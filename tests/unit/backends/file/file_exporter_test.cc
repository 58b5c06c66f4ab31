#include "backends/file/file_exporter.h"

#include <cerrno>

#include "backends/file/append_file.h"
#include "engine/base/log.h"
#include "engine/http/io_loop.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::FileSizeLimit;
using testing::ReadFile;
using testing::TemporaryFolder;
using testing::TestBatch;
using testing::TestPool;

class FileExporterTest : public ::testing::Test {
 protected:
  std::unique_ptr<Exporter> Make(const FileBackendConfig& config) {
    return MakeFileExporter("archive", config, {.pool = pool_.get(), .log = log_.get()});
  }
  ExportResult Export(Exporter* exporter, const std::vector<std::string>& documents) {
    const BatchRef batch = TestBatch(pool_.get(), documents);
    std::vector<ExportResult> results;
    exporter->Export({*batch, batch->all(), kTimeNever, 1},
                     [&](ExportResult result) { results.push_back(std::move(result)); });
    EXPECT_EQ(results.size(), 1U);
    return results.at(0);
  }

  TemporaryFolder folder_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::unique_ptr<BlockPool> pool_ = TestPool();
  IoLoop loop_;
};

TEST_F(FileExporterTest, MakingOneTouchesNothing) {
  const auto exporter = Make({.path = folder_ / "sub/x.jsonl"});
  EXPECT_TRUE(folder_.Names().empty());
  EXPECT_TRUE(exporter->Shutdown().ok());
  EXPECT_TRUE(folder_.Names().empty());
}

TEST_F(FileExporterTest, CompressedFilesHaveTheSuffixOnce) {
  for (const char* name : {"x.jsonl", "y.jsonl.gz"}) {
    const auto exporter = Make({.path = folder_ / name, .compression = Compression::kGzip});
    ASSERT_TRUE(exporter->Start(&loop_).ok());
    EXPECT_EQ(Export(exporter.get(), {"{}"}).verdict, Verdict::kDelivered);
  }
  EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"x.jsonl.gz", "y.jsonl.gz"}));
}

TEST_F(FileExporterTest, StartFailsOnAPathThatCanNeverWork) {
  const auto exporter = Make({.path = folder_ / "."});
  EXPECT_EQ(exporter->Start(&loop_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileExporterTest, StartRefusesAFileThatAnotherWriterHolds) {
  const auto first = Make({.path = folder_ / "x"});
  ASSERT_TRUE(first->Start(&loop_).ok());
  const auto second = Make({.path = folder_ / "x"});
  EXPECT_EQ(second->Start(&loop_).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(FileExporterTest, ASuccessorHasTheFileWhenThePredecessorEnds) {
  const FileBackendConfig config{.path = folder_ / "x.jsonl"};
  const auto first = Make(config);
  ASSERT_TRUE(first->Start(&loop_).ok());
  const auto second = MakeFileExporter(
      "archive", config,
      {.pool = pool_.get(), .log = log_.get(), .other_writer = OtherWriter::kPredecessor});
  EXPECT_TRUE(second->Start(&loop_).ok());
  EXPECT_EQ(Export(first.get(), {"{\"a\":1}"}).verdict, Verdict::kDelivered);
  EXPECT_EQ(Export(second.get(), {"{\"a\":2}"}).verdict, Verdict::kHold);
  EXPECT_TRUE(first->Shutdown().ok());
  EXPECT_EQ(Export(second.get(), {"{\"a\":2}"}).verdict, Verdict::kDelivered);
  EXPECT_EQ(ReadFile(config.path), "{\"a\":1}\n{\"a\":2}\n");
}

TEST_F(FileExporterTest, StartSurvivesAFullDiskAndExportTriesAgain) {
  const auto exporter = Make({.path = folder_ / "x", .format = FileFormat::kFramed});
  ASSERT_TRUE(exporter->Start(&loop_).ok());
  {
    const FileSizeLimit limit(20);
    const ExportResult result = Export(exporter.get(), {"{\"a\": 1}"});
    EXPECT_EQ(result.verdict, Verdict::kHold);
    EXPECT_EQ(result.code, "no_space");
    EXPECT_NE(result.message.find(folder_ / "x"), std::string::npos);
    EXPECT_EQ(result.taken, 0U);
    EXPECT_TRUE(result.documents.empty());
  }
  EXPECT_EQ(Export(exporter.get(), {"{}"}).verdict, Verdict::kDelivered);
  EXPECT_EQ(ReadFile(folder_ / "x"), std::string("mobula-framed 1\n\2\0\0\0{}", 22));
}

TEST_F(FileExporterTest, AFailureInAnyFormatLeavesAReadableFile) {
  for (const FileFormat format : {FileFormat::kJsonLines, FileFormat::kFramed}) {
    for (const Compression compression :
         {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
      const TemporaryFolder folder;
      const auto exporter =
          Make({.path = folder / "x", .format = format, .compression = compression});
      ASSERT_TRUE(exporter->Start(&loop_).ok());
      ASSERT_EQ(Export(exporter.get(), {"{\"first\": 1}"}).verdict, Verdict::kDelivered);
      const std::string path = folder / folder.Names().at(0);
      const std::string before = ReadFile(path);
      for (size_t more = 0; more < 12; ++more) {
        const FileSizeLimit limit(before.size() + more);
        EXPECT_EQ(Export(exporter.get(), {"{\"second\": 2}"}).code, "no_space");
        EXPECT_EQ(ReadFile(path), before);
      }
      EXPECT_EQ(Export(exporter.get(), {"{\"second\": 2}"}).verdict, Verdict::kDelivered);
      EXPECT_TRUE(ReadFile(path).starts_with(before));
      EXPECT_TRUE(exporter->Shutdown().ok());
    }
  }
}

TEST_F(FileExporterTest, FsyncPoliciesDeliver) {
  for (const FsyncPolicy policy : {FsyncPolicy::kInterval, FsyncPolicy::kBatch}) {
    const TemporaryFolder folder;
    const auto exporter = Make(
        {.path = folder / "x", .fsync = policy, .fsync_interval = std::chrono::milliseconds(1)});
    ASSERT_TRUE(exporter->Start(&loop_).ok());
    EXPECT_EQ(Export(exporter.get(), {"{}"}).verdict, Verdict::kDelivered);
    loop_.RunUntil(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
    EXPECT_EQ(Export(exporter.get(), {"{}"}).verdict, Verdict::kDelivered);
    EXPECT_TRUE(exporter->Shutdown().ok());
    EXPECT_EQ(ReadFile(folder / "x"), "{}\n{}\n");
  }
  EXPECT_EQ(lines_.find("cannot"), std::string::npos) << lines_;
}

TEST_F(FileExporterTest, ReopenFollowsLogrotate) {
  const auto exporter = Make({.path = folder_ / "x"});
  ASSERT_TRUE(exporter->Start(&loop_).ok());
  Export(exporter.get(), {"1"});
  std::filesystem::rename(folder_ / "x", folder_ / "x.1");
  exporter->Reopen();
  Export(exporter.get(), {"2"});
  EXPECT_EQ(ReadFile(folder_ / "x.1"), "1\n");
  EXPECT_EQ(ReadFile(folder_ / "x"), "2\n");
}

TEST_F(FileExporterTest, RotatedFramedFilesAreWholeFiles) {
  const auto exporter = Make(
      {.path = folder_ / "x", .format = FileFormat::kFramed, .rotate_size = 30, .rotate_keep = 3});
  ASSERT_TRUE(exporter->Start(&loop_).ok());
  for (const char* document : {"aaaa", "bbbb", "cccc"}) Export(exporter.get(), {document});
  EXPECT_EQ(ReadFile(folder_ / "x.2"), std::string("mobula-framed 1\n\4\0\0\0aaaa", 24));
  EXPECT_EQ(ReadFile(folder_ / "x"), std::string("mobula-framed 1\n\4\0\0\0cccc", 24));
}

TEST(FileFailureTest, HoldsWhatWaitsForAPersonAndRetriesTheRest) {
  EXPECT_EQ(FileFailure(FileError(ENOSPC, "x")).verdict, Verdict::kHold);
  EXPECT_EQ(FileFailure(FileError(EACCES, "x")).code, "permission_denied");
  EXPECT_EQ(FileFailure(FileError(EIO, "x")).verdict, Verdict::kRetry);
  EXPECT_EQ(FileFailure(FileError(EIO, "x")).code, "io_error");
  EXPECT_EQ(FileFailure(FileError(EMFILE, "x")).code, "write_failed");
  EXPECT_EQ(FileFailure(absl::FailedPreconditionError("x")).code, "locked");
  EXPECT_EQ(FileFailure(absl::AbortedError("x")).code, "broken_pipe");
}

}  // namespace
}  // namespace mobula
