#include "engine/spool/spool_format.h"

#include <cstring>

#include "engine/spool/crc32c.h"
#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

class SpoolFormatTest : public SpoolFixture {
 protected:
  static constexpr uint64_t kId = 0x1122334455667788;

  // A stamped frame of the documents.
  std::string Frame(const Strings& documents, DocumentSet set = ~DocumentSet{0}) {
    SpoolEncoder encoder;
    std::string bytes;
    EXPECT_TRUE(encoder.Encode(*MakeBatch(documents), set, kNow, &bytes));
    StampFrame(bytes.data(), kId);
    return bytes;
  }
  static bool Decode(const std::string& bytes, SpooledFrame* frame) {
    const auto header = DecodeFrameHeader(bytes, kId);
    SpoolDecoder decoder;
    return header.has_value() && header->bytes() == bytes.size() &&
           decoder.Decode(*header, std::string_view(bytes).substr(kSpoolFrameHeaderBytes), frame);
  }
  // With both checksums made right again.
  static std::string Mended(std::string bytes) {
    const uint32_t crc = Crc32c(std::string_view(bytes).substr(kSpoolFrameHeaderBytes));
    std::memcpy(bytes.data() + 24, &crc, sizeof(crc));
    StampFrame(bytes.data(), kId);
    return bytes;
  }
};

TEST_F(SpoolFormatTest, FileHeaderComesBack) {
  const std::string bytes = EncodeFileHeader({"prod", 42, kId, kNow});
  ASSERT_EQ(bytes.size(), kSpoolFileHeaderBytes);
  const auto header = DecodeFileHeader(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->backend, "prod");
  EXPECT_EQ(header->identity, 42U);
  EXPECT_EQ(header->id, kId);
  EXPECT_EQ(header->created, kNow);
}

TEST_F(SpoolFormatTest, EveryDamagedBitOfAFileHeaderIsSeen) {
  const std::string good = EncodeFileHeader({"prod", 42, kId, kNow});
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeFileHeader(bad).ok()) << bit;
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeFileHeader(good.substr(1)).status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeFileHeader("").status()));
}

TEST_F(SpoolFormatTest, AnotherVersionIsNotCalledDamage) {
  std::string bytes = EncodeFileHeader({"prod", 42, kId, kNow});
  bytes[8] = 2;
  EXPECT_TRUE(absl::IsUnimplemented(DecodeFileHeader(bytes).status()));
}

TEST_F(SpoolFormatTest, IdentityIsOfNameAndText) {
  EXPECT_NE(SpoolIdentity("a", "bc"), SpoolIdentity("ab", "c"));
  EXPECT_NE(SpoolIdentity("a", "b"), SpoolIdentity("a", "c"));
  EXPECT_EQ(SpoolIdentity("a", "b"), SpoolIdentity("a", "b"));
}

TEST_F(SpoolFormatTest, FramesKeepBytesAndKinds) {
  SpoolEncoder encoder;
  std::string bytes;
  const Strings documents = {R"({"a":1})", std::string("\0\n\xff", 3), Noise(70'000, 1)};
  ASSERT_TRUE(encoder.Encode(*MakeBatch(documents, DocumentKind::kOtlp), 7, kNow, &bytes));
  StampFrame(bytes.data(), kId);
  SpooledFrame frame;
  ASSERT_TRUE(Decode(bytes, &frame));
  ASSERT_EQ(frame.documents.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(frame.documents[i].bytes, documents[i]);
    EXPECT_EQ(frame.documents[i].kind, DocumentKind::kOtlp);
  }
  EXPECT_EQ(frame.remaining, 7U);
  EXPECT_EQ(frame.appended, kNow);
}

TEST_F(SpoolFormatTest, OnlyTheDocumentsAskedForAreWritten) {
  SpooledFrame frame;
  ASSERT_TRUE(Decode(Frame({"a", "b", "c"}, 0b101), &frame));
  EXPECT_EQ(Remaining(frame), (Strings{"a", "c"}));
}

TEST_F(SpoolFormatTest, ALargestBatchFits) {
  const Strings documents(50, Noise(BatchBuilder::kDocumentBytesMax / 50, 3));
  SpooledFrame frame;
  ASSERT_TRUE(Decode(Frame(documents), &frame));
  EXPECT_EQ(Remaining(frame), documents);
  // Alone, and as incompressible as can be.
  const Strings one = {Noise(BatchBuilder::kDocumentBytesMax, 4)};
  ASSERT_TRUE(Decode(Frame(one), &frame));
  EXPECT_EQ(Remaining(frame), one);
}

TEST_F(SpoolFormatTest, NothingAndWhatIsNeverSentIsRefused) {
  SpoolEncoder encoder;
  std::string bytes;
  EXPECT_FALSE(encoder.Encode(*MakeBatch({"a"}), 0b10, kNow, &bytes));
  EXPECT_FALSE(encoder.Encode(*MakeBatch({"a"}, DocumentKind::kRejected), 1, kNow, &bytes));
  EXPECT_TRUE(bytes.empty());
}

TEST_F(SpoolFormatTest, EveryDamagedBitOfAFrameIsSeen) {
  const std::string good = Frame({R"({"id":"1"})", R"({"id":"2"})"});
  SpooledFrame frame;
  ASSERT_TRUE(Decode(good, &frame));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const bool in_mark = bit / 8 >= kSpoolMarkOffset && bit / 8 < kSpoolFrameHeaderBytes;
    // A damaged mark means that nothing is done.
    EXPECT_EQ(Decode(bad, &frame), in_mark) << bit;
    EXPECT_TRUE(!in_mark || frame.remaining == 3) << bit;
  }
}

TEST_F(SpoolFormatTest, AFrameOfAnotherFileIsNone) {
  EXPECT_FALSE(DecodeFrameHeader(Frame({"a"}), kId + 1).has_value());
}

TEST_F(SpoolFormatTest, MarksSayWhatIsLeft) {
  std::string bytes = Frame({"a", "b", "c"});
  bytes.replace(kSpoolMarkOffset, 16, EncodeMark(0b010));
  SpooledFrame frame;
  ASSERT_TRUE(Decode(bytes, &frame));
  EXPECT_EQ(Remaining(frame), (Strings{"a", "c"}));
  bytes.replace(kSpoolMarkOffset, 16, EncodeMark(~DocumentSet{0}));
  EXPECT_EQ(DecodeFrameHeader(bytes, kId)->remaining, 0U);
}

// Checksums that are right do not make the content right.
TEST_F(SpoolFormatTest, SizesThatCannotBeAreRefusedBeforeMemoryIsTaken) {
  const std::string good = Frame({"aaaa", "bbbb"});
  SpooledFrame frame;
  ASSERT_TRUE(Decode(Mended(good), &frame));
  for (const size_t at : {4U, 8U}) {  // stored, raw
    for (const uint32_t size : {0U, 0x7fffffffU, 0xffffffffU}) {
      std::string bad = good;
      std::memcpy(bad.data() + at, &size, sizeof(size));
      EXPECT_FALSE(DecodeFrameHeader(Mended(bad), kId).has_value()) << at << " " << size;
    }
  }
  for (const uint32_t raw : {1U, 10U, 17U, 19U, 262144U}) {
    std::string bad = good;
    std::memcpy(bad.data() + 8, &raw, sizeof(raw));
    EXPECT_FALSE(Decode(Mended(bad), &frame)) << raw;
  }
  for (const uint16_t documents : {0, 1, 3, 64, 65, 0xffff}) {
    std::string bad = good;
    std::memcpy(bad.data() + 12, &documents, sizeof(documents));
    EXPECT_FALSE(Decode(Mended(bad), &frame)) << documents;
  }
}

}  // namespace
}  // namespace mobula
