// What X-Ray answers an account that never made a sampling rule: for SDKs whose agent has no X-Ray to ask.
//
// Room:    cold.
// Threads: one.
// Errors:  every body has an answer; what is no such request gets 400, as from X-Ray.
// Limits:  25 statistics documents in a request; 1,024 clients are remembered for 20 s.
//
// The reservoir of one request a second is lent to one client for 20 s, and to nobody else before that time is
// over, so that the quotas clients hold never add up to more. A client alone keeps it; among several it goes to
// the one that has been without it for longest. Each client samples 5 % of everything else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "engine/base/time.h"
#include "engine/http/http_server.h"

namespace mobula {

struct JsonValue;

class DefaultRules {
 public:
  // Times of the wall clock are in seconds since 1970; the rule was last changed at `start`.
  explicit DefaultRules(int64_t start) : start_(start) {}

  // `path` is one of those that IsSamplingPath names. The loan goes by `now`; clients are told its end by their
  // own kind of clock, for which `wall` is now.
  HttpReply Answer(std::string_view path, std::string_view body, Time now, int64_t wall);

 private:
  HttpReply Rules() const;
  HttpReply Targets(const JsonValue& request, Time now, int64_t wall);
  // Whether `client` may sample one request a second until `lent_until_`.
  bool LendReservoir(std::string_view client, Time now);

  struct Client {
    Time heard{};          // when it asked last
    Time without_since{};  // when its loan ended; without one when it was first heard
  };

  const int64_t start_;
  absl::flat_hash_map<std::string, Client> clients_;
  std::string borrower_;  // the last one
  Time lent_until_ = Time::min();
};

}  // namespace mobula
