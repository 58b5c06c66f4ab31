// The state machine of renewing. Tested by tests/unit/engine/aws/renewal_test.cc.
#include "engine/aws/renewal.h"

#include <algorithm>
#include <utility>

namespace mobula {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kLead = minutes(15);
constexpr Duration kGrace = minutes(10);
constexpr Duration kPauseMin = seconds(1);
constexpr Duration kPauseMax = seconds(60);
// Somebody may be about to write a file: looked for more often, and at no cost to AWS.
constexpr Duration kPauseMaxWithoutSource = seconds(30);
constexpr Duration kForcedApart = seconds(5);
// Also what keeps the sums below from overflowing, whatever year an answer names.
constexpr Duration kWaitMax = hours(24);

// How long from `wall` to `expiry`, at most kWaitMax more than the lead.
Duration LifeAt(Renewal::WallTime wall, Renewal::WallTime expiry) {
  if (expiry <= wall) return Duration(0);
  if (expiry > wall + kWaitMax + kLead) return kWaitMax + kLead;
  return expiry - wall;
}

bool SameKeys(const Credentials& a, const Credentials& b) {
  return a.access_key_id == b.access_key_id && a.secret_access_key == b.secret_access_key &&
         a.session_token == b.session_token;
}

}  // namespace

bool Renewal::Usable(WallTime wall) const noexcept {
  return present_ != nullptr && !refused_ && wall < usable_until_;
}

absl::StatusOr<CredentialsPtr> Renewal::Get(const Now& now) {
  if (Usable(now.wall)) return present_;
  if (refused_ && awaiting_) {
    return absl::UnavailableError(
        fetching_ ? "the service refused the credentials: they are being fetched again"
                  : "the service refused the credentials: waiting to fetch them again");
  }
  if (!error_.ok()) {
    // Unavailable would promise that asking again in a moment helps.
    if (!absl::IsUnavailable(error_)) return error_;
    return absl::FailedPreconditionError(error_.message());
  }
  if (present_ == nullptr) return absl::UnavailableError("the credentials are being fetched");
  if (!fetching_) due_ = std::min(due_, now.time);
  return absl::UnavailableError("the credentials have expired: they are being fetched again");
}

void Renewal::OnRefused(const Credentials& refused, const Now& now) {
  if (present_ == nullptr || refused_ || !SameKeys(*present_, refused)) return;
  refused_ = true;
  awaiting_ = true;
  if (fetching_) return;  // its result settles it
  due_ = forced_ == Time::min() ? now.time : std::max(now.time, forced_ + kForcedApart);
  forced_ = due_;
}

void Renewal::OnSourceChanged(const Now& now) {
  if (!fetching_) due_ = std::min(due_, now.time);
}

void Renewal::OnFetched(absl::StatusOr<Credentials> result, const Now& now) {
  fetching_ = false;
  awaiting_ = false;
  if (!result.ok()) {
    ++failures_;
    error_ = result.status();
    const Duration max = absl::IsNotFound(error_) ? kPauseMaxWithoutSource : kPauseMax;
    Duration pause = std::min(max, kPauseMin * (1 << std::min(failures_in_row_, 6)));
    ++failures_in_row_;
    if (Usable(now.wall)) {
      pause = std::min(pause, std::max(kPauseMin, LifeAt(now.wall, usable_until_) / 2));
    }
    due_ = now.time + Jitter(pause, 0.75);
    return;
  }
  ++renewals_;
  error_ = absl::OkStatus();
  failures_in_row_ = 0;
  refused_ = false;
  // The same object while nothing changes: users compare by address.
  if (present_ == nullptr || *present_ != *result) {
    present_ = std::make_shared<const Credentials>(*std::move(result));
  }
  if (!present_->expiry) {
    usable_until_ = WallTime::max();
    due_ = kTimeNever;
    return;
  }
  Duration life = LifeAt(now.wall, *present_->expiry);
  usable_until_ = *present_->expiry;
  if (life <= Duration(0)) {
    life = kGrace;
    usable_until_ = now.wall + kGrace;
  }
  const Duration wait = life - std::min(kLead, life / 2);
  due_ = now.time + std::max(kPauseMin, Jitter(wait, 0.9));
}

Duration Renewal::Jitter(Duration pause, double least) {
  const double part = std::uniform_real_distribution<double>(least, 1.0)(random_);
  return Duration(static_cast<int64_t>(static_cast<double>(pause.count()) * part));
}

}  // namespace mobula
