// Tells X-Ray once a minute how this agent fares: PutTelemetryRecords.
//
// Room:      cold.
// Lifecycle: made and reporting until Flush, destroyed.
// Threads:   the loop's thread; `counts` and `host_facts` are called there, and the answer of the latter comes there.
// Ownership: the loop outlives it. `host_facts` may answer after it has gone.
// Errors:    Create: those of AwsClient. A report that fails goes out again with the next; one the service refuses
//            is told once and tried ever more rarely, up to once an hour.
// Limits:    30 records are kept, the oldest is discarded; 10 go into one request; one request at a time, of at
//            most 10 s.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/aws/aws_client.h"
#include "engine/aws/aws_context.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"

namespace mobula {

class Log;

// Totals since the start.
struct TelemetryCounts {
  uint64_t received = 0;   // datagrams that were not empty
  uint64_t sent = 0;       // documents the service took
  uint64_t spillover = 0;  // dropped for lack of room or time
  uint64_t rejected = 0;   // bad datagrams, and documents the service refused
  // Calls that failed.
  uint64_t timeouts = 0;
  uint64_t connections_refused = 0;
  uint64_t http_4xx = 0;
  uint64_t http_5xx = 0;
  uint64_t unknown_host = 0;
  uint64_t other = 0;
};

class Telemetry {
 public:
  using WallClock = std::chrono::system_clock;
  // AwsClient::Call, or a test's.
  using Call = std::function<void(AwsClient::Request, HttpDone)>;

  struct Options {
    std::string name;  // of the backend, for the log
    AwsClient::Options client;
    std::string resource_arn;  // empty: left out
    // Asked at the start, never waited for: until it answers the members are empty. None: they stay so.
    std::function<void(std::function<void(HostFacts)>)> host_facts;
    std::function<TelemetryCounts()> counts;
    TelemetryCounts told;  // what others have reported of those
    Duration interval = std::chrono::seconds(60);
    Log* log = nullptr;
    std::function<Time()> now = std::chrono::steady_clock::now;
    std::function<WallClock::time_point()> wall_clock = WallClock::now;
  };

  static absl::StatusOr<std::unique_ptr<Telemetry>> Create(IoLoop* loop, Options options);
  // Makes its calls through `call`.
  Telemetry(IoLoop* loop, Options options, Call call);
  ~Telemetry();
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;

  // What happens once in an interval: a record of what was counted since the last one, unless nothing was ever
  // received, is sent with those that wait.
  void Report();

  // The last record, and all that wait; `done` is called on the loop when they are sent, could not be, or at the
  // deadline. Call it once, when nothing more will be counted; nothing is reported afterwards.
  void Flush(Time deadline, std::function<void()> done);

 private:
  struct Record {
    WallClock::time_point time;
    TelemetryCounts counts;
  };

  void Schedule();
  void TakeRecord();
  void Send();
  void OnAnswer(const HttpResponse& response);
  // Answers how long not to report after an answer like this.
  Duration BackoffAfter(const HttpResponse& response);
  void EndFlush();
  [[nodiscard]] std::string Body() const;

  IoLoop* const loop_;
  const Options options_;
  std::unique_ptr<AwsClient> client_;  // null with a test's `call_`
  Call call_;
  IoLoop::Timer timer_;
  // Gone with this object: callbacks that may come later look at it.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  HostFacts facts_;
  TelemetryCounts told_;            // the totals in the records taken so far
  std::deque<Record> waiting_;      // the oldest first
  std::vector<Record> travelling_;  // in the request under way; empty: there is none
  Duration backoff_{};              // zero: the last report was not refused
  Time not_before_ = Time::min();

  bool flushing_ = false;
  bool last_chance_ = false;  // the request under way began within Flush
  Time flush_deadline_ = kTimeNever;
  std::function<void()> flushed_;
};

}  // namespace mobula
