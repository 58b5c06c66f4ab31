// Each filter is tried in a process of its own, since nothing undoes it.
#include "engine/harden/syscall_filter.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace mobula {
namespace {

using Options = SyscallFilter::Options;

constexpr ThreadRole kRoles[] = {ThreadRole::kReceiver, ThreadRole::kLane, ThreadRole::kControl};
constexpr int kUnfiltered = 99;

// What no thread of ours may ever ask for, whatever its role and options.
constexpr std::pair<const char*, long> kNever[] = {
    {"ptrace", SYS_ptrace},
    {"process_vm_readv", SYS_process_vm_readv},
    {"process_vm_writev", SYS_process_vm_writev},
    {"process_madvise", SYS_process_madvise},
    {"pidfd_getfd", SYS_pidfd_getfd},
    {"kcmp", SYS_kcmp},
    {"kexec_load", SYS_kexec_load},
    {"kexec_file_load", SYS_kexec_file_load},
    {"init_module", SYS_init_module},
    {"finit_module", SYS_finit_module},
    {"delete_module", SYS_delete_module},
    {"mount", SYS_mount},
    {"umount2", SYS_umount2},
    {"move_mount", SYS_move_mount},
    {"open_tree", SYS_open_tree},
    {"fsopen", SYS_fsopen},
    {"pivot_root", SYS_pivot_root},
    {"chroot", SYS_chroot},
    {"unshare", SYS_unshare},
    {"setns", SYS_setns},
    {"clone3", SYS_clone3},
    {"bpf", SYS_bpf},
    {"perf_event_open", SYS_perf_event_open},
    {"keyctl", SYS_keyctl},
    {"add_key", SYS_add_key},
    {"request_key", SYS_request_key},
    {"userfaultfd", SYS_userfaultfd},
    {"setuid", SYS_setuid},
    {"setgid", SYS_setgid},
    {"setreuid", SYS_setreuid},
    {"setregid", SYS_setregid},
    {"setresuid", SYS_setresuid},
    {"setresgid", SYS_setresgid},
    {"setgroups", SYS_setgroups},
    {"setfsuid", SYS_setfsuid},
    {"setfsgid", SYS_setfsgid},
    {"capset", SYS_capset},
    {"personality", SYS_personality},
    {"open_by_handle_at", SYS_open_by_handle_at},
    {"mknodat", SYS_mknodat},
    {"quotactl", SYS_quotactl},
    {"acct", SYS_acct},
    {"swapon", SYS_swapon},
    {"reboot", SYS_reboot},
    {"sethostname", SYS_sethostname},
    {"settimeofday", SYS_settimeofday},
    {"clock_settime", SYS_clock_settime},
    {"adjtimex", SYS_adjtimex},
    {"syslog", SYS_syslog},
    {"vhangup", SYS_vhangup},
    {"setxattr", SYS_setxattr},
    {"pkey_mprotect", SYS_pkey_mprotect},
    {"remap_file_pages", SYS_remap_file_pages},
    {"mseal, newer than our headers", 462},
    {"a call of the future", 900},
};

// Runs `body` in a process whose only thread keeps to `role`: what it answers.
int Within(const Options& options, ThreadRole role, const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    SyscallFilter filter(options);
    if (!filter.Start().ok() || !filter.Enter(role).ok()) _exit(kUnfiltered);
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  const int answer = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  EXPECT_NE(answer, kUnfiltered) << "this machine takes no filter";
  return answer;
}

// The errno of a call, with arguments that do no harm where it is let through; 0: it worked.
int Try(long number, long a = -1, long b = -1, long c = -1, long d = -1) {
  errno = 0;
  return syscall(number, a, b, c, d, -1L, -1L) == -1 ? errno : 0;
}

class RoleTest : public testing::TestWithParam<ThreadRole> {};

INSTANTIATE_TEST_SUITE_P(Roles, RoleTest, testing::ValuesIn(kRoles));

TEST_P(RoleTest, RefusesWhatNoThreadOfOursHasUseFor) {
  Options widest;
  widest.io_uring = widest.programs = true;
  EXPECT_EQ(Within(widest, GetParam(),
                   [] {
                     int wrong = 0;
                     for (const auto& [name, number] : kNever) {
                       const int error = Try(number);
                       if (error == ENOSYS) continue;
                       dprintf(STDERR_FILENO, "%s: errno %d\n", name, error);
                       ++wrong;
                     }
                     return wrong;
                   }),
            0);
}

TEST_P(RoleTest, LetsAThreadWork) {
  EXPECT_EQ(Within({}, GetParam(),
                   [] {
                     const std::string text(1 << 20, 'x');  // the kernel's memory
                     if (text.back() != 'x') return 1;
                     if (pthread_setname_np(pthread_self(), "within") != 0) return 2;
                     if (prctl(PR_SET_TIMERSLACK, 50'000UL) != 0) return 3;
                     const timespec moment{0, 1000};
                     if (nanosleep(&moment, nullptr) != 0) return 4;
                     return write(STDERR_FILENO, "", 0) == 0 ? 0 : 5;
                   }),
            0);
}

TEST_P(RoleTest, OpensSocketsOfTheNetworkOrNone) {
  EXPECT_EQ(Within({}, GetParam(),
                   [] {
                     for (const int domain : {AF_PACKET, AF_ALG, AF_VSOCK, AF_BLUETOOTH}) {
                       if (Try(SYS_socket, domain, SOCK_RAW, 0) != ENOSYS) return 10;
                     }
                     if (Try(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT) != ENOSYS) return 11;
                     int refused = 0;
                     for (const int domain : {AF_INET, AF_INET6, AF_UNIX}) {
                       refused += Try(SYS_socket, domain, SOCK_DGRAM, 0) == ENOSYS ? 1 : 0;
                     }
                     return refused;
                   }),
            GetParam() == ThreadRole::kReceiver ? 3 : 0);
}

TEST_P(RoleTest, TypesNothingIntoATerminal) {
  EXPECT_EQ(Within({}, GetParam(), [] { return Try(SYS_ioctl, 0, TIOCSTI, 0); }), ENOSYS);
}

TEST_P(RoleTest, MakesAndEndsNoOtherProcess) {
  EXPECT_EQ(Within({}, GetParam(),
                   [] {
                     for (const long number : {SYS_execve, SYS_execveat, SYS_kill}) {
                       if (Try(number) != ENOSYS) return 1;
                     }
                     if (Try(SYS_clone, SIGCHLD, 0, 0, 0) != ENOSYS) return 2;
                     return Try(SYS_tgkill, getppid(), getppid(), 0) == ENOSYS ? 0 : 3;
                   }),
            0);
}

TEST(SyscallFilterTest, AReceiverOpensNothingAndMakesNothingExecutable) {
  EXPECT_EQ(Within({}, ThreadRole::kReceiver,
                   [] {
                     if (open("/dev/null", O_RDONLY | O_CLOEXEC) != -1 || errno != ENOSYS) return 1;
                     constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
                     void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, kFlags, -1, 0);
                     if (page == MAP_FAILED) return 2;
                     if (mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0) return 3;
                     return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, kFlags, -1, 0) == MAP_FAILED
                                ? 0
                                : 4;
                   }),
            0);
}

TEST(SyscallFilterTest, IoUringIsForReceiversThatUseIt) {
  const auto asks = [] { return Try(SYS_io_uring_setup, 0, 0) == ENOSYS ? 0 : 1; };
  Options with;
  with.io_uring = true;
  EXPECT_EQ(Within({}, ThreadRole::kReceiver, asks), 0);
  EXPECT_EQ(Within(with, ThreadRole::kReceiver, asks), 1);
  EXPECT_EQ(Within(with, ThreadRole::kLane, asks), 0);
  EXPECT_EQ(Within(with, ThreadRole::kControl, asks), 0);
}

TEST(SyscallFilterTest, ProgramsAreRunByTheControlRoleAloneAndInNoNamespace) {
  Options with;
  with.programs = true;
  const auto runs = [] {
    const pid_t child = fork();
    if (child == -1) return errno == ENOSYS ? 1 : 2;
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
      _exit(3);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 4;
    if (Try(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0) != ENOSYS) return 5;
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(Within(with, ThreadRole::kControl, runs), 7);
  EXPECT_EQ(Within(with, ThreadRole::kLane, runs), 1);
  EXPECT_EQ(Within(with, ThreadRole::kReceiver, runs), 1);
}

TEST(SyscallFilterTest, LoggingLetsEverythingPass) {
  Options log;
  log.action = SyscallFilter::Action::kLog;
  for (const ThreadRole role : kRoles) {
    EXPECT_EQ(Within(log, role, [] { return Try(SYS_unshare, 0) == ENOSYS ? 1 : 0; }), 0);
  }
}

TEST(SyscallFilterTest, TakesInThreadsThatAreThereAlready) {
  const pid_t pid = fork();
  if (pid == 0) {
    static std::atomic<bool> filtered{false};
    static std::atomic<int> answer{-1};
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          while (!filtered) sched_yield();
          answer = Try(SYS_unshare, 0);
          return nullptr;
        },
        nullptr);
    SyscallFilter filter((Options()));
    if (!filter.Start().ok()) _exit(kUnfiltered);
    filtered = true;
    pthread_join(thread, nullptr);
    _exit(answer == ENOSYS ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SyscallFilterTest, AReceiverMayDoNothingThatALaneMayNotButIoUring) {
  const std::vector<std::string_view> lane = SyscallsOf(ThreadRole::kLane, {});
  for (const std::string_view name : SyscallsOf(ThreadRole::kReceiver, {})) {
    EXPECT_NE(std::find(lane.begin(), lane.end(), name), lane.end()) << name;
  }
}

}  // namespace
}  // namespace mobula
