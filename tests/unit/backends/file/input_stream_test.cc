#include "backends/file/input_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/file/compressor.h"
#include "engine/base/unique_fd.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::TemporaryFolder;
using testing::WriteFile;

struct Outcome {
  std::string bytes;
  absl::Status status;
};

Outcome ReadAll(const std::string& path, size_t chunk = 7) {
  auto stream = InputStream::Open(path);
  if (!stream.ok()) return {"", stream.status()};
  Outcome outcome;
  std::string buffer(chunk, '\0');
  while (true) {
    const absl::StatusOr<size_t> n = (*stream)->Read(buffer.data(), buffer.size());
    if (!n.ok()) {
      outcome.status = n.status();
      return outcome;
    }
    if (*n == 0) return outcome;
    outcome.bytes.append(buffer, 0, *n);
  }
}

TEST(InputStreamTest, ReadsPlainBytesOfAnyLength) {
  const TemporaryFolder folder;
  for (const std::string& bytes : {std::string(), std::string("x"), std::string("\x1f"),
                                   std::string("(\xb5/"), std::string(200'000, 'y')}) {
    WriteFile(folder / "x", bytes);
    const Outcome outcome = ReadAll(folder / "x");
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.bytes, bytes);
  }
}

TEST(InputStreamTest, StopsWhenToldAlsoWhileAPipeSaysNothing) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  int asked = 0;
  const auto third_time = [&] { return ++asked == 3; };
  // Without a writer.
  EXPECT_EQ(InputStream::Open(folder / "pipe", third_time).status().code(),
            absl::StatusCode::kCancelled);
  // With one that says nothing more.
  const UniqueFd writer(open((folder / "pipe").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(write(writer.get(), "text", 4), 4);
  asked = 0;
  const auto stream = InputStream::Open(folder / "pipe", third_time);
  ASSERT_TRUE(stream.ok()) << stream.status();
  char buffer[8];
  EXPECT_EQ(*(*stream)->Read(buffer, sizeof buffer), 4U);
  EXPECT_EQ((*stream)->Read(buffer, sizeof buffer).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 3);
}

TEST(InputStreamTest, ReadsMembersOneAfterTheOther) {
  const TemporaryFolder folder;
  for (const Compression compression : {Compression::kGzip, Compression::kZstd}) {
    const auto compressor = Compressor::Make(compression);
    std::string one;
    std::string two;
    std::string nothing;
    const std::string large(300'000, 'z');
    compressor->Compress("one", &one);
    compressor->Compress(large, &two);
    compressor->Compress("", &nothing);
    WriteFile(folder / "x", one + nothing + two + one);
    for (const size_t chunk : {1U, 7U, 100'000U}) {
      const Outcome outcome = ReadAll(folder / "x", chunk);
      EXPECT_TRUE(outcome.status.ok()) << outcome.status;
      EXPECT_EQ(outcome.bytes, "one" + large + "one");
    }
  }
}

TEST(InputStreamTest, SaysThatDataEndsInTheMiddleAfterGivingWhatThereIs) {
  const TemporaryFolder folder;
  for (const Compression compression : {Compression::kGzip, Compression::kZstd}) {
    const auto compressor = Compressor::Make(compression);
    std::string one;
    std::string two;
    compressor->Compress("one", &one);
    compressor->Compress("two", &two);
    WriteFile(folder / "x", one + two.substr(0, two.size() - 1));
    const Outcome outcome = ReadAll(folder / "x");
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
    EXPECT_TRUE(outcome.bytes.starts_with("one"));
  }
}

TEST(InputStreamTest, SaysThatDataIsDamaged) {
  const TemporaryFolder folder;
  for (const Compression compression : {Compression::kGzip, Compression::kZstd}) {
    const auto compressor = Compressor::Make(compression);
    std::string bytes;
    compressor->Compress("some text that is long enough to be damaged somewhere", &bytes);
    for (size_t i = 4; i < bytes.size(); ++i) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
      WriteFile(folder / "x", damaged);
      const Outcome outcome = ReadAll(folder / "x");  // no byte may crash it or make it hang
      if (outcome.status.ok()) continue;
      EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
      EXPECT_NE(std::string(outcome.status.message()).find(folder / "x"), std::string::npos);
    }
  }
}

TEST(InputStreamTest, NamesAFileThatIsNotThere) {
  const TemporaryFolder folder;
  const Outcome outcome = ReadAll(folder / "nothing");
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(outcome.status.message()).find("nothing"), std::string::npos);
  EXPECT_FALSE(ReadAll(folder / ".").status.ok());
}

}  // namespace
}  // namespace mobula
