// kill -9 at random moments, with real processes and files.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>

#include "engine/spool/spool.h"
#include "tests/unit/engine/spool/spool_fixture.h"
#include "tests/unit/engine/spool/temporary_directory.h"

namespace mobula {
namespace {

class SpoolKillTest : public SpoolFixture {
 protected:
  // What the child says of document `number`, before or after it happened. Whole in a pipe: 8 bytes are atomic.
  struct Word {
    enum class What : uint32_t { kAppended, kDelivering, kDone };
    What what;
    uint32_t number;
  };

  Spool::Options OnDisk() {
    Spool::Options options = DefaultOptions();
    options.path = directory_.path() + "/spool";
    options.seed = 0;  // as each process has it
    options.file_bytes_max = 64U << 10;
    return options;
  }

  static std::string Document(uint32_t number) {
    return std::to_string(number) + " " + Noise(100 + number % 1000, number);
  }

  // Appends and delivers until it is killed. Adopts what its forerunners left.
  [[noreturn]] void Child(int pipe, uint32_t first) {
    const auto say = [&](Word::What what, uint32_t number) {
      const Word word{what, number};
      if (::write(pipe, &word, sizeof(word)) != sizeof(word)) ::_exit(1);
    };
    const auto spool = OpenSpool(OnDisk());
    SpoolLane* const lane = spool->lane("prod");
    for (uint32_t number = first;; number += 2) {
      if (!Append(lane, {Document(number), Document(number + 1)}).ok()) ::_exit(2);
      say(Word::What::kAppended, number);
      say(Word::What::kAppended, number + 1);
      if (number % 3 == 0) continue;
      if (const auto frame = lane->Next(now_)) {
        std::vector<uint32_t> numbers;
        for (const std::string& document : Remaining(*frame)) {
          numbers.push_back(static_cast<uint32_t>(std::stoul(document)));
        }
        for (const uint32_t n : numbers) say(Word::What::kDelivering, n);
        lane->Done(frame->token);
        for (const uint32_t n : numbers) say(Word::What::kDone, n);
      }
    }
  }

  SpoolDisk* disk() override { return PosixSpoolDisk(); }

  TemporaryDirectory directory_;
};

TEST_F(SpoolKillTest, EverythingAppendedIsFoundAfterTwentyKills) {
  std::mt19937_64 random(::getpid());
  std::map<uint32_t, Word::What> known;
  uint32_t next = 0;
  for (int kill = 0; kill < 20; ++kill) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) Child(ends[1], next);
    ::close(ends[1]);
    // A pipe keeps what its writer said before it died.
    Word word{};
    uint32_t words = 0;
    const uint32_t enough = 20 + static_cast<uint32_t>(random() % 400);
    bool killed = false;
    while (::read(ends[0], &word, sizeof(word)) == sizeof(word)) {
      known[word.number] = word.what;
      next = std::max(next, word.number + 100);
      if (++words < enough || killed) continue;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      ASSERT_EQ(::kill(child, SIGKILL), 0);
      killed = true;
    }
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;
  }
  ASSERT_GT(known.size(), 400U);

  const auto spool = OpenSpool(OnDisk());
  std::map<uint32_t, int> found;
  for (const std::string& document : Drain(spool->lane("prod"))) {
    const auto number = static_cast<uint32_t>(std::stoul(document));
    EXPECT_EQ(document, Document(number));
    ++found[number];
  }
  int repeated = 0;
  for (const auto& [number, what] : known) {
    EXPECT_LE(found[number], 1) << number;
    EXPECT_TRUE(what != Word::What::kAppended || found[number] == 1) << number << " is lost";
    EXPECT_TRUE(what != Word::What::kDone || found[number] == 0) << number << " comes twice";
    repeated += what == Word::What::kDelivering ? found[number] : 0;
  }
  // Those in delivery at a kill: one frame of two documents each time.
  EXPECT_LE(repeated, 2 * 20);
  EXPECT_EQ(spool->lane("prod")->account().damaged.value(), 0U);
  EXPECT_EQ(spool->state().set_aside, 0U);
}

}  // namespace
}  // namespace mobula
