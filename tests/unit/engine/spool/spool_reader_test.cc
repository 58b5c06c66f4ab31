#include "engine/spool/spool_reader.h"

#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

using Found = SpoolReader::Found;

class SpoolReaderTest : public SpoolFixture {
 protected:
  const SpoolFileHeader header_{"prod", 1, 2, kNow};

  std::string Frame(const std::string& document) {
    SpoolEncoder encoder;
    std::string bytes;
    EXPECT_TRUE(encoder.Encode(*MakeBatch({document}), 1, kNow, &bytes));
    StampFrame(bytes.data(), header_.id);
    return bytes;
  }

  std::unique_ptr<SpoolFile> File(const std::string& frames) {
    bytes_ = EncodeFileHeader(header_) + frames;
    disk_.Put("/d/f", bytes_);
    return *(*disk_.OpenRoot("/d", SpoolAccess::kRead))->Open("f", SpoolAccess::kRead);
  }

  std::vector<Found> Walk(SpoolFile* file) {
    SpoolReader reader(file, header_.id, bytes_.size());
    std::vector<Found> found;
    do {
      found.push_back(reader.Next()->found);
    } while (found.back() != Found::kEnd && found.size() < 100);
    return found;
  }

  std::string bytes_;
};

TEST_F(SpoolReaderTest, WalksFrames) {
  const auto file = File(Frame("a") + Frame("bb"));
  EXPECT_EQ(Walk(file.get()), (std::vector{Found::kFrame, Found::kFrame, Found::kEnd}));
  const auto empty = File("");
  EXPECT_EQ(Walk(empty.get()), std::vector{Found::kEnd});
}

TEST_F(SpoolReaderTest, EveryPrefixEndsInATail) {
  const std::string frame = Frame(Noise(300, 1));
  for (size_t size = 1; size < frame.size(); ++size) {
    const auto file = File(frame + frame.substr(0, size));
    EXPECT_EQ(Walk(file.get()), (std::vector{Found::kFrame, Found::kTail, Found::kEnd})) << size;
    const auto survey = SurveyFile(file.get(), header_, bytes_.size());
    EXPECT_EQ(survey->end, kSpoolFileHeaderBytes + frame.size());
    EXPECT_EQ(survey->documents, 1U);
  }
}

TEST_F(SpoolReaderTest, FindsTheNextFrameBehindAGap) {
  // Of every length around that of a search, so that a frame begins at each place of the buffer's end.
  for (const size_t gap : {1U, 47U, 48U, 65'489U, 65'490U, 65'535U, 65'536U, 65'537U, 200'000U}) {
    for (const char filler : {'\0', 'M'}) {
      const auto file = File(Frame("a") + std::string(gap, filler) + "MbFrMbFr" + Frame("b"));
      EXPECT_EQ(Walk(file.get()),
                (std::vector{Found::kFrame, Found::kGap, Found::kFrame, Found::kEnd}))
          << gap;
      const auto survey = SurveyFile(file.get(), header_, bytes_.size());
      EXPECT_EQ(survey->gaps, 1U);
      EXPECT_EQ(survey->documents, 2U);
    }
  }
}

TEST_F(SpoolReaderTest, ALengthThatWouldSkipFramesIsNotBelieved) {
  const std::string long_one = Frame(Noise(1000, 1));
  // Cut in the middle, whole frames behind it.
  const auto file = File(long_one.substr(0, 500) + Frame("b") + Frame(Noise(2000, 2)));
  const auto found = Walk(file.get());
  // The header of the first is right and its bytes are there, if not the right ones: its payload tells.
  EXPECT_EQ(found.front(), Found::kFrame);
  EXPECT_EQ(found.back(), Found::kEnd);
}

TEST_F(SpoolReaderTest, SurveyFindsALastFrameWithoutItsBytes) {
  std::string last = Frame(Noise(300, 1));
  std::fill(last.begin() + 100, last.end(), '\0');
  const auto file = File(Frame("a") + last);
  const auto survey = SurveyFile(file.get(), header_, bytes_.size());
  EXPECT_EQ(survey->end, kSpoolFileHeaderBytes + Frame("a").size());
  EXPECT_EQ(survey->remaining, 1U);
}

TEST_F(SpoolReaderTest, ReadErrorsAreTold) {
  const auto file = File(Frame("a"));
  disk_.fault = [](FakeSpoolDisk::Operation, const std::string&) {
    return absl::UnknownError("input/output error");
  };
  SpoolReader reader(file.get(), header_.id, bytes_.size());
  EXPECT_FALSE(reader.Next().ok());
  EXPECT_FALSE(SurveyFile(file.get(), header_, bytes_.size()).ok());
  disk_.fault = nullptr;
  EXPECT_EQ(reader.Next()->found, Found::kFrame);
}

}  // namespace
}  // namespace mobula
