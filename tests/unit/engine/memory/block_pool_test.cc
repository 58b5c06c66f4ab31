#include "engine/memory/block_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace mobula {
namespace {

std::unique_ptr<BlockPool> MakePool(size_t bytes) { return *BlockPool::Create(bytes); }

TEST(BlockPoolTest, NeedsOneRegion) {
  EXPECT_FALSE(BlockPool::Create(BlockPool::kBlockBytesMax - 1).ok());
  EXPECT_EQ(MakePool(BlockPool::kBlockBytesMax * 3 - 1)->bytes_total(),
            BlockPool::kBlockBytesMax * 2);
}

TEST(BlockPoolTest, CostsWholePages) {
  const auto pool = MakePool(1 << 20);
  const Block one = pool->TryAcquire(1);
  const Block nine = pool->TryAcquire(9 * 4096);
  const Block ten = pool->TryAcquire(9 * 4096 + 1);
  EXPECT_EQ(one.bytes, 4096U);
  EXPECT_EQ(nine.bytes, 9U * 4096);
  EXPECT_EQ(ten.bytes, 10U * 4096);
  EXPECT_EQ(pool->bytes_used(), 20U * 4096);
  pool->Release(one);
  pool->Release(nine);
  pool->Release(ten);
  EXPECT_EQ(pool->bytes_used(), 0U);
}

TEST(BlockPoolTest, GivesEveryPageExactlyOnce) {
  const auto pool = MakePool(1 << 20);
  std::set<char*> seen;
  while (const Block block = pool->TryAcquire(4096)) {
    EXPECT_TRUE(seen.insert(block.data).second);
    std::memset(block.data, 0xab, block.bytes);
  }
  EXPECT_EQ(seen.size(), 256U);
  EXPECT_EQ(pool->bytes_used(), pool->bytes_total());
}

TEST(BlockPoolTest, FindsARunBetweenOthers) {
  const auto pool = MakePool(BlockPool::kBlockBytesMax);
  std::vector<Block> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(pool->TryAcquire(4096));
  EXPECT_FALSE(pool->TryAcquire(1));
  for (const int i : {10, 11, 12, 20, 21, 22, 23}) pool->Release(blocks[static_cast<size_t>(i)]);
  const Block four = pool->TryAcquire(4 * 4096);
  ASSERT_TRUE(four);
  EXPECT_EQ(four.data, blocks[20].data);
  EXPECT_FALSE(pool->TryAcquire(4 * 4096));
  EXPECT_EQ(pool->TryAcquire(3 * 4096).data, blocks[10].data);
}

TEST(BlockPoolTest, TakesTheLargestBlockFromAFreshRegionOnly) {
  const auto pool = MakePool(2 * BlockPool::kBlockBytesMax);
  const Block small = pool->TryAcquire(1);
  const Block large = pool->TryAcquire(BlockPool::kBlockBytesMax);
  ASSERT_TRUE(large);
  EXPECT_FALSE(pool->TryAcquire(BlockPool::kBlockBytesMax));
  pool->Release(small);
  EXPECT_TRUE(pool->TryAcquire(BlockPool::kBlockBytesMax));
}

TEST(BlockPoolTest, FindsRoomBelowAStaleHint) {
  const auto pool = MakePool(4 * BlockPool::kBlockBytesMax);
  std::vector<Block> blocks;
  while (const Block b = pool->TryAcquire(BlockPool::kBlockBytesMax)) blocks.push_back(b);
  ASSERT_EQ(blocks.size(), 4U);
  pool->Release(blocks[1]);
  EXPECT_EQ(pool->TryAcquire(4096).data, blocks[1].data);
}

TEST(BlockPoolDeathTest, AbortsOnASecondRelease) {
  const auto pool = MakePool(1 << 20);
  const Block block = pool->TryAcquire(4096);
  pool->Release(block);
  EXPECT_DEATH(pool->Release(block), "check failed");
}

// Threads take, mark, check and release blocks of all sizes: nobody ever sees another's mark.
TEST(BlockPoolTest, ThreadsNeverShareAPage) {
  const auto pool = MakePool(1 << 20);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<Block> mine;
      for (int i = 0; i < 20000; ++i) {
        if (mine.size() < 8 && random() % 2 == 0) {
          const Block b = pool->TryAcquire(1 + random() % (64 * 1024));
          if (!b) continue;
          for (uint32_t p = 0; p < b.bytes; p += 4096) b.data[p] = static_cast<char>(t);
          mine.push_back(b);
        } else if (!mine.empty()) {
          const Block b = mine.back();
          mine.pop_back();
          for (uint32_t p = 0; p < b.bytes; p += 4096) ASSERT_EQ(b.data[p], static_cast<char>(t));
          pool->Release(b);
        }
      }
      for (const Block& b : mine) pool->Release(b);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool->bytes_used(), 0U);
}

}  // namespace
}  // namespace mobula
