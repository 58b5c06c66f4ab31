#include "engine/spool/spool.h"

#include <atomic>
#include <thread>

#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using Operation = FakeSpoolDisk::Operation;

class SpoolTest : public SpoolFixture {};

TEST_F(SpoolTest, DocumentsComeBackUnchangedAndInOrder) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"{}", "two"}).ok());
  ASSERT_TRUE(Append(lane, {std::string("\0x", 2)}).ok());
  EXPECT_TRUE(lane->waiting());
  EXPECT_EQ(lane->account().held.value(), 3U);
  EXPECT_EQ(Drain(lane), (Strings{"{}", "two", std::string("\0x", 2)}));
  EXPECT_EQ(lane->account().done.value(), 3U);
  EXPECT_EQ(lane->account().held.value(), 0U);
}

TEST_F(SpoolTest, LanesDoNotSeeEachOther) {
  const auto spool = OpenSpool();
  ASSERT_TRUE(Append(spool->lane("prod"), {"p"}).ok());
  ASSERT_TRUE(Append(spool->lane("audit"), {"a"}).ok());
  EXPECT_EQ(Drain(spool->lane("audit")), Strings{"a"});
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{"p"});
  EXPECT_EQ(spool->lane("other"), nullptr);
}

TEST_F(SpoolTest, ARestartFindsEverything) {
  {
    const auto spool = OpenSpool();
    ASSERT_TRUE(Append(spool->lane("prod"), {"a", "b"}).ok());
    ASSERT_TRUE(Append(spool->lane("prod"), {"c"}).ok());
  }
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  EXPECT_TRUE(lane->waiting());
  EXPECT_EQ(spool->state().unread, 1U);
  EXPECT_EQ(Drain(lane), (Strings{"a", "b", "c"}));
  EXPECT_EQ(lane->account().restored.value(), 3U);
  EXPECT_EQ(lane->account().appended.value(), 0U);
}

// docs/wire/spool.md; made by a program that shares no line with this one.
TEST_F(SpoolTest, TheExampleOfTheDocumentationIsRead) {
  const std::string hex =
      "4d4f4253504f4f4c01000400f3c68ee7070000000000000000505c18a30100001651eb0652e7bff3" +
      std::string(48, '0') + "70726f64" + std::string(120, '0') +
      "4d6246721c000000130000000200000000505c18a3010000c1fb87b673052c4b0100000000000000"
      "feffffffffffffff28b52ffd2013990000020000000007000000007b7d7b2261223a317d";
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  disk_.Put("/spool/instance-0000000000000001/1.spool", bytes);
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{R"({"a":1})"});
  EXPECT_EQ(spool->lane("prod")->account().torn.value(), 0U);
}

TEST_F(SpoolTest, HousekeepingCountsWhatWasFound) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a", "b"}).ok()); }
  const auto spool = OpenSpool();
  spool->Housekeep(now_);
  EXPECT_EQ(spool->state().unread, 0U);
  EXPECT_EQ(spool->lane("prod")->account().held.value(), 2U);
}

TEST_F(SpoolTest, AnEmptySpoolLeavesNothing) {
  {
    const auto spool = OpenSpool();
    ASSERT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
    Drain(spool->lane("prod"));
    EXPECT_EQ(Files(".spool"), Strings{});
    EXPECT_EQ(spool->state().bytes, 0U);
  }
  EXPECT_EQ(disk_.Paths(), Strings{});
}

TEST_F(SpoolTest, FilesAreCappedNamedAndRemovedOneByOne) {
  Spool::Options options = DefaultOptions();
  options.file_bytes_max = 64U << 10;
  const auto spool = OpenSpool(options);
  SpoolLane* const lane = spool->lane("prod");
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(Append(lane, {Noise(20'000, i)}).ok());
  const Strings files = Files("-prod.spool");
  EXPECT_EQ(files.size(), 4U);
  for (const std::string& path : files) EXPECT_LE(disk_.Bytes(path)->size(), 64U << 10);
  for (uint64_t i = 0; i < 3; ++i) lane->Done(lane->Next(now_)->token);
  EXPECT_EQ(Files("-prod.spool"), Strings(files.begin() + 1, files.end()));
  EXPECT_EQ(Drain(lane).size(), 7U);
}

TEST_F(SpoolTest, ManyAtOnceAreAppendedLikeOneByOne) {
  Spool::Options options = DefaultOptions();
  options.fsync = Spool::Fsync::kBatch;
  options.file_bytes_max = 3U << 20;
  const auto spool = OpenSpool(options);
  std::vector<BatchRef> batches;
  std::vector<SpoolItem> items;
  Strings all;
  for (uint64_t i = 0; i < 40; ++i) {
    all.push_back(Noise(50'000, i));
    batches.push_back(MakeBatch({all.back()}));
    items.push_back({batches.back().get(), 1});
  }
  int syncs = 0;
  disk_.fault = [&](Operation operation, const std::string&) {
    syncs += operation == Operation::kSync ? 1 : 0;
    return absl::OkStatus();
  };
  size_t done = 0;
  while (done < items.size()) {
    size_t appended = 0;
    ASSERT_TRUE(spool->lane("prod")->Append(std::span(items).subspan(done), now_, &appended).ok());
    ASSERT_GT(appended, 0U);
    done += appended;
    EXPECT_EQ(spool->lane("prod")->account().held.value(), done);
  }
  EXPECT_LT(syncs, 8);
  EXPECT_EQ(Drain(spool->lane("prod")), all);
}

TEST_F(SpoolTest, AWriteThatFailsTakesNothing) {
  const auto spool = OpenSpool();
  std::vector<BatchRef> batches;
  std::vector<SpoolItem> items;
  for (uint64_t i = 0; i < 40; ++i) {
    batches.push_back(MakeBatch({Noise(50'000, i)}));
    items.push_back({batches.back().get(), 1});
  }
  disk_.capacity = 1'300'000;
  size_t done = 0;
  size_t appended = 0;
  absl::Status status;
  for (; status.ok(); done += appended) {
    status = spool->lane("prod")->Append(std::span(items).subspan(done), now_, &appended);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(appended, 0U);
  EXPECT_GT(done, 0U);
  EXPECT_LT(done, 26U);
  EXPECT_EQ(spool->lane("prod")->account().held.value(), done);
  EXPECT_EQ(Drain(spool->lane("prod")).size(), done);
}

TEST_F(SpoolTest, WhatIsNeverSentIsRefused) {
  const auto spool = OpenSpool();
  const BatchRef batch = MakeBatch({"x"}, DocumentKind::kRejected);
  EXPECT_TRUE(absl::IsInvalidArgument(spool->lane("prod")->Append(*batch, 1, now_)));
  EXPECT_TRUE(spool->state().on);
}

// --- lending -------------------------------------------------------------------------------------------

TEST_F(SpoolTest, AFrameIsLentOnceUntilPutBack) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  const auto frame = lane->Next(now_);
  ASSERT_TRUE(frame.has_value());
  EXPECT_FALSE(lane->Next(now_).has_value());
  EXPECT_FALSE(lane->waiting());
  lane->Again(frame->token);
  EXPECT_TRUE(lane->waiting());
  lane->Done(frame->token);  // no longer lent: nothing
  EXPECT_EQ(Drain(lane), Strings{"a"});
}

TEST_F(SpoolTest, FramesPutBackTakeTurnsWithNewOnes) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  for (const char* document : {"a", "b", "c", "d"}) ASSERT_TRUE(Append(lane, {document}).ok());
  const auto bad = lane->Next(now_);
  lane->Again(bad->token);
  Strings order;
  for (int i = 0; i < 7; ++i) {
    const auto frame = lane->Next(now_);
    order.push_back(Remaining(*frame)[0]);
    order.back() == "a" ? lane->Again(frame->token) : lane->Done(frame->token);
  }
  EXPECT_EQ(order, (Strings{"a", "b", "a", "c", "a", "d", "a"}));
}

TEST_F(SpoolTest, DocumentsThatAreDoneDoNotComeAgain) {
  {
    const auto spool = OpenSpool();
    SpoolLane* const lane = spool->lane("prod");
    ASSERT_TRUE(Append(lane, {"a", "b", "c"}).ok());
    ASSERT_TRUE(Append(lane, {"d"}).ok());
    const auto frame = lane->Next(now_);
    lane->Done(frame->token, 0b101);
    lane->Done(frame->token, 0b001);  // twice counts once
    EXPECT_EQ(lane->account().done.value(), 2U);
    lane->Again(frame->token);
    const auto rest = lane->Next(now_);
    EXPECT_EQ(Remaining(*rest), Strings{"b"});
    ASSERT_EQ(rest->documents.size(), 3U);  // their numbers stay
    EXPECT_EQ(Remaining(*lane->Next(now_)), Strings{"d"});
    ExpectBalance(lane);
  }
  // As after a crash too: the mark is on disk.
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), (Strings{"b", "d"}));
  EXPECT_EQ(spool->lane("prod")->account().restored.value(), 2U);
}

TEST_F(SpoolTest, AFileBeingWrittenIsReadAndGoesOn) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  const auto first = lane->Next(now_);
  ASSERT_TRUE(Append(lane, {"b"}).ok());
  EXPECT_EQ(Files(".spool").size(), 1U);
  lane->Done(first->token);
  EXPECT_EQ(Drain(lane), Strings{"b"});
  ASSERT_TRUE(Append(lane, {"c"}).ok());
  EXPECT_EQ(Drain(lane), Strings{"c"});
}

// --- whose documents -----------------------------------------------------------------------------------

TEST_F(SpoolTest, AFileOfAnotherIdentityIsSetAsideAndComesBackWithIt) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"secret"}).ok()); }
  {
    const auto spool = OpenSpool(DefaultOptions(), {{"prod", "xray us"}, {"other", "xray eu"}});
    EXPECT_EQ(Drain(spool->lane("prod")), Strings{});
    EXPECT_EQ(Drain(spool->lane("other")), Strings{});
    EXPECT_EQ(spool->state().foreign, 1U);
    EXPECT_EQ(Files(".foreign").size(), 1U);
    EXPECT_GT(spool->state().bytes, 0U);
    EXPECT_NE(lines_.find("spool_foreign"), std::string::npos);
  }
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{"secret"});
  EXPECT_EQ(spool->state().foreign, 0U);
}

TEST_F(SpoolTest, AFileOfANewerVersionWaitsForIt) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"x"}).ok()); }
  (*disk_.Bytes(Files(".spool")[0]))[8] = 2;
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{});
  EXPECT_EQ(spool->state().foreign, 1U);
}

TEST_F(SpoolTest, ABackendThatIsRemovedLeavesItsDocumentsAndFindsThemAgain) {
  const auto spool = OpenSpool();
  SpoolLane* const old = spool->lane("prod");
  ASSERT_TRUE(Append(old, {"a", "b"}).ok());
  ASSERT_TRUE(Append(old, {"c"}).ok());
  const auto lent = old->Next(now_);
  spool->Detach(old);
  EXPECT_EQ(Dropped(old, SpoolDropReason::kForeign), 1U);
  old->Done(lent->token, 0b01);
  old->Again(lent->token);
  EXPECT_EQ(Dropped(old, SpoolDropReason::kForeign), 2U);
  EXPECT_EQ(old->account().held.value(), 0U);
  ExpectBalance(old);
  EXPECT_FALSE(Append(old, {"d"}).ok());
  EXPECT_FALSE(old->Next(now_).has_value());
  EXPECT_EQ(spool->lane("prod"), nullptr);

  // Another far side under the name gets nothing of it.
  SpoolLane* const other = spool->Attach({"prod", "xray us"});
  EXPECT_EQ(Drain(other), Strings{});
  spool->Detach(other);
  SpoolLane* const again = spool->Attach({"prod", "xray eu"});
  // The mark of `a` came when the file had gone: at least once.
  EXPECT_EQ(Drain(again), (Strings{"a", "b", "c"}));
}

TEST_F(SpoolTest, TwoFarSidesUnderOneNameKeepApart) {
  const auto spool = OpenSpool();
  SpoolLane* const old = spool->lane("prod");
  ASSERT_TRUE(Append(old, {"a"}).ok());
  SpoolLane* const next = spool->Attach({"prod", "xray us"});
  EXPECT_EQ(spool->lane(SpoolTarget{"prod", "xray us"}), next);
  EXPECT_EQ(spool->lane(SpoolTarget{"prod", "xray eu"}), old);
  ASSERT_TRUE(Append(next, {"b"}).ok());
  ASSERT_TRUE(Append(old, {"c"}).ok());
  EXPECT_EQ(Drain(next), Strings{"b"});
  spool->Detach(old);
  spool->Remove(old);
  EXPECT_EQ(spool->lane(SpoolTarget{"prod", "xray eu"}), nullptr);
  EXPECT_EQ(spool->lane("prod"), next);
  EXPECT_EQ(Drain(next), Strings{});
  EXPECT_EQ(Drain(spool->Attach({"prod", "xray eu"})), (Strings{"a", "c"}));
}

// --- damage --------------------------------------------------------------------------------------------

TEST_F(SpoolTest, ATornEndIsCutOff) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  const std::string path = Files(".spool")[0];
  const std::string whole = *disk_.Bytes(path);
  for (size_t size = 1; size < whole.size() - kSpoolFileHeaderBytes; ++size) {
    disk_.Bytes(path)->assign(whole + whole.substr(kSpoolFileHeaderBytes, size));
    const auto spool = OpenSpool();
    spool->Housekeep(now_);
    SpoolLane* const lane = spool->lane("prod");
    EXPECT_EQ(lane->account().torn.value(), 1U);
    EXPECT_EQ(disk_.Bytes(path)->size(), whole.size());
    EXPECT_EQ(lane->account().held.value(), 1U);
    EXPECT_EQ(lane->account().damaged.value(), 0U);
  }
}

TEST_F(SpoolTest, AFileTornInItsHeaderIsRemoved) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  const std::string path = Files(".spool")[0];
  for (const std::string& bytes : {std::string(), std::string("MOBSP"), std::string(700, '\0')}) {
    disk_.Put(path, bytes);
    const auto spool = OpenSpool();
    EXPECT_EQ(Files(".spool"), Strings{});
    EXPECT_TRUE(spool->state().on);
    EXPECT_EQ(spool->state().damaged, 0U);
  }
}

TEST_F(SpoolTest, ADamagedFrameCostsOnlyItself) {
  {
    const auto spool = OpenSpool();
    for (const char* document : {"aaaaaaaa", "bbbbbbbb", "cccccccc"}) {
      ASSERT_TRUE(Append(spool->lane("prod"), {document}).ok());
    }
  }
  const std::string path = Files(".spool")[0];
  const std::string whole = *disk_.Bytes(path);
  const size_t frame = (whole.size() - kSpoolFileHeaderBytes) / 3;
  for (const size_t at : {size_t{0}, size_t{12}, frame - 1}) {
    disk_.Put(path, whole);
    (*disk_.Bytes(path))[kSpoolFileHeaderBytes + frame + at] ^= 1;
    const auto spool = OpenSpool();
    SpoolLane* const lane = spool->lane("prod");
    EXPECT_EQ(Drain(lane), (Strings{"aaaaaaaa", "cccccccc"}));
    EXPECT_EQ(lane->account().damaged.value(), 1U);
    // Where its header can be read, its documents were counted.
    EXPECT_EQ(Dropped(lane, SpoolDropReason::kDamaged), at == frame - 1 ? 1U : 0U);
    EXPECT_EQ(spool->state().damaged, 1U);
    ASSERT_EQ(Files(".damaged").size(), 1U);
    disk_.Delete(Files(".damaged")[0]);
  }
}

TEST_F(SpoolTest, AFileThatIsNoneIsSetAside) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  disk_.Bytes(Files(".spool")[0])->assign(5000, 'x');
  const auto spool = OpenSpool();
  EXPECT_EQ(spool->state().damaged, 1U);
  EXPECT_EQ(spool->state().set_aside, 5000U);
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{});
  EXPECT_EQ(Files(".damaged").size(), 1U);
}

TEST_F(SpoolTest, AnEndTooLongToBeTornIsDamage) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  disk_.Bytes(Files(".spool")[0])->append(kSpoolFrameBytesMax + 1, 'x');
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{"a"});
  EXPECT_EQ(spool->lane("prod")->account().damaged.value(), 1U);
  EXPECT_EQ(Files(".damaged").size(), 1U);
  EXPECT_EQ(spool->state().bytes, disk_.Bytes(Files(".damaged")[0])->size());
}

TEST_F(SpoolTest, ReadErrorsAreWaitedOutThenTheFileIsSetAside) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  int reads = 0;
  disk_.fault = [&](Operation operation, const std::string&) {
    if (operation != Operation::kRead) return absl::OkStatus();
    ++reads;
    return absl::UnknownError("input/output error");
  };
  EXPECT_FALSE(lane->Next(now_).has_value());
  EXPECT_FALSE(lane->Next(now_).has_value());  // not at once
  EXPECT_EQ(reads, 1);
  disk_.fault = nullptr;
  Pass(seconds(1));
  const auto frame = lane->Next(now_);
  ASSERT_TRUE(frame.has_value());
  lane->Again(frame->token);

  disk_.fault = [](Operation operation, const std::string&) {
    return operation == Operation::kRead ? absl::UnknownError("input/output error")
                                         : absl::OkStatus();
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(lane->Next(now_).has_value());
    Pass(seconds(1));
  }
  EXPECT_EQ(Dropped(lane, SpoolDropReason::kDamaged), 1U);
  EXPECT_EQ(Files(".damaged").size(), 1U);
  EXPECT_FALSE(lane->waiting());
  ExpectBalance(lane);
}

TEST_F(SpoolTest, AReadErrorAtTheStartCostsNothing) {
  ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok());
  for (const Operation failing : {Operation::kOpen, Operation::kRead}) {
    SCOPED_TRACE(static_cast<int>(failing));
    disk_.fault = [&](Operation operation, const std::string& path) {
      return operation == failing && path.ends_with(".spool")
                 ? absl::ResourceExhaustedError("too many open files")
                 : absl::OkStatus();
    };
    const auto spool = OpenSpool();
    SpoolLane* const lane = spool->lane("prod");
    spool->Housekeep(now_);  // not at once
    EXPECT_FALSE(lane->waiting());
    EXPECT_EQ(spool->state().unread, 1U);
    EXPECT_EQ(spool->state().bytes, disk_.Bytes(Files(".spool")[0])->size());
    Pass(seconds(1));
    spool->Housekeep(now_);
    EXPECT_EQ(spool->state().unread, 1U);
    disk_.fault = nullptr;
    Pass(seconds(1));
    spool->Housekeep(now_);
    EXPECT_EQ(spool->state().damaged, 0U);
    EXPECT_EQ(spool->state().bytes, disk_.Bytes(Files(".spool")[0])->size());
    const auto frame = lane->Next(now_);
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(Remaining(*frame), Strings{"a"});
    lane->Again(frame->token);
  }
}

TEST_F(SpoolTest, AFileThatStaysUnreadableIsSetAsideAtTheThirdTry) {
  disk_.modified = now_;
  ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok());
  disk_.fault = [](Operation operation, const std::string&) {
    return operation == Operation::kRead ? absl::UnknownError("input/output error")
                                         : absl::OkStatus();
  };
  const auto spool = OpenSpool();
  Pass(seconds(1));
  spool->Housekeep(now_);
  EXPECT_TRUE(Files(".damaged").empty());
  Pass(seconds(1));
  spool->Housekeep(now_);
  ASSERT_EQ(Files(".damaged").size(), 1U);
  EXPECT_EQ(spool->state().damaged, 1U);
  EXPECT_EQ(spool->state().unread, 0U);
  EXPECT_EQ(spool->state().bytes, disk_.Bytes(Files(".damaged")[0])->size());
}

TEST_F(SpoolTest, FilesThatCannotBeReadNowCountAgainstTheSize) {
  Spool::Options options = DefaultOptions();
  ASSERT_TRUE(Append(OpenSpool(options)->lane("prod"), {Noise(200'000, 1)}).ok());
  *disk_.Bytes(Files(".spool")[0]) += std::string(Spool::kBytesMin, 'x');
  disk_.fault = [](Operation operation, const std::string&) {
    return operation == Operation::kRead ? absl::UnknownError("input/output error")
                                         : absl::OkStatus();
  };
  options = DefaultOptions();
  options.bytes_max = Spool::kBytesMin;
  const auto spool = OpenSpool(options);
  EXPECT_TRUE(absl::IsResourceExhausted(Append(spool->lane("prod"), {"b"})));
  EXPECT_EQ(Files(".spool").size(), 1U);
}

// --- limits --------------------------------------------------------------------------------------------

TEST_F(SpoolTest, WhenFullTheLaneThatHoldsMostLosesItsOldest) {
  Spool::Options options = DefaultOptions();
  options.bytes_max = 2U << 20;
  const auto spool = OpenSpool(options);
  SpoolLane* const prod = spool->lane("prod");
  SpoolLane* const audit = spool->lane("audit");
  // Alone, it may use everything.
  for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(Append(prod, {Noise(100'000, i)}).ok());
  EXPECT_GT(spool->state().bytes, (2U << 20) - 300'000);
  EXPECT_LE(spool->state().bytes, 2U << 20);
  const uint64_t dropped = Dropped(prod, SpoolDropReason::kFull);
  EXPECT_GT(dropped, 25U);
  // The other one gets its share at the first one's cost, without losing anything.
  for (uint64_t i = 0; i < 9; ++i) ASSERT_TRUE(Append(audit, {Noise(100'000, i)}).ok());
  EXPECT_EQ(audit->account().dropped_total(), 0U);
  EXPECT_GT(Dropped(prod, SpoolDropReason::kFull), dropped);
  EXPECT_LE(spool->state().bytes, 2U << 20);
  // And keeps it, whatever the first one does.
  for (uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(Append(prod, {Noise(100'000, i)}).ok());
  EXPECT_EQ(audit->account().dropped_total(), 0U);
  EXPECT_EQ(Drain(audit).size(), 9U);
  const Strings kept = Drain(prod);
  EXPECT_EQ(kept.back(), Noise(100'000, 29));
  EXPECT_NE(lines_.find("spool_full"), std::string::npos);
}

TEST_F(SpoolTest, AFrameLentFromAFileThatWentIsCountedOnce) {
  Spool::Options options = DefaultOptions();
  options.bytes_max = 1U << 20;
  const auto spool = OpenSpool(options);
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  ASSERT_TRUE(Append(lane, {"b"}).ok());
  ASSERT_TRUE(Append(lane, {"c"}).ok());
  const auto a = lane->Next(now_);
  const auto b = lane->Next(now_);
  const auto c = lane->Next(now_);
  lane->Again(c->token);
  for (uint64_t i = 0; i < 12; ++i) ASSERT_TRUE(Append(lane, {Noise(100'000, i)}).ok());
  EXPECT_GE(Dropped(lane, SpoolDropReason::kFull), 1U);
  const uint64_t before = Dropped(lane, SpoolDropReason::kFull);
  lane->Done(a->token);
  EXPECT_EQ(lane->account().done.value(), 1U);
  lane->Again(b->token);
  EXPECT_EQ(Dropped(lane, SpoolDropReason::kFull), before + 1);
  ExpectBalance(lane);
  for (const std::string& document : Drain(lane)) EXPECT_EQ(document.size(), 100'000U);
}

TEST_F(SpoolTest, WhenFullWhatWasSetAsideGoesFirst) {
  Spool::Options options = DefaultOptions();
  options.bytes_max = 2U << 20;
  { ASSERT_TRUE(Append(OpenSpool()->lane("audit"), {Noise(200'000, 1)}).ok()); }
  const auto spool = OpenSpool(options, {{"prod", "xray eu"}});
  EXPECT_EQ(Files(".foreign").size(), 1U);
  for (uint64_t i = 0; i < 19; ++i)
    ASSERT_TRUE(Append(spool->lane("prod"), {Noise(100'000, i)}).ok());
  EXPECT_EQ(Files(".foreign").size(), 0U);
  EXPECT_EQ(Drain(spool->lane("prod")).size(), 19U);
}

TEST_F(SpoolTest, ASpoolFoundTooLargeIsCutToItsSize) {
  {
    const auto spool = OpenSpool();
    for (uint64_t i = 0; i < 30; ++i) {
      ASSERT_TRUE(Append(spool->lane("prod"), {Noise(200'000, i)}).ok());
    }
  }
  Spool::Options options = DefaultOptions();
  options.bytes_max = 1U << 20;
  const auto spool = OpenSpool(options);
  spool->Housekeep(now_);
  EXPECT_LE(spool->state().bytes, 1U << 20);
  ExpectBalance(spool->lane("prod"));
}

TEST_F(SpoolTest, WhatIsTooOldIsDropped) {
  Spool::Options options = DefaultOptions();
  options.age_max = hours(8);
  const auto spool = OpenSpool(options);
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"old"}).ok());
  Pass(hours(4));
  spool->Housekeep(now_);  // after an eighth of the age a file takes no more
  ASSERT_TRUE(Append(lane, {"young"}).ok());
  Pass(hours(4) + seconds(1));
  spool->Housekeep(now_);
  EXPECT_EQ(Dropped(lane, SpoolDropReason::kExpired), 1U);
  EXPECT_EQ(Drain(lane), Strings{"young"});
}

TEST_F(SpoolTest, AgeIsThatOfTheLastFrameAlsoAfterARestart) {
  {
    const auto spool = OpenSpool();
    ASSERT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
    Pass(hours(2));
    ASSERT_TRUE(Append(spool->lane("prod"), {"b"}).ok());
  }
  Pass(hours(23));
  const auto spool = OpenSpool();
  spool->Housekeep(now_);
  EXPECT_EQ(spool->lane("prod")->account().held.value(), 2U);
  Pass(hours(2));
  spool->Housekeep(now_);
  EXPECT_EQ(Dropped(spool->lane("prod"), SpoolDropReason::kExpired), 2U);
  ExpectBalance(spool->lane("prod"));
}

TEST_F(SpoolTest, FilesSetAsideExpireToo) {
  disk_.modified = now_;
  { ASSERT_TRUE(Append(OpenSpool()->lane("audit"), {"a"}).ok()); }
  const auto spool = OpenSpool(DefaultOptions(), {{"prod", "xray eu"}});
  EXPECT_EQ(Files(".foreign").size(), 1U);
  Pass(hours(25));
  spool->Housekeep(now_);
  EXPECT_EQ(Files(".foreign").size(), 0U);
  EXPECT_EQ(spool->state().bytes, 0U);
}

TEST_F(SpoolTest, OptionsThatCannotWorkAreRefused) {
  const auto open = [&](const Spool::Options& options) {
    return Spool::Open(options, {}, &disk_, log_.get(), now_).status();
  };
  Spool::Options options = DefaultOptions();
  EXPECT_TRUE(open(options).ok());
  options.path = "";
  EXPECT_FALSE(open(options).ok());
  options = DefaultOptions();
  options.bytes_max = 1000;
  EXPECT_FALSE(open(options).ok());
  options = DefaultOptions();
  options.file_bytes_max = 0;
  EXPECT_FALSE(open(options).ok());
  options = DefaultOptions();
  options.age_max = Duration::zero();
  EXPECT_FALSE(open(options).ok());
}

// --- a disk that fails ---------------------------------------------------------------------------------

TEST_F(SpoolTest, AFullDiskRefusesAndRecoversByItself) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"first"}).ok());
  const size_t used = disk_.Bytes(Files(".spool")[0])->size();
  disk_.capacity = used + 20;
  EXPECT_TRUE(absl::IsResourceExhausted(Append(lane, {"second"})));
  EXPECT_EQ(disk_.Bytes(Files(".spool")[0])->size(), used);
  EXPECT_FALSE(spool->state().on);
  EXPECT_NE(spool->state().text.find("no space"), std::string::npos);
  const uint64_t changes = disk_.changes();
  EXPECT_FALSE(Append(lane, {"second"}).ok());
  EXPECT_EQ(disk_.changes(), changes);  // not asked for every batch

  disk_.capacity = UINT64_MAX;
  Pass(seconds(1));
  EXPECT_TRUE(Append(lane, {"second"}).ok());
  EXPECT_TRUE(spool->state().on);
  EXPECT_NE(lines_.find("spool_recovered"), std::string::npos);
  EXPECT_EQ(lane->account().held.value(), 2U);
  EXPECT_EQ(Drain(lane), (Strings{"first", "second"}));
}

TEST_F(SpoolTest, AFullDiskStillSendsWhatItHolds) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  disk_.capacity = 0;
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{"a"});
  EXPECT_EQ(Files(".spool"), Strings{});
}

TEST_F(SpoolTest, ADiskThatIsFullFromTheStartLeavesNoHalfFile) {
  const auto spool = OpenSpool();
  disk_.capacity = 10;
  EXPECT_FALSE(Append(spool->lane("prod"), {"a"}).ok());
  EXPECT_EQ(Files(".spool"), Strings{});
  EXPECT_EQ(spool->state().bytes, 0U);
}

TEST_F(SpoolTest, AReadOnlyDiskIsNoSpoolUntilItIsMended) {
  disk_.read_only = true;
  const auto spool = OpenSpool();
  EXPECT_FALSE(spool->state().on);
  EXPECT_NE(spool->state().text.find("read-only"), std::string::npos);
  EXPECT_TRUE(absl::IsUnavailable(Append(spool->lane("prod"), {"a"})));
  EXPECT_FALSE(spool->lane("prod")->Next(now_).has_value());
  disk_.read_only = false;
  Pass(seconds(10));
  spool->Housekeep(now_);
  EXPECT_TRUE(spool->state().on);
  EXPECT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
}

TEST_F(SpoolTest, ADiskThatBecomesReadOnlyLosesNothingThatWasTaken) {
  {
    const auto spool = OpenSpool();
    SpoolLane* const lane = spool->lane("prod");
    ASSERT_TRUE(Append(lane, {"a"}).ok());
    disk_.read_only = true;
    EXPECT_FALSE(Append(lane, {"b"}).ok());
    // Delivered, but neither marked nor removed: that is told, and it comes again after a restart.
    EXPECT_EQ(Drain(lane), Strings{"a"});
    EXPECT_NE(lines_.find("spool_mark_failed"), std::string::npos);
    EXPECT_FALSE(lane->Next(now_).has_value());
    EXPECT_EQ(Files(".spool").size(), 1U);
  }
  disk_.read_only = false;
  EXPECT_EQ(Drain(OpenSpool()->lane("prod")), Strings{"a"});
}

TEST_F(SpoolTest, AFileThatCannotBeRemovedNowIsRemovedLater) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  disk_.fault = [](Operation operation, const std::string&) {
    return operation == Operation::kRemove ? absl::UnknownError("busy") : absl::OkStatus();
  };
  EXPECT_EQ(Drain(lane), Strings{"a"});
  EXPECT_GT(spool->state().bytes, 0U);
  disk_.fault = nullptr;
  spool->Housekeep(now_);
  EXPECT_EQ(spool->state().bytes, 0U);
  EXPECT_EQ(Files(".spool"), Strings{});
}

TEST_F(SpoolTest, AWriteThatCannotBeTakenBackEndsItsFile) {
  {
    const auto spool = OpenSpool();
    SpoolLane* const lane = spool->lane("prod");
    ASSERT_TRUE(Append(lane, {"a"}).ok());
    disk_.fault = [](Operation operation, const std::string&) {
      return operation == Operation::kWrite || operation == Operation::kTruncate
                 ? absl::UnknownError("input/output error")
                 : absl::OkStatus();
    };
    EXPECT_FALSE(Append(lane, {"lost"}).ok());
    disk_.fault = nullptr;
    Pass(seconds(1));
    ASSERT_TRUE(Append(lane, {"b"}).ok());
    EXPECT_EQ(Files(".spool").size(), 2U);
  }
  const auto spool = OpenSpool();
  EXPECT_EQ(Drain(spool->lane("prod")), (Strings{"a", "b"}));
  EXPECT_EQ(spool->lane("prod")->account().torn.value(), 1U);
}

TEST_F(SpoolTest, WithFsyncBatchASyncThatFailsIsNoAppend) {
  Spool::Options options = DefaultOptions();
  options.fsync = Spool::Fsync::kBatch;
  const auto spool = OpenSpool(options);
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  disk_.fault = [](Operation operation, const std::string&) {
    return operation == Operation::kSync ? absl::UnknownError("input/output error")
                                         : absl::OkStatus();
  };
  EXPECT_FALSE(Append(lane, {"b"}).ok());
  disk_.fault = nullptr;
  Pass(seconds(1));
  ASSERT_TRUE(Append(lane, {"c"}).ok());
  EXPECT_EQ(Drain(lane), (Strings{"a", "c"}));
}

TEST_F(SpoolTest, WithFsyncIntervalHousekeepingBringsItToTheDevice) {
  Spool::Options options = DefaultOptions();
  options.fsync = Spool::Fsync::kInterval;
  options.fsync_interval = seconds(5);
  auto spool = OpenSpool(options);
  spool->Housekeep(now_);
  ASSERT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
  Pass(seconds(5));
  spool->Housekeep(now_);
  ASSERT_TRUE(Append(spool->lane("prod"), {"b"}).ok());
  Pass(seconds(1));
  spool->Housekeep(now_);  // not yet
  disk_.Crash();
  spool.reset();
  disk_.Restart(FakeSpoolDisk::After::kPowerCut);
  EXPECT_EQ(Drain(OpenSpool()->lane("prod")), Strings{"a"});
}

TEST_F(SpoolTest, ADirectoryRemovedUnderOurHandsIsMadeAgain) {
  const auto spool = OpenSpool();
  SpoolLane* const lane = spool->lane("prod");
  ASSERT_TRUE(Append(lane, {"a"}).ok());
  disk_.Delete("/spool");
  Pass(seconds(1));
  spool->Housekeep(now_);
  EXPECT_EQ(Dropped(lane, SpoolDropReason::kDamaged), 1U);
  ExpectBalance(lane);
  EXPECT_TRUE(spool->state().on);
  ASSERT_TRUE(Append(lane, {"b"}).ok());
  EXPECT_EQ(Drain(lane), Strings{"b"});
}

TEST_F(SpoolTest, AFileRemovedUnderOurHandsIsCounted) {
  { ASSERT_TRUE(Append(OpenSpool()->lane("prod"), {"a"}).ok()); }
  const auto spool = OpenSpool();
  spool->Housekeep(now_);
  disk_.Delete(Files(".spool")[0]);
  EXPECT_FALSE(spool->lane("prod")->Next(now_).has_value());
  EXPECT_EQ(Dropped(spool->lane("prod"), SpoolDropReason::kDamaged), 1U);
  EXPECT_FALSE(spool->lane("prod")->waiting());
  ExpectBalance(spool->lane("prod"));
}

TEST_F(SpoolTest, ASlowDiskOnlyTakesTime) {
  disk_.fault = [&](Operation, const std::string&) {
    Pass(seconds(2));
    return absl::OkStatus();
  };
  const auto spool = OpenSpool();
  for (const char* document : {"a", "b"}) ASSERT_TRUE(Append(spool->lane("prod"), {document}).ok());
  spool->Housekeep(now_);
  EXPECT_EQ(Drain(spool->lane("prod")), (Strings{"a", "b"}));
}

TEST_F(SpoolTest, AClockSetBackHoldsNothingUp) {
  disk_.capacity = 0;
  const auto spool = OpenSpool();
  EXPECT_FALSE(Append(spool->lane("prod"), {"a"}).ok());
  disk_.capacity = UINT64_MAX;
  Pass(-hours(1000));
  EXPECT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
  spool->Housekeep(now_);
  EXPECT_EQ(Drain(spool->lane("prod")), Strings{"a"});
}

// --- other instances -----------------------------------------------------------------------------------

TEST_F(SpoolTest, WhatAnotherInstanceLeavesIsAdoptedWhileRunning) {
  const auto first = OpenSpool();
  auto second = OpenSpool();
  ASSERT_TRUE(Append(second->lane("prod"), {"left"}).ok());
  ASSERT_TRUE(Append(first->lane("prod"), {"own"}).ok());
  Pass(seconds(10));
  first->Housekeep(now_);
  EXPECT_EQ(first->lane("prod")->account().held.value(), 1U);  // the other one lives
  second.reset();
  Pass(seconds(10));
  first->Housekeep(now_);
  Strings all = Drain(first->lane("prod"));
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (Strings{"left", "own"}));
  EXPECT_EQ(first->lane("prod")->account().restored.value(), 1U);
  EXPECT_EQ(disk_.Paths().size(), 1U);  // our lock
}

// The lane's thread and the control thread at once; for ThreadSanitizer.
TEST_F(SpoolTest, HousekeepingRunsBesideTheLanes) {
  Spool::Options options = DefaultOptions();
  options.bytes_max = 1U << 20;
  options.fsync = Spool::Fsync::kInterval;
  options.fsync_interval = Duration(0);
  const auto spool = OpenSpool(options);
  const BatchRef batch = MakeBatch({Noise(20'000, 1)});
  std::atomic<int> working{2};
  const auto work = [&](const char* name) {
    SpoolLane* const lane = spool->lane(name);
    for (int i = 0; i < 300; ++i) {
      EXPECT_TRUE(lane->Append(*batch, 1, kNow).ok());
      if (i % 3 == 0) continue;
      if (const auto frame = lane->Next(kNow)) {
        i % 2 == 0 ? lane->Done(frame->token) : lane->Again(frame->token);
      }
    }
    --working;
  };
  std::thread a([&] { work("prod"); });
  std::thread b([&] { work("audit"); });
  while (working > 0) {
    spool->Housekeep(kNow);
    static_cast<void>(spool->state());
    std::this_thread::yield();
  }
  a.join();
  b.join();
  for (const char* name : {"prod", "audit"}) {
    Drain(spool->lane(name));
    EXPECT_EQ(spool->lane(name)->account().held.value(), 0U);
  }
}

}  // namespace
}  // namespace mobula
