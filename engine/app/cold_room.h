// What the agent does beside receiving and delivering, on one thread of its own: it fetches credentials, serves
// the sampling port, and reports telemetry.
//
// Room:      cold.
// Lifecycle: made without I/O, Run, OpenSamplingPort, StartTelemetry, for a reload Prepare and Commit, CloseSamplingPort,
//            FlushTelemetry, Stop, destroyed. Everything but aws() does nothing where nobody needs it.
// Threads:   the agent's control thread, Prepare also another one; the reading methods may be called by any. No call waits long for the room's
//            thread, which a file system or a resolver may hold up; the destructor without Stop does.
// Errors:    OpenSamplingPort fails for an address that cannot be one. A port that is taken is told in the log and
//            tried again: segments are worth more than sampling rules.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/app/telemetry.h"
#include "engine/aws/aws_context.h"
#include "engine/base/mutex.h"
#include "engine/base/port_use.h"
#include "engine/config/config.h"
#include "engine/http/io_loop.h"
#include "engine/sampling/sampling_proxy.h"

namespace mobula {

class ColdRoom {
 public:
  ColdRoom(const Config& config, Log* log);
  ~ColdRoom();
  ColdRoom(const ColdRoom&) = delete;
  ColdRoom& operator=(const ColdRoom&) = delete;

  [[nodiscard]] AwsContext* aws() { return &aws_; }
  [[nodiscard]] const AwsContext& aws() const { return aws_; }

  // Starts the thread.
  void Run();
  // `udp_address` is where segments are received, with the real port.
  absl::Status OpenSamplingPort(const std::string& udp_address, PortUse use = PortUse::kAlone);
  // `counts` says what the lanes of the backend of that name have counted; called on this room's thread.
  absl::Status StartTelemetry(std::function<TelemetryCounts(std::string_view backend)> counts);

  // What other backends mean here.
  struct Change {
    Config config;
    bool other_upstream = false;
    std::optional<AwsClient::Options> upstream;  // of the sampling port
    std::vector<std::string> kept;               // backends whose telemetry goes on as it is
    std::vector<Telemetry::Options> telemetry;   // of the others
  };
  // May take as long as finding a region does.
  absl::StatusOr<Change> Prepare(const Config& next);
  void Commit(Change change);

  // About once a second: a port that could not be had is tried again; that certificates are not checked is said again
  // each minute.
  void Housekeep(Time now);

  // Soon, and for good; requests under way are still answered, and idle() says when they are.
  void CloseSamplingPort();
  [[nodiscard]] bool idle() const { return sampling_ == nullptr || sampling_->idle(); }
  // The last report, when nothing more will be counted; waits for it until `deadline`.
  void FlushTelemetry(Time deadline);
  // Ends the thread: nothing that was given to this room is called any more. False when the thread hangs beyond
  // `deadline`: then this object must be left behind as it is.
  bool Stop(Time deadline);

  // Null without a sampling port.
  [[nodiscard]] const SamplingProxyStats* sampling_stats() const;
  // Why the sampling port does not listen though it should; empty when all is well.
  [[nodiscard]] std::string sampling_fault() const;

 private:
  // Runs `f` on the thread; false when it has not come to that soon: then it does so later.
  bool OnThread(std::function<void()> f);
  absl::StatusOr<SamplingProxy::Options> SamplingOptions(const std::string& udp_address);
  absl::StatusOr<std::optional<AwsClient::Options>> UpstreamOf(const Config& config);
  // Absent for a backend that reports nothing.
  absl::StatusOr<std::optional<Telemetry::Options>> TelemetryOf(const BackendConfig& backend);
  // On the thread:
  absl::Status Report(Telemetry::Options options);
  void EndReports(const std::vector<std::string>& kept);
  void Listen();
  void TellUnverified() const;

  Config config_;
  Log* const log_;
  IoLoop loop_;
  AwsContext aws_;
  std::unique_ptr<SamplingProxy> sampling_;
  std::atomic<const SamplingProxyStats*> sampling_stats_{nullptr};
  std::string sampling_address_;
  PortUse sampling_port_use_ = PortUse::kAlone;
  std::function<TelemetryCounts(std::string_view backend)> counts_;
  using Reporters = std::vector<std::pair<std::string, std::unique_ptr<Telemetry>>>;  // by backend
  Reporters telemetry_;  // the thread's
  Reporters ending_;     // the thread's: with a last report
  bool reports_ = false;
  bool closed_ = false;  // the sampling port
  Time listen_again_ = Time::min();
  Time unverified_told_ = Time::min();
  std::thread thread_;
  std::promise<void> ended_;
  const std::future<void> has_ended_ = ended_.get_future();  // the thread

  mutable Mutex mutex_;
  absl::Status listening_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mobula
