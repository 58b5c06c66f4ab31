#include "engine/app/memory_plan.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/memory/block_pool.h"

namespace mobula {
namespace {

constexpr uint64_t kMiB = 1ULL << 20;

Config WithBackends(size_t n) {
  Config config;
  for (size_t i = 0; i < n; ++i) {
    BackendConfig backend;
    backend.name = "b" + std::to_string(i);
    config.backends.push_back(backend);
  }
  return config;
}

TEST(MemoryPlanTest, BufferFollowsTheContainersLimit) {
  EXPECT_EQ(DefaultBuffer(std::nullopt), 64 * kMiB);
  EXPECT_EQ(DefaultBuffer(64 * kMiB), 24 * kMiB);
  EXPECT_EQ(DefaultBuffer(128 * kMiB), 66 * kMiB);
  EXPECT_EQ(DefaultBuffer(48 * kMiB), 12 * kMiB);
  EXPECT_EQ(DefaultBuffer(16 * kMiB), 3 * kMiB);
  EXPECT_EQ(DefaultBuffer(8192 * kMiB), 256 * kMiB);
}

TEST(MemoryPlanTest, AUsualContainerFits) {
  const auto plan = PlanMemory(WithBackends(1), 1, 8 * kMiB, 64 * kMiB);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->total() / kMiB, 59U);
  EXPECT_EQ(
      plan->text(),
      "10 program + 24 buffer + 8 slots + 8 kernel queue + 2 TLS + 1 parser + 4 sampling + 2 other "
      "= 59 MiB of 64 MiB");
}

TEST(MemoryPlanTest, TheSamplingPortIsPlannedWhereItAsksXray) {
  Config config = WithBackends(1);
  EXPECT_EQ(PlanMemory(config, 1, 8 * kMiB, std::nullopt)->sampling, 4 * kMiB);
  config.proxy.address = "off";
  EXPECT_EQ(PlanMemory(config, 1, 8 * kMiB, std::nullopt)->sampling, 0U);
  config.proxy.address = "auto";
  config.backends[0].settings = NullBackendConfig{};
  EXPECT_EQ(PlanMemory(config, 1, 8 * kMiB, std::nullopt)->sampling, 0U);
}

TEST(MemoryPlanTest, EveryWorkerRemembersSourcesWhereTheyAreCapped) {
  Config config = WithBackends(1);
  const uint64_t before = PlanMemory(config, 4, 8 * kMiB, std::nullopt)->other;
  config.udp.source_rate = 100;
  EXPECT_EQ(PlanMemory(config, 4, 8 * kMiB, std::nullopt)->other, before + 4 * 64 * 1024);
}

TEST(MemoryPlanTest, TheDefaultBufferLeavesRoomForTheRest) {
  for (uint64_t limit = 40; limit < 1000; ++limit) {
    EXPECT_TRUE(PlanMemory(WithBackends(1), 1, 8 * kMiB, limit * kMiB).ok()) << limit;
  }
}

TEST(MemoryPlanTest, RefusesWhatCannotFitAndNamesTheSettings) {
  Config config = WithBackends(1);
  config.buffer.memory = 60 * kMiB;
  const auto plan = PlanMemory(config, 1, 8 * kMiB, 64 * kMiB);
  ASSERT_EQ(plan.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(plan.status().message().find("buffer.memory"), std::string::npos);
  EXPECT_FALSE(PlanMemory(WithBackends(1), 4, 4 * 8 * kMiB, 64 * kMiB).ok()) << "too many workers";
}

TEST(BufferSharesTest, AllSharesTogetherAreTheBuffer) {
  Config config = WithBackends(3);
  config.dead_letter.path = "/tmp/x";
  const uint64_t buffer = 24 * kMiB;
  const auto shares = DivideBuffer(config, buffer, 2, 4);
  ASSERT_TRUE(shares.ok()) << shares.status();
  const uint64_t open = 2 * 5 * BlockPool::kBlockBytesMax;
  EXPECT_EQ(shares->pool, buffer - open);
  const uint64_t quotas = std::accumulate(shares->lanes.begin(), shares->lanes.end(), uint64_t{0});
  EXPECT_LE(quotas + shares->dead_letter + 2 * 2 * BlockPool::kBlockBytesMax, shares->pool)
      << "with every lane at its quota each worker can still close a batch";
  EXPECT_EQ(shares->lanes[0], shares->lanes[2]);
}

TEST(BufferSharesTest, ConfiguredQuotasComeFirst) {
  Config config = WithBackends(2);
  config.backends[1].quota = 10 * kMiB;
  const auto shares = DivideBuffer(config, 24 * kMiB, 1, 1);
  ASSERT_TRUE(shares.ok());
  EXPECT_EQ(shares->lanes[1], 10 * kMiB);
  EXPECT_GT(shares->lanes[0], 12 * kMiB);
  config.backends[0].quota = 20 * kMiB;
  EXPECT_EQ(DivideBuffer(config, 24 * kMiB, 1, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(BufferSharesTest, TheSmallestBufferServesOneBackend) {
  EXPECT_TRUE(DivideBuffer(WithBackends(1), 3 * kMiB, 1, 1).ok());
  EXPECT_FALSE(DivideBuffer(WithBackends(8), 3 * kMiB, 1, 1).ok());
}

TEST(MemoryPlanTest, ShrinksOnlyWhenToldTo) {
  Config config = WithBackends(1);
  config.buffer.memory = 60 * kMiB;
  EXPECT_EQ(ShrinkToFit(&config, 1, 64 * kMiB), "");
  EXPECT_EQ(config.buffer.memory, 60 * kMiB);

  config.buffer.fit = BufferFit::kShrink;
  EXPECT_EQ(ShrinkToFit(&config, 1, std::nullopt), "");
  EXPECT_NE(ShrinkToFit(&config, 1, 64 * kMiB).find("64 MiB"), std::string::npos);
  EXPECT_EQ(config.udp.receive_buffer, kMiB);
  EXPECT_GE(config.buffer.memory, 32 * kMiB);
  const auto plan = PlanMemory(config, 1, config.udp.receive_buffer, 64 * kMiB);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->total(), 64 * kMiB);
}

TEST(MemoryPlanTest, ShrinksNoMoreThanItMust) {
  Config config = WithBackends(1);
  config.buffer = {24 * kMiB, BufferFit::kShrink};
  EXPECT_EQ(ShrinkToFit(&config, 1, 64 * kMiB), "");
  EXPECT_EQ(config.udp.receive_buffer, 8 * kMiB);

  EXPECT_NE(ShrinkToFit(&config, 1, 56 * kMiB), "");
  EXPECT_EQ(config.buffer.memory, 24 * kMiB) << "the kernel's queue was enough";
  EXPECT_LT(config.udp.receive_buffer, 8 * kMiB);
}

TEST(MemoryPlanTest, StartsEvenWhereNothingFits) {
  Config config = WithBackends(1);
  config.buffer = {24 * kMiB, BufferFit::kShrink};
  EXPECT_NE(ShrinkToFit(&config, 1, 16 * kMiB), "");
  EXPECT_EQ(config.buffer.memory, 3 * kMiB);
  EXPECT_EQ(config.udp.receive_buffer, kMiB);
  EXPECT_TRUE(PlanMemory(config, 1, config.udp.receive_buffer, 16 * kMiB).ok());
}

}  // namespace
}  // namespace mobula
