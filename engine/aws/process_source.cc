// The program is looked after by one timer: reading its pipe and asking whether it has ended cost two system calls a
// look, for some hundred milliseconds every hour. Tested by tests/unit/engine/aws/process_source_test.cc.
#include "engine/aws/process_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/aws/credentials_document.h"
#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "engine/segment/json_reader.h"

extern char** environ;

namespace mobula {
namespace {

constexpr size_t kOutputBytesMax = 64 * 1024;
constexpr Duration kLookFirst = std::chrono::milliseconds(2);
constexpr Duration kLookMax = std::chrono::milliseconds(50);
constexpr Duration kBuryMax = std::chrono::seconds(1);

// Buries a child that was killed, as soon as the kernel lets it go.
void Bury(IoLoop* loop, pid_t pid, Duration pause) {
  if (::waitpid(pid, nullptr, WNOHANG) != 0) return;
  const auto timer = std::make_shared<IoLoop::Timer>(loop);
  timer->Set(std::chrono::steady_clock::now() + pause, [loop, pid, pause, timer] {
    Bury(loop, pid, std::min<Duration>(pause * 2, kBuryMax));
  });
}

// A shell in a process group of its own, writing into a pipe.
class Program {
 public:
  static absl::StatusOr<std::unique_ptr<Program>> Start(IoLoop* loop,
                                                        const std::string& command_line) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Failed(errno);
    UniqueFd write_end(ends[1]);
    auto program = std::make_unique<Program>(loop, UniqueFd(ends[0]));
    // Only the reading end: the program may expect to wait when the pipe is full.
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);

    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    CHECK(::posix_spawn_file_actions_init(&files) == 0);
    CHECK(::posix_spawnattr_init(&attributes) == 0);
    ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, write_end.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    // Whatever a library forgot to keep from it.
    ::posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    // What this process blocks or ignores is no business of the program.
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::string shell = "sh";
    std::string option = "-c";
    std::string line = command_line;
    char* const arguments[] = {shell.data(), option.data(), line.data(), nullptr};
    const int error =
        ::posix_spawn(&program->pid_, "/bin/sh", &files, &attributes, arguments, environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
      program->pid_ = -1;
      return Failed(error);
    }
    return program;
  }

  Program(IoLoop* loop, UniqueFd output) : loop_(loop), output_fd_(std::move(output)) {}
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);  // it may have left its group
    Bury(loop_, pid_, kLookFirst);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Takes what it has written; true when it has ended.
  bool Look() {
    // In this order: what was written before the end is then read below.
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    Read();
    if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
    // Where SIGCHLD is ignored nobody knows how it ended; the output tells.
    ended_well_ = ended < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
    exit_status_ = ended > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    pid_ = -1;
    return true;
  }

  [[nodiscard]] bool too_much() const { return output_.size() > kOutputBytesMax; }
  [[nodiscard]] const std::string& output() const { return output_; }
  [[nodiscard]] bool ended_well() const { return ended_well_; }
  [[nodiscard]] int exit_status() const { return exit_status_; }  // -1: a signal ended it

 private:
  static absl::Status Failed(int error) {
    // What seccomp says of a call that it refuses.
    if (error == ENOSYS) {
      return absl::UnavailableError(
          "cannot be run: no profile had one when the agent was started; start it again");
    }
    return absl::UnavailableError(fmt::format("cannot be run: {}", std::strerror(error)));
  }

  void Read() {
    char piece[8192];
    while (!too_much()) {
      const ssize_t got = ::read(output_fd_.get(), piece, sizeof piece);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return;
      output_.append(piece, static_cast<size_t>(got));
    }
  }

  IoLoop* const loop_;
  const UniqueFd output_fd_;
  pid_t pid_ = -1;
  std::string output_;
  bool ended_well_ = false;
  int exit_status_ = -1;
};

class ProcessSource final : public CredentialsSource {
 public:
  ProcessSource(IoLoop* loop, std::string command_line, std::string profile_name)
      : loop_(loop),
        command_line_(std::move(command_line)),
        name_(fmt::format("profile \"{}\"", profile_name)),
        timer_(loop) {}

  void Fetch(Time deadline, Done done) override {
    absl::StatusOr<std::unique_ptr<Program>> program = Program::Start(loop_, command_line_);
    if (!program.ok()) {
      loop_->Post([done = std::move(done),
                   status = Failed(program.status().code(),
                                   std::string(program.status().message()))] { done(status); });
      return;
    }
    program_ = *std::move(program);
    deadline_ = deadline;
    done_ = std::move(done);
    pause_ = kLookFirst;
    LookAgain();
  }

 private:
  void LookAgain() {
    const Time now = std::chrono::steady_clock::now();
    timer_.Set(std::min(now + pause_, std::max(deadline_, now)), [this] { Look(); });
    pause_ = std::min(pause_ * 2, kLookMax);
  }

  void Look() {
    if (program_->Look()) {
      Finish(Judge(*program_));
    } else if (program_->too_much()) {
      Finish(Failed(absl::StatusCode::kFailedPrecondition,
                    fmt::format("prints more than {} bytes", kOutputBytesMax)));
    } else if (std::chrono::steady_clock::now() >= deadline_) {
      Finish(Failed(absl::StatusCode::kDeadlineExceeded, "did not end in time, and was killed"));
    } else {
      LookAgain();
    }
  }

  void Finish(const absl::StatusOr<Credentials>& result) {
    program_.reset();
    const Done done = std::exchange(done_, nullptr);
    done(result);
  }

  absl::StatusOr<Credentials> Judge(const Program& program) const {
    constexpr absl::StatusCode kFinal = absl::StatusCode::kFailedPrecondition;
    if (program.too_much()) {
      return Failed(kFinal, fmt::format("prints more than {} bytes", kOutputBytesMax));
    }
    if (!program.ended_well()) {
      return Failed(kFinal,
                    program.exit_status() < 0
                        ? "was ended by a signal"
                        : fmt::format("failed with exit status {}: run it by hand to see why",
                                      program.exit_status()));
    }
    const std::optional<JsonValue> json = ParseJson(program.output());
    if (!json) return Failed(kFinal, "prints something that is no JSON");
    const JsonValue* const version = json->Find("Version");
    if (version == nullptr || version->kind != JsonValue::Kind::kNumber || version->number != 1) {
      return Failed(kFinal, "prints credentials whose Version is not 1");
    }
    CredentialsMembers members;
    members.session_token = "SessionToken";
    absl::StatusOr<Credentials> credentials = ReadCredentials(
        *json, fmt::format("credential_process of {}: what it prints", name_), members);
    if (credentials.ok()) credentials->source = fmt::format("{} (credential_process)", name_);
    return credentials;
  }

  [[nodiscard]] absl::Status Failed(absl::StatusCode code, const std::string& what) const {
    return absl::Status(code, fmt::format("credential_process of {} {}", name_, what));
  }

  IoLoop* const loop_;
  const std::string command_line_;
  const std::string name_;
  std::unique_ptr<Program> program_;
  Time deadline_ = kTimeNever;
  Done done_;
  Duration pause_ = kLookFirst;
  IoLoop::Timer timer_;
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeProcessSource(IoLoop* loop, std::string command_line,
                                                     std::string profile_name) {
  return std::make_unique<ProcessSource>(loop, std::move(command_line), std::move(profile_name));
}

}  // namespace mobula
