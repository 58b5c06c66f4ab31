// Which region to talk to.
//
// In this order, the first that answers: `configured`; AWS_REGION; where metadata may be asked, the ECS metadata
// file, ECS task metadata version 4 and the EC2 instance identity document; AWS_DEFAULT_REGION; the profile.
//
// EC2 metadata that does not answer in time is asked again, each time with more patience, if nothing behind it has a
// region: on a node that has just started it can take seconds.
//
// Room:      cold.
// Threads:   the loop's thread.
// Ownership: must live until `done` was called; destroying it earlier drops the callback.
// Errors:    InvalidArgument for a setting or variable that is no region; FailedPrecondition when no place has one:
//            the message begins as the X-Ray daemon's, and says what to do and what each place answered.
// Limits:    one HTTP call of 1 s for ECS; for EC2 three rounds of two calls with 1, 2 and 7 s each, 20 s in all, or
//            one round; 1 MiB of metadata file.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/aws/aws_context.h"
#include "engine/aws/credentials.h"
#include "engine/aws/imds_client.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"

namespace mobula {

// What AWS_REGION, AWS_DEFAULT_REGION or the profile says, whatever metadata may say; nothing when none of them does.
std::optional<FoundRegion> FindRegionInSettings(const std::string& profile,
                                                const Environment& environment);

class RegionFinder {
 public:
  struct Options {
    std::string configured;
    std::string profile;  // empty: AWS_PROFILE, AWS_DEFAULT_PROFILE or "default"
    Environment environment;
    std::shared_ptr<ImdsClient> imds;
    bool metadata = true;    // whether ECS and EC2 may be asked
    bool of_daemon = false;  // whether the message names the X-Ray daemon's settings
  };
  using Done = std::function<void(absl::StatusOr<FoundRegion>)>;

  RegionFinder(IoLoop* loop, Options options);
  ~RegionFinder();

  // `done` is called once, from the loop, never from inside Find. To be called once.
  void Find(Time deadline, Done done);

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
