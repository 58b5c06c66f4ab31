#include "engine/receive/port_holder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mobula {
namespace {

// A name of this process's own.
std::string Address() { return "test:" + std::to_string(getpid()); }

PortHolder Shown(const std::string& address) {
  absl::StatusOr<PortHolder> shown = PortHolder::Show(address, 3);
  EXPECT_TRUE(shown.ok()) << shown.status();
  return *std::move(shown);
}

// A process that runs `f` when it is let, and ends with what that answers.
class Child {
 public:
  explicit Child(const std::function<int(const std::function<void()>& ready)>& f) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) _exit(f([&] { (void)!write(ends[1], "r", 1); }));
    close(ends[1]);
    char ready = 0;
    EXPECT_EQ(read(ends[0], &ready, 1), 1);
    close(ends[0]);
  }
  ~Child() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    (void)Status();
  }
  int Status() {
    int status = 0;
    if (pid_ > 0) waitpid(std::exchange(pid_, 0), &status, 0);
    return status;
  }
  void Kill() { kill(pid_, SIGKILL); }

 private:
  pid_t pid_ = 0;
};

bool SoonGone(const Predecessor& predecessor) {
  for (int i = 0; i < 1000 && !predecessor.Gone(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return predecessor.Gone();
}

TEST(PortHolderTest, IsFoundByItsAddressWhileItLives) {
  EXPECT_FALSE(Predecessor::Find(Address()).has_value());
  std::optional<PortHolder> holder = Shown(Address());
  EXPECT_FALSE(Predecessor::Find(Address() + "0").has_value());
  std::optional<Predecessor> found = Predecessor::Find(Address());
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE(found->Gone());
  holder.reset();
  EXPECT_TRUE(found->Gone());
  EXPECT_FALSE(Predecessor::Find(Address()).has_value());
}

TEST(PortHolderTest, TwoCannotHaveOneName) {
  const PortHolder holder = Shown(Address());
  EXPECT_EQ(PortHolder::Show(Address(), 3).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(PortHolderTest, SuccessorsThatWereTakenInSeeTheEndToo) {
  std::optional<PortHolder> holder = Shown(Address());
  const std::optional<Predecessor> found = Predecessor::Find(Address());
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->WaitForSockets(std::chrono::milliseconds(1)), 0U) << "it does not look";
  holder->Tend();
  EXPECT_EQ(found->WaitForSockets(std::chrono::seconds(10)), 3U);
  EXPECT_FALSE(found->Gone());
  holder.reset();
  EXPECT_TRUE(found->Gone());
}

// An agent that fails to start again and again must not use up the kernel's queue of connections.
TEST(PortHolderTest, SuccessorsThatWentAwayLeaveTheirPlaceToOthers) {
  PortHolder holder = Shown(Address());
  for (size_t i = 0; i < 3 * PortHolder::kSuccessorsMax; ++i) {
    ASSERT_TRUE(Predecessor::Find(Address()).has_value()) << i;
  }
  const std::optional<Predecessor> last = Predecessor::Find(Address());
  ASSERT_TRUE(last.has_value());
  for (int i = 0; i < 5; ++i) holder.Tend();
  EXPECT_FALSE(last->Gone());
  std::vector<Predecessor> waiting;
  for (size_t i = 0; i < 2 * PortHolder::kSuccessorsMax; ++i) {
    std::optional<Predecessor> found = Predecessor::Find(Address());
    ASSERT_TRUE(found.has_value());
    waiting.push_back(*std::move(found));
  }
  EXPECT_GE(holder.waiting_fd(), 0);
  holder.Tend();
  EXPECT_EQ(holder.waiting_fd(), -1) << "those that have to wait would wake it again and again";
  for (const Predecessor& one : waiting) EXPECT_FALSE(one.Gone());
  waiting.clear();
  // Those that have gone while they waited are taken in first.
  for (int i = 0; i < 5; ++i) holder.Tend();
  EXPECT_GE(holder.waiting_fd(), 0);
}

// Shows `address` as user `uid`, and answers 7 after SIGTERM.
int HoldUntilTerm(const std::string& address, uid_t uid, const std::function<void()>& ready) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  if (uid != geteuid() && setuid(uid) != 0) return 1;
  const auto holder = PortHolder::Show(address, 3);
  if (!holder.ok()) return 2;
  ready();
  int got = 0;
  return sigwait(&set, &got) == 0 && got == SIGTERM ? 7 : 3;
}

TEST(PortHolderTest, IsAskedBySigterm) {
  const std::string address = Address();
  Child child([&](const auto& ready) { return HoldUntilTerm(address, geteuid(), ready); });
  const std::optional<Predecessor> found = Predecessor::Find(address);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE(found->Gone());
  EXPECT_TRUE(found->AskToEnd().ok());
  EXPECT_EQ(WEXITSTATUS(child.Status()), 7);
  EXPECT_TRUE(SoonGone(*found));
  EXPECT_TRUE(found->AskToEnd().ok()) << "there is nobody left to ask";
}

TEST(PortHolderTest, OneThatWasKilledIsGone) {
  const std::string address = Address();
  Child child([&](const auto& ready) { return HoldUntilTerm(address, geteuid(), ready); });
  const std::optional<Predecessor> found = Predecessor::Find(address);
  ASSERT_TRUE(found.has_value());
  child.Kill();
  EXPECT_TRUE(SoonGone(*found));
}

TEST(PortHolderTest, OtherUsersAreNeitherFoundNorTakenIn) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to be another user";
  constexpr uid_t kNobody = 65534;
  const std::string address = Address();
  {
    Child stranger([&](const auto& ready) { return HoldUntilTerm(address, kNobody, ready); });
    EXPECT_FALSE(Predecessor::Find(address).has_value());
  }
  PortHolder holder = Shown(address);
  Child stranger([&](const auto& ready) {
    if (setuid(kNobody) != 0) return 1;
    // Finds nobody, as that one is of another user, but has connected.
    const bool found = Predecessor::Find(address).has_value();
    ready();
    return found ? 2 : 7;
  });
  EXPECT_EQ(WEXITSTATUS(stranger.Status()), 7);
  holder.Tend();
  EXPECT_TRUE(Predecessor::Find(address).has_value());
}

}  // namespace
}  // namespace mobula
