#include "engine/spool/inspect.h"

#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

class InspectTest : public SpoolFixture {
 protected:
  std::vector<SpoolFileInfo> List(SpoolCheck check = SpoolCheck::kContents) {
    auto found = ListSpool("/spool", check, &disk_);
    EXPECT_TRUE(found.ok()) << found.status();
    return *std::move(found);
  }
};

TEST_F(InspectTest, TellsWhatAFileHolds) {
  const auto spool = OpenSpool();
  ASSERT_TRUE(Append(spool->lane("prod"), {"a", "b"}).ok());
  Pass(std::chrono::seconds(5));
  ASSERT_TRUE(Append(spool->lane("prod"), {"c"}).ok());
  const auto frame = spool->lane("prod")->Next(now_);
  spool->lane("prod")->Done(frame->token, 1);
  for (const SpoolCheck check : {SpoolCheck::kHeaders, SpoolCheck::kContents}) {
    const auto found = List(check);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_TRUE(found[0].sound());
    EXPECT_TRUE(found[0].in_use);
    EXPECT_EQ(found[0].kind, SpoolFileInfo::Kind::kReady);
    EXPECT_EQ(found[0].backend, "prod");
    EXPECT_EQ(found[0].identity, SpoolIdentity("prod", "xray eu"));
    EXPECT_EQ(found[0].created, kNow);
    EXPECT_EQ(found[0].newest, now_);
    EXPECT_EQ(found[0].frames, 2U);
    EXPECT_EQ(found[0].documents, 3U);
    EXPECT_EQ(found[0].remaining, 2U);
    EXPECT_EQ(found[0].bytes, spool->state().bytes);
  }
}

TEST_F(InspectTest, FindsDamageOnlyByLooking) {
  {
    const auto spool = OpenSpool();
    for (const char* document : {"a", "b", "c"}) {
      ASSERT_TRUE(Append(spool->lane("prod"), {document}).ok());
    }
  }
  std::string* const bytes = disk_.Bytes(Files(".spool")[0]);
  const size_t frame = (bytes->size() - kSpoolFileHeaderBytes) / 3;
  (*bytes)[kSpoolFileHeaderBytes + frame - 1] ^= 1;
  EXPECT_TRUE(List(SpoolCheck::kHeaders)[0].sound());
  EXPECT_EQ(List()[0].damaged_frames, 1U);
  EXPECT_FALSE(List()[0].sound());
  EXPECT_FALSE(List()[0].in_use);
  (*bytes)[kSpoolFileHeaderBytes + frame] ^= 1;
  bytes->append("torn");
  EXPECT_EQ(List()[0].gaps, 1U);
  EXPECT_EQ(List()[0].torn_bytes, 4U);
  EXPECT_EQ(List()[0].frames, 2U);
  (*bytes)[0] = 'x';
  EXPECT_FALSE(List()[0].header.ok());
}

TEST_F(InspectTest, ReadsAFileSetAside) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("audit"), {"a", "b"}).ok()); }
  { OpenSpool(DefaultOptions(), {}); }
  const auto found = List();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].kind, SpoolFileInfo::Kind::kForeign);
  Strings documents;
  const auto info = ReadSpoolFile(found[0].path, &disk_, [&](const SpooledFrame& frame) {
    for (const std::string& document : Remaining(frame)) documents.push_back(document);
  });
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->backend, "audit");
  EXPECT_EQ(documents, (Strings{"a", "b"}));
}

TEST_F(InspectTest, WhatIsNotThereIsTold) {
  EXPECT_TRUE(absl::IsNotFound(ListSpool("/none", SpoolCheck::kHeaders, &disk_).status()));
  disk_.Put("/spool/x", "not a spool file");
  const auto nothing = [](const SpooledFrame&) { FAIL(); };
  EXPECT_TRUE(absl::IsDataLoss(ReadSpoolFile("/spool/x", &disk_, nothing).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadSpoolFile("/spool/y", &disk_, nothing).status()));
  EXPECT_TRUE(List().empty());
}

}  // namespace
}  // namespace mobula
