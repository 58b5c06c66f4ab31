// AWS credentials and where they come from.
//
// Room:    cold; Get is warm.
// Threads: one loop's thread.
// Errors:  FailedPrecondition says which variable, file or profile is missing or broken and what to
//          do. No secret, and no value of a variable or file but a profile's name, ever enters a
//          message.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mobula {

struct Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;                                    // empty: long-term keys
  std::optional<std::chrono::system_clock::time_point> expiry;  // absent: they do not expire

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// Looks a variable up; an empty value counts as unset.
using Environment = std::function<std::optional<std::string>(std::string_view)>;
// The process's own.
Environment ProcessEnvironment();

// Get never waits: a provider that has to ask somebody does so on the loop and answers Unavailable until it
// has credentials for the first time, then the last good ones.
class CredentialsProvider {
 public:
  virtual ~CredentialsProvider() = default;

  virtual absl::StatusOr<std::shared_ptr<const Credentials>> Get() = 0;
  // The far side refused the present ones: the next Get looks at the source again.
  virtual void Invalidate() = 0;
};

// The first of these that is configured; its errors are final, so that a broken source is never replaced by
// somebody else's identity:
//   environment     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless `profile` is given
//   shared files    `profile`, AWS_PROFILE, AWS_DEFAULT_PROFILE or "default" in ~/.aws/credentials and
//                   ~/.aws/config (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE): keys written there
std::unique_ptr<CredentialsProvider> MakeCredentialsProvider(std::string profile,
                                                             Environment environment);

}  // namespace mobula
