// Credentials of one source, fetched on a loop before they are needed and renewed before they expire.
//
// Room:      cold; Get is warm: a lock and two clocks.
// Lifecycle: Start begins to fetch when the loop runs; Close ends that, after which Get answers what there is.
// Threads:   any, but Close: the loop's thread, or any once the loop has stopped.
// Ownership: shared by the users and the one who closes it, which must happen while the loop still exists.
// Errors:    Get's are those of the last fetch, never Unavailable: that means one is under way.
// Limits:    one fetch at a time, of 10 s; Renewal says how often. Every 2 s the source is asked whether it changed.
//
// The log says "credentials" when the first arrive and when they do again after a failure, and
// "credentials_failed" for each fetch that failed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "engine/aws/aws_context.h"
#include "engine/aws/credentials.h"
#include "engine/aws/credentials_source.h"
#include "engine/aws/renewal.h"
#include "engine/base/mutex.h"
#include "engine/http/io_loop.h"

namespace mobula {

class Log;

class RenewingProvider final : public CredentialsProvider,
                               public std::enable_shared_from_this<RenewingProvider> {
 public:
  // `name` is the identity's; `log` may be null: then nothing is told.
  static std::shared_ptr<RenewingProvider> Start(IoLoop* loop,
                                                 std::unique_ptr<CredentialsSource> source,
                                                 std::string name, Log* log);
  ~RenewingProvider() override;

  absl::StatusOr<CredentialsPtr> Get() override;
  void Invalidate(const Credentials& refused) override;

  // Safe twice.
  void Close();

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] AwsIdentityState state() const;

 private:
  struct OnLoop;  // what only the loop's thread touches

  RenewingProvider(IoLoop* loop, std::unique_ptr<CredentialsSource> source, std::string name,
                   Log* log);

  // Makes the loop look at due(), from any thread.
  void WakeLoop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the loop's thread:
  void FollowDue();
  void Fetch();
  void OnFetched(absl::StatusOr<Credentials> result);
  void LookForChange();

  const std::string name_;
  Log* const log_;
  std::unique_ptr<OnLoop> on_loop_;  // null once closed
  mutable Mutex mutex_;
  IoLoop* loop_ ABSL_GUARDED_BY(mutex_);  // null once closed
  Renewal renewal_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mobula
