#include "backends/file/stream_exporter.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "engine/http/io_loop.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using testing::FileSizeLimit;
using testing::ReadFile;
using testing::TemporaryFolder;
using testing::TestBatch;
using testing::TestPool;

Time Now() { return std::chrono::steady_clock::now(); }

// An exporter whose stream is a pipe that nobody reads until Read is called.
class StreamExporterTest : public ::testing::Test {
 protected:
  StreamExporterTest() {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_ = UniqueFd(ends[0]);
    EXPECT_EQ(fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
    // The smallest a pipe can be.
    EXPECT_EQ(fcntl(read_.get(), F_SETPIPE_SZ, 4096), 4096);
    exporter_ = Start(UniqueFd(ends[1]), {});
  }
  std::unique_ptr<Exporter> Start(UniqueFd fd, const FileBackendConfig& config) {
    auto exporter = MakeStreamExporter("out", std::move(fd), config);
    EXPECT_TRUE(exporter->Start(&loop_).ok());
    return exporter;
  }
  void Export(const std::vector<std::string>& documents, Time deadline = kTimeNever) {
    batches_.push_back(TestBatch(pool_.get(), documents));
    const Batch& batch = *batches_.back();
    exporter_->Export({batch, batch.all(), deadline, 1},
                      [this](ExportResult result) { results_.push_back(std::move(result)); });
  }
  void Read() {
    char buffer[8192];
    ssize_t n = 0;
    while ((n = read(read_.get(), buffer, sizeof buffer)) > 0)
      out_.append(buffer, static_cast<size_t>(n));
  }
  // Turns the loop and reads until `done`, at most 10 s.
  template <typename F>
  void RunUntil(F done) {
    const Time limit = Now() + std::chrono::seconds(10);
    while (!done() && Now() < limit) loop_.RunUntil(Now() + milliseconds(1));
    EXPECT_TRUE(done());
  }

  std::unique_ptr<BlockPool> pool_ = TestPool();
  IoLoop loop_;
  UniqueFd read_;
  std::vector<BatchRef> batches_;
  std::unique_ptr<Exporter> exporter_;
  std::vector<ExportResult> results_;
  std::string out_;
};

TEST_F(StreamExporterTest, WritesAtOnceWhatFits) {
  Export({"{\"a\": 1}", "{}"});
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].verdict, Verdict::kDelivered);
  Read();
  EXPECT_EQ(out_, "{\"a\": 1}\n{}\n");
}

TEST_F(StreamExporterTest, ASlowReaderGetsEverythingInOrder) {
  std::string expected;
  for (int i = 0; i < 10; ++i) {
    const std::string document(3000, static_cast<char>('a' + i));
    Export({document, document});
    expected += document + "\n" + document + "\n";
  }
  EXPECT_LT(results_.size(), 10U);
  RunUntil([&] {
    Read();
    return results_.size() == 10;
  });
  Read();
  EXPECT_EQ(out_, expected);
  for (const ExportResult& result : results_) EXPECT_EQ(result.verdict, Verdict::kDelivered);
}

TEST_F(StreamExporterTest, AtTheDeadlineOnlyWhatWasBegunIsDeliveredAndItIsFinishedLater) {
  const std::string a(3000, 'a');
  const std::string b(3000, 'b');
  const std::string c(3000, 'c');
  Export({a, b, c}, Now() + milliseconds(20));
  Export({"never begun"}, Now() + milliseconds(10));
  RunUntil([&] { return results_.size() == 2; });
  const ExportResult& behind = results_[0];  // its deadline came first
  EXPECT_EQ(behind.verdict, Verdict::kThrottled);
  EXPECT_EQ(behind.code, "timeout");
  EXPECT_TRUE(behind.documents.empty());
  const ExportResult& first = results_[1];
  EXPECT_EQ(first.verdict, Verdict::kThrottled);
  ASSERT_EQ(first.documents.size(), 2U);
  EXPECT_EQ(first.documents[0].index, 0);
  EXPECT_EQ(first.documents[0].verdict, Verdict::kDelivered);
  EXPECT_EQ(first.documents[1].index, 1);
  // The rest goes out without another call.
  RunUntil([&] {
    Read();
    return out_.size() == a.size() + b.size() + 2;
  });
  Export({c});
  Read();
  EXPECT_EQ(out_, a + "\n" + b + "\n" + c + "\n");
}

TEST_F(StreamExporterTest, ShutdownEndsCallsAndFinishesTheDocumentThatWasBegun) {
  const std::string a(5000, 'a');
  Export({a, "b"});
  Export({"c"});
  EXPECT_TRUE(results_.empty());
  Read();  // room for the rest
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_EQ(results_[0].verdict, Verdict::kRetry);
  ASSERT_EQ(results_[0].documents.size(), 1U);
  EXPECT_EQ(results_[0].documents[0].index, 0);
  EXPECT_EQ(results_[1].verdict, Verdict::kRetry);
  EXPECT_TRUE(results_[1].documents.empty());
  Read();
  EXPECT_EQ(out_, a + "\n");
  EXPECT_TRUE(exporter_->Shutdown().ok());
}

TEST_F(StreamExporterTest, ShutdownSaysWhenTheReaderNeverTookTheRest) {
  Export({std::string(5000, 'a')});
  const Time before = Now();
  EXPECT_EQ(exporter_->Shutdown().code(), absl::StatusCode::kDataLoss);
  EXPECT_LT(Now() - before, milliseconds(900));
  EXPECT_EQ(results_.size(), 1U);
}

TEST_F(StreamExporterTest, AClosedPipeIsHeld) {
  read_.reset();
  Export({"{}"});
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].verdict, Verdict::kHold);
  EXPECT_EQ(results_[0].code, "broken_pipe");
  EXPECT_TRUE(exporter_->Shutdown().ok());
}

TEST_F(StreamExporterTest, APipeThatClosesInTheMiddleHoldsEvenTheDocumentThatWasBegun) {
  Export({std::string(2000, 'a'), std::string(5000, 'b'), "c"});
  EXPECT_TRUE(results_.empty());
  read_.reset();
  RunUntil([&] { return !results_.empty(); });
  EXPECT_EQ(results_[0].code, "broken_pipe");
  ASSERT_EQ(results_[0].documents.size(), 1U);
  EXPECT_EQ(results_[0].documents[0].index, 0);
}

TEST_F(StreamExporterTest, ACompressedCallIsDeliveredAsAWhole) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  read_ = UniqueFd(ends[0]);
  ASSERT_EQ(fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
  exporter_ =
      Start(UniqueFd(ends[1]), {.format = FileFormat::kFramed, .compression = Compression::kZstd});
  Export({"{\"a\": 1}", "{}"});
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].verdict, Verdict::kDelivered);
  Read();
  EXPECT_TRUE(out_.starts_with("\x28\xb5\x2f\xfd"));
}

TEST_F(StreamExporterTest, AFramedStreamBeginsWithItsHeader) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  read_ = UniqueFd(ends[0]);
  ASSERT_EQ(fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
  exporter_ = Start(UniqueFd(ends[1]), {.format = FileFormat::kFramed});
  Export({"{}"});
  Export({"x"});
  Read();
  EXPECT_EQ(out_, std::string("mobula-framed 1\n\2\0\0\0{}\1\0\0\0x", 27));
  UniqueFd other(open("/dev/null", O_WRONLY | O_CLOEXEC));
  exporter_ = Start(std::move(other), {.format = FileFormat::kFramed});
  EXPECT_TRUE(exporter_->Shutdown().ok());  // nothing begun: the header is no debt
}

TEST_F(StreamExporterTest, SocketsWork) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  read_ = UniqueFd(ends[0]);
  ASSERT_EQ(fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
  exporter_ = Start(UniqueFd(ends[1]), {});
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    Export({std::string(60'000, 'x')});
    expected += std::string(60'000, 'x') + "\n";
  }
  RunUntil([&] {
    Read();
    return results_.size() == 20;
  });
  Read();
  EXPECT_EQ(out_, expected);
}

TEST_F(StreamExporterTest, ARedirectedFileThatIsFullHoldsAndGoesOnWithoutATornLine) {
  const TemporaryFolder folder;
  exporter_ =
      Start(UniqueFd(open((folder / "x").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), {});
  {
    const FileSizeLimit limit(10);
    Export({"{\"a\": 1}", "{\"b\": 2}", "{\"c\": 3}"});
  }
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].verdict, Verdict::kHold);
  EXPECT_EQ(results_[0].code, "no_space");
  ASSERT_EQ(results_[0].documents.size(), 2U);  // a is whole, b was begun
  Export({"{\"c\": 3}"});
  EXPECT_EQ(results_.back().verdict, Verdict::kDelivered);
  EXPECT_EQ(ReadFile(folder / "x"), "{\"a\": 1}\n{\"b\": 2}\n{\"c\": 3}\n");
}

TEST_F(StreamExporterTest, ExportInsideDoneIsFine) {
  const BatchRef batch = TestBatch(pool_.get(), {"{}"});
  int calls = 0;
  std::function<void(ExportResult)> again = [&](ExportResult) {
    if (++calls < 100) exporter_->Export({*batch, 1, kTimeNever, 1}, again);
  };
  exporter_->Export({*batch, 1, kTimeNever, 1}, again);
  RunUntil([&] {
    Read();
    return calls == 100;
  });
}

TEST(StreamExporterStartTest, WhatIsOnlyOpenForReadingIsClosedOutput) {
  IoLoop loop;
  const auto start = [&](int mode) {
    return MakeStreamExporter("out", UniqueFd(open("/dev/null", mode | O_CLOEXEC)), {})
        ->Start(&loop);
  };
  const absl::Status refused = start(O_RDONLY);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(), "backend out: standard output is closed");
  EXPECT_TRUE(start(O_WRONLY).ok());
  EXPECT_TRUE(start(O_RDWR).ok());  // as a terminal is
}

TEST(StreamExporterStartTest, ClosedOutputIsAnError) {
  IoLoop loop;
  EXPECT_FALSE(MakeStreamExporter("out", UniqueFd(), {})->Start(&loop).ok());
  EXPECT_TRUE(MakeStreamExporter("out", UniqueFd(), {})->Shutdown().ok());
}

}  // namespace
}  // namespace mobula
