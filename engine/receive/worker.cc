// Tested by tests/unit/engine/receive/worker_test.cc and hot_room_test.cc.
#include "engine/receive/worker.h"

#include <arpa/inet.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/receive/udp_sockets.h"

namespace mobula {
namespace {

constexpr Duration kIdleWait = std::chrono::seconds(1);
constexpr Duration kDropsEvery = std::chrono::seconds(1);
constexpr uint64_t kDrainMax = 64 * DatagramSource::kSlots;
constexpr int kNotifyEvery = 16;
// A flood of refused senders must leave room for samples of what the others send.
constexpr uint32_t kSenderSamples = 4;
constexpr Duration kEmptyMax = std::chrono::seconds(2);

Time Now() noexcept { return std::chrono::steady_clock::now(); }

void Sleep(Duration d) noexcept {
  const timespec span{d / std::chrono::seconds(1), (d % std::chrono::seconds(1)).count()};
  (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &span, nullptr);
}

// The sender's address as filters and logs write it, IPv4-mapped ones as IPv4. `out` holds 48 bytes.
std::string_view SourceText(const sockaddr* source, char* out) noexcept {
  out[0] = '\0';
  if (source == nullptr) return {};
  if (source->sa_family == AF_INET) {
    sockaddr_in a;
    std::memcpy(&a, source, sizeof a);
    inet_ntop(AF_INET, &a.sin_addr, out, 48);
  } else if (source->sa_family == AF_INET6) {
    sockaddr_in6 a;
    std::memcpy(&a, source, sizeof a);
    if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr)) {
      inet_ntop(AF_INET, &a.sin6_addr.s6_addr[12], out, 48);
    } else {
      inet_ntop(AF_INET6, &a.sin6_addr, out, 48);
    }
  }
  return out;
}

}  // namespace

// The way into one lane, shared by all of this worker's routes that lead there.
struct Worker::Exit {
  explicit Exit(LaneInbox* i) : inbox(i), producer(i->MakeProducer()) {}
  LaneInbox* inbox;
  LaneInbox::Producer producer;
  int pushed = 0;  // batches since the lane was last notified
};

// The open batch of one route and the ways out of it.
struct Worker::Route {
  Route(BlockPool* pool, BatchBuilder::Limits limits) : builder(pool, limits) {}

  BatchBuilder builder;
  std::vector<Exit*> exits;
};

// A table of routes with what this worker needs for it.
struct Worker::Table {
  std::shared_ptr<const RouteTable> routes;
  std::vector<std::shared_ptr<Exit>>
      exits;  // by lane, and last the dead letters'; shared with the next table
  std::vector<std::unique_ptr<Route>> open;  // the router's, and last the dead letters'

  [[nodiscard]] bool has_dead_letters() const noexcept { return routes->dead_letter != nullptr; }
};

Worker::Worker(Options options)
    : options_(std::move(options)),
      scanner_(options_.validate, options_.slots.bytes),
      pacer_(options_.queue_bytes) {
  CHECK(options_.slots.bytes <= BatchBuilder::kDocumentBytesMax);
  if (options_.senders.closed()) {
    gate_ = std::make_unique<SourceGate>(options_.senders, SourceGate::RandomKey());
  }
  current_ = MakeTable(options_.routes);
  table_ = current_.get();
}

Worker::~Worker() = default;

std::unique_ptr<Worker::Table> Worker::MakeTable(std::shared_ptr<const RouteTable> routes) const {
  auto table = std::make_unique<Table>();
  // A lane's queue counts on one producer for each worker, whatever table it is in.
  const auto exit_to = [this](LaneInbox* inbox) {
    if (current_ != nullptr) {
      for (const std::shared_ptr<Exit>& exit : current_->exits) {
        if (exit->inbox == inbox) return exit;
      }
    }
    return std::make_shared<Exit>(inbox);
  };
  for (LaneInbox* const inbox : routes->lanes) table->exits.push_back(exit_to(inbox));
  for (size_t r = 0; r < routes->router->size(); ++r) {
    auto route = std::make_unique<Route>(options_.pool, options_.batch);
    for (const size_t lane : routes->router->lanes(r)) {
      route->exits.push_back(table->exits[lane].get());
    }
    table->open.push_back(std::move(route));
  }
  if (routes->dead_letter != nullptr) {
    table->exits.push_back(exit_to(routes->dead_letter));
    auto route = std::make_unique<Route>(options_.pool, options_.batch);
    route->exits.push_back(table->exits.back().get());
    table->open.push_back(std::move(route));
  }
  table->routes = std::move(routes);
  return table;
}

void Worker::Switch(std::shared_ptr<const RouteTable> routes) {
  CHECK(coming_ == nullptr);
  coming_ = MakeTable(std::move(routes));
  next_.store(coming_.get(), std::memory_order_release);
  if (DatagramSource* const source = source_.load(std::memory_order_acquire)) source->Wake();
}

bool Worker::Switched() {
  if (coming_ == nullptr) return true;
  if (Table* const next = next_.load(std::memory_order_acquire)) {
    if (!ended_.load(std::memory_order_acquire)) return false;
    Adopt(next);
  }
  current_ = std::move(coming_);
  return true;
}

void Worker::Adopt(Table* next) noexcept {
  for (const auto& route : table_->open) Close(route.get());
  Notify();
  table_ = next;
  next_.store(nullptr, std::memory_order_release);
}

absl::Status Worker::Run() {
  absl::Status opened = Open();
  if (opened.ok()) Serve(owned_source_.get());
  ended_.store(true, std::memory_order_release);
  return opened;
}

absl::Status Worker::Open() {
  absl::StatusOr<std::unique_ptr<DatagramSource>> source =
      OpenDatagramSource(options_.engine, options_.sockets, options_.slots);
  engine_.store(options_.engine, std::memory_order_relaxed);
  if (!source.ok() && options_.engine == ReceiveEngine::kIoUring) {
    source = OpenDatagramSource(ReceiveEngine::kRecvmmsg, options_.sockets, options_.slots);
    engine_.store(ReceiveEngine::kRecvmmsg, std::memory_order_relaxed);
  }
  if (!source.ok()) return source.status();
  // The default lets the kernel end a sleep 50 us late; a paced loop has no use for more precision.
  prctl(PR_SET_TIMERSLACK, 50'000UL);
  owned_source_ = *std::move(source);
  source_.store(owned_source_.get(), std::memory_order_release);
  return absl::OkStatus();
}

void Worker::Stop() noexcept {
  stop_.store(true, std::memory_order_release);
  if (DatagramSource* const source = source_.load(std::memory_order_acquire)) source->Wake();
}

void Worker::Serve(DatagramSource* source) {
  if (options_.inherited) {
    for (const int fd : options_.sockets) dropped_before_ += KernelDrops(fd);
  }
  Time drops_due = Now() + kDropsEvery;
  while (!stop_.load(std::memory_order_acquire)) {
    if (Table* const next = next_.load(std::memory_order_acquire)) Adopt(next);
    Time now = Now();
    uint64_t bytes = 0;
    const uint64_t datagrams = Drain(source, now, &bytes);
    now = Now();
    CloseDue(now);
    Notify();
    const Duration pause = pacer_.Next(now, datagrams, bytes);
    stats_.rate.Set(static_cast<uint64_t>(pacer_.rate()));
    stats_.turns.Add();
    if (now >= drops_due) {
      CountKernelDrops();
      drops_due = now + kDropsEvery;
    }
    if (datagrams >= kDrainMax) continue;  // a flood: there is more
    if (pause > Duration::zero()) {
      Sleep(pause);
    } else {
      const Time due = NextDue();
      source->Wait(due == kTimeNever
                       ? kIdleWait
                       : std::clamp<Duration>(due - now, Duration::zero(), kIdleWait));
    }
    stats_.wakeups.Add();
  }
  // What the kernel has already taken is ours to deliver; what comes later is not.
  if (!options_.inherited) {
    StopArrivals(options_.sockets);
    Empty(source);
  }
  source->Release();
  Empty(source);
  CountKernelDrops();
  for (const auto& route : table_->open) Close(route.get());
  Notify();
}

void Worker::Empty(DatagramSource* source) {
  const Time give_up = Now() + kEmptyMax;
  uint64_t bytes = 0;
  while (Drain(source, Now(), &bytes) > 0 && Now() < give_up) continue;
}

// Takes what there is; answers how many datagrams.
uint64_t Worker::Drain(DatagramSource* source, Time now, uint64_t* bytes) {
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  uint64_t sum = 0;
  while (const size_t got = source->Receive(datagrams)) {
    for (size_t i = 0; i < got; ++i) {
      Take(datagrams[i], now);
      *bytes += datagrams[i].size;
    }
    source->Recycle();
    sum += got;
    // Under a flood that never ends the clock must still be read and old batches closed.
    if (sum >= kDrainMax) return sum;
  }
  source->Recycle();
  return sum;
}

void Worker::Take(const Datagram& datagram, Time now) noexcept {
  stats_.datagrams.Add();
  stats_.bytes.Add(datagram.size);
  if (gate_ != nullptr) {
    const RejectReason reason = gate_->Judge(datagram.source, now);
    if (reason != RejectReason::kNone) {
      Reject(reason, datagram, {}, now);
      return;
    }
  }
  if (datagram.truncated) {
    Reject(RejectReason::kTruncated, datagram, {}, now);
    return;
  }
  const std::string_view whole(datagram.data, datagram.size);
  const Frame frame = framing_.Split(whole);
  if (frame.reject != RejectReason::kNone) {
    Reject(frame.reject, datagram, whole, now);
    return;
  }
  const ScanResult scan = scanner_.Scan(frame.body);
  if (scan.reject != RejectReason::kNone) {
    Reject(scan.reject, datagram, frame.body, now);
    return;
  }
  if (scan.document.size() > BatchBuilder::kDocumentBytesMax) {
    Reject(RejectReason::kTooLarge, datagram, frame.body, now);
    return;
  }
  stats_.accepted.Add();
  if (scan.utf8_repaired) stats_.utf8_repaired.Add();
  if (scan.kind == DocumentKind::kUnscanned) stats_.unscanned.Add();
  if (scan.kind == DocumentKind::kOtlp) stats_.otlp.Add();

  FilterSubject subject{&scanner_, {}};
  char text[48];
  const Router& router = *table_->routes->router;
  if (router.needs_source()) subject.source = SourceText(datagram.source, text);
  const size_t route = router.Match(scan.kind, subject);
  if (route == Router::kNoRoute || router.lanes(route).empty()) {
    stats_.filtered.Add();
    return;
  }
  stats_.open.Add();
  Append(table_->open[route].get(), scan.document, scan.kind, RejectReason::kNone, now);
}

void Worker::Reject(RejectReason reason, const Datagram& datagram, std::string_view document,
                    Time now) noexcept {
  stats_.rejected[static_cast<size_t>(reason)].Add();
  if (table_->has_dead_letters() && !document.empty()) {
    Append(table_->open.back().get(), document, DocumentKind::kRejected, reason, now);
  }
  const uint32_t written = samples_written_.load(std::memory_order_relaxed);
  const bool for_sender =
      reason == RejectReason::kNotAllowed || reason == RejectReason::kRateLimited;
  const uint32_t room = for_sender ? kSenderSamples : kSamples;
  if (written - samples_read_.load(std::memory_order_acquire) >= room) return;
  RejectSample& sample = samples_[written % kSamples];
  sample.reason = reason;
  sample.size = datagram.size;
  sample.length =
      for_sender ? 0 : static_cast<uint16_t>(std::min<size_t>(datagram.size, RejectSample::kBytes));
  std::memcpy(sample.bytes.data(), datagram.data, sample.length);
  (void)SourceText(datagram.source, sample.source.data());
  samples_written_.store(written + 1, std::memory_order_release);
}

bool Worker::TakeSample(RejectSample* sample) noexcept {
  const uint32_t read = samples_read_.load(std::memory_order_relaxed);
  if (read == samples_written_.load(std::memory_order_acquire)) return false;
  *sample = samples_[read % kSamples];
  samples_read_.store(read + 1, std::memory_order_release);
  return true;
}

void Worker::Append(Route* route, std::string_view document, DocumentKind kind, RejectReason reason,
                    Time now) noexcept {
  if (!route->builder.Add(document, kind, reason, now)) {
    Close(route);
    const bool added = route->builder.Add(document, kind, reason, now);
    DCHECK(added);
    (void)added;
  }
  if (route->builder.full()) Close(route);
}

void Worker::Close(Route* route) noexcept {
  if (route->builder.empty()) return;
  const size_t documents = route->builder.size();
  const bool dead_letters = table_->has_dead_letters() && route == table_->open.back().get();
  const BatchRef batch = route->builder.Close();
  for (Exit* const exit : route->exits) {
    if (batch) {
      exit->inbox->Push(&exit->producer, batch.Share());
      // In a long drain the lane begins before it ends.
      if (++exit->pushed >= kNotifyEvery) Notify();
    } else {
      exit->inbox->Lose(documents);
    }
  }
  if (dead_letters) return;
  stats_.batches.Add();
  stats_.routed.Add(documents);
  stats_.open.Set(stats_.open.value() - documents);
}

void Worker::CloseDue(Time now) noexcept {
  for (const auto& route : table_->open) {
    if (route->builder.due() <= now) Close(route.get());
  }
}

// One wake-up of a lane takes all batches of a drain.
void Worker::Notify() noexcept {
  for (const auto& exit : table_->exits) {
    if (std::exchange(exit->pushed, 0) > 0) exit->inbox->Notify();
  }
}

Time Worker::NextDue() const noexcept {
  Time due = kTimeNever;
  for (const auto& route : table_->open) due = std::min(due, route->builder.due());
  return due;
}

void Worker::CountKernelDrops() noexcept {
  uint64_t sum = 0;
  for (const int fd : options_.sockets) sum += KernelDrops(fd);
  stats_.kernel_drops.Set(sum - dropped_before_);
}

}  // namespace mobula
