// Carries batches from workers to one lane: moodycamel's lock-free queue, sized once for every batch the
// pool can issue, so that a push never allocates and never fails for lack of room.
//
// Room:      hot side TryPush, once per batch; warm side Pop.
// Threads:   one Producer per pushing thread, made before the threads start. Any thread may pop: the lane
//            takes its work, a worker takes the oldest out when the lane is over quota. Order is kept per
//            producer.
// Ownership: a pushed reference belongs to the queue until popped; the destructor releases what is left.
#pragma once

// Before any header that reaches <linux/fs.h>: its BLOCK_SIZE macro breaks the queue's header.
#include <concurrentqueue/concurrentqueue.h>

#include <cstddef>

#include "engine/batch/batch.h"

namespace mobula {

class BatchQueue {
 public:
  class Producer {
   public:
    explicit Producer(BatchQueue* queue) : token_(queue->queue_) {}

   private:
    friend class BatchQueue;
    moodycamel::ProducerToken token_;
  };

  // REQUIRES: at most `producers` Producers are made.
  BatchQueue(size_t batches_max, size_t producers) : queue_(batches_max, producers, 0) {}
  ~BatchQueue() {
    while (Pop()) {
    }
  }
  BatchQueue(const BatchQueue&) = delete;
  BatchQueue& operator=(const BatchQueue&) = delete;

  // Takes over `batch`, or leaves it and answers false.
  [[nodiscard]] bool TryPush(Producer* producer, BatchRef* batch) noexcept {
    if (!queue_.try_enqueue(producer->token_, const_cast<Batch*>(batch->get()))) return false;
    (void)batch->Release();
    return true;
  }

  // The oldest batch of some producer; null when there is none.
  [[nodiscard]] BatchRef Pop() noexcept {
    Batch* batch = nullptr;
    return queue_.try_dequeue(batch) ? BatchRef::Adopt(batch) : BatchRef();
  }

  [[nodiscard]] size_t size_approx() const noexcept { return queue_.size_approx(); }

 private:
  moodycamel::ConcurrentQueue<Batch*> queue_;
};

}  // namespace mobula
