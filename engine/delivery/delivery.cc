// Tested by tests/unit/engine/delivery/delivery_test.cc.
#include "engine/delivery/delivery.h"

#include <algorithm>
#include <cmath>

namespace mobula {
namespace {

constexpr double kWindowStart = 8;
constexpr Duration kDrainBackoffMax = std::chrono::seconds(1);

bool Later(const Time& a, const Time& b) { return a > b; }

}  // namespace

Delivery::Delivery(const Options& options, LaneAccount* account)
    : options_(options),
      window_max_(options.concurrency > 0 ? options.concurrency : kConcurrencyMax),
      account_(account),
      random_(options.seed),
      window_(std::min(kWindowStart, window_max_)) {}

Delivery::~Delivery() = default;

void Delivery::OnBatch(BatchRef batch, Time now, DeliveryActions* actions) {
  const DocumentSet all = batch->all();
  ready_.push_back({std::make_shared<Held>(std::move(batch), account_), all, 0, {}});
  KeepQuota(actions);
  StartCalls(now, actions);
}

void Delivery::OnResult(CallId id, const ExportResult& result, Time now, DeliveryActions* actions) {
  const auto found = in_flight_.find(id);
  if (found == in_flight_.end()) return;
  const InFlight call = std::move(found->second);
  in_flight_.erase(found);
  in_flight_bytes_ -= call.item.held->batch->cost();
  if (call.epoch == epoch_) --in_epoch_;

  const Item& item = call.item;
  const DocumentSet taken = result.taken == 0 ? item.documents : result.taken & item.documents;
  if (const DocumentSet rest = item.documents & ~taken; rest != 0) {
    ready_.push_front({item.held, rest, item.attempts - 1, {}});
  }
  const DocumentSet common = SettleSingly(item, result, taken, now, actions);
  switch (result.verdict) {
    case Verdict::kDelivered:
      Deliver(common);
      OnSuccess(call);
      break;
    case Verdict::kRetry:
    case Verdict::kThrottled:
    case Verdict::kHold:
      OnFailure(result.verdict, call, result.retry_after, now);
      if (common != 0) ready_.push_front({item.held, common, item.attempts, {}});
      break;
    case Verdict::kTooLarge:
      // Says nothing of the far side: a body can be too large before anybody saw it.
      SplitOrDrop({item.held, common, item.attempts, {}}, result.code, actions);
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
  KeepQuota(actions);
  StartCalls(now, actions);
}

DocumentSet Delivery::SettleSingly(const Item& item, const ExportResult& result, DocumentSet taken,
                                   Time now, DeliveryActions* actions) {
  DocumentSet again = 0;
  for (const DocumentVerdict& d : result.documents) {
    const DocumentSet bit = DocumentSet{1} << d.index;
    if ((taken & bit) == 0) continue;
    taken &= ~bit;
    switch (d.verdict) {
      case Verdict::kDelivered:
        Deliver(bit);
        break;
      case Verdict::kRefused:
        DropDocuments(item, bit, DropReason::kRefused, d.code, actions);
        break;
      case Verdict::kTooLarge:
        DropDocuments(item, bit, DropReason::kTooLarge, d.code, actions);
        break;
      case Verdict::kRetry:
      case Verdict::kThrottled:
      case Verdict::kHold:
        again |= bit;
        break;
    }
  }
  if (again != 0) WaitAlone({item.held, again, item.attempts, {}}, now, result.retry_after);
  return taken;
}

void Delivery::OnTimer(Time now, DeliveryActions* actions) {
  const auto later = [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); };
  while (!waiting_.empty() && waiting_.front().not_before <= now) {
    std::pop_heap(waiting_.begin(), waiting_.end(), later);
    ready_.push_front(std::move(waiting_.back()));
    waiting_.pop_back();
  }
  StartCalls(now, actions);
}

void Delivery::OnDrain(Time now, DeliveryActions* actions) {
  draining_ = true;
  rest_until_ = std::min(rest_until_, now + kDrainBackoffMax);
  for (Item& item : waiting_) item.not_before = std::min(item.not_before, now + kDrainBackoffMax);
  OnTimer(now, actions);
}

void Delivery::Abandon(DeliveryActions* actions) {
  for (const auto& [id, call] : in_flight_) {
    DropDocuments(call.item, call.item.documents, DropReason::kShutdown, "", actions);
  }
  for (const Item& item : waiting_) {
    DropDocuments(item, item.documents, DropReason::kShutdown, "", actions);
  }
  for (const Item& item : ready_) {
    DropDocuments(item, item.documents, DropReason::kShutdown, "", actions);
  }
  in_flight_.clear();
  in_flight_bytes_ = 0;
  in_epoch_ = 0;
  waiting_.clear();
  ready_.clear();
}

Time Delivery::next_timer() const {
  Time at = waiting_.empty() ? kTimeNever : waiting_.front().not_before;
  // Without a rest StartCalls has already started what may start.
  if (failures_ > 0 && MayStart()) at = std::min(at, rest_until_);
  return at;
}

uint64_t Delivery::CountHeld() const {
  uint64_t sum = 0;
  for (const Item& item : ready_) sum += static_cast<uint64_t>(Count(item.documents));
  for (const Item& item : waiting_) sum += static_cast<uint64_t>(Count(item.documents));
  for (const auto& [id, call] : in_flight_)
    sum += static_cast<uint64_t>(Count(call.item.documents));
  return sum;
}

bool Delivery::MayStart() const {
  if (ready_.empty() || in_flight_.size() >= static_cast<size_t>(window_max_)) return false;
  // While the far side fails, one call at a time asks whether it is back, whatever older calls do.
  if (failures_ > 0 ? in_epoch_ > 0 : in_flight_.size() >= static_cast<size_t>(window_))
    return false;
  return in_flight_.empty() ||
         in_flight_bytes_ + ready_.front().held->batch->cost() <= options_.in_flight_bytes;
}

void Delivery::StartCalls(Time now, DeliveryActions* actions) {
  if (failures_ > 0 && now < rest_until_) return;
  while (MayStart()) {
    Item item = std::move(ready_.front());
    ready_.pop_front();
    ++item.attempts;
    ++in_epoch_;
    in_flight_bytes_ += item.held->batch->cost();
    const CallId id = ++last_id_;
    actions->calls.push_back(
        {id, item.held->batch.Share(), item.documents, now + options_.timeout, item.attempts});
    in_flight_.emplace(id, InFlight{std::move(item), epoch_, shrink_epoch_});
  }
  window_used_ |= !ready_.empty();
}

void Delivery::Deliver(DocumentSet documents) {
  const auto n = static_cast<uint64_t>(Count(documents));
  account_->delivered.Add(n);
  account_->held.Sub(n);
}

void Delivery::DropDocuments(const Item& item, DocumentSet documents, DropReason reason,
                             std::string code, DeliveryActions* actions) {
  if (documents == 0) return;
  const auto n = static_cast<uint64_t>(Count(documents));
  account_->Drop(reason, n);
  account_->held.Sub(n);
  actions->drops.push_back({item.held->batch.Share(), documents, reason, std::move(code)});
}

void Delivery::SplitOrDrop(Item item, const std::string& code, DeliveryActions* actions) {
  const int n = Count(item.documents);
  if (n <= 1) {
    DropDocuments(item, item.documents, DropReason::kTooLarge, code, actions);
    return;
  }
  DocumentSet lower = 0;
  int left = n / 2;
  ForEach(item.documents, [&](size_t i) {
    if (left-- > 0) lower |= DocumentSet{1} << i;
  });
  // The size was the mistake, not the far side: both halves count as new.
  ready_.push_front({item.held, item.documents & ~lower, 0, {}});
  ready_.push_front({item.held, lower, 0, {}});
}

void Delivery::WaitAlone(Item item, Time now, Duration at_least) {
  item.not_before = now + std::max(at_least, Backoff(item.attempts));
  waiting_.push_back(std::move(item));
  std::push_heap(waiting_.begin(), waiting_.end(),
                 [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); });
}

void Delivery::OnSuccess(const InFlight& call) {
  if (call.epoch != epoch_) return;  // started before the far side began to fail
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
  Duration rest = retry_after;
  if (call.epoch == epoch_) {
    ++failures_;
    ++epoch_;
    in_epoch_ = 0;
    rest = std::max(rest, Backoff(failures_));
  }
  rest_until_ = std::max(rest_until_, now + rest);
}

void Delivery::Shrink(const InFlight& call) {
  if (call.shrink_epoch != shrink_epoch_) return;  // its like already did
  ++shrink_epoch_;
  window_ = std::max(1.0, window_ * 0.7);
}

void Delivery::KeepQuota(DeliveryActions* actions) {
  while (account_->held_bytes.value() > options_.quota && !(waiting_.empty() && ready_.empty())) {
    Item oldest;
    if (!waiting_.empty()) {
      std::pop_heap(waiting_.begin(), waiting_.end(),
                    [](const Item& a, const Item& b) { return Later(a.not_before, b.not_before); });
      oldest = std::move(waiting_.back());
      waiting_.pop_back();
    } else {
      oldest = std::move(ready_.front());
      ready_.pop_front();
    }
    DropDocuments(oldest, oldest.documents, DropReason::kBufferFull, "", actions);
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
