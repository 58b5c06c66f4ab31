// Where workers put batches for a lane: never blocks them, never grows past the lane's quota.
//
// Room:      hot side Push and Lose, once per batch; warm side Pop.
// Threads:   one Producer per worker; Pop by the lane; a worker pops only to make room.
// Errors:    over quota the oldest queued batch goes, counted as buffer_full, so that a lane whose thread
//            hangs starves neither the receiver nor another lane.
// Limits:    `quota` bytes of batches, queued and held by Delivery together; `batches_max` batches queued, which a
//            lane that takes what it gets does not come near even when its quota has been raised.
#pragma once

#include <atomic>
#include <functional>

#include "engine/queue/batch_queue.h"
#include "engine/queue/lane_account.h"

namespace mobula {

class LaneInbox {
 public:
  using Producer = BatchQueue::Producer;

  LaneInbox(LaneAccount* account, size_t quota, size_t batches_max, size_t producers)
      : account_(account), quota_(quota), queue_(batches_max, producers) {}

  // What Notify calls; cheap when the lane is awake. REQUIRES: set before the first Notify.
  void set_notify(std::function<void()> notify) { notify_ = std::move(notify); }

  [[nodiscard]] Producer MakeProducer() { return Producer(&queue_); }

  void Push(Producer* producer, BatchRef batch) noexcept;
  // Wakes the lane for what was pushed: once per drain, not per batch.
  void Notify() noexcept { notify_(); }
  // `documents` were routed here, but no block could be had for them.
  void Lose(uint64_t documents) noexcept;

  [[nodiscard]] BatchRef Pop() noexcept { return queue_.Pop(); }
  [[nodiscard]] size_t quota() const noexcept { return quota_.load(std::memory_order_relaxed); }
  // From the next push on.
  void set_quota(size_t quota) noexcept { quota_.store(quota, std::memory_order_relaxed); }

 private:
  LaneAccount* const account_;
  std::atomic<size_t> quota_;
  BatchQueue queue_;
  std::function<void()> notify_;
};

}  // namespace mobula
