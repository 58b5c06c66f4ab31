// Questions to the EC2 instance metadata service.
//
// Version 2: a session token is fetched once, shared by all questions and kept for its life. Where the service
// knows no tokens (403, 404, 405) or its answer to that call does not arrive (a pod behind a hop limit of 1),
// version 1 is used for some minutes, unless AWS_EC2_METADATA_V1_DISABLED is true.
//
// Room:      cold.
// Lifecycle: made without I/O. AWS_EC2_METADATA_SERVICE_ENDPOINT or ..._ENDPOINT_MODE (IPv4, IPv6) say where the
//            service is; AWS_EC2_METADATA_DISABLED turns every question into an error.
// Threads:   the loop's thread.
// Ownership: shared by those who ask. Callbacks of the last owner's questions are dropped with it.
// Errors:    FailedPrecondition: switched off, a setting that is wrong, version 2 demanded but no token to be had;
//            NotFound: the service does not know the path; Unavailable: no usable answer; DeadlineExceeded: none in
//            time, or not the token that is demanded.
// Limits:    two tries of `timeout` for each HTTP call, one in place of a token that did not arrive; 64 KiB of
//            answer. No redirect is followed, no proxy used.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"

namespace mobula {

class ImdsClient {
 public:
  using Done = std::function<void(absl::StatusOr<std::string>)>;

  ImdsClient(IoLoop* loop, const Environment& environment);
  ~ImdsClient();
  ImdsClient(const ImdsClient&) = delete;
  ImdsClient& operator=(const ImdsClient&) = delete;

  // The text at `path`, "/latest/meta-data/hostname". `done` is called once, from the loop, never from inside Get.
  // A token that many wait for is fetched with the first one's deadline and timeout.
  void Get(std::string path, Time deadline, Done done, Duration timeout = std::chrono::seconds(1));

  [[nodiscard]] IoLoop* loop() const;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
