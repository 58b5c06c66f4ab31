#include "engine/batch/batch_builder.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace mobula {
namespace {

constexpr Time kStart{std::chrono::seconds(100)};

class BatchTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(1 << 20);

  static bool Add(BatchBuilder* builder, std::string_view document, Time now = kStart) {
    return builder->Add(document, DocumentKind::kJson, RejectReason::kNone, now);
  }
};

TEST_F(BatchTest, KeepsBytesOrderAndIndex) {
  BatchBuilder builder(pool_.get(), {});
  ASSERT_TRUE(Add(&builder, "first"));
  ASSERT_TRUE(builder.Add("T1Sxyz", DocumentKind::kOtlp, RejectReason::kNone, kStart));
  ASSERT_TRUE(builder.Add("{bad", DocumentKind::kRejected, RejectReason::kInvalidJson, kStart));
  const BatchRef batch = builder.Close();
  ASSERT_TRUE(batch);
  EXPECT_TRUE(builder.empty());
  ASSERT_EQ(batch->size(), 3U);
  EXPECT_EQ(batch->all(), 7U);
  EXPECT_EQ(batch->document(0), "first");
  EXPECT_EQ(batch->document(1), "T1Sxyz");
  EXPECT_EQ(batch->document(2), "{bad");
  EXPECT_EQ(batch->entry(1).kind, DocumentKind::kOtlp);
  EXPECT_EQ(batch->entry(2).reason, RejectReason::kInvalidJson);
  EXPECT_EQ(batch->document_bytes(), 15U);
  EXPECT_EQ(batch->received(), kStart);
  EXPECT_EQ(batch->cost(), 4096U);
}

TEST_F(BatchTest, ClosesAtTheDocumentLimit) {
  BatchBuilder builder(pool_.get(), {3, std::chrono::seconds(1)});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Add(&builder, "x"));
  EXPECT_TRUE(builder.full());
  EXPECT_FALSE(Add(&builder, "x"));
  EXPECT_EQ(builder.Close()->size(), 3U);
  EXPECT_TRUE(Add(&builder, "x"));
}

TEST_F(BatchTest, RefusesWhatDoesNotFitAnyMore) {
  BatchBuilder builder(pool_.get(), {});
  const std::string large(100'000, 'x');
  ASSERT_TRUE(Add(&builder, large));
  ASSERT_TRUE(Add(&builder, large));
  EXPECT_FALSE(Add(&builder, large));
  EXPECT_EQ(builder.Close()->document(1), large);
}

TEST_F(BatchTest, HoldsTheLargestDocumentAlone) {
  BatchBuilder builder(pool_.get(), {64, std::chrono::seconds(1)});
  const std::string largest(BatchBuilder::kDocumentBytesMax, 'y');
  ASSERT_TRUE(Add(&builder, largest));
  const BatchRef batch = builder.Close();
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->document(0), largest);
}

TEST_F(BatchTest, IsDueAnAgeAfterItsFirstDocument) {
  BatchBuilder builder(pool_.get(), {50, std::chrono::seconds(1)});
  EXPECT_EQ(builder.due(), kTimeNever);
  ASSERT_TRUE(Add(&builder, "a", kStart));
  ASSERT_TRUE(Add(&builder, "b", kStart + std::chrono::milliseconds(900)));
  EXPECT_EQ(builder.due(), kStart + std::chrono::seconds(1));
  (void)builder.Close();
  EXPECT_EQ(builder.due(), kTimeNever);
}

TEST_F(BatchTest, GivesTheBlockBackWithTheLastReference) {
  BatchBuilder builder(pool_.get(), {});
  ASSERT_TRUE(Add(&builder, "a"));
  BatchRef first = builder.Close();
  BatchRef second = first.Share();
  EXPECT_EQ(pool_->bytes_used(), 4096U);
  first.Reset();
  EXPECT_EQ(second->document(0), "a");
  EXPECT_EQ(pool_->bytes_used(), 4096U);
  second.Reset();
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST_F(BatchTest, ForgetsDocumentsWhenThePoolIsFull) {
  std::vector<Block> all;
  while (const Block b = pool_->TryAcquire(4096)) all.push_back(b);
  BatchBuilder builder(pool_.get(), {});
  ASSERT_TRUE(Add(&builder, "a"));
  EXPECT_FALSE(builder.Close());
  EXPECT_TRUE(builder.empty());
  for (const Block& b : all) pool_->Release(b);
}

TEST_F(BatchTest, ReferencesMayEndOnAnyThread) {
  BatchBuilder builder(pool_.get(), {});
  for (int round = 0; round < 2000; ++round) {
    ASSERT_TRUE(Add(&builder, "document"));
    BatchRef batch = builder.Close();
    std::thread other([ref = batch.Share()]() mutable {
      EXPECT_EQ(ref->document(0), "document");
      ref.Reset();
    });
    batch.Reset();
    other.join();
  }
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST(DocumentSetTest, VisitsInOrder) {
  std::vector<size_t> seen;
  ForEach(0x8000000000000005ULL, [&](size_t i) { seen.push_back(i); });
  EXPECT_EQ(seen, (std::vector<size_t>{0, 2, 63}));
  EXPECT_EQ(Count(0x8000000000000005ULL), 3);
}

}  // namespace
}  // namespace mobula
