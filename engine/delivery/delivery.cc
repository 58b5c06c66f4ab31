// Tested by tests/unit/engine/delivery/delivery_test.cc.
#include "engine/delivery/delivery.h"

#include <algorithm>
#include <cmath>

namespace mobula {
namespace {

constexpr double kWindowStart = 8;
constexpr Duration kDrainBackoffMax = std::chrono::seconds(1);
// The spool refuses for a second after an error; asking earlier is of no use.
constexpr Duration kSpoolPause = std::chrono::seconds(1);
constexpr size_t kFramesMax = 8;
constexpr Duration kTimeoutMax = std::chrono::seconds(60);
constexpr int kTimeoutFactorMax = 4;
// Failures of a batch, while others pass, after which it is halved; of one document, after which it is given up.
constexpr int kStrikesToSplit = 3;
constexpr int kStrikesToDrop = 16;

double WindowMax(const Delivery::Options& options) {
  return options.concurrency > 0 ? options.concurrency : Delivery::kConcurrencyMax;
}

bool TimedOut(const ExportResult& result) { return result.code == "timeout"; }

bool Later(const Time& a, const Time& b) { return a > b; }

}  // namespace

Delivery::Delivery(const Options& options, LaneAccount* account)
    : options_(options),
      window_max_(WindowMax(options)),
      account_(account),
      random_(options.seed),
      window_(std::min(kWindowStart, window_max_)) {}

Delivery::~Delivery() = default;

std::string_view CircuitName(Circuit circuit) noexcept {
  switch (circuit) {
    case Circuit::kClosed:
      return "closed";
    case Circuit::kOpen:
      return "open";
    case Circuit::kHalfOpen:
      return "half_open";
  }
  return "";
}

void Delivery::OnBatch(BatchRef batch, Time now, DeliveryActions* actions) {
  const DocumentSet all = batch->all();
  ready_.push_back({std::make_shared<Held>(std::move(batch), account_), all});
  Proceed(now, actions);
}

void Delivery::OnResult(CallId id, const ExportResult& result, Time now, DeliveryActions* actions) {
  const auto found = in_flight_.find(id);
  if (found == in_flight_.end()) return;
  const InFlight call = std::move(found->second);
  in_flight_.erase(found);
  in_flight_bytes_ -= call.item.held->batch->cost();
  if (call.item.restored()) --restored_in_flight_;
  if (call.epoch == epoch_) --in_epoch_;

  const Item& item = call.item;
  const DocumentSet taken = result.taken == 0 ? item.documents : result.taken & item.documents;
  if (const DocumentSet rest = item.documents & ~taken; rest != 0) {
    Item left = item.With(rest);
    --left.attempts;
    PutBack(std::move(left), actions);
  }
  const DocumentSet common = SettleSingly(item, result, taken, now, actions);
  switch (result.verdict) {
    case Verdict::kDelivered:
      Deliver(item, common, actions);
      OnSuccess(call);
      break;
    case Verdict::kRetry:
    case Verdict::kThrottled:
    case Verdict::kHold:
      OnFailedCall(call, common, result, now, actions);
      break;
    case Verdict::kTooLarge:
      // Says nothing of the far side: a body can be too large before anybody saw it.
      if (Count(common) > 1) {
        // The size was the mistake, not the far side: both halves count as new.
        Split({item.held, common}, now, actions);
      } else {
        DropDocuments(item, common, DropReason::kTooLarge, result.code, actions);
      }
      break;
    case Verdict::kRefused:
      // The far side is there and answers: no reason to rest.
      OnSuccess(call);
      DropDocuments(item, common, DropReason::kRefused, result.code, actions);
      break;
  }
  for (const DocumentVerdict& d : result.documents) {
    if (d.verdict == Verdict::kThrottled) {
      Shrink(call);
      break;
    }
  }
  Proceed(now, actions);
}

// A far side that is away is told from a batch that it cannot bear by the others: if they pass, it is the batch.
void Delivery::OnFailedCall(const InFlight& call, DocumentSet documents, const ExportResult& result,
                            Time now, DeliveryActions* actions) {
  Item again = call.item.With(documents);
  if (TimedOut(result)) ++again.timeouts;
  // Too many calls are no fault of what was in this one.
  const bool load = result.verdict == Verdict::kThrottled && result.http_status != 0;
  const bool struck = !load && call.epoch == epoch_ && Strike(&again, failures_ == 0);
  // That the far side cannot bear it is no news from the second time on, and no reason to rest.
  if (!struck || call.item.strikes == 0 || result.retry_after > Duration::zero()) {
    OnFailure(result.verdict, call, result.retry_after, now);
  }
  if (documents == 0) return;
  if (again.strikes == 0) {
    PutBack(std::move(again), actions);
  } else if (Count(documents) > 1 && again.strikes >= kStrikesToSplit) {
    Split(again, now, actions);
  } else if (again.strikes >= kStrikesToDrop && result.http_status != 0) {
    DropDocuments(again, documents, DropReason::kRefused, result.code, actions);
  } else {
    WaitAlone(std::move(again), now, result.retry_after);
  }
}

// Whether the failure of the item is its own: the far side is `well`, and took others since the last time.
bool Delivery::Strike(Item* item, bool well) {
  const uint64_t delivered = account_->delivered.value();
  const bool others_passed = delivered != item->delivered_before;
  item->delivered_before = delivered;
  if (!others_passed) {
    item->strikes = std::max(0, item->strikes - 1);
  } else if (well) {
    item->strikes = std::min(item->strikes + 1, kStrikesToDrop);
  }
  return others_passed && well;
}

DocumentSet Delivery::SettleSingly(const Item& item, const ExportResult& result, DocumentSet taken,
                                   Time now, DeliveryActions* actions) {
  DocumentSet again = 0;
  DocumentSet failed = 0;  // of these, for other reasons than too many
  for (const DocumentVerdict& d : result.documents) {
    const DocumentSet bit = DocumentSet{1} << d.index;
    if ((taken & bit) == 0) continue;
    taken &= ~bit;
    switch (d.verdict) {
      case Verdict::kDelivered:
        Deliver(item, bit, actions);
        break;
      case Verdict::kRefused:
        DropDocuments(item, bit, DropReason::kRefused, d.code, actions);
        break;
      case Verdict::kTooLarge:
        DropDocuments(item, bit, DropReason::kTooLarge, d.code, actions);
        break;
      case Verdict::kRetry:
      case Verdict::kHold:
        failed |= bit;
        [[fallthrough]];
      case Verdict::kThrottled:
        again |= bit;
        break;
    }
  }
  Item rest = item.With(again);
  if (failed != 0) Strike(&rest, result.verdict == Verdict::kDelivered);
  if (rest.strikes >= kStrikesToDrop) {
    for (const DocumentVerdict& d : result.documents) {
      const DocumentSet bit = DocumentSet{1} << d.index;
      if ((failed & bit) == 0) continue;
      failed &= ~bit;
      rest.documents &= ~bit;
      DropDocuments(item, bit, DropReason::kRefused, d.code, actions);
    }
  }
  if (rest.documents != 0) WaitAlone(std::move(rest), now, result.retry_after);
  return taken;
}

void Delivery::OnTimer(Time now, DeliveryActions* actions) {
  const auto later = [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); };
  while (!waiting_.empty() && waiting_.front().not_before <= now) {
    std::pop_heap(waiting_.begin(), waiting_.end(), later);
    Item item = std::move(waiting_.back());
    waiting_.pop_back();
    PutBack(std::move(item), actions);
  }
  Proceed(now, actions);
}

void Delivery::OnOptions(const Options& options, Time now, DeliveryActions* actions) {
  CHECK(options.spool == options_.spool);
  options_ = options;
  window_max_ = WindowMax(options);
  window_ = std::min(window_, window_max_);
  Proceed(now, actions);
}

void Delivery::OnSpilled(uint64_t id, bool on_disk, Time now, DeliveryActions* actions) {
  const auto found = std::find_if(spilling_.begin(), spilling_.end(),
                                  [&](const Spilling& s) { return s.id == id; });
  if (found == spilling_.end()) return;
  Spilling spilled = std::move(*found);
  spilling_.erase(found);
  if (on_disk) {
    account_->held.Sub(static_cast<uint64_t>(Count(spilled.item.documents)));
    spool_waiting_ = true;
    return;
  }
  spill_not_before_ = now + kSpoolPause;
  if (spilled.otherwise.has_value()) {
    DropDocuments(spilled.item, spilled.item.documents, *spilled.otherwise, "", actions);
  } else {
    ready_.push_front(std::move(spilled.item));
  }
}

void Delivery::OnRestored(BatchRef batch, uint64_t token, DocumentSet documents, Time now,
                          DeliveryActions* actions) {
  account_->held_bytes.Add(batch->cost());
  auto held = std::make_shared<Held>(std::move(batch), account_);
  held->token = token;
  held->open = documents;
  Item item{std::move(held), documents};
  if (draining_) {
    Return(item, actions);
    return;
  }
  restored_.push_back(std::move(item));
  Proceed(now, actions);
}

void Delivery::OnNothingRestored(Time now) { fetch_after_ = now + kSpoolPause; }

void Delivery::OnDrain(Time now, DeliveryActions* actions) {
  draining_ = true;
  rest_until_ = std::min(rest_until_, now + kDrainBackoffMax);
  for (Item& item : waiting_) item.not_before = std::min(item.not_before, now + kDrainBackoffMax);
  for (const Item& item : std::exchange(restored_, {})) Return(item, actions);
  OnTimer(now, actions);
}

void Delivery::Abandon(DeliveryActions* actions) {
  const auto give_up = [&](Item item) {
    if (item.restored()) {
      Return(item, actions);
    } else if (options_.spool) {
      Spill(std::move(item), DropReason::kShutdown, actions);
    } else {
      DropDocuments(item, item.documents, DropReason::kShutdown, "", actions);
    }
  };
  // What the spool does not take now has nowhere else to go.
  for (Spilling& spilling : spilling_) spilling.otherwise = DropReason::kShutdown;
  for (auto& [id, call] : std::exchange(in_flight_, {})) give_up(std::move(call.item));
  for (Item& item : std::exchange(waiting_, {})) give_up(std::move(item));
  for (Item& item : std::exchange(ready_, {})) give_up(std::move(item));
  for (Item& item : std::exchange(restored_, {})) give_up(std::move(item));
  in_flight_bytes_ = 0;
  restored_in_flight_ = 0;
  in_epoch_ = 0;
}

Time Delivery::next_timer() const {
  Time at = waiting_.empty() ? kTimeNever : waiting_.front().not_before;
  // Without a rest Proceed has already started what may start.
  if (failures_ > 0 && NextSource() != Source::kNone) at = std::min(at, rest_until_);
  if (FramesWanted() > 0) at = std::min(at, fetch_after_);
  return std::min(at, SpillTime());
}

uint64_t Delivery::CountHeld() const {
  uint64_t sum = 0;
  const auto add = [&sum](const Item& item) {
    if (!item.restored()) sum += static_cast<uint64_t>(Count(item.documents));
  };
  for (const Item& item : ready_) add(item);
  for (const Item& item : waiting_) add(item);
  for (const Spilling& spilling : spilling_) add(spilling.item);
  for (const auto& [id, call] : in_flight_) add(call.item);
  return sum;
}

bool Delivery::MayStart() const {
  if (ready_.empty() && restored_.empty()) return false;
  if (in_flight_.size() >= static_cast<size_t>(window_max_)) return false;
  // While the far side fails, one call at a time asks whether it is back, whatever older calls do.
  return failures_ > 0 ? in_epoch_ == 0 : in_flight_.size() < static_cast<size_t>(window_);
}

Delivery::Source Delivery::NextSource() const {
  if (!MayStart()) return Source::kNone;
  Source source = Source::kLive;
  if (ready_.empty()) {
    if (failures_ == 0 && restored_in_flight_ >= RestoredMax()) return Source::kNone;
    source = Source::kSpool;
  } else if (!restored_.empty() && restored_in_flight_ == 0 && !restored_last_) {
    // Live work that never ends must not keep the spool from emptying, nor the other way round.
    source = Source::kSpool;
  }
  const Item& next = source == Source::kLive ? ready_[Next(ready_)] : restored_[Next(restored_)];
  const bool fits =
      in_flight_.empty() || in_flight_bytes_ + next.held->batch->cost() <= options_.in_flight_bytes;
  return fits ? source : Source::kNone;
}

size_t Delivery::Next(const std::deque<Item>& queue) const {
  if (failures_ == 0) return 0;
  // The one that asks whether the far side is back must not be one that it cannot bear, time and again.
  const auto fewest =
      std::min_element(queue.begin(), queue.end(),
                       [](const Item& a, const Item& b) { return a.attempts < b.attempts; });
  return static_cast<size_t>(fewest - queue.begin());
}

void Delivery::Proceed(Time now, DeliveryActions* actions) {
  KeepQuota(now, actions);
  SpillWhileFailing(now, actions);
  if (failures_ == 0 || now >= rest_until_) StartCalls(now, actions);
  if (now >= fetch_after_) actions->frames = FramesWanted();
}

void Delivery::StartCalls(Time now, DeliveryActions* actions) {
  for (Source source = NextSource(); source != Source::kNone; source = NextSource()) {
    std::deque<Item>& queue = source == Source::kLive ? ready_ : restored_;
    const auto next = queue.begin() + static_cast<std::ptrdiff_t>(Next(queue));
    Item item = std::move(*next);
    queue.erase(next);
    restored_last_ = item.restored();
    if (restored_last_) ++restored_in_flight_;
    ++item.attempts;
    ++in_epoch_;
    in_flight_bytes_ += item.held->batch->cost();
    const CallId id = ++last_id_;
    actions->calls.push_back(
        {id, item.held->batch.Share(), item.documents, now + TimeoutOf(item), item.attempts});
    in_flight_.emplace(id, InFlight{std::move(item), epoch_, shrink_epoch_});
  }
  window_used_ |= !ready_.empty();
}

// A far side that is slow, and takes what it does not answer in time, gets the same again until we wait longer.
Duration Delivery::TimeoutOf(const Item& item) const {
  const Duration longer = options_.timeout * std::min(kTimeoutFactorMax, 1 << item.timeouts);
  return std::max(options_.timeout, std::min(kTimeoutMax, longer));
}

size_t Delivery::FramesWanted() const {
  if (!spool_waiting_ || draining_) return 0;
  const size_t bytes = account_->held_bytes.value();
  const size_t room =
      bytes < options_.quota ? (options_.quota - bytes) / BlockPool::kBlockBytesMax : 0;
  if (failures_ > 0) {
    // The next call is to ask with something that was not tried.
    const auto tried = [](const Item& item) { return item.attempts > 0; };
    if (in_epoch_ > 0 || !std::all_of(ready_.begin(), ready_.end(), tried) ||
        !std::all_of(restored_.begin(), restored_.end(), tried)) {
      return 0;
    }
    if (ready_.empty() && restored_.empty()) return 1;
    return restored_.size() < kFramesMax && room > 0 ? 1 : 0;
  }
  if (!restored_.empty()) return 0;
  // Beside live work one frame lies ready, so that the next call that may start is its own.
  if (ready_.empty() && in_flight_.size() >= static_cast<size_t>(window_)) return 0;
  const size_t most = ready_.empty() ? std::min(RestoredMax(), kFramesMax) : 1;
  if (restored_in_flight_ >= most) return 0;
  // A frame for which something else had to go would go back at once.
  return std::min(most - restored_in_flight_, bytes == 0 ? std::max<size_t>(1, room) : room);
}

void Delivery::PutBack(Item item, DeliveryActions* actions) {
  if (item.restored() && draining_) return Return(item, actions);
  std::deque<Item>& queue = item.restored() ? restored_ : ready_;
  if (item.strikes > 0) {
    queue.push_back(std::move(item));
  } else {
    queue.push_front(std::move(item));
  }
}

void Delivery::LetGo(const Item& item, DocumentSet documents, bool left, DeliveryActions* actions) {
  Held& held = *item.held;
  if (held.token == 0 || documents == 0) return;
  held.open &= ~documents;
  if (left) {
    held.left = true;
  } else {
    actions->settles.push_back({held.token, documents});
  }
  // What is still out would be sent twice if the frame were lent again now.
  if (held.open == 0 && held.left) actions->returns.push_back(held.token);
}

void Delivery::Spill(Item item, std::optional<DropReason> otherwise, DeliveryActions* actions) {
  const uint64_t id = ++last_spill_;
  actions->spills.push_back({id, item.held->batch.Share(), item.documents});
  spilling_.push_back({id, std::move(item), otherwise});
}

// When SpillWhileFailing has something to do.
Time Delivery::SpillTime() const {
  if (!options_.spool || failures_ == 0) return kTimeNever;
  if (ready_.size() <= KeptToAsk() && restored_.size() <= kFramesMax) return kTimeNever;
  const Duration after = draining_ || !known_good_ ? Duration::zero() : options_.spill_after;
  return std::max(failing_since_ + after, spill_not_before_);
}

void Delivery::SpillWhileFailing(Time now, DeliveryActions* actions) {
  if (now < SpillTime()) return;
  while (restored_.size() > kFramesMax) {
    const Item item = std::move(restored_.back());
    restored_.pop_back();
    Return(item, actions);
  }
  while (ready_.size() > KeptToAsk()) {
    Item item = std::move(ready_.front());
    ready_.pop_front();
    Spill(std::move(item), std::nullopt, actions);
  }
}

void Delivery::Deliver(const Item& item, DocumentSet documents, DeliveryActions* actions) {
  const auto n = static_cast<uint64_t>(Count(documents));
  account_->delivered.Add(n);
  if (!item.restored()) account_->held.Sub(n);
  LetGo(item, documents, false, actions);
}

void Delivery::DropDocuments(const Item& item, DocumentSet documents, DropReason reason,
                             std::string code, DeliveryActions* actions) {
  if (documents == 0) return;
  const auto n = static_cast<uint64_t>(Count(documents));
  account_->Drop(reason, n);
  if (!item.restored()) account_->held.Sub(n);
  LetGo(item, documents, false, actions);
  actions->drops.push_back({item.held->batch.Share(), documents, reason, std::move(code)});
}

void Delivery::Split(const Item& item, Time now, DeliveryActions* actions) {
  DocumentSet lower = 0;
  int left = Count(item.documents) / 2;
  ForEach(item.documents, [&](size_t i) {
    if (left-- > 0) lower |= DocumentSet{1} << i;
  });
  Item upper_half = item.With(item.documents & ~lower);
  Item lower_half = item.With(lower);
  if (item.strikes > 0) {
    WaitAlone(std::move(lower_half), now, {});
    WaitAlone(std::move(upper_half), now, {});
  } else {
    PutBack(std::move(upper_half), actions);
    PutBack(std::move(lower_half), actions);
  }
}

void Delivery::WaitAlone(Item item, Time now, Duration at_least) {
  item.not_before = now + std::max(at_least, Backoff(item.attempts));
  waiting_.push_back(std::move(item));
  std::push_heap(waiting_.begin(), waiting_.end(),
                 [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); });
}

void Delivery::OnSuccess(const InFlight& call) {
  if (call.epoch != epoch_) return;  // started before the far side began to fail
  known_good_ = true;
  failures_ = 0;
  degraded_ = false;
  if (++clean_ < static_cast<int>(window_)) return;
  clean_ = 0;
  // Growing a window that nothing fills would only store up a burst.
  if (window_used_) window_ = std::min(window_max_, window_ + 1);
  window_used_ = false;
}

void Delivery::OnFailure(Verdict verdict, const InFlight& call, Duration retry_after, Time now) {
  clean_ = 0;
  degraded_ = verdict == Verdict::kHold;
  if (verdict == Verdict::kThrottled) Shrink(call);
  const bool present = call.epoch == epoch_;
  if (!present && retry_after == Duration::zero()) return;
  if (failures_ == 0) failing_since_ = now;
  // However many ask for a rest, they failed together.
  failures_ = present ? failures_ + 1 : std::max(failures_, 1);
  ++epoch_;
  in_epoch_ = 0;
  rest_until_ = std::max(rest_until_, now + std::max(retry_after, Backoff(failures_)));
}

void Delivery::Shrink(const InFlight& call) {
  if (call.shrink_epoch != shrink_epoch_) return;  // its like already did
  ++shrink_epoch_;
  window_ = std::max(1.0, window_ * 0.7);
}

void Delivery::KeepQuota(Time now, DeliveryActions* actions) {
  size_t held = account_->held_bytes.value();
  if (held <= options_.quota) return;
  // One write for several batches is cheaper: the spool gets an eighth more than it must.
  const size_t goal = options_.spool ? options_.quota - options_.quota / 8 : options_.quota;
  while (held > goal && !(waiting_.empty() && ready_.empty() && restored_.empty())) {
    Item oldest;
    if (!restored_.empty()) {  // these lie on disk already
      oldest = std::move(restored_.back());
      restored_.pop_back();
    } else if (!waiting_.empty()) {
      std::pop_heap(waiting_.begin(), waiting_.end(),
                    [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); });
      oldest = std::move(waiting_.back());
      waiting_.pop_back();
    } else {
      oldest = std::move(ready_.front());
      ready_.pop_front();
    }
    // Other items of the batch, or other lanes, may keep its bytes; here they count as gone with the last.
    if (oldest.held.use_count() == 1) held -= std::min(held, oldest.held->batch->cost());
    if (oldest.restored()) {
      Return(oldest, actions);
      fetch_after_ = now + kSpoolPause;
    } else if (options_.spool) {
      Spill(std::move(oldest), DropReason::kBufferFull, actions);
    } else {
      DropDocuments(oldest, oldest.documents, DropReason::kBufferFull, "", actions);
    }
  }
}

Duration Delivery::Backoff(int failures) {
  const Duration cap = draining_ ? kDrainBackoffMax : options_.backoff_max;
  const double full =
      static_cast<double>(options_.backoff_min.count()) * std::pow(2.0, std::min(failures - 1, 30));
  const double jitter = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  return Duration(static_cast<int64_t>(std::min(full, static_cast<double>(cap.count())) * jitter));
}

}  // namespace mobula
