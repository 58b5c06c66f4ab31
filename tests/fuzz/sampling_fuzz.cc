// The cache of sampling rules between any clients and any far side: every request is answered exactly once and counted
// once, what comes from the cache was an answer before, and a fresh one is no older than it may be. Each line is a step:
//   G body         a client asks            A status body   the far side answers the oldest call
//   F              that call fails          D date          of the next answers
//   T body         targets come             S seconds       time passes
//   H name: value  a header of a client
#include <charconv>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampling/pass_through.h"
#include "engine/sampling/rules_cache.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using mobula::HttpReply;
using mobula::HttpResponse;

constexpr mobula::Duration kAge = std::chrono::seconds(60);

std::string HeaderOf(const HttpReply& reply, std::string_view wanted) {
  for (const auto& [name, value] : reply.headers) {
    if (name == wanted) return value;
  }
  return "";
}

template <typename T>
T NumberOf(std::string_view text) {
  T number{};
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

class World {
 public:
  void Ask(std::string_view body) {
    const size_t client = replies_.size();
    replies_.push_back(0);
    cache_.Get(
        std::string(body),
        [this, client](const HttpReply& reply) {
          ++replies_[client];
          Judge(reply);
        },
        nullptr);
  }

  void Answer(HttpResponse response) {
    if (calls_.empty()) return;
    response.headers.emplace_back("Date", date_);
    response.headers.emplace_back("Connection", "close, X-Hop");
    response.headers.emplace_back("X-Hop", "1");
    if (response.transport.ok()) bodies_.insert(response.body);
    const mobula::HttpDone done = std::move(calls_.front());
    calls_.pop_front();
    done(std::move(response));
  }
  void Answer(int status, std::string_view body) {
    HttpResponse response;
    response.status = status;
    response.body = body;
    Answer(std::move(response));
  }
  void Fail() {
    HttpResponse response;
    response.transport = absl::UnavailableError("no");
    response.fault = "reset";
    Answer(std::move(response));
  }

  void Targets(std::string_view body) {
    HttpResponse response;
    response.status = 200;
    response.body = body;
    cache_.NoteTargets(response);
  }

  void Pass(uint32_t seconds) {
    now_ += std::chrono::seconds(seconds);
    wall_ += std::chrono::seconds(seconds);
  }
  void SetDate(std::string_view date) { date_ = date; }

  void End() {
    while (!calls_.empty()) Fail();
    for (const int count : replies_) EXPECT(count == 1);
    const auto& s = stats_;
    EXPECT(s.forwarded.value() + s.cached.value() + s.stale.value() + s.failed.value() ==
           replies_.size());
  }

 private:
  void Judge(const HttpReply& reply) {
    EXPECT(HeaderOf(reply, "Connection").empty() && HeaderOf(reply, "X-Hop").empty());
    const std::string how = HeaderOf(reply, "X-Mobula-Cache");
    if (how.empty()) return;
    EXPECT(how == "hit" || how == "stale" || how == "miss");
    EXPECT(reply.status == 200);
    EXPECT(bodies_.count(reply.text()) == 1);
    if (how == "hit") EXPECT(NumberOf<int64_t>(HeaderOf(reply, "Age")) < 60);
  }

  mobula::Time now_{std::chrono::hours(100)};
  mobula::RulesCache::WallClock::time_point wall_{std::chrono::seconds(1'800'000'000)};
  std::string date_ = "Fri, 15 Jan 2027 08:00:00 GMT";
  std::deque<mobula::HttpDone> calls_;
  std::set<std::string> bodies_;  // all that the far side ever said
  std::vector<int> replies_;      // by client
  mobula::SamplingProxyStats stats_;
  mobula::RulesCache cache_{
      {kAge, [this] { return now_; }, [this] { return wall_; }},
      [this](const std::string& body, mobula::Duration timeout, mobula::HttpDone done) {
        EXPECT(timeout > mobula::Duration::zero());
        EXPECT(body.size() <= 1 << 20);
        calls_.push_back(std::move(done));
      },
      &stats_};
};

// What of a client's headers goes on to AWS.
void TryHeaders(const std::vector<std::pair<std::string_view, std::string_view>>& headers) {
  mobula::HttpServerRequest request;
  request.headers = headers;
  std::set<std::string> names;
  for (const auto& [name, value] : mobula::PassedRequestHeaders(request)) {
    for (const char c : value) EXPECT(c >= ' ' && c <= '~');
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    EXPECT(names.insert(lower).second);
    EXPECT(lower == "content-type" || lower == "accept" || lower == "x-amz-target" ||
           lower.starts_with("x-amzn-") || lower.starts_with("amz-sdk-"));
    bool sent = false;
    for (const auto& header : headers) sent |= header.first == name && header.second == value;
    EXPECT(sent);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  World world;
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  while (!input.empty()) {
    const std::string_view line = input.Line();
    const std::string_view rest = line.substr(std::min<size_t>(2, line.size()));
    switch (line.empty() ? '\0' : line[0]) {
      case 'G':
        world.Ask(rest);
        break;
      case 'A':
        world.Answer(NumberOf<int>(rest), rest.substr(std::min(rest.find(' ') + 1, rest.size())));
        break;
      case 'F':
        world.Fail();
        break;
      case 'D':
        world.SetDate(rest);
        break;
      case 'T':
        world.Targets(rest);
        break;
      case 'S':
        world.Pass(NumberOf<uint16_t>(rest));
        break;
      case 'H':
        headers.emplace_back(rest.substr(0, rest.find(": ")),
                             rest.substr(std::min(rest.find(": "), rest.size() - 2) + 2));
        break;
      default:
        break;
    }
  }
  world.End();
  TryHeaders(headers);
  return 0;
}
