#include "tests/sim/far_side.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "engine/memory/block_pool.h"

namespace mobula::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::string_view kBegin = R"({"TraceSegmentDocuments":[)";

std::string HttpDate(SystemTime time) {
  return fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

// The strings of a JSON list, up to its end. False: it is none.
template <typename F>
bool ForEachString(std::string_view list, F&& f) {
  std::string text;
  size_t at = 0;
  while (at < list.size()) {
    if (list[at++] != '"') return false;
    text.clear();
    for (;;) {
      size_t end = at;
      while (end < list.size() && list[end] != '"' && list[end] != '\\') ++end;
      text.append(list.substr(at, end - at));
      at = end;
      if (at >= list.size()) return false;
      if (list[at] == '"') break;
      // Our documents hold nothing that is escaped otherwise.
      if (++at >= list.size() || (list[at] != '"' && list[at] != '\\')) return false;
      text.push_back(list[at++]);
    }
    f(text);
    ++at;
    if (at < list.size() && list[at] == ']') return list.substr(at) == "]}";
    if (at >= list.size() || list[at++] != ',') return false;
  }
  return false;
}

}  // namespace

std::string_view MoodName(Mood mood) {
  static constexpr std::string_view kNames[kMoodCount] = {
      "ok",     "slow",    "5xx",      "429",   "busy", "per document", "hangs",   "reset",
      "nobody", "no name", "no trust", "small", "403",  "400",          "garbage", "mixed"};
  return kNames[static_cast<size_t>(mood)];
}

FarSide::FarSide(Key key, std::string name, EventLoop* loop, Books* books, Story* story,
                 Random random)
    : key_(key),
      name_(std::move(name)),
      loop_(loop),
      books_(books),
      story_(story),
      random_(random) {}

void FarSide::Set(Mood mood) {
  if (mood == Mood::kOk && mood_ != Mood::kOk) healthy_since_ = loop_->now();
  if (mood != Mood::kOk) healthy_since_ = kTimeNever;
  mood_ = mood;
  level_ = random_.Unit();
  tokens_ = 0;
  tokens_at_ = loop_->now();
  story_->Tell("far side {}: {}", name_, MoodName(mood));
}

void FarSide::SetWorst(Mood mood) {
  Set(mood);
  level_ = 1;
}

void FarSide::Serve(std::string_view body, Time deadline, Done done) {
  Call call;
  call.documents = Read(body);
  if (story_->failed()) return;
  call.after = latency / 2 + random_.Between(Duration::zero(), latency);
  call.reply.fates.assign(call.documents.size(), Fate::kTaken);
  call.takes_after = call.after / 2;
  Decide(&call, body.size(), deadline - loop_->now());
  if (call.takes) {
    loop_->After(call.takes_after, [this, documents = call.documents, fates = call.reply.fates] {
      Take(documents, fates);
    });
  } else {
    for (Fate& fate : call.reply.fates) fate = fate == Fate::kTaken ? Fate::kNotTaken : fate;
  }
  if (!call.answers) return;
  // A std::function must be copyable; an answer is not copied often.
  loop_->After(call.after, [done = std::move(done), reply = std::make_shared<const Reply>(
                                                        std::move(call.reply))] { done(*reply); });
}

std::vector<uint64_t> FarSide::Read(std::string_view body) {
  std::vector<uint64_t> documents;
  const bool whole = body.starts_with(kBegin) &&
                     ForEachString(body.substr(kBegin.size()), [&](std::string_view text) {
                       const std::optional<uint64_t> number = NumberOf(text);
                       if (!number.has_value() || !books_->Known(*number)) {
                         story_->Fail("far side {} got a document that nobody sent: {}", name_,
                                      text.substr(0, 80));
                         return;
                       }
                       if (!books_->IsText(*number, text)) {
                         story_->Fail("far side {} got document {} changed: {}", name_, *number,
                                      text.substr(0, 80));
                       }
                       documents.push_back(*number);
                     });
  if (!whole || documents.empty() || documents.size() > 50 ||
      body.size() > BlockPool::kBlockBytesMax) {
    story_->Fail("far side {} got a body that is no call of PutTraceSegments: {} bytes, {}", name_,
                 body.size(), body.substr(0, 80));
  }
  return documents;
}

void FarSide::Take(const std::vector<uint64_t>& documents, const std::vector<Fate>& fates) {
  for (size_t i = 0; i < documents.size(); ++i) {
    if (fates[i] != Fate::kTaken && fates[i] != Fate::kTakenInDoubt) continue;
    if (books_->Take(key_, documents[i]) && on_take) on_take(key_, documents[i]);
  }
}

void FarSide::Decide(Call* call, size_t bytes, Duration patience) {
  const auto span = [&](double share) {
    return std::chrono::duration_cast<Duration>(patience * share);
  };
  const Mood mood =
      mood_ == Mood::kMixed ? static_cast<Mood>(random_.Between(0, kMoodCount - 2)) : mood_;
  switch (mood) {
    case Mood::kOk:
    case Mood::kMixed: {
      const std::vector<uint64_t>& all = call->documents;
      if (std::none_of(all.begin(), all.end(), is_poison)) break;
      call->takes = false;
      call->reply.poisoned = true;
      return Refuse(call, random_.Chance(0.5) ? 500 : 403, "");
    }
    case Mood::kSlow:
      call->after = span(0.2 + 1.4 * random_.Unit());
      call->takes_after = random_.Chance(0.5) ? call->after : call->after / 2;
      break;
    case Mood::kUnavailable: {
      static const std::vector<int> kStatus = {500, 502, 503, 503, 504};
      call->takes = random_.Chance(0.05);
      call->reply.clear = !call->takes;
      Refuse(call, random_.Pick(kStatus), "");
      if (random_.Chance(0.1)) {
        call->reply.response.headers.emplace_back("Retry-After", "2");
        call->reply.quiet = seconds(2);
      }
      return;
    }
    case Mood::kThrottled:
      Throttle(call);
      return;
    case Mood::kBusy: {
      const double rate = 20 + level_ * 2000;
      tokens_ = std::min(rate, tokens_ + rate * Seconds(loop_->now() - tokens_at_));
      tokens_at_ = loop_->now();
      const auto wanted = static_cast<double>(call->documents.size());
      if (tokens_ < wanted) return level_ < 0.5 ? Throttle(call) : SettleSingly(call, 0.7, 0);
      tokens_ -= wanted;
      break;
    }
    case Mood::kPerDocument:
      SettleSingly(call, 0.4 * level_, random_.Chance(0.2) ? 0.2 : 0);
      return;
    case Mood::kHangs:
      call->answers = false;
      call->takes = random_.Chance(level_);
      call->takes_after = span(3 * random_.Unit());
      call->reply.clear = false;
      return;
    case Mood::kReset:
      call->takes = random_.Chance(0.5);
      call->reply.clear = false;
      Break(call, absl::StatusCode::kUnavailable, "reset");
      return;
    case Mood::kNobody:
      call->after = milliseconds(1);
      Break(call, absl::StatusCode::kUnavailable, "refused");
      call->takes = false;
      return;
    case Mood::kNoName:
      Break(call, absl::StatusCode::kNotFound, "dns");
      call->takes = false;
      return;
    case Mood::kNoTrust:
      Break(call, absl::StatusCode::kUnauthenticated, "tls_verify");
      call->takes = false;
      return;
    case Mood::kSmall:
      if (bytes <= 2'000 + static_cast<size_t>(level_ * 60'000)) break;
      call->takes = false;
      call->reply.too_large = true;
      Refuse(call, 413, "");
      return;
    case Mood::kForbidden: {
      static const std::vector<std::string> kCodes = {
          "AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException",
          "InvalidSignatureException"};
      call->takes = false;
      Refuse(call, 403, random_.Pick(kCodes));
      return;
    }
    case Mood::kInvalid:
      call->reply.fates.assign(call->documents.size(), Fate::kRefused);
      Refuse(call, 400, "InvalidRequestException");
      return;
    case Mood::kGarbage:
      Garble(call);
      return;
  }
  Answer(call, 200, random_.Chance(0.9) ? R"({"UnprocessedTraceSegments":[]})" : "{}");
}

void FarSide::Answer(Call* call, int status, std::string body) {
  call->reply.response.status = status;
  call->reply.response.body = std::move(body);
}

void FarSide::Refuse(Call* call, int status, std::string_view code) {
  if (code.empty()) return Answer(call, status, random_.Chance(0.5) ? "" : "<html>no</html>");
  Answer(call, status, fmt::format(R"({{"__type":"com.amazonaws.xray#{}","message":"no"}})", code));
  if (random_.Chance(0.5)) {
    call->reply.response.headers.emplace_back("x-amzn-errortype", std::string(code));
  }
}

void FarSide::Break(Call* call, absl::StatusCode code, std::string_view fault) {
  call->reply.response.transport = absl::Status(code, "broken");
  call->reply.response.fault = fault;
}

void FarSide::Throttle(Call* call) {
  call->reply.fates.assign(call->documents.size(), Fate::kThrottled);
  const bool by_code = random_.Chance(0.4);
  Refuse(call, by_code ? 400 : 429, by_code ? "ThrottlingException" : "");
  if (random_.Chance(0.6)) return;
  const auto wait = static_cast<int>(random_.Between(1, 8));
  HttpResponse& response = call->reply.response;
  call->reply.quiet = seconds(wait);
  if (random_.Chance(0.3)) {
    const SystemTime date = std::chrono::floor<seconds>(loop_->wall() + call->after);
    response.headers.emplace_back("Date", HttpDate(date));
    response.headers.emplace_back("Retry-After", HttpDate(date + seconds(wait)));
  } else {
    response.headers.emplace_back("retry-after", fmt::format("{}", wait));
  }
}

void FarSide::SettleSingly(Call* call, double throttled, double refused) {
  const uint64_t salt = random_.Next();
  std::vector<uint64_t> names;
  std::set<uint64_t> doubtful;
  for (size_t i = 0; i < call->documents.size(); ++i) {
    const uint64_t number = call->documents[i];
    const Style style = books_->shape(number).style;
    // Documents that an answer cannot tell apart.
    uint64_t name = 0;
    if (HasReadableId(style)) name = style == Style::kUpdate ? number : number + 1;
    names.push_back(name);
    // They are refused together, and throttled each for itself.
    const bool bad = Random(salt ^ name * 0x9e3779b97f4a7c15).Chance(refused);
    call->reply.fates[i] = random_.Chance(throttled) ? Fate::kThrottled
                           : bad                     ? Fate::kRefused
                                                     : Fate::kTaken;
    if (call->reply.fates[i] == Fate::kThrottled) doubtful.insert(name);
  }
  Answer(call, 200, Unprocessed(*call));
  for (size_t i = 0; i < names.size(); ++i) {
    if (doubtful.count(names[i]) == 0) continue;
    Fate& fate = call->reply.fates[i];
    fate = fate == Fate::kTaken     ? Fate::kTakenInDoubt
           : fate == Fate::kRefused ? Fate::kNotTaken
                                    : fate;
  }
}

std::string FarSide::Unprocessed(const Call& call) {
  std::vector<std::string> entries;
  bool nameless = false;
  for (size_t i = 0; i < call.documents.size(); ++i) {
    const uint64_t number = call.documents[i];
    const Style style = books_->shape(number).style;
    nameless |= !HasReadableId(style);
    if (call.reply.fates[i] == Fate::kTaken) continue;
    // The id that only the far side can read may be that of a document that both can.
    const std::string id = HasReadableId(style) ? IdOf(number, style) : "";
    entries.push_back(fmt::format(
        R"({{"Id":{},"ErrorCode":"{}","Message":"\"{}\""}})",
        id.empty() ? "null" : fmt::format("\"{}\"", id),
        call.reply.fates[i] == Fate::kThrottled ? "ThrottledException" : "InvalidSegment", number));
  }
  // About nothing that was sent.
  if (random_.Chance(0.2)) entries.emplace_back(R"({"Id":"feedfeedfeedfeed"})");
  if (random_.Chance(0.2)) entries.emplace_back("7");
  if (!nameless && random_.Chance(0.3)) {
    entries.emplace_back(R"({"Id":"feedfeedfeedfeed","ErrorCode":"ThrottledException"})");
    entries.emplace_back(R"({"ErrorCode":"MissingId","Message":"none"})");
  }
  for (size_t i = entries.size(); i > 1; --i) {
    std::swap(entries[i - 1], entries[random_.Between(0, i - 1)]);
  }
  std::string list;
  for (const std::string& entry : entries) list += (list.empty() ? "" : ",") + entry;
  return fmt::format(R"({{"UnprocessedTraceSegments":[{}],"more":{{}}}})", list);
}

void FarSide::Garble(Call* call) {
  call->takes = random_.Chance(0.7);
  call->reply.clear = false;
  std::string noise;
  for (uint64_t i = random_.Between(1, 300); i > 0; --i) {
    noise.push_back(static_cast<char>(random_.Next()));
  }
  switch (random_.Between(0, 5)) {
    case 0: {
      const std::string whole = Unprocessed(*call);
      return Answer(call, 200, whole.substr(0, random_.Between(1, whole.size() - 1)));
    }
    case 1:
      return Answer(call, 200, "<html><title>Sign in</title></html>");
    case 2:
      return Answer(call, 200, "\x01" + noise);
    case 3:
      return Answer(call, random_.Chance(0.5) ? 302 : 599, noise);
    case 4:  // more than is read
      return Break(call, absl::StatusCode::kDataLoss, "garbled");
    default:  // JSON as deep as it is long
      return Answer(call, 200, std::string(random_.Between(1000, 60'000), '['));
  }
}

}  // namespace mobula::sim
