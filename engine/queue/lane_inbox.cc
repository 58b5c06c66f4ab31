// Tested by tests/unit/engine/queue/lane_inbox_test.cc.
#include "engine/queue/lane_inbox.h"

namespace mobula {

std::string_view DropReasonName(DropReason reason) noexcept {
  switch (reason) {
    case DropReason::kBufferFull:
      return "buffer_full";
    case DropReason::kNoMemory:
      return "no_memory";
    case DropReason::kRefused:
      return "refused";
    case DropReason::kTooLarge:
      return "too_large";
    case DropReason::kShutdown:
      return "shutdown";
  }
  return "unknown";
}

void LaneInbox::Push(Producer* producer, BatchRef batch) noexcept {
  const size_t documents = batch->size();
  const size_t cost = batch->cost();
  account_->entered.Add(documents);
  account_->held.Add(documents);
  account_->held_bytes.Add(cost);
  const size_t quota = this->quota();
  while (account_->held_bytes.value() > quota) {
    BatchRef oldest = queue_.Pop();
    // Nothing queued: Delivery holds it all and is about to make room itself.
    if (!oldest) break;
    account_->Drop(DropReason::kBufferFull, oldest->size());
    account_->held.Sub(oldest->size());
    account_->held_bytes.Sub(oldest->cost());
  }
  if (account_->held_bytes.value() > quota || !queue_.TryPush(producer, &batch)) {
    account_->Drop(DropReason::kBufferFull, documents);
    account_->held.Sub(documents);
    account_->held_bytes.Sub(cost);
  }
}

void LaneInbox::Lose(uint64_t documents) noexcept {
  account_->entered.Add(documents);
  account_->Drop(DropReason::kNoMemory, documents);
}

}  // namespace mobula
