// Tested by tests/unit/engine/sampling/rules_cache_test.cc.
#include "engine/sampling/rules_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/aws/aws_error.h"
#include "engine/http/http_date.h"
#include "engine/sampling/pass_through.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr size_t kEntriesMax = 16;
constexpr size_t kKeyBytesMax = 1024;
constexpr size_t kAnswersBytesMax = 4 << 20;
constexpr Duration kTimeout = std::chrono::seconds(10);
// With something to answer with, nobody waits long for something newer...
constexpr Duration kRefreshTimeout = std::chrono::seconds(3);
// ...nor again and again.
constexpr Duration kRetryAfter = std::chrono::seconds(3);
constexpr double kClockErrorMax = 24 * 3600;
constexpr std::string_view kHit = "hit";
constexpr std::string_view kStale = "stale";

double ToSeconds(RulesCache::WallClock::time_point t) {
  return std::chrono::duration<double>(t.time_since_epoch()).count();
}

// Whether the request itself was fine, so that the last good answer still is one.
bool IsFailure(const HttpResponse& response) {
  if (!response.transport.ok() || response.status >= 500) return true;
  if (response.status < 400) return false;
  const std::string code = ReadAwsFault(response).code;
  return response.status == 403 || response.status == 408 || response.status == 429 ||
         IsAwsThrottling(code) || IsAwsCredentialFault(code) || IsAwsClockFault(code);
}

bool IsRules(const HttpResponse& response) {
  if (response.status != 200) return false;
  const std::optional<JsonValue> json = ParseJson(response.body);
  const JsonValue* const records = json ? json->Find("SamplingRuleRecords") : nullptr;
  return records != nullptr && records->kind == JsonValue::Kind::kArray;
}

void Answer(const std::vector<HttpServer::Responder>& waiting, const HttpReply& reply) {
  for (const HttpServer::Responder& respond : waiting) respond(reply);
}

}  // namespace

RulesCache::RulesCache(Options options, Fetch fetch, SamplingProxyStats* stats)
    : options_(std::move(options)), fetch_(std::move(fetch)), stats_(stats) {}

void RulesCache::Get(std::string_view body, HttpServer::Responder respond) {
  const std::string key(body.substr(0, kKeyBytesMax));
  Entry* const entry = body.size() > kKeyBytesMax ? nullptr : FindOrMake(key);
  if (entry == nullptr) {
    Pass(body, std::move(respond));
    return;
  }
  entry->used = options_.now();
  if (IsFresh(*entry)) {
    respond(FromCache(*entry, kHit, 1));
    return;
  }
  if (entry->answer && entry->used < entry->retry_at) {
    respond(FromCache(*entry, kStale, 1));
    return;
  }
  entry->waiting.push_back(std::move(respond));
  if (std::exchange(entry->fetching, true)) return;
  fetch_(key, entry->answer ? kRefreshTimeout : kTimeout,
         [this, key, asked = ToSeconds(options_.wall_clock())](HttpResponse response) {
           OnAnswer(key, asked, std::move(response));
         });
}

void RulesCache::Pass(std::string_view body, HttpServer::Responder respond) {
  fetch_(std::string(body), kTimeout, [this, respond = std::move(respond)](HttpResponse response) {
    respond(Forwarded(std::move(response), 1));
  });
}

void RulesCache::OnAnswer(const std::string& body, double asked, HttpResponse response) {
  Entry& entry = entries_.at(body);  // never removed while it is fetched
  entry.fetching = false;
  const std::vector<HttpServer::Responder> waiting = std::exchange(entry.waiting, {});
  if (entry.answer && IsFailure(response)) {
    entry.retry_at = options_.now() + kRetryAfter;
    Answer(waiting, FromCache(entry, kStale, waiting.size()));
    return;
  }
  const bool good = IsRules(response);
  const auto date = ParseHttpDate(response.Header("Date"));
  HttpReply reply = Forwarded(std::move(response), waiting.size());
  if (good) {
    Keep(&entry, reply);
    entry.fetched = options_.now();
    entry.dated = date ? ToSeconds(*date) : asked;
    entry.retry_at = Time::min();
    reply.headers.emplace_back("X-Mobula-Cache", "miss");
  }
  Answer(waiting, reply);
}

RulesCache::Entry* RulesCache::FindOrMake(const std::string& body) {
  if (const auto found = entries_.find(body); found != entries_.end()) return &found->second;
  if (entries_.size() >= kEntriesMax) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->second.fetching) continue;
      if (oldest == entries_.end() || it->second.used < oldest->second.used) oldest = it;
    }
    if (oldest == entries_.end()) return nullptr;
    entries_.erase(oldest);
  }
  return &entries_[body];
}

void RulesCache::Keep(Entry* entry, const HttpReply& answer) {
  entry->answer.reset();
  size_t bytes = answer.body.size();
  std::vector<Entry*> others;
  for (auto& [body, other] : entries_) {
    if (!other.answer) continue;
    bytes += other.answer->body.size();
    others.push_back(&other);
  }
  std::sort(others.begin(), others.end(),
            [](const Entry* a, const Entry* b) { return a->used < b->used; });
  for (size_t i = 0; bytes > kAnswersBytesMax && i < others.size(); ++i) {
    bytes -= others[i]->answer->body.size();
    others[i]->answer.reset();
  }
  entry->answer = answer;
}

bool RulesCache::IsFresh(const Entry& entry) const {
  // Dates come in whole seconds: rules of the very second of a change may lack it.
  return entry.answer && options_.now() - entry.fetched < options_.age &&
         entry.dated > rules_modified_;
}

HttpReply RulesCache::FromCache(const Entry& entry, std::string_view how, size_t clients) {
  (how == kStale ? stats_->stale : stats_->cached).Add(clients);
  HttpReply reply = *entry.answer;
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(options_.now() - entry.fetched);
  reply.headers.emplace_back("X-Mobula-Cache", how);
  reply.headers.emplace_back("Age", std::to_string(age.count()));
  return reply;
}

HttpReply RulesCache::Forwarded(HttpResponse response, size_t clients) {
  (response.transport.ok() ? stats_->forwarded : stats_->failed).Add(clients);
  return PassBack(std::move(response));
}

void RulesCache::NoteTargets(const HttpResponse& targets) {
  if (!targets.transport.ok() || targets.status != 200) return;
  const std::optional<JsonValue> json = ParseJson(targets.body);
  const JsonValue* const modified = json ? json->Find("LastRuleModification") : nullptr;
  if (modified == nullptr || modified->kind != JsonValue::Kind::kNumber) return;
  // A time that far ahead is none, and would keep every answer from being fresh.
  if (modified->number > ToSeconds(options_.wall_clock()) + kClockErrorMax) return;
  rules_modified_ = std::max(rules_modified_, modified->number);
}

}  // namespace mobula
