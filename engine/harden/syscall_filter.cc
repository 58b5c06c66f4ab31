// The lists, made from what the source asks for and what strace saw under the end-to-end tests.
// Tested by tests/unit/engine/harden/syscall_filter_test.cc and tests/e2e/hardening_test.py.
#include "engine/harden/syscall_filter.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>

namespace mobula {
namespace {

using Names = std::span<const std::string_view>;

// What every thread does: computing, waiting, taking memory, using and closing what is open, ending.
constexpr std::string_view kEverywhere[] = {
    "futex",
    "futex_waitv",
    "sched_yield",
    "sched_getaffinity",
    "getcpu",
    "rseq",
    "set_robust_list",
    "membarrier",
    "restart_syscall",
    "getrandom",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "getpid",
    "gettid",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "rt_sigprocmask",
    "rt_sigaction",
    "sigaltstack",
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "read",
    "write",
    "readv",
    "writev",
    "close",
    "poll",
    "ppoll",
};

// Of sockets that are open.
constexpr std::string_view kReceive[] = {
    "recvmsg",     "recvmmsg",    "recvfrom", "getsockopt", "setsockopt",
    "getsockname", "getpeername", "connect",  "shutdown",   "eventfd2",
};

constexpr std::string_view kIoUring[] = {"io_uring_setup", "io_uring_enter", "io_uring_register"};

constexpr std::string_view kConnections[] = {
    "bind",          "listen",         "accept",          "accept4",
    "sendto",        "sendmsg",        "sendmmsg",        "epoll_create",
    "epoll_create1", "epoll_ctl",      "epoll_wait",      "epoll_pwait",
    "epoll_pwait2",  "timerfd_create", "timerfd_settime", "timerfd_gettime",
};

constexpr std::string_view kFiles[] = {
    "open",      "openat",     "openat2",     "creat",      "fstat",     "newfstatat", "stat",
    "lstat",     "statx",      "lseek",       "pread64",    "pwrite64",  "preadv",     "pwritev",
    "preadv2",   "pwritev2",   "ftruncate",   "fallocate",  "fadvise64", "fsync",      "fdatasync",
    "rename",    "renameat",   "renameat2",   "unlink",     "unlinkat",  "mkdir",      "mkdirat",
    "rmdir",     "getdents64", "flock",       "fcntl",      "statfs",    "fstatfs",    "access",
    "faccessat", "faccessat2", "readlink",    "readlinkat", "getcwd",    "dup",        "dup2",
    "dup3",      "pipe2",      "close_range", "fchmod",
};

// Who and where we are, threads and signals.
constexpr std::string_view kProcess[] = {
    "getuid",          "geteuid",
    "getgid",          "getegid",
    "getppid",         "uname",
    "sysinfo",         "getrusage",
    "getrlimit",       "times",
    "seccomp",         "rt_sigpending",
    "sched_getparam",  "sched_getscheduler",
    "set_tid_address",
};

// What ordinary programs begin with and do: shells, the AWS CLI, helpers in Go and Python. Whoever needs more runs with
// security.seccomp off.
constexpr std::string_view kPrograms[] = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "wait4",
    "waitid",
    "kill",
    "tgkill",
    "tkill",
    "pipe",
    "socketpair",
    "setpgid",
    "getpgid",
    "getpgrp",
    "getsid",
    "setsid",
    "chdir",
    "fchdir",
    "umask",
    "chmod",
    "fchmodat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "utimensat",
    "truncate",
    "copy_file_range",
    "sendfile",
    "splice",
    "mincore",
    "select",
    "pselect6",
    "alarm",
    "setitimer",
    "getitimer",
    "timer_create",
    "timer_settime",
    "timer_gettime",
    "timer_delete",
    "pause",
    "rt_sigsuspend",
    "getresuid",
    "getresgid",
    "getgroups",
    "getpriority",
    "sched_setaffinity",
    "memfd_create",
    "arch_prctl",
    "set_tid_address",
    "getxattr",
    "lgetxattr",
    "inotify_init1",
    "inotify_add_watch",
    "inotify_rm_watch",
    "capget",
    "msync",
    "mlock",
    "munlock",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "ioctl",
    "prlimit64",
    "setrlimit",
    "eventfd",
    "epoll_create",
    "fchown",
    "chown",
    "fchownat",
    "lchown",
    "getdents",
};

std::vector<Names> GroupsOf(ThreadRole role, const SyscallFilter::Options& options) {
  std::vector<Names> groups = {kEverywhere, kReceive};
  if (role == ThreadRole::kReceiver) {
    if (options.io_uring) groups.push_back(kIoUring);
    return groups;
  }
  groups.push_back(kConnections);
  groups.push_back(kFiles);
  groups.push_back(kProcess);
  if (role == ThreadRole::kControl && options.programs) groups.push_back(kPrograms);
  return groups;
}

// One list in the making, and then in force.
class Program {
 public:
  explicit Program(SyscallFilter::Action action)
      : otherwise_(action == SyscallFilter::Action::kLog ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(ENOSYS)),
        context_(seccomp_init(otherwise_)) {
    // Also for the calls of another architecture, 32 bits or x32.
    Set(SCMP_FLTATR_ACT_BADARCH, otherwise_);
    // no_new_privs is set once, by Start.
    Set(SCMP_FLTATR_CTL_NNP, 0);
    Set(SCMP_FLTATR_API_SYSRAWRC, 1);
    // What follows older kernels do without: they log no refusal, and compare one call after the other.
    if (context_ == nullptr) return;
    (void)seccomp_attr_set(context_, SCMP_FLTATR_CTL_LOG, 1);
    (void)seccomp_attr_set(context_, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  }
  ~Program() {
    if (context_ != nullptr) seccomp_release(context_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Allow(ThreadRole role, const SyscallFilter::Options& options) {
    for (const Names& names : GroupsOf(role, options)) {
      for (const std::string_view name : names) Add(name, {});
    }
    Add("prctl", {Is(0, PR_SET_NAME)});
    Add("prctl", {Is(0, PR_SET_TIMERSLACK)});
    Add("prctl", {Is(0, PR_SET_VMA)});
    Add("tgkill", {Is(0, static_cast<uint32_t>(::getpid()))});  // abort()
    if (role == ThreadRole::kReceiver) {
      for (const char* call : {"mmap", "mprotect"}) Add(call, {Masked(2, PROT_EXEC, 0)});
      return;
    }
    // The C library loads what the name service asks for.
    for (const char* call : {"mmap", "mprotect"}) Add(call, {});
    for (const uint32_t domain : {AF_UNIX, AF_INET, AF_INET6}) Add("socket", {Is(0, domain)});
    Add("socket", {Is(0, AF_NETLINK), Is(2, NETLINK_ROUTE)});  // getaddrinfo
    for (const uint32_t request :
         {FIONBIO, FIONREAD, FIOCLEX, TCGETS, TIOCGWINSZ, SIOCGIFINDEX, SIOCGIFNAME}) {
      Add("ioctl", {Is(1, request)});
    }
    Add("prlimit64", {Is(0, 0)});
    // Threads; clone3 has its flags where no filter sees them, and the C library falls back to this. Other processes
    // only to run programs, and never in namespaces of their own.
    constexpr uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    Add("clone", {Masked(0, kNamespaces | CLONE_THREAD, CLONE_THREAD)});
    if (role == ThreadRole::kControl && options.takeover) Add("kill", {Is(1, SIGTERM)});
    if (role == ThreadRole::kControl && options.programs) Add("clone", {Masked(0, kNamespaces, 0)});
  }

  absl::Status Load(bool all_threads) {
    if (all_threads) Set(SCMP_FLTATR_CTL_TSYNC, 1);
    if (context_ == nullptr) return absl::FailedPreconditionError("no filter can be made");
    if (error_ == 0) error_ = seccomp_load(context_);
    if (error_ == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(std::strerror(error_ < 0 ? -error_ : ESRCH));
  }

 private:
  static scmp_arg_cmp Masked(unsigned argument, uint64_t mask, uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
  }
  // An int: what its register holds above means nothing.
  static scmp_arg_cmp Is(unsigned argument, uint32_t value) {
    return Masked(argument, 0xffffffff, value);
  }

  void Set(scmp_filter_attr attribute, uint32_t value) {
    if (context_ != nullptr && error_ == 0) error_ = seccomp_attr_set(context_, attribute, value);
  }

  // A call that this architecture does not have needs no rule.
  void Add(std::string_view name, std::initializer_list<scmp_arg_cmp> arguments) {
    const int number = seccomp_syscall_resolve_name(std::string(name).c_str());
    if (context_ == nullptr || error_ != 0 || number < 0) return;
    error_ = seccomp_rule_add_array(context_, SCMP_ACT_ALLOW, number,
                                    static_cast<unsigned>(arguments.size()), arguments.begin());
  }

  const uint32_t otherwise_;
  const scmp_filter_ctx context_;
  int error_ = 0;
};

}  // namespace

absl::Status SyscallFilter::Start() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return absl::FailedPreconditionError(std::strerror(errno));
  }
  Program program(options_.action);
  for (const ThreadRole role : {ThreadRole::kReceiver, ThreadRole::kLane, ThreadRole::kControl}) {
    program.Allow(role, options_);
  }
  return program.Load(/*all_threads=*/true);
}

absl::Status SyscallFilter::Enter(ThreadRole role) const {
  Program program(options_.action);
  program.Allow(role, options_);
  return program.Load(/*all_threads=*/false);
}

std::vector<std::string_view> SyscallsOf(ThreadRole role, const SyscallFilter::Options& options) {
  std::vector<std::string_view> all;
  for (const Names& names : GroupsOf(role, options))
    all.insert(all.end(), names.begin(), names.end());
  return all;
}

}  // namespace mobula
