// One receiving core: takes datagrams from its own sockets, judges them where they lie, copies what is good
// into the open batch of its route, and hands full or old batches to the lanes. Workers share nothing.
//
// Room:      hot. After Run's first lines nothing allocates, locks or logs; system calls only to receive,
//            to sleep and to wake a sleeping lane.
// Lifecycle: made by the app with everything it will use, Run on a thread of its own, Stop, joined, destroyed.
//            Meanwhile Switch may give it another table of routes, as often as wanted.
// Threads:   Run on one thread; Switch and Switched on one other; Stop, stats and TakeSample from any.
// Ownership: the inboxes of a table outlive it: until Switched says that it is left, or the worker's end.
// Errors:    foreign bytes are counted by reason; rejected documents go to the dead-letter inbox if there is
//            one, but for those refused for their sender alone: nobody looked at them. A batch without a block is counted in each of its lanes.
// Limits:    one open batch of 256 KiB per route; 128 slots of 64 KiB, or Options::slots.
//
// Ledger: datagrams = accepted + rejected{reason}; accepted = routed + filtered + open.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/batch/batch_builder.h"
#include "engine/queue/lane_inbox.h"
#include "engine/receive/datagram_source.h"
#include "engine/receive/pacer.h"
#include "engine/receive/source_gate.h"
#include "engine/route/router.h"
#include "engine/segment/framing.h"
#include "engine/segment/segment_scanner.h"

namespace mobula {

// Written by the worker, read by anyone.
struct alignas(kCacheLineBytes) WorkerStats {
  Counter datagrams;
  Counter bytes;
  Counter accepted;
  std::array<Counter, kRejectReasonCount> rejected;
  Counter routed;    // documents that left in a batch, or were lost for want of a block
  Counter filtered;  // documents that no route wanted
  Counter open;      // documents in open batches now
  Counter unscanned;
  Counter utf8_repaired;
  Counter otlp;  // T1S and T1U documents
  Counter batches;
  Counter kernel_drops;  // of this worker's sockets, since they were opened
  Counter wakeups;       // sleeps and waits that ended
  Counter rate;          // datagrams per second, smoothed
  Counter turns;         // proves that the loop turns, at least once a second

  [[nodiscard]] uint64_t rejected_total() const noexcept {
    uint64_t sum = 0;
    for (const Counter& c : rejected) sum += c.value();
    return sum;
  }
};

// A refused datagram's first bytes, for the log.
struct RejectSample {
  static constexpr size_t kBytes = 160;
  RejectReason reason = RejectReason::kNone;
  uint32_t size = 0;  // of the whole datagram
  uint16_t length = 0;
  std::array<char, kBytes> bytes{};
  std::array<char, 48> source{};

  [[nodiscard]] std::string_view text() const { return {bytes.data(), length}; }
};

// Where documents go.
struct RouteTable {
  std::unique_ptr<const Router> router;
  std::vector<LaneInbox*> lanes;     // by the router's numbers
  LaneInbox* dead_letter = nullptr;  // null: refused documents are only counted
};

class Worker {
 public:
  struct Options {
    ReceiveEngine engine = ReceiveEngine::kRecvmmsg;
    std::vector<int> sockets;
    bool inherited = false;       // what the sockets hold at the end is for whoever gets them next
    uint64_t queue_bytes = 0;     // of all its sockets together
    DatagramSlots slots;          // of recvmmsg; at most BatchBuilder::kDocumentBytesMax each
    SourceGate::Options senders;  // who may send, and how much
    Validate validate = Validate::kJson;
    BatchBuilder::Limits batch;
    BlockPool* pool = nullptr;
    std::shared_ptr<const RouteTable> routes;
  };

  explicit Worker(Options options);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Serves until Stop, then empties the sockets, lets go of them, closes its batches and returns. Inherited ones it leaves
  // as they are. Falls back to recvmmsg when a ring cannot be had on this thread; the status says why none of both worked.
  absl::Status Run();
  void Stop() noexcept;

  // From the next turn on documents go where `routes` says. What is in open batches still goes to the lanes of the
  // table before. A lane that is in both keeps the order of what this worker hands it. REQUIRES: Switched().
  void Switch(std::shared_ptr<const RouteTable> routes);
  // Whether the last Switch has happened: no batch goes to lanes that are only in the table before, and nothing
  // here refers to them any more.
  [[nodiscard]] bool Switched();

  [[nodiscard]] const WorkerStats& stats() const noexcept { return stats_; }
  // What Run uses; kAuto until it knows.
  [[nodiscard]] ReceiveEngine engine() const noexcept {
    return engine_.load(std::memory_order_relaxed);
  }
  // The oldest refused datagram not yet told of. One reader.
  [[nodiscard]] bool TakeSample(RejectSample* sample) noexcept;

 private:
  struct Exit;
  struct Route;
  struct Table;
  static constexpr size_t kSamples = 16;

  [[nodiscard]] std::unique_ptr<Table> MakeTable(std::shared_ptr<const RouteTable> routes) const;
  absl::Status Open();
  void Serve(DatagramSource* source);
  void Adopt(Table* next) noexcept;
  void Empty(DatagramSource* source);
  uint64_t Drain(DatagramSource* source, Time now, uint64_t* bytes);
  void Take(const Datagram& datagram, Time now) noexcept;
  void Reject(RejectReason reason, const Datagram& datagram, std::string_view document,
              Time now) noexcept;
  void Append(Route* route, std::string_view document, DocumentKind kind, RejectReason reason,
              Time now) noexcept;
  void Close(Route* route) noexcept;
  void CloseDue(Time now) noexcept;
  void Notify() noexcept;
  [[nodiscard]] Time NextDue() const noexcept;
  void CountKernelDrops() noexcept;

  const Options options_;
  WorkerStats stats_;
  std::atomic<ReceiveEngine> engine_{ReceiveEngine::kAuto};
  std::atomic<bool> stop_{false};
  std::unique_ptr<DatagramSource>
      owned_source_;  // lives as long as the worker: Stop may wake it late
  std::atomic<DatagramSource*> source_{nullptr};

  std::unique_ptr<SourceGate> gate_;  // null: everybody may send as much as they like
  Framing framing_;
  SegmentScanner scanner_;
  uint64_t dropped_before_ = 0;  // of inherited sockets, before this start
  Pacer pacer_;
  Table* table_ = nullptr;  // in use, by the thread of Run

  // The table to take up: set by Switch, null again when it is taken.
  std::atomic<Table*> next_{nullptr};
  std::atomic<bool> ended_{false};  // Run has returned
  // The thread's that calls Switch.
  std::unique_ptr<Table> current_;
  std::unique_ptr<Table> coming_;  // null: none

  // Samples: written by the worker, read by one other thread; published by the index of its own side.
  std::array<RejectSample, kSamples> samples_;
  std::atomic<uint32_t> samples_written_{0};
  std::atomic<uint32_t> samples_read_{0};
};

}  // namespace mobula
