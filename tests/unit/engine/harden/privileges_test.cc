// What gives something away for good is tried in a process of its own.
#include "engine/harden/privileges.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "engine/base/sanitized.h"

namespace mobula {
namespace {

constexpr uid_t kSomebody = 54321;

// What /proc/self/status says of `name`, with single blanks.
std::string Said(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream words(line.substr(name.size() + 1));
    std::string all;
    for (std::string word; words >> word;) all += (all.empty() ? "" : " ") + word;
    return all;
  }
  return "?";
}

// What `body` answers in a process of its own.
std::string Apart(const std::function<std::string()>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string answer = body();
    (void)!write(ends[1], answer.data(), answer.size());
    _exit(0);
  }
  close(ends[1]);
  std::string answer;
  char piece[256];
  for (ssize_t n = 0; (n = read(ends[0], piece, sizeof piece)) > 0;) {
    answer.append(piece, static_cast<size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return answer;
}

bool IsRoot() { return geteuid() == 0; }

TEST(FindUnixUserTest, NumbersNeedNoEntry) {
  const auto user = FindUnixUser("54321");
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->uid, kSomebody);
  EXPECT_EQ(user->gid, kSomebody);
  EXPECT_EQ(user->home, "/");
  const auto with_group = FindUnixUser("54321:7");
  ASSERT_TRUE(with_group.ok()) << with_group.status();
  EXPECT_EQ(with_group->uid, kSomebody);
  EXPECT_EQ(with_group->gid, 7U);
}

TEST(FindUnixUserTest, NamesAreThoseOfTheMachine) {
  const passwd* const nobody = getpwnam("nobody");
  ASSERT_NE(nobody, nullptr);
  const auto user = FindUnixUser("nobody");
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->uid, nobody->pw_uid);
  EXPECT_EQ(user->gid, nobody->pw_gid);
  EXPECT_EQ(user->home, nobody->pw_dir);
  const auto root = FindUnixUser("0:nogroup");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->uid, 0U);
  EXPECT_NE(root->gid, 0U);
}

TEST(FindUnixUserTest, UnknownOnesAreNamed) {
  EXPECT_EQ(FindUnixUser("no-such-user").status().message(),
            "security.user: no user is named \"no-such-user\": expected a name of this machine's, "
            "or a number");
  EXPECT_EQ(
      FindUnixUser("nobody:no-such-group").status().message(),
      "security.user: no group is named \"no-such-group\": expected a name of this machine's, "
      "or a number");
  EXPECT_FALSE(FindUnixUser("4294967295").ok());  // "no change" to setuid
}

TEST(MakeFoldersForTest, GivesAwayWhatItMakesAndNothingElse) {
  if (!IsRoot()) GTEST_SKIP() << "only root gives folders away";
  char name[] = "/tmp/privileges_test.XXXXXX";
  const std::string top = mkdtemp(name);
  const std::string elsewhere = top + "/elsewhere";
  std::filesystem::create_directory(elsewhere);
  std::filesystem::create_directory_symlink(elsewhere, top + "/link");
  const UnixUser somebody{kSomebody, kSomebody, "/"};
  EXPECT_TRUE(MakeFoldersFor(somebody, {{top + "/a/b", 0700}, {top + "/link"}, {""}}).ok());
  EXPECT_TRUE(MakeFoldersFor(somebody, {{top + "/a/b"}}).ok());
  const auto owner_of = [](const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_uid;
  };
  EXPECT_EQ(owner_of(top), 0U);
  EXPECT_EQ(owner_of(elsewhere), 0U);
  EXPECT_EQ(owner_of(top + "/a"), kSomebody);
  EXPECT_EQ(owner_of(top + "/a/b"), kSomebody);
  const auto mode_of = [](const std::string& path) {
    return static_cast<unsigned>(std::filesystem::status(path).permissions());
  };
  EXPECT_EQ(mode_of(top + "/a"), 0750U);
  EXPECT_EQ(mode_of(top + "/a/b"), 0700U);
  std::filesystem::remove_all(top);
}

TEST(LimitPrivilegesTest, TakesWhatCouldBeInheritedAndDumped) {
  EXPECT_EQ(Apart([] {
              if (!LimitPrivileges({}).ok()) return std::string("failed");
              return Said("NoNewPrivs") + "|" + Said("CapInh") + "|" + Said("CapAmb") + "|" +
                     std::to_string(prctl(PR_GET_DUMPABLE));
            }),
            std::string("1|0000000000000000|0000000000000000|") + (kSanitized ? "1" : "0"));
}

TEST(LimitPrivilegesTest, BecomesTheUserAndKeepsWhatSocketsNeed) {
  if (!IsRoot()) GTEST_SKIP() << "only root becomes somebody else";
  EXPECT_EQ(Apart([] {
              if (!LimitPrivileges(UnixUser{kSomebody, 7, "/home/of"}).ok()) {
                return std::string("failed");
              }
              return Said("Uid") + "|" + Said("Gid") + "|" + Said("Groups") + "|" + Said("CapPrm") +
                     "|" + Said("CapEff") + "|" + Said("CapBnd") + "|" + std::getenv("HOME");
            }),
            "54321 54321 54321 54321|7 7 7 7||0000000000001400|0000000000001400|0000000000000000|"
            "/home/of");
}

TEST(LimitPrivilegesTest, ThereIsNoWayBack) {
  if (!IsRoot()) GTEST_SKIP() << "only root becomes somebody else";
  EXPECT_EQ(Apart([] {
              if (!LimitPrivileges(UnixUser{kSomebody, kSomebody, "/"}).ok()) return "failed";
              return setuid(0) == 0 || setgid(0) == 0 || access("/etc/shadow", R_OK) == 0 ? "back"
                                                                                          : "none";
            }),
            "none");
}

TEST(LimitPrivilegesTest, OthersCannotBecomeSomebodyElse) {
  if (!IsRoot()) GTEST_SKIP() << "needs to become an ordinary user first";
  EXPECT_EQ(Apart([] {
              if (!LimitPrivileges(UnixUser{kSomebody, kSomebody, "/"}).ok()) {
                return std::string("failed");
              }
              DropPrivileges();
              if (!LimitPrivileges(UnixUser{kSomebody, kSomebody, "/"}).ok()) {
                return std::string("not even who it is");
              }
              return std::string(LimitPrivileges(UnixUser{1, 1, "/"}).message());
            }),
            "security.user: cannot become user 1:1: setgroups: Operation not permitted; start as "
            "root, or leave it out");
}

TEST(DropPrivilegesTest, LeavesNoneToRoot) {
  EXPECT_EQ(Apart([] {
              if (!LimitPrivileges({}).ok()) return std::string("failed");
              DropPrivileges();
              return Said("CapPrm") + "|" + Said("CapEff");
            }),
            "0000000000000000|0000000000000000");
}

}  // namespace
}  // namespace mobula
