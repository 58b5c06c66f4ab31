#include "engine/app/lane_set.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "engine/aws/aws_context.h"
#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "tests/support/running_aws.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::RunningAws;

constexpr uint64_t kMiB = 1 << 20;

Time Now() { return std::chrono::steady_clock::now(); }

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

class LaneSetTest : public ::testing::Test {
 protected:
  LaneSetTest() {
    LaneSet::Options options;
    options.pool = pool_.get();
    options.log = log_.get();
    options.aws = aws_.get();
    options.room = 8 * kMiB;
    options.dead_letter = [](std::string_view, std::string_view, std::string_view,
                             std::string_view) {};
    set_ = std::make_unique<LaneSet>(std::move(options));
    char name[] = "/tmp/lane_set_test.XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~LaneSetTest() override {
    set_->Drain(Now());
    EXPECT_TRUE(set_->Join(Now() + seconds(10)));
    set_.reset();
    std::system(("rm -rf " + folder_).c_str());
  }

  BackendConfig File(const std::string& name, const std::string& path) const {
    BackendConfig backend;
    backend.name = name;
    FileBackendConfig file;
    file.path = folder_ + "/" + path;
    backend.settings = file;
    return backend;
  }
  // Nobody listens there.
  static BackendConfig Down(const std::string& name, const std::string& endpoint) {
    BackendConfig backend;
    backend.name = name;
    XrayBackendConfig xray;
    xray.region = "us-east-1";
    xray.endpoint = endpoint;
    backend.settings = xray;
    return backend;
  }

  void Begin(const std::vector<BackendConfig>& backends, std::vector<uint64_t> shares) {
    auto change = set_->Make(backends, shares);
    ASSERT_TRUE(change.ok()) << change.status();
    set_->Commit(*std::move(change), Now());
    ASSERT_TRUE(set_->Start().ok());
  }
  absl::Status Change(const std::vector<BackendConfig>& backends, std::vector<uint64_t> shares,
                      Duration grace = seconds(10)) {
    auto change = set_->Make(backends, shares);
    if (!change.ok()) return change.status();
    if (absl::Status started = set_->Start(change->get()); !started.ok()) return started;
    set_->Commit(*std::move(change), Now() + grace);
    set_->Left();
    return absl::OkStatus();
  }
  void Push(size_t backend, const std::string& document) {
    BatchBuilder builder(pool_.get(), {});
    ASSERT_TRUE(builder.Add(document, DocumentKind::kJson, RejectReason::kNone, Now()));
    LaneInbox* const inbox = set_->Inboxes()[backend];
    LaneInbox::Producer producer = inbox->MakeProducer();
    inbox->Push(&producer, builder.Close());
    inbox->Notify();
  }
  template <typename F>
  bool Eventually(F condition) {
    for (const Time end = Now() + seconds(20); Now() < end;) {
      set_->Step(Now());
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }
  LaneReport Of(const std::string& name) const {
    for (LaneReport& report : set_->Reports()) {
      if (report.name == name) return std::move(report);
    }
    ADD_FAILURE() << "no backend " << name;
    return {};
  }

  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(16 * kMiB);
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  RunningAws aws_{log_.get(), [] {
                    AwsContext::Options options;
                    options.environment = [](std::string_view) { return std::nullopt; };
                    options.metadata = false;
                    return options;
                  }()};
  std::string folder_;
  std::unique_ptr<LaneSet> set_;
};

TEST_F(LaneSetTest, ALaneThatLeavesDeliversAndStaysInTheBooks) {
  Begin({File("a", "1")}, {4 * kMiB});
  Push(0, "one");
  ASSERT_TRUE(Eventually([&] { return Of("a").delivered == 1; }));
  Push(0, "two");
  // Another far side under the name, and another name beside it.
  ASSERT_TRUE(Change({File("a", "2"), File("b", "3")}, {2 * kMiB, 2 * kMiB}).ok());
  EXPECT_EQ(set_->Reports().size(), 2U) << "one report for each name";
  Push(0, "three");
  Push(1, "four");
  ASSERT_TRUE(Eventually([&] { return !set_->busy() && Of("b").delivered == 1; }));
  ASSERT_TRUE(Eventually([&] { return Of("a").delivered == 3; }));
  EXPECT_EQ(ReadFile(folder_ + "/1"), "one\ntwo\n");
  EXPECT_EQ(ReadFile(folder_ + "/2"), "three\n");
  EXPECT_EQ(ReadFile(folder_ + "/3"), "four\n");
  EXPECT_EQ(Of("a").entered, 3U);
  // And when the name is gone too.
  ASSERT_TRUE(Change({File("b", "3")}, {4 * kMiB}).ok());
  ASSERT_TRUE(Eventually([&] { return !set_->busy(); }));
  EXPECT_EQ(Of("a").entered, 3U);
  EXPECT_EQ(set_->Reports().back().name, "a");
}

TEST_F(LaneSetTest, TheSameFarSideKeepsItsLaneWhateverElseChanges) {
  Begin({File("a", "1")}, {4 * kMiB});
  LaneInbox* const inbox = set_->Inboxes()[0];
  BackendConfig other = File("a", "1");
  std::get<FileBackendConfig>(other.settings).rotate_size = 1 << 20;
  ASSERT_TRUE(Change({File("b", "2"), other}, {2 * kMiB, 3 * kMiB}).ok());
  EXPECT_EQ(set_->Inboxes()[1], inbox);
  EXPECT_EQ(inbox->quota(), 3 * kMiB);
  EXPECT_FALSE(set_->busy());
  Push(1, "one");
  ASSERT_TRUE(Eventually([&] { return Of("a").delivered == 1; }));
  EXPECT_EQ(ReadFile(folder_ + "/1"), "one\n");
}

TEST_F(LaneSetTest, AChangeThatCannotBeMadeLeavesEverythingAsItWas) {
  Begin({File("a", "1")}, {4 * kMiB});
  LaneInbox* const inbox = set_->Inboxes()[0];
  Push(0, "one");
  ASSERT_TRUE(Eventually([&] { return Of("a").delivered == 1; }));
  // There is a file where a folder would have to be.
  const absl::Status failed = Change({File("b", "2"), File("c", "1/x")}, {kMiB, kMiB});
  EXPECT_NE(std::string(failed.message()).find("backends.c: "), std::string::npos) << failed;
  EXPECT_EQ(set_->Inboxes(), std::vector<LaneInbox*>{inbox});
  EXPECT_EQ(set_->Reports().size(), 1U);
  EXPECT_FALSE(set_->busy());
  // Two cannot write one file.
  EXPECT_FALSE(Change({File("other", "1")}, {kMiB}).ok());
  Push(0, "two");
  ASSERT_TRUE(Eventually([&] { return Of("a").delivered == 2; }));
  ASSERT_TRUE(Change({File("b", "2")}, {kMiB}).ok()) << "what failed left nothing behind";
}

TEST_F(LaneSetTest, ALaneThatIsWantedAgainComesBackWithWhatItHolds) {
  const BackendConfig down = Down("prod", "http://127.0.0.1:1");
  Begin({down}, {4 * kMiB});
  Push(0, "one");
  LaneInbox* const inbox = set_->Inboxes()[0];
  ASSERT_TRUE(Change({File("a", "1")}, {4 * kMiB}).ok());
  EXPECT_TRUE(set_->busy());
  EXPECT_EQ(Of("prod").held, 1U);
  ASSERT_TRUE(Change({File("a", "1"), down}, {2 * kMiB, 2 * kMiB}).ok());
  EXPECT_FALSE(set_->busy());
  EXPECT_EQ(set_->Inboxes()[1], inbox);
  EXPECT_EQ(Of("prod").held, 1U);
  // Another endpoint is another far side: it gets nothing of that.
  ASSERT_TRUE(Change({Down("prod", "http://127.0.0.1:2")}, {4 * kMiB}, milliseconds(50)).ok());
  EXPECT_NE(set_->Inboxes()[0], inbox);
  ASSERT_TRUE(Eventually([&] { return !set_->busy(); }));
  EXPECT_EQ(Of("prod").dropped_for(DropReason::kShutdown), 1U);
  EXPECT_EQ(Of("prod").held, 0U);
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST_F(LaneSetTest, WhatALaneThatLeavesHoldsIsTakenFromTheOthers) {
  Begin({Down("prod", "http://127.0.0.1:1")}, {8 * kMiB});
  const std::string large(200'000, 'x');
  for (int i = 0; i < 20; ++i) Push(0, large);
  const uint64_t held = Of("prod").held_bytes;
  ASSERT_GT(held, 3 * kMiB);
  ASSERT_TRUE(Change({File("a", "1")}, {8 * kMiB}, milliseconds(200)).ok());
  EXPECT_LE(set_->Inboxes()[0]->quota(), 8 * kMiB - held + 4096);
  EXPECT_GE(set_->Inboxes()[0]->quota(), 512U * 1024);
  ASSERT_TRUE(Eventually([&] { return !set_->busy(); }));
  EXPECT_EQ(set_->Inboxes()[0]->quota(), 8 * kMiB);
}

}  // namespace
}  // namespace mobula
