// Tests of engine/http/io_loop.h.
#include "engine/http/io_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }
// No test waits that long unless it fails.
Time Limit() { return Now() + seconds(10); }

TEST(IoLoopTest, RunsPostedWorkInOrderAndStops) {
  IoLoop loop;
  std::vector<int> seen;
  loop.Post([&] { seen.push_back(1); });
  loop.Post([&] {
    seen.push_back(2);
    loop.Stop();
  });
  loop.Run();
  EXPECT_EQ(seen, (std::vector<int>{1, 2}));
  // A stopped loop can run again.
  loop.Post([&] {
    seen.push_back(3);
    loop.Stop();
  });
  loop.Run();
  EXPECT_EQ(seen.size(), 3U);
}

TEST(IoLoopTest, AStopBeforeRunIsNotForgotten) {
  IoLoop loop;
  bool ran = false;
  loop.Post([&] { ran = true; });
  loop.Stop();
  loop.Run();
  EXPECT_FALSE(ran);
}

TEST(IoLoopTest, PostAndStopWorkFromAnotherThread) {
  IoLoop loop;
  bool ran = false;
  std::thread other([&] {
    loop.Post([&] {
      ran = true;
      loop.Stop();
    });
  });
  loop.RunUntil(Limit());
  other.join();
  EXPECT_TRUE(ran);
}

TEST(IoLoopTest, RunUntilReturnsAtItsDeadline) {
  IoLoop loop;
  const Time deadline = Now() + milliseconds(20);
  loop.RunUntil(deadline);
  EXPECT_GE(Now(), deadline);
}

TEST(IoLoopTest, TimerFiresOnceAtTheTimeSetLast) {
  IoLoop loop;
  IoLoop::Timer timer(&loop);
  int early = 0;
  int late = 0;
  const Time start = Now();
  timer.Set(start + milliseconds(1), [&] { ++early; });
  timer.Set(start + milliseconds(20), [&] {
    ++late;
    loop.Stop();
  });
  loop.RunUntil(Limit());
  EXPECT_EQ(early, 0);
  EXPECT_EQ(late, 1);
  EXPECT_GE(Now(), start + milliseconds(20));
}

TEST(IoLoopTest, TimerThatIsAlreadyQueuedCanStillBeReplacedOrCancelled) {
  IoLoop loop;
  IoLoop::Timer first(&loop);
  IoLoop::Timer second(&loop);
  int fired = 0;
  // Both are due at once; whichever runs first cancels the other, whose handler is then queued already.
  const Time now = Now();
  first.Set(now, [&] {
    ++fired;
    second.Cancel();
  });
  second.Set(now, [&] {
    ++fired;
    first.Cancel();
  });
  loop.RunUntil(Now() + milliseconds(30));
  EXPECT_EQ(fired, 1);
}

TEST(IoLoopTest, TimerMayBeSetAgainFromItsOwnCallback) {
  IoLoop loop;
  IoLoop::Timer timer(&loop);
  int fired = 0;
  std::function<void()> again = [&] {
    if (++fired == 3) {
      loop.Stop();
    } else {
      timer.Set(Now(), again);
    }
  };
  timer.Set(Now(), again);
  loop.RunUntil(Limit());
  EXPECT_EQ(fired, 3);
}

TEST(IoLoopTest, WakerJoinsNotificationsIntoOneWakeUp) {
  IoLoop loop;
  int wakes = 0;
  IoLoop::Waker waker(&loop, [&] { ++wakes; });
  for (int i = 0; i < 100; ++i) waker.Notify();
  loop.RunUntil(Now() + milliseconds(30));
  EXPECT_EQ(wakes, 1);
  waker.Notify();
  loop.RunUntil(Now() + milliseconds(30));
  EXPECT_EQ(wakes, 2);
}

TEST(IoLoopTest, WakerLosesNoNotificationOfAnotherThread) {
  IoLoop loop;
  constexpr int kItems = 20000;
  std::atomic<int> produced{0};
  int seen = 0;
  IoLoop::Waker waker(&loop, [&] {
    seen = produced.load();
    if (seen == kItems) loop.Stop();
  });
  std::thread producer([&] {
    for (int i = 0; i < kItems; ++i) {
      produced.fetch_add(1);
      waker.Notify();
    }
  });
  loop.RunUntil(Limit());
  producer.join();
  EXPECT_EQ(seen, kItems);
}

TEST(IoLoopTest, WakerNotifiedInsideItsCallbackWakesAgain) {
  IoLoop loop;
  int wakes = 0;
  std::unique_ptr<IoLoop::Waker> waker;
  waker = std::make_unique<IoLoop::Waker>(&loop, [&] {
    if (++wakes == 1) {
      waker->Notify();
    } else {
      loop.Stop();
    }
  });
  waker->Notify();
  loop.RunUntil(Limit());
  EXPECT_EQ(wakes, 2);
}

TEST(IoLoopTest, NothingIsCalledAfterItsOwnerWent) {
  IoLoop loop;
  int called = 0;
  {
    IoLoop::Waker waker(&loop, [&] { ++called; });
    IoLoop::Timer timer(&loop);
    timer.Set(Now(), [&] { ++called; });
    waker.Notify();
  }
  loop.RunUntil(Now() + milliseconds(30));
  EXPECT_EQ(called, 0);
}

TEST(IoLoopTest, CallbacksAreDroppedWithTheLoop) {
  auto token = std::make_shared<int>(0);
  {
    IoLoop loop;
    loop.Post([token] { ++*token; });
    EXPECT_EQ(token.use_count(), 2);
  }
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(*token, 0);
}

}  // namespace
}  // namespace mobula
