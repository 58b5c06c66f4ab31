// The last answers to GetSamplingRules: many SDK processes ask for the same rules, one call of each kind goes out at a
// time, and while X-Ray cannot answer, the last good rules are served, however old. SDKs that lose their rules for an
// hour would fall back to their own and sample what nobody wants sampled.
//
// Room:    cold.
// Threads: the loop's thread.
// Errors:  a refusal of the request itself (other 4xx) passes through. No answer, 5xx, throttling, 403 and refused
//          credentials are answered with the last good rules where there are any, else pass through.
// Limits:  16 pages of rules and 1 MiB of them; the ones used longest ago go first, the first page never. As many
//          other pages may be asked for at once. What does not fit passes through, and so does what is no request for
//          a page: a JSON object of 4 KiB, a NextToken of 1 KiB. Only what reads as rules is kept: at most 1 MiB. 512
//          clients wait at once; more get what there is, or 503.
//
// Clients that ask for the same page share its answer, whatever else their requests hold. An answer's bytes never change; headers are added: `X-Mobula-Cache: hit|stale|miss` and, but for a miss, `Age`.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/base/time.h"
#include "engine/http/http_client.h"
#include "engine/http/http_server.h"
#include "engine/sampling/sampling_stats.h"

namespace mobula {

class RulesCache {
 public:
  using WallClock = std::chrono::system_clock;
  // Asks the far side for rules. May answer at once; must not answer after the cache has gone.
  using Fetch = std::function<void(std::string body, Duration timeout, HttpDone done)>;

  struct Options {
    Duration age = std::chrono::seconds(60);  // for which an answer is served without asking again
    std::function<Time()> now = std::chrono::steady_clock::now;
    std::function<WallClock::time_point()> wall_clock = WallClock::now;
  };

  RulesCache(Options options, Fetch fetch, SamplingProxyStats* stats);

  // Answers a GetSamplingRules with this body. `share` counts it; null: nothing does.
  void Get(std::string body, HttpServer::Responder respond, std::shared_ptr<ByteShare> share);
  // Looks at an answer to GetSamplingTargets: rules fetched before the last change it names are fetched again when
  // somebody asks for them, so that a change arrives as fast as without a cache.
  void NoteTargets(const HttpResponse& targets);

 private:
  // A page: with its answer, or being fetched, or both.
  struct Entry {
    std::optional<HttpReply> answer;  // the last good one
    Time fetched{};
    double dated = 0;             // the far side's clock then, in seconds since 1970
    Time used{};                  // when somebody asked last
    Time retry_at = Time::min();  // after a failure: not asked again before
    bool fetching = false;
    std::vector<HttpServer::Responder> waiting;
  };

  // Null when too many are being fetched.
  Entry* FindOrMake(const std::string& token);
  void Pass(std::string body, HttpServer::Responder respond, std::shared_ptr<ByteShare> share);
  void OnAnswer(const std::string& token, double asked, HttpResponse response);
  // Whether there is room for an answer of `bytes` to this page, once others went.
  bool MakeRoom(const std::string& token, size_t bytes);
  [[nodiscard]] bool IsFresh(const Entry& entry) const;
  HttpReply FromCache(const Entry& entry, std::string_view how, size_t clients);
  HttpReply Forwarded(HttpResponse response, size_t clients);

  const Options options_;
  const Fetch fetch_;
  SamplingProxyStats* const stats_;
  absl::flat_hash_map<std::string, Entry> entries_;  // by NextToken; empty: the first page
  size_t waiting_ = 0;                               // clients, for all pages
  double rules_modified_ = 0;                        // as the far side's last targets say
};

}  // namespace mobula
