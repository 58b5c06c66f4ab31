// A far side that speaks like the X-Ray API and fails in all the ways that one does, or that the way to it does.
// It reads request bodies as they are and notes what it took; its answers are bytes, for the real parser.
//
// Room:      test.
// Ownership: outlives the agents that call it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/http/http_client.h"
#include "tests/sim/books.h"
#include "tests/sim/random.h"

namespace mobula::sim {

enum class Mood : uint8_t {
  kOk,
  kSlow,         // answers about when the caller loses patience
  kUnavailable,  // 5xx, now and then after taking the documents
  kThrottled,    // 429 or a throttling code, with and without Retry-After
  kBusy,         // takes so many documents a second; the rest is throttled
  kPerDocument,  // throttles and refuses single documents
  kHangs,        // never answers; may take the documents late
  kReset,        // before or after taking them
  kNobody,       // connection refused
  kNoName,       // DNS
  kNoTrust,      // the certificate is not accepted
  kSmall,        // 413 for bodies over a limit
  kForbidden,    // 403, wrong or old credentials
  kInvalid,      // 400: the whole call refused for good
  kGarbage,      // answers that nobody can read, often after taking the documents
  kMixed,        // another one for each call
};
inline constexpr int kMoodCount = static_cast<int>(Mood::kMixed) + 1;
std::string_view MoodName(Mood mood);

// What really became of a document of a call.
// kTakenInDoubt: taken, and to be sent again, since the answer may be about it.
enum class Fate : uint8_t { kTaken, kTakenInDoubt, kThrottled, kRefused, kNotTaken };

struct Reply {
  HttpResponse response;
  // The answer leaves no doubt about `fates`. Else the documents may come again.
  bool clear = true;
  bool too_large = false;
  bool poisoned = false;    // refused for a document that it cannot bear
  std::vector<Fate> fates;  // in the order of the body
  Duration quiet{};         // the caller was asked not to call for so long
};

class FarSide {
 public:
  using Done = std::function<void(const Reply&)>;

  FarSide(Key key, std::string name, EventLoop* loop, Books* books, Story* story, Random random);

  void Set(Mood mood);
  // As much of it as can be: hanging calls are all taken in the end...
  void SetWorst(Mood mood);
  [[nodiscard]] Mood mood() const { return mood_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] Key key() const { return key_; }
  // Since when it takes everything at once; kTimeNever: it does not.
  [[nodiscard]] Time healthy_since() const { return healthy_since_; }
  // Called when a document came for the first time.
  std::function<void(Key, uint64_t)> on_take;
  Duration latency = std::chrono::milliseconds(20);
  // When well, it answers a call that holds one of these with a 5xx or a 403.
  std::function<bool(uint64_t)> is_poison = [](uint64_t) { return false; };

  // Takes a call whose sender waits until `deadline`; `done` may never be called, or late.
  void Serve(std::string_view body, Time deadline, Done done);

 private:
  struct Call {
    std::vector<uint64_t> documents;
    Reply reply;
    Duration after{};  // the answer
    bool answers = true;
    bool takes = true;  // documents of Fate::kTaken
    Duration takes_after{};
  };

  std::vector<uint64_t> Read(std::string_view body);
  void Take(const std::vector<uint64_t>& documents, const std::vector<Fate>& fates);
  void Decide(Call* call, size_t bytes, Duration patience);
  void Answer(Call* call, int status, std::string body);
  void Refuse(Call* call, int status, std::string_view code);
  void Break(Call* call, absl::StatusCode code, std::string_view fault);
  void Throttle(Call* call);
  void SettleSingly(Call* call, double throttled, double refused);
  void Garble(Call* call);
  std::string Unprocessed(const Call& call);

  const Key key_;
  const std::string name_;
  EventLoop* const loop_;
  Books* const books_;
  Story* const story_;
  Random random_;

  Mood mood_ = Mood::kOk;
  Time healthy_since_ = EventLoop::kStart;
  double level_ = 0;  // of the present mood: a size, a rate, a share
  double tokens_ = 0;
  Time tokens_at_{};
};

}  // namespace mobula::sim
