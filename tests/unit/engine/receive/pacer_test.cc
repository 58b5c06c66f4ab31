#include "engine/receive/pacer.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

using std::chrono::milliseconds;

// Plays `rate` datagrams/s of `bytes` for two seconds, obeying the pacer; answers its last word.
Duration Settle(Pacer* pacer, double rate, uint64_t bytes) {
  Time now{std::chrono::seconds(100)};
  double owed = 0;
  Duration pause{};
  for (const Time end = now + std::chrono::seconds(2); now < end;) {
    const Duration step =
        pause > Duration::zero() ? pause : Duration(static_cast<int64_t>(1e9 / rate));
    now += step;
    owed += rate * Seconds(step);
    const auto got = static_cast<uint64_t>(owed);
    owed -= static_cast<double>(got);
    pause = pacer->Next(now, got, got * bytes);
  }
  return pause;
}

TEST(PacerTest, TakesEveryDatagramAtOnceWhenThereAreFew) {
  Pacer pacer(8 << 20);
  EXPECT_EQ(Settle(&pacer, 100, 700), Duration::zero());
  EXPECT_NEAR(pacer.rate(), 100, 30);
}

TEST(PacerTest, SleepsTheLongestAtModerateRates) {
  Pacer pacer(8 << 20);
  EXPECT_EQ(Settle(&pacer, 1000, 700), Pacer::kSleepMax);
  EXPECT_NEAR(pacer.rate(), 1000, 200);
}

TEST(PacerTest, NeverLetsAQuarterOfTheQueueFill) {
  Pacer pacer(8 << 20);
  const Duration pause = Settle(&pacer, 100'000, 700);
  // 3,640 datagrams of 2,304 bytes fill 8 MiB: a quarter is 910, 9.1 ms at this rate.
  EXPECT_NEAR(Seconds(pause), 0.0091, 0.001);
}

TEST(PacerTest, KnowsThatLargeDatagramsFillTheQueueSooner) {
  Pacer pacer(8 << 20);
  EXPECT_LT(Settle(&pacer, 10'000, 16'000), milliseconds(14));
}

TEST(PacerTest, IsCarefulWithASmallQueue) {
  Pacer pacer(212'992);
  EXPECT_LT(Settle(&pacer, 10'000, 700), milliseconds(3));
}

TEST(PacerTest, BelievesARisingRateAtOnce) {
  Pacer pacer(425'984);
  (void)Settle(&pacer, 1000, 700);
  // 100 datagrams in a millisecond: 184 would fill the queue.
  Time now{std::chrono::seconds(300)};
  (void)pacer.Next(now, 25, 25 * 700);
  EXPECT_LT(pacer.Next(now + milliseconds(1), 100, 100 * 700), milliseconds(1));
}

TEST(PacerTest, WaitsForTheNextDatagramWhenNothingCame) {
  Pacer pacer(8 << 20);
  (void)Settle(&pacer, 10'000, 700);
  EXPECT_EQ(pacer.Next(Time{std::chrono::seconds(200)}, 0, 0), Duration::zero());
}

}  // namespace
}  // namespace mobula
