#include "backends/file/record_format.h"

#include <fcntl.h>

#include "backends/file/append_file.h"
#include "backends/file/input_stream.h"
#include "backends/file/little_endian.h"
#include "engine/base/log.h"
#include "engine/base/unique_fd.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::ReadFile;
using testing::TemporaryFolder;
using testing::TestBatch;
using testing::TestPool;
using testing::WriteFile;

std::string Record(std::string_view document) {
  char prefix[4];
  PutU32(static_cast<uint32_t>(document.size()), prefix);
  return std::string(prefix, 4).append(document);
}

std::string Plain(const std::string& path) {
  auto stream = InputStream::Open(path);
  EXPECT_TRUE(stream.ok()) << stream.status();
  std::string all;
  char buffer[1000];
  while (true) {
    const absl::StatusOr<size_t> n = (*stream)->Read(buffer, sizeof buffer);
    EXPECT_TRUE(n.ok()) << n.status();
    if (!n.ok() || *n == 0) return all;
    all.append(buffer, *n);
  }
}

TEST(RecordFormatTest, LinesTurnLineBreaksIntoBlanksAndChangeNothingElse) {
  const auto pool = TestPool();
  const BatchRef batch =
      TestBatch(pool.get(), {"{\r\n\t\"a\": 1\n}", "T1SAAA=", std::string("\xff\0", 2)});
  RecordEncoder encoder(FileFormat::kJsonLines, Compression::kNone);
  EXPECT_EQ(encoder.Header(), "");
  EXPECT_EQ(encoder.Encode(*batch, batch->all()),
            std::string("{  \t\"a\": 1 }\nT1SAAA=\n\xff\0\n", 24));
  ASSERT_EQ(encoder.pieces().size(), 3U);
  EXPECT_EQ(encoder.pieces()[0].end, 13U);
  EXPECT_EQ(encoder.pieces()[2].end, 24U);
  EXPECT_EQ(encoder.pieces()[2].documents, 4U);
}

TEST(RecordFormatTest, FramedRecordsKeepEveryByte) {
  const auto pool = TestPool();
  const std::string odd("\r\n\0\xff", 4);
  const BatchRef batch = TestBatch(pool.get(), {odd, "{}", "x"});
  RecordEncoder encoder(FileFormat::kFramed, Compression::kNone);
  EXPECT_EQ(encoder.Header(), "mobula-framed 1\n");
  EXPECT_EQ(encoder.Encode(*batch, 0b101), Record(odd) + Record("x"));
}

TEST(RecordFormatTest, ADocumentSizeIsAtLeastOneAndBounded) {
  EXPECT_EQ(FramedDocumentSize(std::string_view("\1\0\0\0", 4)), 1U);
  EXPECT_EQ(FramedDocumentSize(std::string_view("\0\0\x10\0", 4)), kFramedDocumentBytesMax);
  EXPECT_EQ(FramedDocumentSize(std::string_view("\0\0\0\0", 4)), std::nullopt);
  EXPECT_EQ(FramedDocumentSize(std::string_view("\1\0\x10\0", 4)), std::nullopt);
}

class CompressedTest : public ::testing::TestWithParam<Compression> {};

TEST_P(CompressedTest, EachCallIsOneWholeMember) {
  const TemporaryFolder folder;
  const auto pool = TestPool();
  RecordEncoder encoder(FileFormat::kFramed, GetParam());
  std::string file = encoder.Header();
  std::string expected(kFramedHeader);
  for (int call = 0; call < 5; ++call) {
    std::vector<std::string> documents;
    for (int i = 0; i < 20; ++i)
      documents.push_back("{\"n\": " + std::to_string(call * 100 + i) + "}");
    const BatchRef batch = TestBatch(pool.get(), documents);
    const std::string_view bytes = encoder.Encode(*batch, batch->all());
    ASSERT_EQ(encoder.pieces().size(), 1U);
    EXPECT_EQ(encoder.pieces()[0].documents, batch->all());
    EXPECT_EQ(encoder.pieces()[0].end, bytes.size());
    file.append(bytes);
    for (const std::string& document : documents) expected += Record(document);
  }
  WriteFile(folder / "x", file);
  EXPECT_EQ(Plain(folder / "x"), expected);
}

TEST_P(CompressedTest, TheStandardToolReadsIt) {
  const TemporaryFolder folder;
  const auto pool = TestPool();
  RecordEncoder encoder(FileFormat::kJsonLines, GetParam());
  const BatchRef batch = TestBatch(pool.get(), {"{\"a\": 1}", "{\"b\": 2}"});
  const std::string one(encoder.Encode(*batch, 1));
  const std::string two(encoder.Encode(*batch, 2));
  WriteFile(folder / "x", one + two);
  const std::string tool = GetParam() == Compression::kGzip ? "gzip" : "zstd";
  FILE* out = popen((tool + " -dc < " + folder / "x").c_str(), "r");
  ASSERT_NE(out, nullptr);
  char buffer[100];
  const size_t n = fread(buffer, 1, sizeof buffer, out);
  EXPECT_EQ(pclose(out), 0);
  EXPECT_EQ(std::string_view(buffer, n), "{\"a\": 1}\n{\"b\": 2}\n");
}

TEST_P(CompressedTest, IncompressibleBytesFitToo) {
  const TemporaryFolder folder;
  const auto pool = TestPool();
  std::string noise(200'000, '\0');
  uint64_t state = 1;
  for (char& c : noise) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(state >> 56);
  }
  const BatchRef batch = TestBatch(pool.get(), {noise});
  RecordEncoder encoder(FileFormat::kFramed, GetParam());
  WriteFile(folder / "x", encoder.Encode(*batch, 1));
  EXPECT_EQ(Plain(folder / "x"), Record(noise));
}

INSTANTIATE_TEST_SUITE_P(All, CompressedTest,
                         ::testing::Values(Compression::kGzip, Compression::kZstd),
                         [](const auto& kind) {
                           return kind.param == Compression::kGzip ? "Gzip" : "Zstd";
                         });

struct Kind {
  FileFormat format;
  Compression compression;
};

class WholeBytesTest : public ::testing::TestWithParam<Kind> {
 protected:
  std::optional<uint64_t> WholeBytes(const std::string& bytes) {
    WriteFile(folder_ / "x", bytes);
    const UniqueFd fd(open((folder_ / "x").c_str(), O_RDONLY));
    const auto whole = encoder_.WholeBytes(folder_ / "x", fd.get());
    EXPECT_TRUE(whole.ok()) << whole.status();
    return whole.ok() ? *whole : std::nullopt;
  }

  TemporaryFolder folder_;
  RecordEncoder encoder_{GetParam().format, GetParam().compression};
};

TEST_P(WholeBytesTest, EveryCutEndsAtTheRecordBefore) {
  const auto pool = TestPool();
  std::string file = encoder_.Header();
  std::vector<uint64_t> ends = {0};
  if (!file.empty()) ends.push_back(file.size());
  for (const char* text : {"{\"a\": 1}", "{\"bb\": 22}", "{}"}) {
    const BatchRef batch = TestBatch(pool.get(), {text});
    file.append(encoder_.Encode(*batch, 1));
    ends.push_back(file.size());
  }
  for (size_t cut = 1; cut <= file.size(); ++cut) {
    uint64_t expected = 0;
    for (const uint64_t end : ends) expected = end <= cut ? end : expected;
    EXPECT_EQ(WholeBytes(file.substr(0, cut)), expected) << cut;
  }
}

TEST_P(WholeBytesTest, WalksFilesLargerThanItsBuffer) {
  const auto pool = TestPool();
  std::string noise(100'000, '\0');
  uint64_t state = 7;
  std::string file = encoder_.Header();
  while (file.size() < 5'000'000) {
    for (char& c : noise) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      c = static_cast<char>(state >> 56);
    }
    const BatchRef batch = TestBatch(pool.get(), {noise});
    file.append(encoder_.Encode(*batch, 1));
  }
  EXPECT_EQ(WholeBytes(file), file.size());
  EXPECT_LT(WholeBytes(file.substr(0, file.size() - 1)), file.size() - 50'000);
}

TEST_P(WholeBytesTest, SaysWhatIsNotOurs) {
  EXPECT_EQ(WholeBytes("{\"a\": 1}\n"), std::nullopt);
  EXPECT_EQ(WholeBytes(std::string(100, '\0')), std::nullopt);
  // The other format inside the same compression.
  if (GetParam().compression == Compression::kNone) return;
  RecordEncoder other(
      GetParam().format == FileFormat::kFramed ? FileFormat::kJsonLines : FileFormat::kFramed,
      GetParam().compression);
  const auto pool = TestPool();
  const BatchRef batch = TestBatch(pool.get(), {"{\"a\": 1, \"b\": [1, 2, 3, 4, 5, 6, 7, 8]}"});
  const std::string header = other.Header();
  EXPECT_EQ(WholeBytes(header + std::string(other.Encode(*batch, 1))), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(All, WholeBytesTest,
                         ::testing::Values(Kind{FileFormat::kFramed, Compression::kNone},
                                           Kind{FileFormat::kFramed, Compression::kGzip},
                                           Kind{FileFormat::kFramed, Compression::kZstd},
                                           Kind{FileFormat::kJsonLines, Compression::kGzip},
                                           Kind{FileFormat::kJsonLines, Compression::kZstd}),
                         [](const auto& kind) {
                           return std::string(kind.param.format == FileFormat::kFramed ? "Framed"
                                                                                       : "Lines") +
                                  (kind.param.compression == Compression::kGzip   ? "Gzip"
                                   : kind.param.compression == Compression::kZstd ? "Zstd"
                                                                                  : "Plain");
                         });

}  // namespace
}  // namespace mobula
