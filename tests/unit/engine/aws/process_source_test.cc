// Tests of engine/aws/process_source.h.
#include "engine/aws/process_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>

#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDocument[] =
    R"({"Version": 1, "AccessKeyId": "ASIAP", "SecretAccessKey": "hunter2", "SessionToken": "t")";

class ProcessSourceTest : public testing::SourceFixture {
 protected:
  ~ProcessSourceTest() override {
    // Nothing is left behind: neither a child nor its zombie. WNOWAIT: the loop is to bury them.
    siginfo_t info{};
    const Time end = In(seconds(10));
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           std::chrono::steady_clock::now() < end) {
      loop_.RunUntil(In(milliseconds(2)));
    }
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
  }

  absl::StatusOr<Credentials> Run(const std::string& line, Duration budget = seconds(10)) {
    const auto source = MakeProcessSource(&loop_, line, "p");
    return Fetch(source.get(), budget);
  }

  static int OpenFiles() {
    int count = 0;
    DIR* const folder = ::opendir("/proc/self/fd");
    while (::readdir(folder) != nullptr) ++count;
    ::closedir(folder);
    return count;
  }
};

TEST_F(ProcessSourceTest, ReadsWhatTheProgramPrints) {
  const auto got = Run("echo '" + std::string(kDocument) +
                       R"(, "Expiration": "2026-01-01T02:00:00+02:00"}' | cat)");
  ASSERT_TRUE(got.ok()) << got.status();
  Credentials want{"ASIAP", "hunter2", "t", {}, "profile \"p\" (credential_process)"};
  want.expiry = std::chrono::system_clock::from_time_t(1767225600);
  EXPECT_EQ(*got, want);
}

TEST_F(ProcessSourceTest, RunsItAnewEachTime) {
  const std::string count = home_.path("count").string();
  const auto source = MakeProcessSource(
      &loop_, "echo x >> " + count + "; echo '" + std::string(kDocument) + "}'", "p");
  const int before = OpenFiles();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Fetch(source.get()).ok());
  EXPECT_EQ(OpenFiles(), before);
  EXPECT_EQ(std::filesystem::file_size(count), 6u);
}

TEST_F(ProcessSourceTest, FailuresSayWhichButNothingOfTheOutput) {
  struct Case {
    std::string line;
    const char* says;
  };
  for (const Case& c : {
           Case{"echo hunter2; echo hunter2 >&2; exit 3", "exit status 3"},
           Case{"exec /nonexistent/hunter2", "exit status 127"},
           Case{"echo hunter2; kill -9 $$", "ended by a signal"},
           Case{"echo hunter2", "no JSON"},
           Case{"true", "no JSON"},
           Case{"echo '{\"AccessKeyId\": \"hunter2\"}'", "Version is not 1"},
           Case{"echo '{\"Version\": 2}'", "Version is not 1"},
           Case{"echo '{\"Version\": \"1\"}'", "Version is not 1"},
           Case{"echo '{\"Version\": 1}'", "has no AccessKeyId"},
           Case{"yes hunter2", "more than 65536 bytes"},
       }) {
    const auto got = Run(c.line);
    EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(Text(got.status()), HasSubstr("credential_process of profile \"p\""));
    EXPECT_THAT(Text(got.status()), HasSubstr(c.says));
    EXPECT_THAT(Text(got.status()), Not(HasSubstr("hunter2")));
  }
}

TEST_F(ProcessSourceTest, KillsWhatDoesNotEndWithAllItStarted) {
  const std::string pid_file = home_.path("pid").string();
  const Time begin = std::chrono::steady_clock::now();
  const auto got = Run("sleep 60 & echo $! > " + pid_file + "; wait", milliseconds(500));
  EXPECT_EQ(got.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
  pid_t pid = 0;
  std::ifstream(pid_file) >> pid;
  ASSERT_GT(pid, 1);
  // Whoever inherits the sleeper takes a moment to bury it.
  const Time end = In(seconds(10));
  const auto lives = [pid] {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string number;
    std::string name;
    std::string state;
    return stat >> number >> name >> state && state != "Z" && state != "X";
  };
  while (lives() && std::chrono::steady_clock::now() < end) ::usleep(1000);
  EXPECT_FALSE(lives());
}

TEST_F(ProcessSourceTest, KillsWhatLeftItsGroup) {
  // The program's group becomes this process's, which must not be killed.
  const std::string leave =
      "exec python3 -c 'import os, time; os.setpgid(0, os.getpgid(os.getppid())); "
      "open(\"" +
      home_.path("left").string() + "\", \"w\").close(); time.sleep(40)'";
  auto source = MakeProcessSource(&loop_, leave, "p");
  source->Fetch(In(seconds(30)), [](const auto&) { FAIL(); });
  const Time end = In(seconds(10));
  while (!std::filesystem::exists(home_.path("left")) && std::chrono::steady_clock::now() < end) {
    loop_.RunUntil(In(milliseconds(5)));
  }
  ASSERT_TRUE(std::filesystem::exists(home_.path("left")));
  const Time begin = std::chrono::steady_clock::now();
  source = nullptr;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(1));
}

TEST_F(ProcessSourceTest, TheProgramInheritsNoFile) {
  const int inherited = ::fcntl(STDOUT_FILENO, F_DUPFD, 100);  // without FD_CLOEXEC
  const std::string list = home_.path("fds").string();
  EXPECT_TRUE(Run("for f in /proc/$$/fd/*; do echo ${f##*/}; done > " + list + "; echo '" +
                  std::string(kDocument) + "}'")
                  .ok());
  ::close(inherited);
  std::ifstream in(list);
  std::vector<int> seen;
  for (int fd; in >> fd;) seen.push_back(fd);
  // And those that the shell itself has open while it lists.
  EXPECT_THAT(seen, ::testing::IsSupersetOf({0, 1, 2}));
  EXPECT_THAT(seen, Not(::testing::Contains(inherited)));
}

TEST_F(ProcessSourceTest, DoesNotWaitForWhatRunsOnBehindIt) {
  const std::string pid_file = home_.path("pid").string();
  const Time begin = std::chrono::steady_clock::now();
  const auto got =
      Run("sleep 20 & echo $! > " + pid_file + "; echo '" + std::string(kDocument) + "}'");
  EXPECT_TRUE(got.ok()) << got.status();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(10));
  pid_t pid = 0;
  std::ifstream(pid_file) >> pid;
  ASSERT_GT(pid, 1);
  EXPECT_EQ(::kill(pid, SIGKILL), 0) << "it was killed, though its parent had ended well";
}

TEST_F(ProcessSourceTest, ItsEndComesWithTheSources) {
  auto source = MakeProcessSource(&loop_, "exec sleep 60", "p");
  source->Fetch(In(seconds(30)), [](const auto&) { FAIL(); });
  loop_.RunUntil(In(milliseconds(20)));
  const Time begin = std::chrono::steady_clock::now();
  source = nullptr;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

TEST_F(ProcessSourceTest, SignalsAreAsTheProgramExpectsThem) {
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  const auto handler = ::signal(SIGPIPE, SIG_IGN);
  EXPECT_THAT(Text(Run("kill -TERM $$; echo still here").status()), HasSubstr("ended by a signal"));
  EXPECT_THAT(Text(Run("kill -PIPE $$; echo still here").status()), HasSubstr("ended by a signal"));
  ::signal(SIGPIPE, handler);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(ProcessSourceTest, ChildrenMayBeBuriedBySomebodyElse) {
  const auto handler = ::signal(SIGCHLD, SIG_IGN);
  const auto got = Run("echo '" + std::string(kDocument) + "}'");
  ::signal(SIGCHLD, handler);
  EXPECT_TRUE(got.ok()) << got.status();
}

TEST_F(ProcessSourceTest, HasNothingOnItsInput) {
  EXPECT_TRUE(Run("cat; echo '" + std::string(kDocument) + "}'").ok());
}

}  // namespace
}  // namespace mobula
