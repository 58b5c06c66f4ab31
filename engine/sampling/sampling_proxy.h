// The TCP port on which X-Ray SDKs ask for sampling rules and report for targets: signs for clients that have no
// credentials, answers rules from a cache, and, without an AWS backend, answers the Default rule itself.
//
// Room:      cold: on a loop of its own, away from the receivers.
// Lifecycle: made, Listen, then it serves while the loop runs, Close.
// Threads:   the loop's thread; the counters and idle() may be read by any.
// Errors:    Listen names the address, or what is wrong with the upstream; it may be called again. A client is
//            answered 403 for what it may not ask, 502 or 504 when the far side gives no answer and nothing is cached,
//            503 over a limit, else what the far side says. Why there is no answer is told to the log only.
// Limits:    512 connections, 75 s between requests on one, 5 s for a head, 20 s for a body; 16 KiB of head, 2 MiB of
//            body each way; kBytesMax of all requests and answers, with the rules that are kept; 64 calls to the far
//            side at once, of 10 s each.
//
// Rules are cached and shared (RulesCache); targets belong to one client each and are passed on one by one. A HEAD
// request, where all paths are passed on, arrives as GET.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/aws/aws_client.h"
#include "engine/base/port_use.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"
#include "engine/sampling/sampling_stats.h"

namespace mobula {

class Log;

class SamplingProxy {
 public:
  // Of heads, bodies and kept rules together.
  static constexpr size_t kBytesMax = 4 << 20;

  struct Options {
    std::string address;                         // host:port
    std::optional<AwsClient::Options> upstream;  // absent: the Default rule is answered here
    bool all_paths = false;  // pass every method and path on, as the X-Ray daemon does
    Duration rules_age = std::chrono::seconds(60);  // zero: rules are asked for anew each time
    Duration timeout = std::chrono::seconds(10);    // of the far side
    Log* log = nullptr;
  };

  SamplingProxy(IoLoop* loop, Options options);
  ~SamplingProxy();
  SamplingProxy(const SamplingProxy&) = delete;
  SamplingProxy& operator=(const SamplingProxy&) = delete;

  absl::Status Listen(PortUse use = PortUse::kAlone);
  // From now on calls go to another far side, whose rules are asked for anew; absent: the Default rule is answered here.
  // What is under way is still answered by the one it went to. On an error all stays as it was.
  absl::Status SetUpstream(std::optional<AwsClient::Options> upstream);
  // REQUIRES: Listen returned OK.
  [[nodiscard]] uint16_t port() const;
  // Requests under way are still answered; idle() says when. Safe without Listen.
  void StopListening();
  [[nodiscard]] bool idle() const noexcept;
  // Stops listening; requests under way are cut. Safe twice.
  void Close();

  [[nodiscard]] const SamplingProxyStats& stats() const noexcept;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
