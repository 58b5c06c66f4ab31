#include "engine/app/replay_command.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "engine/base/unique_fd.h"
#include "engine/batch/batch_builder.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::ReadFile;
using testing::TemporaryFolder;
using testing::WriteFile;

class ReplayCommandTest : public ::testing::Test {
 protected:
  struct Outcome {
    int status;
    std::string out;
    std::string err;
  };

  ReplayCommandTest() {
    options_.config.path = folder_ / "mobula.yaml";
    Configure("");
    sigemptyset(&stop_);
    sigaddset(&stop_, SIGTERM);
    // Else a signal that comes before the command looks for it would end the test.
    pthread_sigmask(SIG_BLOCK, &stop_, nullptr);
  }
  ~ReplayCommandTest() override {
    const timespec now{};
    sigtimedwait(&stop_, nullptr, &now);
  }

  // A configuration with the file backend `out`, and what `more` says.
  void Configure(const std::string& more, const std::string& file = "") {
    WriteFile(options_.config.path, "backends: { out: { type: file, path: \"" +
                                        folder_ / "out.jsonl" + "\" " + file +
                                        "} }\nbuffer: { memory: 8MiB }\n" + more);
  }
  Outcome Replay(std::vector<std::string> inputs) {
    options_.inputs = std::move(inputs);
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = ReplayCommand(options_);
    std::fflush(stdout);
    return {status, ::testing::internal::GetCapturedStdout(),
            ::testing::internal::GetCapturedStderr()};
  }
  std::string File(const std::string& name, const std::string& text) {
    WriteFile(folder_ / name, text);
    return folder_ / name;
  }

  TemporaryFolder folder_;
  ReplayOptions options_;
  sigset_t stop_{};
};

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(ReplayCommandTest, DeliversWhatIsValid) {
  const Outcome whole = Replay({File("in.jsonl", "{\"a\":1}\n{\"a\":2}\n")});
  EXPECT_EQ(whole.status, 0) << whole.err;
  EXPECT_TRUE(Holds(whole.out, "\"read\":2,\"rejected\":0,\"stopped\":false")) << whole.out;
  EXPECT_EQ(ReadFile(folder_ / "out.jsonl"), "{\"a\":1}\n{\"a\":2}\n");
  const Outcome partly = Replay({File("in.jsonl", "{\"a\":3}\n{\"a\":\n")});
  EXPECT_EQ(partly.status, 1);
  EXPECT_TRUE(Holds(partly.out, "\"read\":2,\"rejected\":1,\"stopped\":false")) << partly.out;
}

TEST_F(ReplayCommandTest, RefusesToReadWhatItWrites) {
  const std::string own = File("out.jsonl", "{\"a\":1}\n");
  const std::string why = own + " is what backend out writes to; move it first";
  for (const std::string& input : {own, folder_ / "."}) {
    const Outcome outcome = Replay({File("in.jsonl", "{\"b\":1}\n"), input});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(Holds(outcome.err, "out.jsonl is what backend out writes to; move it first"))
        << outcome.err;
  }
  EXPECT_TRUE(Holds(Replay({own}).err, why));
  std::filesystem::create_hard_link(own, folder_ / "other.jsonl");
  EXPECT_TRUE(Holds(Replay({folder_ / "other.jsonl"}).err, "backend out writes to"));
  EXPECT_EQ(ReadFile(own), "{\"a\":1}\n");
  std::filesystem::remove(folder_ / "other.jsonl");
  std::filesystem::rename(own, folder_ / "moved.jsonl");
  EXPECT_EQ(Replay({folder_ / "moved.jsonl"}).status, 0);
}

TEST_F(ReplayCommandTest, RefusesACompressedFileOfItsOwnAndDeadLettersAndLog) {
  Configure("dead_letter: { path: \"" + folder_ / "dead.jsonl" + "\" }\nlog: { path: \"" +
                folder_ / "log.jsonl" + "\" }\n",
            ", compression: gzip");
  const Outcome own = Replay({File("out.jsonl.gz", "")});
  EXPECT_TRUE(Holds(own.err, "out.jsonl.gz is what backend out writes to; move it first"))
      << own.err;
  EXPECT_TRUE(Holds(Replay({File("dead.jsonl", "{}\n")}).err, "is what dead_letter writes to"));
  EXPECT_TRUE(Holds(Replay({File("log.jsonl", "{}\n")}).err, "is what log writes to"));
}

TEST_F(ReplayCommandTest, ASignalEndsTheWaitForAPipeAndIsNoSuccess) {
  ASSERT_EQ(mkfifo((folder_ / "in.jsonl").c_str(), 0600), 0);
  // Held open, so that the pipe has no end.
  const UniqueFd writer(open((folder_ / "in.jsonl").c_str(), O_RDWR | O_CLOEXEC));
  const std::string_view documents = "{\"a\":1}\n{\"a\":2}\n";
  ASSERT_EQ(write(writer.get(), documents.data(), documents.size()),
            static_cast<ssize_t>(documents.size()));
  raise(SIGTERM);
  const Outcome outcome = Replay({File("first.jsonl", ""), folder_ / "in.jsonl"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(Holds(outcome.out, "\"stopped\":true")) << outcome.out;
}

TEST_F(ReplayCommandTest, DocumentsAsLargeAsABatchAreReplayed) {
  const auto document = [](size_t size) {
    return "{\"a\":\"" + std::string(size - 8, 'x') + "\"}";
  };
  const std::string longest = document(BatchBuilder::kDocumentBytesMax);
  EXPECT_EQ(Replay({File("in.jsonl", longest + "\n" + document(70'000) + "\n")}).status, 0);
  EXPECT_EQ(ReadFile(folder_ / "out.jsonl"), longest + "\n" + document(70'000) + "\n");
  const std::string broken = document(70'000) + "}";
  const std::string grown = "{\"a\":\"\xff" + document(BatchBuilder::kDocumentBytesMax).substr(7);
  const std::string too_long = document(BatchBuilder::kDocumentBytesMax + 1);
  const Outcome refused =
      Replay({File("in.jsonl", broken + "\n" + grown + "\n" + too_long + "\n")});
  EXPECT_TRUE(Holds(refused.out, "\"read\":3,\"rejected\":3,")) << refused.out;
  Configure("receivers: { udp: { validate: strict } }\n");
  EXPECT_TRUE(Holds(Replay({File("in.jsonl", document(70'000) + "\n")}).out, "\"rejected\":1,"));
  Configure("receivers: { udp: { validate: off } }\n");
  EXPECT_TRUE(Holds(Replay({File("in.jsonl", grown + "\n")}).out, "\"rejected\":0,"));
}

}  // namespace
}  // namespace mobula
