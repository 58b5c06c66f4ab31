// AWS credentials, and the handle through which users of them see the present ones.
//
// Room:    cold; Get is warm.
// Threads: any.
// Errors:  Unavailable: they are being fetched, ask again in a moment. Anything else: the source is missing or
//          broken; the message says which variable, file, profile, address or role, and what to do. No secret,
//          and no value of a variable or file but a profile's name, ever enters a message.
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
  // Which source gave them, for people: "environment", "web identity (arn:...)", "profile \"x\"",
  // "container", "instance role x", "assumed role arn:...".
  std::string source;

  friend bool operator==(const Credentials&, const Credentials&) = default;
};
using CredentialsPtr = std::shared_ptr<const Credentials>;

// Looks a variable up; an empty value counts as unset.
using Environment = std::function<std::optional<std::string>(std::string_view)>;
// The process's own.
Environment ProcessEnvironment();

// Get never waits: fetching and renewing happen on the loop of AwsContext.
class CredentialsProvider {
 public:
  virtual ~CredentialsProvider() = default;

  // The present ones; never those known to be expired, or refused and not yet renewed.
  virtual absl::StatusOr<CredentialsPtr> Get() = 0;
  // The far side refused `refused`: if they are still the present ones they are renewed at once, and Get
  // answers Unavailable until then. Renewals asked for this way are at least some seconds apart.
  virtual void Invalidate(const Credentials& refused) = 0;
};

}  // namespace mobula
