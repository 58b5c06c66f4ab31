#include "engine/queue/lane_inbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/batch/batch_builder.h"

namespace mobula {
namespace {

class LaneInboxTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(4 << 20);
  LaneAccount account_;

  BatchRef MakeBatch(size_t documents, const std::string& text = "document") {
    BatchBuilder builder(pool_.get(), {});
    for (size_t i = 0; i < documents; ++i) {
      EXPECT_TRUE(builder.Add(text, DocumentKind::kJson, RejectReason::kNone, Time{}));
    }
    return builder.Close();
  }
  [[nodiscard]] bool Balanced() const {
    return account_.entered.value() ==
           account_.delivered.value() + account_.dropped_total() + account_.held.value();
  }
  [[nodiscard]] uint64_t Dropped(DropReason reason) const {
    return account_.dropped[static_cast<size_t>(reason)].value();
  }
};

TEST_F(LaneInboxTest, HandsOverInOrderAndNotifies) {
  LaneInbox inbox(&account_, 1 << 20, 1024, 1);
  int notified = 0;
  inbox.set_notify([&] { ++notified; });
  LaneInbox::Producer producer = inbox.MakeProducer();
  inbox.Push(&producer, MakeBatch(1, "one"));
  inbox.Push(&producer, MakeBatch(2, "two"));
  EXPECT_EQ(notified, 0) << "one wake-up for both";
  inbox.Notify();
  EXPECT_EQ(notified, 1);
  EXPECT_EQ(account_.entered.value(), 3U);
  EXPECT_EQ(account_.held.value(), 3U);
  EXPECT_EQ(account_.held_bytes.value(), 8192U);
  EXPECT_EQ(inbox.Pop()->document(0), "one");
  EXPECT_EQ(inbox.Pop()->document(0), "two");
  EXPECT_FALSE(inbox.Pop());
  EXPECT_TRUE(Balanced());
}

TEST_F(LaneInboxTest, DropsTheOldestWhenNobodyTakesThem) {
  LaneInbox inbox(&account_, 3 * 4096, 1024, 1);
  inbox.set_notify([] {});
  LaneInbox::Producer producer = inbox.MakeProducer();
  for (int i = 0; i < 10; ++i) inbox.Push(&producer, MakeBatch(2, std::to_string(i)));
  EXPECT_EQ(Dropped(DropReason::kBufferFull), 14U);
  EXPECT_EQ(account_.held.value(), 6U);
  EXPECT_TRUE(Balanced());
  EXPECT_EQ(pool_->bytes_used(), 3U * 4096);
  EXPECT_EQ(inbox.Pop()->document(0), "7");
}

TEST_F(LaneInboxTest, DropsTheNewestWhenTheLaneHoldsItAll) {
  LaneInbox inbox(&account_, 2 * 4096, 1024, 1);
  inbox.set_notify([] {});
  LaneInbox::Producer producer = inbox.MakeProducer();
  inbox.Push(&producer, MakeBatch(1));
  inbox.Push(&producer, MakeBatch(1));
  const BatchRef first = inbox.Pop();  // as Delivery does: the cost stays charged
  const BatchRef second = inbox.Pop();
  inbox.Push(&producer, MakeBatch(1));
  EXPECT_EQ(Dropped(DropReason::kBufferFull), 1U);
  EXPECT_FALSE(inbox.Pop());
  EXPECT_TRUE(Balanced());
}

TEST_F(LaneInboxTest, CountsDocumentsWithoutABlock) {
  LaneInbox inbox(&account_, 1 << 20, 1024, 1);
  inbox.Lose(7);
  EXPECT_EQ(account_.entered.value(), 7U);
  EXPECT_EQ(Dropped(DropReason::kNoMemory), 7U);
  EXPECT_TRUE(Balanced());
}

TEST_F(LaneInboxTest, ReleasesWhatIsLeft) {
  {
    LaneInbox inbox(&account_, 1 << 20, 1024, 1);
    inbox.set_notify([] {});
    LaneInbox::Producer producer = inbox.MakeProducer();
    inbox.Push(&producer, MakeBatch(3));
  }
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

// Two producers, one lane, and a quota so small that producers keep making room themselves.
TEST_F(LaneInboxTest, BalancesUnderContention) {
  LaneInbox inbox(&account_, 8 * 4096, 1024, 2);
  inbox.set_notify([] {});
  std::atomic<int> running{2};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, producer = inbox.MakeProducer()]() mutable {
      for (int i = 0; i < 5000; ++i) {
        if (BatchRef batch = MakeBatch(1)) {
          inbox.Push(&producer, std::move(batch));
        } else {
          inbox.Lose(1);
        }
      }
      --running;
    });
  }
  const auto take = [&] {
    while (const BatchRef batch = inbox.Pop()) {
      account_.delivered.Add(batch->size());
      account_.held.Sub(batch->size());
      account_.held_bytes.Sub(batch->cost());
    }
  };
  while (running > 0) take();
  for (std::thread& thread : threads) thread.join();
  take();
  EXPECT_EQ(account_.entered.value(), 10000U);
  EXPECT_EQ(account_.held.value(), 0U);
  EXPECT_EQ(account_.held_bytes.value(), 0U);
  EXPECT_TRUE(Balanced());
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

}  // namespace
}  // namespace mobula
