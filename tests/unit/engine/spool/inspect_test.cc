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
  const SpoolFileInfo content = List()[0];
  EXPECT_FALSE(content.sound());
  EXPECT_FALSE(content.in_use);
  EXPECT_EQ(content.damaged_frames, 1U);
  EXPECT_EQ(content.frames, 2U);
  EXPECT_EQ(content.remaining, 2U);
  ASSERT_EQ(content.damage.size(), 1U);
  EXPECT_EQ(content.damage[0].offset, kSpoolFileHeaderBytes);
  EXPECT_EQ(content.damage[0].bytes, frame);
  EXPECT_EQ(content.damage[0].documents, 1U);

  (*bytes)[kSpoolFileHeaderBytes + frame] ^= 1;
  bytes->append("torn");
  for (const SpoolCheck check : {SpoolCheck::kHeaders, SpoolCheck::kContents}) {
    const SpoolFileInfo gap = List(check)[0];
    EXPECT_EQ(gap.gaps, 1U);
    EXPECT_EQ(gap.torn_bytes, 4U);
    EXPECT_EQ(gap.damage.back().offset, kSpoolFileHeaderBytes + frame);
    EXPECT_EQ(gap.damage.back().documents, 0U);
  }
  (*bytes)[0] = 'x';
  EXPECT_TRUE(absl::IsDataLoss(List()[0].header));
}

TEST_F(InspectTest, TheLastFrameIsTornAndNotDamaged) {
  {
    const auto spool = OpenSpool();
    for (const char* document : {"a", "b"}) {
      ASSERT_TRUE(Append(spool->lane("prod"), {document}).ok());
    }
  }
  std::string* const bytes = disk_.Bytes(Files(".spool")[0]);
  const size_t frame = (bytes->size() - kSpoolFileHeaderBytes) / 2;
  bytes->back() ^= 1;
  const SpoolFileInfo last = List()[0];
  EXPECT_TRUE(last.sound());
  EXPECT_EQ(last.torn_bytes, frame);
  EXPECT_EQ(last.frames, 1U);
  // More than one frame can be is not what a crash leaves.
  bytes->append(kSpoolFrameBytesMax + 1, 'x');
  for (const SpoolCheck check : {SpoolCheck::kHeaders, SpoolCheck::kContents}) {
    const SpoolFileInfo tail = List(check)[0];
    EXPECT_EQ(tail.gaps, 1U);
    EXPECT_EQ(tail.damage[0].offset, kSpoolFileHeaderBytes + 2 * frame);
    EXPECT_EQ(tail.damage[0].bytes, kSpoolFrameBytesMax + 1);
  }
}

TEST_F(InspectTest, ReadsAFileSetAside) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("audit"), {"a", "b"}).ok()); }
  { OpenSpool(DefaultOptions(), {}); }
  const auto found = List();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].kind, SpoolFileInfo::Kind::kForeign);
  const auto scan = SpoolScan::Open(found[0].path, &disk_);
  ASSERT_TRUE(scan.ok()) << scan.status();
  EXPECT_EQ((*scan)->info().backend, "audit");
  const auto frame = (*scan)->Next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ(Remaining(**frame), (Strings{"a", "b"}));
  const auto end = (*scan)->Next();
  EXPECT_TRUE(end.ok() && !end->has_value());
  const auto alone = InspectSpoolFile(found[0].path, SpoolCheck::kContents, &disk_);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(alone->remaining, 2U);
  EXPECT_EQ(alone->instance, found[0].instance);
  EXPECT_FALSE(alone->in_use);
}

TEST_F(InspectTest, WhatIsNotThereIsTold) {
  EXPECT_TRUE(absl::IsNotFound(ListSpool("/none", SpoolCheck::kHeaders, &disk_).status()));
  disk_.Put("/spool/x", std::string(kSpoolFileHeaderBytes, 'x'));
  EXPECT_TRUE(absl::IsDataLoss(SpoolScan::Open("/spool/x", &disk_).status()));
  EXPECT_TRUE(absl::IsNotFound(SpoolScan::Open("/spool/y", &disk_).status()));
  const auto info = InspectSpoolFile("/spool/x", SpoolCheck::kHeaders, &disk_);
  EXPECT_TRUE(info.ok() && absl::IsDataLoss(info->header));
  EXPECT_TRUE(List().empty());
}

TEST_F(InspectTest, AFileWithoutAHeaderHoldsNothing) {
  disk_.Put("/spool/instance-0000000000000001/1.spool", "");
  disk_.Put("/spool/instance-0000000000000001/2.spool", "MOBSPOOL");
  disk_.Put("/spool/instance-0000000000000001/3.spool", std::string(1000, '\0'));
  disk_.Put("/spool/instance-0000000000000001/notes", "hello");
  EXPECT_TRUE(List().empty());
}

}  // namespace
}  // namespace mobula
