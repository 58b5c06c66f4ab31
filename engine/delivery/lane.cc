// Tested by tests/unit/engine/delivery/lane_test.cc.
#include "engine/delivery/lane.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <future>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kBeat = std::chrono::seconds(1);
constexpr size_t kErrorCodesMax = 32;
constexpr Duration kPumpMax = std::chrono::milliseconds(10);
// At the end, of one write to the spool: a disk that takes longer hangs.
constexpr Duration kWriteMax = std::chrono::seconds(5);

Time Now() { return std::chrono::steady_clock::now(); }

}  // namespace

Lane::Lane(Options options, std::unique_ptr<Exporter> exporter)
    : options_(std::move(options)),
      inbox_(&account_, options_.quota, options_.batches_max, options_.producers),
      delivery_(options_.delivery, &account_) {
  ways_.push_back(std::make_unique<Way>(Way{std::move(exporter)}));
  CHECK(options_.delivery.spool == (options_.spool != nullptr));
  if (options_.spool != nullptr) spool_.emplace(options_.spool, options_.pool);
  waker_ = std::make_unique<IoLoop::Waker>(&loop_, [this] { Pump(); });
  timer_ = std::make_unique<IoLoop::Timer>(&loop_);
  beat_ = std::make_unique<IoLoop::Timer>(&loop_);
  inbox_.set_notify([this] { waker_->Notify(); });
}

Lane::~Lane() {
  if (!thread_.joinable()) return;
  loop_.Stop();
  thread_.join();
}

absl::Status Lane::Start() {
  if (absl::Status status = ways_.back()->exporter->Start(&loop_); !status.ok()) {
    return absl::Status(status.code(), fmt::format("backends.{}: {}", options_.name,
                                                   std::string(status.message())));
  }
  return absl::OkStatus();
}

void Lane::Run() {
  Stage stage = Stage::kNew;
  if (!stage_.compare_exchange_strong(stage, Stage::kRunning)) return;
  thread_ = std::thread([this] { Loop(); });
}

void Lane::Loop() {
  pthread_setname_np(pthread_self(), fmt::format("lane-{}", options_.name).substr(0, 15).c_str());
  Beat();
  loop_.Run();
}

// Proves once a second that the loop turns.
void Lane::Beat() {
  turns_.fetch_add(1, std::memory_order_relaxed);
  beat_->Set(Now() + kBeat, [this] { Beat(); });
  // The spool may have found frames of another instance.
  if (spool_.has_value()) Pump();
}

// What is to be done on disk; drops and calls are left.
void Lane::KeepSpool(Time now, DeliveryActions* actions) {
  if (!spool_.has_value()) return;
  spool_->Execute(&delivery_, now, std::chrono::system_clock::now(), actions, [this] {
    if (gave_up_.load(std::memory_order_relaxed) != Time{}) gave_up_ = Now();
    return !abandoned_.load(std::memory_order_acquire);
  });
}

void Lane::Pump() {
  if (pumping_) return;  // a result that came inside Export is taken up by the loop below
  pumping_ = true;
  bool moved = true;
  // An exporter that is done at once could keep us here for ever: timers and posts get their turn.
  for (const Time until = std::min(Now() + kPumpMax, drain_deadline_); moved && Now() < until;) {
    const Time now = Now();
    DeliveryActions actions;
    if (spool_.has_value()) spool_->Tell(&delivery_);
    while (BatchRef batch = inbox_.Pop()) {
      delivery_.OnBatch(std::move(batch), now, &actions);
      // Acting often keeps the batches of a fast exporter few.
      if (!actions.empty()) break;
    }
    for (const Answer& answer : std::exchange(results_, {})) {
      Note(answer.result, answer.took);
      delivery_.OnResult(answer.id, answer.result, now, &actions);
    }
    delivery_.OnTimer(now, &actions);
    moved = !actions.empty();
    KeepSpool(now, &actions);
    Execute(actions);
    moved |= !results_.empty();
  }
  pumping_ = false;
  in_flight_.store(delivery_.calls_in_flight(), std::memory_order_relaxed);
  window_.store(delivery_.window(), std::memory_order_relaxed);
  circuit_.store(delivery_.circuit(), std::memory_order_relaxed);
  turns_.fetch_add(1, std::memory_order_relaxed);
  const Time now = Now();
  if (drain_deadline_ != kTimeNever && ((!moved && delivery_.idle()) || now >= drain_deadline_)) {
    Finish();
    return;
  }
  if (moved) {
    loop_.Post([this] { Pump(); });
    return;
  }
  const Time at = std::min(delivery_.next_timer(), drain_deadline_);
  if (at != kTimeNever) timer_->Set(at, [this] { Pump(); });
}

void Lane::Execute(const DeliveryActions& actions) {
  for (const DeliveryActions::Drop& drop : actions.drops) {
    if (drop.reason != DropReason::kRefused && drop.reason != DropReason::kTooLarge) continue;
    ForEach(drop.documents, [&](size_t i) {
      options_.dead_letter(options_.name, DropReasonName(drop.reason), drop.code,
                           drop.batch->document(i));
    });
  }
  Way* const way = ways_.back().get();
  for (const DeliveryActions::Call& call : actions.calls) {
    ++way->calls;
    way->exporter->Export({*call.batch, call.documents, call.deadline, call.attempt},
                          [this, way, id = call.id, begin = Now()](ExportResult result) {
                            // Not from inside the exporter that is to end.
                            if (--way->calls == 0 && way != ways_.back().get())
                              loop_.Post([this] { EndWays(); });
                            if (abandoned_.load(std::memory_order_acquire)) return;
                            results_.push_back({id, std::move(result), Now() - begin});
                            if (!pumping_) Pump();
                          });
  }
}

// Counts a result and tells people about it; what to do is Delivery's business.
void Lane::Note(const ExportResult& result, Duration took) {
  if (result.verdict == Verdict::kDelivered) {
    calls_.delivered.Add();
    calls_.microseconds.Add(
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    bool recovered = false;
    {
      MutexLock lock(&mutex_);
      recovered = health_.failing;
      if (recovered) health_ = {};
    }
    if (recovered) {
      options_.log->Info("backend_recovered", "the backend takes documents again",
                         {{"key", options_.name}});
    }
    return;
  }
  const bool refused = result.verdict == Verdict::kRefused;
  (refused ? calls_.refused : calls_.failed).Add();
  CountFault(result);
  {
    MutexLock lock(&mutex_);
    if (!refused && result.verdict != Verdict::kTooLarge) {
      health_ = {true, result.verdict == Verdict::kHold, result.code, result.message};
    }
    auto entry = std::find_if(errors_.begin(), errors_.end(),
                              [&](const auto& e) { return e.first == result.code; });
    if (entry == errors_.end()) {
      const std::string code = errors_.size() + 1 < kErrorCodesMax ? result.code : "other";
      entry = std::find_if(errors_.begin(), errors_.end(),
                           [&](const auto& e) { return e.first == code; });
      if (entry == errors_.end()) entry = errors_.insert(errors_.end(), {code, 0});
    }
    ++entry->second;
  }
  const std::string text = fmt::format("Sending segment batch failed with: {}{}{}", result.code,
                                       result.message.empty() ? "" : ": ", result.message);
  options_.log->Error(refused ? "batch_refused" : "batch_failed", text,
                      {{"key", options_.name}, {"code", result.code}});
}

void Lane::CountFault(const ExportResult& result) {
  const int hundreds = result.http_status / 100;
  SharedCounter& kind = result.code == "timeout"   ? faults_.timeout
                        : result.code == "refused" ? faults_.refused
                        : result.code == "dns"     ? faults_.unknown_host
                        : hundreds == 4            ? faults_.http_4xx
                        : hundreds == 5            ? faults_.http_5xx
                                                   : faults_.other;
  kind.Add();
}

void Lane::Reopen() {
  loop_.Post([this] { ways_.back()->exporter->Reopen(); });
}

// An event from outside, and all that follows of it.
void Lane::Act(const std::function<void(Time now, DeliveryActions*)>& event) {
  DeliveryActions actions;
  const Time now = Now();
  event(now, &actions);
  KeepSpool(now, &actions);
  pumping_ = true;
  Execute(actions);
  pumping_ = false;
  Pump();
}

void Lane::SetLimits(size_t quota, const Delivery::Options& delivery) {
  inbox_.set_quota(quota);
  loop_.Post([this, delivery] {
    Act([&](Time now, DeliveryActions* actions) { delivery_.OnOptions(delivery, now, actions); });
  });
}

absl::Status Lane::Prepare(std::unique_ptr<Exporter> exporter, Time deadline) {
  struct Offer {
    std::unique_ptr<Exporter> exporter;
    std::promise<absl::Status> answer;
  };
  const auto offer = std::make_shared<Offer>();
  offer->exporter = std::move(exporter);
  std::future<absl::Status> answer = offer->answer.get_future();
  loop_.Post([this, offer] {
    const absl::Status started = offer->exporter->Start(&loop_);
    if (started.ok()) prepared_ = std::move(offer->exporter);
    offer->answer.set_value(started);
  });
  if (answer.wait_until(deadline) == std::future_status::ready) return answer.get();
  Discard();
  return absl::UnavailableError("the backend hangs");
}

void Lane::TakeUp() {
  loop_.Post([this] {
    if (prepared_ == nullptr) return;
    ways_.push_back(std::make_unique<Way>(Way{std::move(prepared_)}));
    EndWays();
  });
}

void Lane::Discard() {
  loop_.Post([this] {
    if (prepared_ == nullptr) return;
    End(prepared_.get());
    prepared_.reset();
  });
}

void Lane::Replace(std::unique_ptr<Exporter> exporter) {
  // A function that is posted can be copied.
  loop_.Post([this, next = std::make_shared<std::unique_ptr<Exporter>>(std::move(exporter))] {
    pumping_ = true;  // what comes home undone is sent by the next
    End(ways_.back()->exporter.get());
    pumping_ = false;
    ways_.back()->exporter = std::move(*next);
    if (const absl::Status started = ways_.back()->exporter->Start(&loop_); !started.ok()) {
      options_.log->Error("backend_failed", "the backend as it is configured now does not work yet",
                          {{"key", options_.name}, {"error", std::string(started.message())}});
    }
    Pump();
  });
}

// Those whose calls have come home.
void Lane::EndWays() {
  for (size_t i = ways_.size() - 1; i-- > 0;) {
    if (ways_[i]->calls > 0) continue;
    End(ways_[i]->exporter.get());
    ways_.erase(ways_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Lane::End(Exporter* exporter) {
  if (absl::Status status = exporter->Shutdown(); !status.ok()) {
    options_.log->Error("backend_shutdown", "the backend did not end cleanly",
                        {{"key", options_.name}, {"error", std::string(status.message())}});
  }
}

void Lane::Drain(Time deadline) {
  Stage stage = Stage::kNew;
  if (stage_.compare_exchange_strong(stage, Stage::kOver)) {
    GiveUp();
    finished_.store(true, std::memory_order_release);
  }
  if (stage != Stage::kRunning) return;
  loop_.Post([this, deadline] {
    drain_deadline_ = deadline;
    Act([&](Time now, DeliveryActions* actions) { delivery_.OnDrain(now, actions); });
  });
}

// What is left goes to the spool, or is counted.
void Lane::GiveUp() {
  const Time now = Now();
  gave_up_ = now;
  pumping_ = true;  // the results of abandoned calls change nothing any more
  DeliveryActions actions;
  // The answers that have come count.
  for (const Answer& answer : std::exchange(results_, {})) {
    Note(answer.result, answer.took);
    delivery_.OnResult(answer.id, answer.result, now, &actions);
  }
  while (BatchRef batch = inbox_.Pop()) delivery_.OnBatch(std::move(batch), now, &actions);
  delivery_.Abandon(&actions);
  KeepSpool(now, &actions);
  actions.calls.clear();  // they are not started any more
  Execute(actions);
}

// Everything is delivered, or the time is over.
void Lane::Finish() {
  drain_deadline_ = kTimeNever;
  GiveUp();
  for (const auto& way : ways_) End(way->exporter.get());
  if (prepared_ != nullptr) End(prepared_.get());
  timer_->Cancel();
  beat_->Cancel();
  finished_.store(true, std::memory_order_release);
  loop_.Stop();
}

bool Lane::Ends(Time deadline) const {
  if (finished()) return false;
  const Time gave_up = gave_up_;
  return Now() < (gave_up == Time{} ? deadline : std::max(deadline, gave_up + kWriteMax));
}

bool Lane::Join(Time deadline) {
  while (Ends(deadline)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  if (!finished()) {
    abandoned_.store(true, std::memory_order_release);
    return false;
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

Lane::Health Lane::health() const {
  MutexLock lock(&mutex_);
  return health_;
}

std::vector<std::pair<std::string, uint64_t>> Lane::errors() const {
  MutexLock lock(&mutex_);
  return errors_;
}

}  // namespace mobula
