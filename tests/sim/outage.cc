#include "tests/sim/outage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "engine/app/progress_bar.h"
#include "tests/sim/agent.h"

namespace mobula::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kTick = milliseconds(2);
constexpr Duration kBefore = seconds(30);  // in which the usual latency shows
constexpr Duration kAfter = seconds(30);   // once the spool is empty
constexpr uint32_t kDocumentBytes = 732;   // what the benches send
constexpr size_t kBuffer = 24U << 20;
constexpr uint64_t kSpool = 1U << 30;

struct Kind {
  const char* name;
  Mood mood;
};
constexpr Kind kKinds[] = {
    {"503", Mood::kUnavailable}, {"429", Mood::kThrottled}, {"hang", Mood::kHangs},
    {"reset", Mood::kReset},     {"DNS", Mood::kNoName},    {"TLS", Mood::kNoTrust},
};

// The latencies of the documents accepted in one second.
struct Second {
  std::vector<float> latencies;

  [[nodiscard]] float At99() {
    if (latencies.empty()) return 0;
    const size_t at = latencies.size() * 99 / 100;
    std::nth_element(latencies.begin(), latencies.begin() + static_cast<std::ptrdiff_t>(at),
                     latencies.end());
    return latencies[at];
  }
};

struct Figures {
  std::string failure;
  uint64_t documents = 0;
  uint64_t lost = 0;
  uint64_t twice = 0;
  uint64_t spooled = 0;     // most documents on disk at a time
  uint64_t disk_bytes = 0;  // most
  double usual = 0;         // 99th percentile of the latency before, in seconds
  double late_for =
      0;  // seconds after the outage until the latency is at most twice that, for good
  double empty_after = 0;  // seconds after the outage until the spool is empty
};

class Outage {
 public:
  Outage(const OutageOptions& options, Mood mood)
      : options_(options),
        mood_(mood),
        story_(Telling::kKeep, &loop_),
        books_(&story_),
        log_(Log::ForTesting(&log_lines_)),
        random_(options.seed),
        far_side_(0, "xray", &loop_, &books_, &story_, random_.Fork()) {
    books_.Reserve(options.documents_per_second *
                   static_cast<uint64_t>(Seconds(kBefore + 3 * options.outage + kAfter)));
    surroundings_ = {&loop_, &books_, &story_, &disk_, &scanner_, log_.get(), {}, {}, 0, [] {}};
    far_side_.on_take = [this](Key, uint64_t number) { Note(number); };
  }

  Figures Run() {
    Agent agent(AgentOptions(), &surroundings_);
    Tick(&agent);
    const Time begin = EventLoop::kStart + kBefore;
    const Time end = begin + options_.outage;
    Until(begin);
    far_side_.SetWorst(mood_);
    Until(end);
    Figures figures;
    Watch(&agent, &figures);
    far_side_.Set(Mood::kOk);
    while (!story_.failed() && agent.lanes()[0]->spool()->account().held.value() > 0 &&
           loop_.now() < end + 2 * options_.outage) {
      Until(loop_.now() + seconds(1));
      Watch(&agent, &figures);
    }
    figures.empty_after = Seconds(loop_.now() - end);
    Until(loop_.now() + kAfter);
    sending_ = false;
    agent.Stop(seconds(20));
    for (const Time late = loop_.now() + seconds(30); !agent.finished() && loop_.now() < late;) {
      Until(loop_.now() + seconds(1));
    }
    if (!agent.finished()) story_.Fail("it does not end");
    Sum(end, &figures);
    return figures;
  }

 private:
  Agent::Options AgentOptions() {
    Agent::Options options;
    options.number = 1;
    options.workers = 2;
    Backend backend{"xray", "xray", &far_side_, 0, {}};
    backend.share = kBuffer - options.workers * 3 * BlockPool::kBlockBytesMax;
    options.backends = {backend};
    options.spool.path = "/spool";
    options.spool.bytes_max = kSpool;
    options.seed = random_.Next();
    return options;
  }

  void Tick(Agent* agent) {
    if (!sending_) return;
    loop_.After(kTick, [this, agent] { Tick(agent); });
    owed_ += static_cast<double>(options_.documents_per_second) * Seconds(kTick);
    for (; owed_ >= 1; owed_ -= 1) {
      const uint64_t number = books_.NewDocument({Style::kOrdinary, 0, kDocumentBytes}, &text_);
      agent->Receive(number % 2, number, text_);
    }
  }

  void Until(Time time) {
    bool there = false;
    loop_.At(time, [&there] { there = true; });
    while (!there && !story_.failed()) loop_.Step();
  }

  void Note(uint64_t number) {
    const Time accepted = books_.accepted(number);
    const auto second = static_cast<size_t>((accepted - EventLoop::kStart) / seconds(1));
    if (seconds_.size() <= second) seconds_.resize(second + 1);
    seconds_[second].latencies.push_back(static_cast<float>(Seconds(loop_.now() - accepted)));
  }

  void Watch(Agent* agent, Figures* figures) {
    figures->spooled =
        std::max(figures->spooled, agent->lanes()[0]->spool()->account().held.value());
    figures->disk_bytes = std::max(figures->disk_bytes, agent->spool()->state().bytes);
  }

  void Sum(Time end, Figures* figures) {
    const auto index = [](Time time) {
      return static_cast<size_t>((time - EventLoop::kStart) / seconds(1));
    };
    // The first seconds are those of a window that grows.
    for (size_t s = 5; s < index(EventLoop::kStart + kBefore) - 1; ++s) {
      figures->usual = std::max<double>(figures->usual, seconds_[s].At99());
    }
    for (size_t s = index(end); s < seconds_.size(); ++s) {
      if (seconds_[s].At99() > 2 * figures->usual) {
        figures->late_for = static_cast<double>(s + 1 - index(end));
      }
    }
    const Books::Totals totals = books_.Sum();
    figures->failure = story_.failure();
    figures->documents = totals.expected;
    figures->lost = totals.expected - totals.arrived;
    figures->twice = totals.twice;
  }

  const OutageOptions options_;
  const Mood mood_;
  EventLoop loop_;
  Story story_;
  Books books_;
  FakeSpoolDisk disk_;
  std::string log_lines_;
  const std::unique_ptr<Log> log_;
  SegmentScanner scanner_{Validate::kJson};
  Surroundings surroundings_;
  Random random_;
  FarSide far_side_;
  bool sending_ = true;
  double owed_ = 0;
  std::string text_;
  std::vector<Second> seconds_;
};

}  // namespace

bool RunOutages(const OutageOptions& options) {
  std::puts(fmt::format("outages of {:.0f} s at {} documents/s of {} bytes; a buffer of {} MiB, a "
                        "spool of {} MiB\n"
                        "{:<6} {:>10} {:>6} {:>7} {:>10} {:>7} {:>9} {:>9} {:>9}",
                        Seconds(options.outage), options.documents_per_second, kDocumentBytes,
                        kBuffer >> 20, kSpool >> 20, "kind", "documents", "lost", "twice",
                        "spooled", "MiB", "usual p99", "late for", "empty in")
                .c_str());
  bool good = true;
  uint64_t done = 0;
  for (const Kind& kind : kKinds) {
    Figures f;
    {
      ProgressBar progress(STDERR_FILENO, true);
      progress.Update(done++, std::size(kKinds), std::chrono::steady_clock::now());
      f = Outage(options, kind.mood).Run();
    }
    const bool ok = f.failure.empty() && f.lost == 0 && f.late_for <= 2 * Seconds(options.outage) &&
                    f.empty_after < 2 * Seconds(options.outage);
    good &= ok;
    std::puts(
        fmt::format("{:<6} {:>10} {:>6} {:>7} {:>10} {:>7.1f} {:>6.0f} ms {:>7.0f} s {:>7.0f} s{}",
                    kind.name, f.documents, f.lost, f.twice, f.spooled,
                    static_cast<double>(f.disk_bytes) / (1 << 20), f.usual * 1000, f.late_for,
                    f.empty_after, ok ? "" : "  FAILED " + f.failure)
            .c_str());
    std::fflush(stdout);
  }
  return good;
}

}  // namespace mobula::sim
