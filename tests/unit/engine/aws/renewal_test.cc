// Tests of engine/aws/renewal.h.
#include "engine/aws/renewal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace mobula {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class RenewalTest : public ::testing::Test {
 protected:
  // Credentials with `life` left; without an expiry when absent.
  Credentials Make(const std::string& id, std::optional<Duration> life = std::nullopt) const {
    Credentials credentials{id, "secret", "token", std::nullopt, "test"};
    if (life) credentials.expiry = now_.wall + *life;
    return credentials;
  }

  void Pass(Duration span) {
    now_.time += span;
    now_.wall += span;
  }

  // A fetch that takes no time.
  void Fetch(absl::StatusOr<Credentials> result) {
    renewal_.OnFetchBegun();
    renewal_.OnFetched(std::move(result), now_);
  }

  Duration Wait() const { return renewal_.due() - now_.time; }

  std::string Id() {
    const auto found = renewal_.Get(now_);
    return found.ok() ? (*found)->access_key_id : found.status().ToString();
  }

  absl::StatusCode Code() { return renewal_.Get(now_).status().code(); }

  Renewal::Now now_{Time(hours(1000)), Renewal::WallTime(hours(24 * 365 * 50))};
  Renewal renewal_{7};
};

TEST_F(RenewalTest, TheFirstFetchIsDueAtOnce) {
  EXPECT_LE(renewal_.due(), now_.time);
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  renewal_.OnFetchBegun();
  EXPECT_EQ(renewal_.due(), kTimeNever);
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  renewal_.OnFetched(Make("A", hours(1)), now_);
  EXPECT_EQ(Id(), "A");
  EXPECT_EQ(renewal_.renewals(), 1U);
}

TEST_F(RenewalTest, RenewsAQuarterOfAnHourBeforeTheExpiry) {
  for (int i = 0; i < 100; ++i) {
    Fetch(Make("A", hours(1)));
    EXPECT_LE(Wait(), minutes(45));
    EXPECT_GE(Wait(), minutes(45) * 9 / 10);
  }
}

TEST_F(RenewalTest, RenewsShortLivedOnesAtHalfOfTheirLife) {
  Fetch(Make("A", seconds(7)));
  EXPECT_LE(Wait(), milliseconds(3500));
  EXPECT_GE(Wait(), milliseconds(3100));
  Fetch(Make("A", milliseconds(10)));
  EXPECT_GE(Wait(), seconds(1));  // not as fast as it goes
}

TEST_F(RenewalTest, RenewalsAreSpreadByJitter) {
  Duration least = hours(1);
  Duration most(0);
  for (uint32_t seed = 1; seed < 200; ++seed) {
    renewal_ = Renewal(seed);
    Fetch(Make("A", hours(1)));
    least = std::min(least, Wait());
    most = std::max(most, Wait());
  }
  EXPECT_GT(most - least, minutes(3));
}

TEST_F(RenewalTest, KeysThatDoNotExpireAreNotRenewed) {
  Fetch(Make("A"));
  EXPECT_EQ(renewal_.due(), kTimeNever);
  Pass(hours(1000));
  EXPECT_EQ(Id(), "A");
  renewal_.OnSourceChanged(now_);
  EXPECT_LE(renewal_.due(), now_.time);
}

TEST_F(RenewalTest, FarExpiriesDoNotOverflow) {
  Credentials credentials = Make("A");
  credentials.expiry = Renewal::WallTime::max();
  Fetch(credentials);
  EXPECT_EQ(Id(), "A");
  EXPECT_GT(Wait(), hours(20));
  EXPECT_LE(Wait(), hours(25));
  credentials.expiry = Renewal::WallTime::min();
  Fetch(credentials);
  EXPECT_EQ(Id(), "A");
  EXPECT_LE(Wait(), minutes(5));
}

TEST_F(RenewalTest, EqualOnesStayTheSameObject) {
  Fetch(Make("A", hours(1)));
  const auto first = *renewal_.Get(now_);
  Fetch(Make("A", hours(1)));
  EXPECT_EQ(*renewal_.Get(now_), first);
  Fetch(Make("B", hours(1)));
  EXPECT_NE(*renewal_.Get(now_), first);
}

TEST_F(RenewalTest, AFailureKeepsTheLastGoodOnesUntilTheyExpire) {
  Fetch(Make("A", minutes(10)));
  Pass(minutes(5));
  Fetch(absl::UnavailableError("away"));
  EXPECT_EQ(Id(), "A");
  EXPECT_EQ(renewal_.failures(), 1U);
  EXPECT_FALSE(renewal_.error().ok());
  Pass(minutes(5));
  EXPECT_EQ(Code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(renewal_.Get(now_).status().message(), "away");
  Fetch(Make("B", minutes(10)));
  EXPECT_EQ(Id(), "B");
  EXPECT_TRUE(renewal_.error().ok());
}

TEST_F(RenewalTest, FailuresArePausedLongerAndLonger) {
  Duration expected = seconds(1);
  for (int i = 0; i < 12; ++i) {
    Fetch(absl::FailedPreconditionError("broken"));
    EXPECT_LE(Wait(), expected);
    EXPECT_GE(Wait(), expected * 3 / 4);
    EXPECT_EQ(Code(), absl::StatusCode::kFailedPrecondition);
    Pass(Wait());
    expected = std::min<Duration>(expected * 2, seconds(60));
  }
  Fetch(Make("A", hours(1)));
  Fetch(absl::FailedPreconditionError("broken"));
  EXPECT_LE(Wait(), seconds(1));  // begins anew
}

TEST_F(RenewalTest, WithoutAnySourceItLooksTwiceAMinute) {
  for (int i = 0; i < 20; ++i) Fetch(absl::NotFoundError("no credentials"));
  EXPECT_LE(Wait(), seconds(30));
  EXPECT_GE(Wait(), seconds(20));
  EXPECT_EQ(Code(), absl::StatusCode::kNotFound);
}

TEST_F(RenewalTest, NoPauseSleepsThroughTheExpiry) {
  Fetch(Make("A", seconds(40)));
  for (int i = 0; i < 8; ++i) Fetch(absl::UnavailableError("away"));
  EXPECT_LE(Wait(), seconds(20));
  Pass(seconds(38));
  Fetch(absl::UnavailableError("away"));
  EXPECT_LE(Wait(), seconds(1));
}

TEST_F(RenewalTest, ExpiredOnesAreNotHandedOut) {
  Fetch(Make("A", seconds(40)));
  Pass(seconds(40));
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
}

TEST_F(RenewalTest, AClockThatWasSetMakesAFetchDueAtOnce) {
  Fetch(Make("A", hours(1)));
  now_.wall += hours(2);
  EXPECT_GT(renewal_.due(), now_.time);
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  EXPECT_LE(renewal_.due(), now_.time);
  // But not without end while that fails.
  Fetch(absl::UnavailableError("away"));
  EXPECT_FALSE(renewal_.Get(now_).ok());
  EXPECT_GT(renewal_.due(), now_.time);
}

TEST_F(RenewalTest, OnesThatComeExpiredAreUsedForAWhile) {
  Fetch(Make("A", -hours(1)));
  EXPECT_EQ(Id(), "A");
  EXPECT_LE(Wait(), minutes(5));
  EXPECT_GE(Wait(), minutes(4));
  Pass(minutes(9));
  EXPECT_EQ(Id(), "A");
  Pass(minutes(1));
  EXPECT_NE(Id(), "A");
  Fetch(Make("A", -hours(1)));
  EXPECT_EQ(Id(), "A");
}

TEST_F(RenewalTest, RefusedOnesAreFetchedAgainAtOnce) {
  Fetch(Make("A", hours(1)));
  renewal_.OnRefused(Make("A", hours(1)), now_);
  EXPECT_EQ(renewal_.due(), now_.time);
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  renewal_.OnFetchBegun();
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  renewal_.OnFetched(Make("B", hours(1)), now_);
  EXPECT_EQ(Id(), "B");
}

TEST_F(RenewalTest, OthersThanThePresentOnesAreNoMatter) {
  Fetch(Make("A", hours(1)));
  const Time due = renewal_.due();
  renewal_.OnRefused(Make("OLD", hours(1)), now_);
  EXPECT_EQ(renewal_.due(), due);
  EXPECT_EQ(Id(), "A");
}

TEST_F(RenewalTest, RefusalsAreFetchedForEveryFiveSeconds) {
  Fetch(Make("A"));
  for (int i = 0; i < 5; ++i) {
    renewal_.OnRefused(Make("A"), now_);
    EXPECT_EQ(Wait(), i == 0 ? seconds(0) : seconds(5));
    EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
    Pass(Wait());
    EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
    Fetch(Make("A"));
    EXPECT_EQ(Id(), "A");  // what the source insists on is tried again
  }
}

TEST_F(RenewalTest, ARefusalDuringAFetchIsSettledByIt) {
  Fetch(Make("A", hours(1)));
  renewal_.OnFetchBegun();
  renewal_.OnRefused(Make("A", hours(1)), now_);
  EXPECT_EQ(renewal_.due(), kTimeNever);
  EXPECT_EQ(Code(), absl::StatusCode::kUnavailable);
  renewal_.OnFetched(Make("B", hours(1)), now_);
  EXPECT_EQ(Id(), "B");
}

TEST_F(RenewalTest, RefusedOnesDoNotComeBackWhenTheFetchFails) {
  Fetch(Make("A", hours(1)));
  renewal_.OnRefused(Make("A", hours(1)), now_);
  Fetch(absl::PermissionDeniedError("no"));
  EXPECT_EQ(Code(), absl::StatusCode::kPermissionDenied);
  renewal_.OnRefused(Make("A", hours(1)), now_);  // twice is once
  EXPECT_EQ(Code(), absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace mobula
