// A crash at every change that a busy spool makes to its disk, and what the next process finds.
#include <algorithm>
#include <map>

#include "engine/spool/spool.h"
#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

using After = FakeSpoolDisk::After;

class SpoolCrashTest : public SpoolFixture {
 protected:
  // What the crashed process knew.
  struct Story {
    std::map<std::string, int> delivered;  // 1: Done was called, 2: and returned before the crash
    Strings promised;                      // Append returned OK
  };

  Spool::Options SmallFiles() {
    Spool::Options options = DefaultOptions();
    options.fsync = Spool::Fsync::kBatch;
    options.file_bytes_max = 64U << 10;
    return options;
  }

  void Put(SpoolLane* lane, const Strings& documents, Story* story) {
    if (!Append(lane, documents).ok()) return;
    story->promised.insert(story->promised.end(), documents.begin(), documents.end());
  }

  void Take(SpoolLane* lane, int frames, Story* story) {
    for (int i = 0; i < frames; ++i) {
      const auto frame = lane->Next(now_);
      if (!frame.has_value()) return;
      const Strings documents = Remaining(*frame);
      for (const std::string& document : documents) ++story->delivered[document];
      lane->Done(frame->token);
      if (disk_.crashed()) return;
      for (const std::string& document : documents) ++story->delivered[document];
    }
  }

  // A process that starts on what another left, appends, delivers and adopts.
  void Work(Story* story) {
    auto first = OpenSpool(SmallFiles());
    auto second = OpenSpool(SmallFiles());
    SpoolLane* const lane = first->lane("prod");
    for (int i = 0; i < 4; ++i) {
      Put(lane, {Noise(20'000, 10 + i), "a" + std::to_string(i)}, story);
      Put(second->lane("prod"), {Noise(25'000, 20 + i), "b" + std::to_string(i)}, story);
    }
    Take(lane, 3, story);
    second.reset();
    Pass(std::chrono::seconds(10));
    first->Housekeep(now_);
    Put(lane, {"late"}, story);
    Take(lane, 4, story);
    Put(lane, {"later"}, story);
  }

  void CrashEverywhere(After after) {
    uint64_t points = 0;
    for (bool crashed = true; crashed; ++points) {
      disk_.Delete("/spool");
      disk_.Put("/spool/instance-0000000000000001/lock", "");
      now_ = kNow;
      Story story;
      disk_.CrashAt(points + 1);
      Work(&story);
      crashed = disk_.crashed();
      disk_.Crash();
      disk_.Restart(after, points + 1);

      const auto spool = OpenSpool(SmallFiles());
      Pass(std::chrono::seconds(10));
      spool->Housekeep(now_);
      SpoolLane* const lane = spool->lane("prod");
      const Strings found = Drain(lane);
      for (const std::string& document : story.promised) {
        const auto done = story.delivered.find(document);
        const auto times = std::count(found.begin(), found.end(), document);
        if (done == story.delivered.end()) {
          ASSERT_EQ(times, 1) << "lost at change " << points + 1;
        } else if (after == After::kKill && done->second == 2) {
          ASSERT_EQ(times, 0) << "twice, killed at change " << points + 1;
        } else {
          ASSERT_LE(times, 1);
        }
      }
      // Nothing that was refused half-way is more than a whole document that comes once.
      ASSERT_LE(found.size(), 18U);
      ASSERT_EQ(lane->account().held.value(), 0U);
      ASSERT_EQ(Dropped(lane, SpoolDropReason::kDamaged), 0U) << "at change " << points + 1;
      ASSERT_EQ(Files(".spool"), Strings{});
      ASSERT_EQ(Files(".foreign"), Strings{});
    }
    EXPECT_GT(points, 50U);
  }
};

TEST_F(SpoolCrashTest, AKillAtAnyChangeLosesNothing) { CrashEverywhere(After::kKill); }
TEST_F(SpoolCrashTest, APowerCutAtAnyChangeLosesNothingSynced) {
  CrashEverywhere(After::kPowerCut);
}
TEST_F(SpoolCrashTest, APowerCutThatTearsLosesNothingSynced) { CrashEverywhere(After::kTorn); }

// Without fsync a power cut may take anything, but what is left is told apart from what is damaged.
TEST_F(SpoolCrashTest, WithoutFsyncATornDiskIsNeverFatal) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    disk_.Delete("/spool");
    auto spool = OpenSpool();
    for (uint64_t i = 0; i < 6; ++i) {
      ASSERT_TRUE(Append(spool->lane("prod"), {Noise(700 * (i + 1), i), "x"}).ok());
    }
    disk_.Crash();
    spool.reset();
    disk_.Restart(After::kTorn, seed);
    spool = OpenSpool();
    Pass(std::chrono::seconds(10));
    spool->Housekeep(now_);
    for (const std::string& document : Drain(spool->lane("prod"))) {
      ASSERT_TRUE(document == "x" || document.size() % 700 == 0);
    }
    ASSERT_EQ(spool->lane("prod")->account().held.value(), 0U);
  }
}

}  // namespace
}  // namespace mobula
