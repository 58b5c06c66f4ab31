// Calls to a small service nearby that are worth another try: metadata and credential endpoints. Private to this
// folder.
//
// Room:      cold.
// Threads:   the loop's thread.
// Ownership: callbacks of calls under way are dropped with the client. It may be destroyed inside one.
// Errors:    those of HttpClient: the last try's answer is the call's. Tried again: no answer, 429 and 5xx; not a
//            certificate that is not accepted.
// Limits:    `tries` of `timeout` each, 100 ms apart; never beyond the deadline.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/time.h"
#include "engine/http/http_client.h"

namespace mobula {

class RetryingClient {
 public:
  struct Call {
    std::string_view method = "GET";
    std::string target;
    std::vector<std::pair<std::string, std::string>> headers;
    int tries = 2;
    Duration timeout = std::chrono::seconds(1);
    bool retry_timeout = true;
    Time deadline = kTimeNever;
  };

  static absl::StatusOr<std::unique_ptr<RetryingClient>> Create(IoLoop* loop,
                                                                HttpClient::Options options);
  ~RetryingClient();

  // Calls `done` exactly once, from the loop, never from inside Send.
  void Send(Call call, HttpDone done);

  [[nodiscard]] const HttpUrl& url() const noexcept;

 private:
  class Impl;
  explicit RetryingClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What is wrong with an answer that is not 200, for people: "the container endpoint at HOST answers 403 AccessDenied:
// …". FailedPrecondition for a refusal, DeadlineExceeded for a time-out, else Unavailable; OK for 200.
absl::Status CheckAnswer(const HttpResponse& response, std::string_view who, const HttpUrl& url);

}  // namespace mobula
