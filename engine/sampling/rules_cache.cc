// Tested by tests/unit/engine/sampling/rules_cache_test.cc.
#include "engine/sampling/rules_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/aws/aws_error.h"
#include "engine/http/http_date.h"
#include "engine/sampling/pass_through.h"
#include "engine/segment/json_quote.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr size_t kEntriesMax = 16;
constexpr size_t kTokenBytesMax = 1024;
constexpr size_t kRequestBytesMax = 4096;
constexpr size_t kAnswersBytesMax = 1 << 20;
constexpr size_t kWaitingMax = 512;
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

// Which page a request asks for; nothing when that cannot be told.
std::optional<std::string> TokenOf(std::string_view body) {
  if (body.empty()) return "";
  const std::optional<JsonValue> json =
      body.size() <= kRequestBytesMax ? ParseJson(body) : std::nullopt;
  if (!json || json->kind != JsonValue::Kind::kObject) return std::nullopt;
  const JsonValue* const token = json->Find("NextToken");
  if (token == nullptr || token->kind == JsonValue::Kind::kNull) return "";
  const bool usable = token->kind == JsonValue::Kind::kString && !token->string.empty() &&
                      token->string.size() <= kTokenBytesMax;
  return usable ? std::optional(token->string) : std::nullopt;
}

// The client's own may hold what X-Ray refuses, and the answer is for others too.
std::string RequestFor(std::string_view token) {
  return token.empty() ? "{}" : fmt::format(R"({{"NextToken":{}}})", JsonQuote(token));
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

void RulesCache::Get(std::string body, HttpServer::Responder respond,
                     std::shared_ptr<ByteShare> share) {
  const std::optional<std::string> token = TokenOf(body);
  const auto found = token ? entries_.find(*token) : entries_.end();
  if (found != entries_.end() && found->second.answer) {
    Entry& entry = found->second;
    entry.used = options_.now();
    const bool fresh = IsFresh(entry);
    if (fresh || entry.used < entry.retry_at || waiting_ >= kWaitingMax) {
      respond(FromCache(entry, fresh ? kHit : kStale, 1));
      return;
    }
  }
  if (token && waiting_ >= kWaitingMax) {
    stats_->failed.Add();
    respond(TooBusy());
    return;
  }
  Entry* const entry = token ? FindOrMake(*token) : nullptr;
  if (entry == nullptr) {
    Pass(std::move(body), std::move(respond), std::move(share));
    return;
  }
  entry->used = options_.now();
  entry->waiting.push_back(std::move(respond));
  ++waiting_;
  if (std::exchange(entry->fetching, true)) return;
  fetch_(RequestFor(*token), entry->answer ? kRefreshTimeout : kTimeout,
         [this, token = *token, asked = ToSeconds(options_.wall_clock())](HttpResponse response) {
           OnAnswer(token, asked, std::move(response));
         });
}

void RulesCache::Pass(std::string body, HttpServer::Responder respond,
                      std::shared_ptr<ByteShare> share) {
  fetch_(std::move(body), kTimeout,
         [this, respond = std::move(respond), share = std::move(share)](HttpResponse response) {
           respond(Forwarded(std::move(response), 1));
         });
}

void RulesCache::OnAnswer(const std::string& token, double asked, HttpResponse response) {
  Entry& entry = entries_.at(token);  // never removed while it is fetched
  const std::vector<HttpServer::Responder> waiting = std::exchange(entry.waiting, {});
  waiting_ -= waiting.size();
  entry.fetching = false;
  if (entry.answer && IsFailure(response)) {
    entry.retry_at = options_.now() + kRetryAfter;
    Answer(waiting, FromCache(entry, kStale, waiting.size()));
    return;
  }
  const bool good = IsRules(response) && MakeRoom(token, response.body.size());
  if (good) {
    response.body.shrink_to_fit();
    if (response.share != nullptr) {
      static_cast<void>(response.share->Resize(response.body.capacity()));
    }
  }
  const auto date = ParseHttpDate(response.Header("Date"));
  HttpReply reply = Forwarded(std::move(response), waiting.size());
  if (good) {
    entry.answer = reply;
    entry.fetched = options_.now();
    entry.dated = date ? ToSeconds(*date) : asked;
    entry.retry_at = Time::min();
    reply.headers.emplace_back("X-Mobula-Cache", "miss");
  } else if (!entry.answer) {
    entries_.erase(token);
  }
  Answer(waiting, reply);
}

RulesCache::Entry* RulesCache::FindOrMake(const std::string& token) {
  if (const auto found = entries_.find(token); found != entries_.end()) return &found->second;
  const auto unanswered = std::count_if(entries_.begin(), entries_.end(),
                                        [](const auto& entry) { return !entry.second.answer; });
  if (!token.empty() && static_cast<size_t>(unanswered) >= kEntriesMax) return nullptr;
  return &entries_[token];
}

bool RulesCache::MakeRoom(const std::string& token, size_t bytes) {
  size_t answers = 1;
  std::vector<std::pair<Time, std::string>> others;  // that may go
  for (const auto& [other, entry] : entries_) {
    if (!entry.answer || other == token) continue;
    ++answers;
    bytes += entry.answer->text().size();
    if (!other.empty()) others.emplace_back(entry.used, other);
  }
  std::sort(others.begin(), others.end());
  for (const auto& [used, other] : others) {
    if (answers <= kEntriesMax && bytes <= kAnswersBytesMax) break;
    Entry& entry = entries_.at(other);
    --answers;
    bytes -= entry.answer->text().size();
    entry.answer.reset();
    if (!entry.fetching) entries_.erase(other);
  }
  return answers <= kEntriesMax && bytes <= kAnswersBytesMax;
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
