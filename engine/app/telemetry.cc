// Records, the queue of those that wait, and when to send them. Tested by
// tests/unit/engine/app/telemetry_test.cc and tests/e2e/telemetry_test.py.
#include "engine/app/telemetry.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/segment/json_quote.h"

namespace mobula {
namespace {

constexpr size_t kRecordsMax = 30;
constexpr size_t kRecordsPerRequest = 10;
constexpr Duration kTimeout = std::chrono::seconds(10);
constexpr Duration kBackoffMax = std::chrono::hours(1);

// Totals are sums over counters of several threads, so one may seem to go back for a moment.
uint64_t Take(uint64_t total, uint64_t* told) {
  const uint64_t fresh = total > *told ? total - *told : 0;
  *told += fresh;
  return fresh;
}

TelemetryCounts Take(const TelemetryCounts& totals, TelemetryCounts* told) {
  TelemetryCounts fresh;
  for (uint64_t TelemetryCounts::*const count :
       {&TelemetryCounts::received, &TelemetryCounts::sent, &TelemetryCounts::spillover,
        &TelemetryCounts::rejected, &TelemetryCounts::timeouts,
        &TelemetryCounts::connections_refused, &TelemetryCounts::http_4xx,
        &TelemetryCounts::http_5xx, &TelemetryCounts::unknown_host, &TelemetryCounts::other}) {
    fresh.*count = Take(totals.*count, &(told->*count));
  }
  return fresh;
}

std::string ToJson(int64_t unix_ms, const TelemetryCounts& c) {
  return fmt::format(
      R"({{"Timestamp":{}.{:03},"SegmentsReceivedCount":{},"SegmentsSentCount":{},)"
      R"("SegmentsSpilloverCount":{},"SegmentsRejectedCount":{},"BackendConnectionErrors":{{)"
      R"("TimeoutCount":{},"ConnectionRefusedCount":{},"HTTPCode4XXCount":{},"HTTPCode5XXCount":{},)"
      R"("UnknownHostCount":{},"OtherCount":{}}}}})",
      unix_ms / 1000, unix_ms % 1000, c.received, c.sent, c.spillover, c.rejected, c.timeouts,
      c.connections_refused, c.http_4xx, c.http_5xx, c.unknown_host, c.other);
}

// A refusal that the next report will hardly fare better than.
bool IsRefusal(int status) {
  return status >= 400 && status < 500 && status != 408 && status != 429;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Telemetry>> Telemetry::Create(IoLoop* loop, Options options) {
  ASSIGN_OR_RETURN(std::unique_ptr<AwsClient> client, AwsClient::Create(loop, options.client));
  auto telemetry = std::make_unique<Telemetry>(
      loop, std::move(options), [to = client.get()](AwsClient::Request request, HttpDone done) {
        to->Call(std::move(request), std::move(done));
      });
  telemetry->client_ = std::move(client);
  return telemetry;
}

Telemetry::Telemetry(IoLoop* loop, Options options, Call call)
    : loop_(loop),
      options_(std::move(options)),
      call_(std::move(call)),
      timer_(loop),
      told_(options_.told) {
  Schedule();
  if (!options_.host_facts) return;
  options_.host_facts([this, alive = std::weak_ptr<bool>(alive_)](HostFacts facts) {
    if (!alive.expired()) facts_ = std::move(facts);
  });
}

Telemetry::~Telemetry() = default;

void Telemetry::Schedule() {
  timer_.Set(options_.now() + options_.interval, [this] {
    Schedule();
    Report();
  });
}

void Telemetry::Report() {
  if (flushing_) return;
  TakeRecord();
  if (travelling_.empty() && options_.now() >= not_before_) Send();
}

void Telemetry::TakeRecord() {
  const TelemetryCounts totals = options_.counts();
  if (totals.received == 0) {
    options_.log->Debug("telemetry", "Skipped telemetry data as no segments found",
                        {{"key", options_.name}});
    return;
  }
  waiting_.push_back({options_.wall_clock(), Take(totals, &told_)});
  if (waiting_.size() > kRecordsMax) waiting_.pop_front();
}

void Telemetry::Send() {
  if (waiting_.empty()) {
    if (flushing_) EndFlush();
    return;
  }
  const auto end =
      waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kRecordsPerRequest));
  travelling_.assign(waiting_.begin(), end);
  waiting_.erase(waiting_.begin(), end);
  last_chance_ = flushing_;
  AwsClient::Request request;
  request.path = "/TelemetryRecords";
  request.headers = {{"Content-Type", "application/json"}};
  request.body = Body();
  request.deadline = std::min(options_.now() + kTimeout, flush_deadline_);
  call_(std::move(request),
        [this, alive = std::weak_ptr<bool>(alive_)](const HttpResponse& response) {
          if (!alive.expired()) OnAnswer(response);
        });
}

void Telemetry::OnAnswer(const HttpResponse& response) {
  const bool taken = response.transport.ok() && response.status / 100 == 2;
  if (taken) {
    travelling_.clear();
    backoff_ = Duration::zero();
    Send();
    return;
  }
  waiting_.insert(waiting_.begin(), travelling_.begin(), travelling_.end());
  travelling_.clear();
  while (waiting_.size() > kRecordsMax) waiting_.pop_front();
  options_.log->Debug("telemetry_failed", "The telemetry could not be sent",
                      {{"key", options_.name},
                       {"status", response.status},
                       {"why", std::string(response.transport.message())}});
  if (flushing_) {
    // What Flush added was not tried yet.
    if (last_chance_) {
      EndFlush();
    } else {
      Send();
    }
    return;
  }
  not_before_ = options_.now() + BackoffAfter(response);
}

Duration Telemetry::BackoffAfter(const HttpResponse& response) {
  if (!response.transport.ok() || !IsRefusal(response.status)) {
    backoff_ = Duration::zero();
    return backoff_;
  }
  if (backoff_ == Duration::zero()) {
    options_.log->Warn("telemetry_refused",
                       "X-Ray refuses this agent's telemetry, which nothing but the service's own "
                       "statistics needs: "
                       "allow xray:PutTelemetryRecords, or set `telemetry: off`",
                       {{"key", options_.name},
                        {"status", response.status},
                        {"code", std::string(response.Header("x-amzn-ErrorType").substr(0, 100))}});
  }
  // A little less than whole intervals, so that the report at their end is in time.
  backoff_ = std::clamp<Duration>(backoff_ * 2, options_.interval * 2, kBackoffMax);
  return backoff_ - options_.interval / 2;
}

void Telemetry::Flush(Time deadline, std::function<void()> done) {
  flushing_ = true;
  flush_deadline_ = deadline;
  flushed_ = std::move(done);
  TakeRecord();
  timer_.Set(deadline, [this] { EndFlush(); });
  if (!travelling_.empty()) return;
  // `done` is never called from inside Flush.
  loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && travelling_.empty()) Send();
  });
}

void Telemetry::EndFlush() {
  timer_.Cancel();
  if (const std::function<void()> done = std::exchange(flushed_, nullptr)) done();
}

std::string Telemetry::Body() const {
  std::string body = fmt::format(R"({{"EC2InstanceId":{},"Hostname":{},)",
                                 JsonQuote(facts_.instance_id), JsonQuote(facts_.hostname));
  // The service takes no empty one.
  if (!options_.resource_arn.empty()) {
    body += fmt::format("\"ResourceARN\":{},", JsonQuote(options_.resource_arn));
  }
  body += "\"TelemetryRecords\":[";
  for (const Record& record : travelling_) {
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(record.time.time_since_epoch());
    if (body.back() == '}') body += ',';
    body += ToJson(ms.count(), record.counts);
  }
  return body + "]}";
}

}  // namespace mobula
