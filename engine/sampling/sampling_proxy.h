// The TCP port on which X-Ray SDKs ask for sampling rules and report for targets: signs for clients that have no
// credentials, answers rules from a cache, and, without an AWS backend, answers the Default rule itself.
//
// Room:      cold: on a loop of its own, away from the receivers.
// Lifecycle: made, Listen, then it serves while the loop runs, Close.
// Threads:   the loop's thread; the counters may be read by any.
// Errors:    Listen names the address. A client is answered 403 for what it may not ask, 502 when the far side
//            cannot be reached and nothing is cached, else with what the far side says.
// Limits:    512 connections, 16 KiB of head, 8 MiB of body each way and 32 MiB of bodies at once; 10 s for the
//            far side.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/aws/aws_client.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"
#include "engine/metrics/counter.h"

namespace mobula {

class Log;

struct SamplingProxyStats {
  SharedCounter forwarded;  // requests passed on to the far side
  SharedCounter cached;     // rules answered without asking it
  SharedCounter stale;      // of these, because it did not answer
  SharedCounter local;      // answered with the Default rule, without any far side
  SharedCounter refused;    // 403 and other faults of the client
  SharedCounter failed;     // 502 and the like
};

class SamplingProxy {
 public:
  struct Options {
    std::string address;                         // host:port
    std::optional<AwsClient::Options> upstream;  // absent: the Default rule is answered here
    bool all_paths = false;  // pass every method and path on, as the X-Ray daemon does
    Duration rules_age = std::chrono::seconds(60);
    Log* log = nullptr;
  };

  SamplingProxy(IoLoop* loop, Options options);
  ~SamplingProxy();
  SamplingProxy(const SamplingProxy&) = delete;
  SamplingProxy& operator=(const SamplingProxy&) = delete;

  absl::Status Listen();
  // REQUIRES: Listen returned OK.
  [[nodiscard]] uint16_t port() const;
  // Stops listening; requests under way are cut. Safe twice.
  void Close();

  [[nodiscard]] const SamplingProxyStats& stats() const noexcept;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
