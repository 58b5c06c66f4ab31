// The playlist, the paced sendmmsg loop and the result. Tested by tests/unit/engine/app/send_command_test.cc.
#include "engine/app/send_command.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "engine/app/fresh_document.h"
#include "engine/app/signals.h"
#include "engine/base/printable.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kHeader = "{\"format\": \"json\", \"version\": 1}\n";
constexpr uint64_t kMemoryBytesMax = 64U << 20;
constexpr uint64_t kRateMax = 1'000'000'000;
constexpr uint64_t kRepeatMax = 1'000'000'000'000;
constexpr size_t kBurst = 64;  // datagrams per sendmmsg
// Below this rate every datagram leaves on its own time; above, those due within a tick leave together.
constexpr Duration kTick = std::chrono::milliseconds(1);
// A full send queue empties within that, or something is wrong with the interface.
constexpr int kQueueFullRetries = 1000;

double SecondsSinceEpoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// --- what is played ----------------------------------------------------------------------------------------

class Playlist final : public DatagramSource {
 public:
  // Cancelled where `wait` says to stop.
  static absl::StatusOr<std::unique_ptr<Playlist>> Open(const SendOptions& options,
                                                        const SendWait& wait) {
    auto list = std::unique_ptr<Playlist>(new Playlist(options, wait));
    const bool stdin_given =
        std::find(options.inputs.begin(), options.inputs.end(), "-") != options.inputs.end();
    if (stdin_given && (options.repeat > 1 || options.fresh)) {
      return absl::InvalidArgumentError(
          "standard input can be played once and as it is: --repeat and --fresh need files");
    }
    if (!stdin_given) RETURN_IF_ERROR(list->Load());
    if (options.fresh && !list->in_memory_) {
      return absl::InvalidArgumentError(
          fmt::format("--fresh plays at most {} MiB of files", kMemoryBytesMax >> 20));
    }
    RETURN_IF_ERROR(list->Begin());
    return list;
  }

  // Datagrams of all passes.
  [[nodiscard]] uint64_t total() const override {
    return in_memory_ ? documents_.size() * options_.repeat : 0;
  }

  absl::StatusOr<bool> Next(std::string* datagram) override {
    while (true) {
      if (in_memory_ && at_ < documents_.size()) {
        const std::string& document = documents_[at_++];
        *datagram = options_.fresh ? Refresh(document, shift_) : document;
        return true;
      }
      if (!in_memory_) {
        ASSIGN_OR_RETURN(const std::optional<InputDocument> document, reader_->Next());
        if (document.has_value()) {
          MakeDatagram(*document, datagram);
          return true;
        }
      }
      if (++pass_ >= options_.repeat) return false;
      RETURN_IF_ERROR(Begin());
    }
  }

 private:
  Playlist(const SendOptions& options, const SendWait& wait)
      : options_(options), stop_([&wait] { return wait(Clock::now()); }) {}

  // Reads everything, unless it is too much.
  absl::Status Load() {
    ASSIGN_OR_RETURN(const std::unique_ptr<DocumentReader> reader,
                     DocumentReader::Open(options_.inputs, stop_));
    uint64_t bytes = 0;
    while (true) {
      ASSIGN_OR_RETURN(const std::optional<InputDocument> document, reader->Next());
      if (!document.has_value()) break;
      bytes += document->bytes.size() + sizeof(std::string);
      if (bytes > kMemoryBytesMax) {
        documents_ = {};
        return absl::OkStatus();
      }
      MakeDatagram(*document, &documents_.emplace_back());
    }
    in_memory_ = true;
    if (options_.fresh) {
      for (const std::string& document : documents_)
        latest_ = std::max(latest_, LatestTime(document));
    }
    return absl::OkStatus();
  }

  // Starts a pass.
  absl::Status Begin() {
    at_ = 0;
    if (!in_memory_) {
      ASSIGN_OR_RETURN(reader_, DocumentReader::Open(options_.inputs, stop_));
    }
    if (options_.fresh) {
      shift_.seconds =
          latest_ > 0 ? static_cast<int64_t>(std::floor(SecondsSinceEpoch() - latest_)) : 0;
      std::random_device random;
      shift_.id_mask = static_cast<uint64_t>(random()) << 32 | random();
      shift_.trace_mask = static_cast<uint64_t>(random()) << 32 | random();
    }
    return absl::OkStatus();
  }

  const SendOptions& options_;
  const InputStream::StopCheck stop_;
  bool in_memory_ = false;
  std::vector<std::string> documents_;  // whole datagrams, in_memory_ only
  std::unique_ptr<DocumentReader> reader_;
  uint64_t pass_ = 0;
  size_t at_ = 0;
  double latest_ = 0;
  FreshShift shift_;
};

// --- where it goes -----------------------------------------------------------------------------------------

constexpr std::string_view kUnixScheme = "unix:";

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& to) {
  const std::string path = to.substr(kUnixScheme.size());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        fmt::format("{}: expected unix:/path, of at most {} bytes behind the colon", to,
                    sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    return absl::UnavailableError(
        fmt::format("cannot send to {}: {}{}", to, std::strerror(error),
                    error == ECONNREFUSED ? "; nobody listens there any more" : ""));
  }
  // Where the default would not do for a datagram as large as the receiver takes.
  const int bytes = 256 << 10;
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  // A full queue makes us wait, which is no error; but not so long that a signal would not be seen.
  const timeval patience{0, 100'000};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  return fd;
}

absl::StatusOr<UniqueFd> Connect(const std::string& to) {
  if (to.starts_with(kUnixScheme)) return ConnectUnix(to);
  const size_t colon = to.rfind(':');
  if (colon == std::string::npos || colon + 1 == to.size()) {
    return absl::InvalidArgumentError(fmt::format("{}: expected host:port or unix:/path", to));
  }
  std::string host = to.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int e =
      getaddrinfo(host.empty() ? nullptr : host.c_str(), to.c_str() + colon + 1, &hints, &found);
  if (e != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "cannot resolve {}: {}", to, e == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(e)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  int error = 0;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    UniqueFd fd(socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd.valid() && connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0) return fd;
    error = errno;
  }
  return absl::UnavailableError(fmt::format("cannot send to {}: {}", to, std::strerror(error)));
}

std::string ErrorName(int error) {
  const char* const name = strerrorname_np(error);
  return name != nullptr ? name : fmt::format("errno {}", error);
}

// Up to kBurst datagrams on their way into the kernel.
class Burst {
 public:
  Burst(int fd, SendResult* result) : fd_(fd), result_(result) {}

  [[nodiscard]] bool full() const { return size_ == kBurst; }
  std::string* Add() { return &datagrams_[size_++]; }
  void DropLast() { --size_; }

  // Sends all; true: stop.
  bool Send(const SendWait& wait) {
    for (size_t i = 0; i < size_; ++i) {
      parts_[i] = {datagrams_[i].data(), datagrams_[i].size()};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
    int tries = 0;
    size_t next = 0;
    while (next < size_) {
      const int n = sendmmsg(fd_, &messages_[next], static_cast<unsigned>(size_ - next), 0);
      const int error = n < 0 ? errno : 0;
      if (error == EINTR) continue;
      if (error == 0) {
        tries = 0;
        for (int i = 0; i < n; ++i) result_->bytes += datagrams_[next++].size();
        result_->sent += static_cast<uint64_t>(n);
        continue;
      }
      ++result_->errors[ErrorName(error)];
      // The answer to an earlier datagram: this one was not looked at yet.
      if (error == ECONNREFUSED && ++tries <= kQueueFullRetries) continue;
      const bool queue_full = error == ENOBUFS || error == ENOMEM || error == EAGAIN;
      if (queue_full && ++tries <= kQueueFullRetries) {
        if (wait(Clock::now() + kTick)) return true;
        continue;
      }
      tries = 0;
      ++next;
    }
    size_ = 0;
    return false;
  }

 private:
  const int fd_;
  SendResult* const result_;
  std::array<std::string, kBurst> datagrams_;
  std::array<iovec, kBurst> parts_{};
  std::array<mmsghdr, kBurst> messages_{};
  size_t size_ = 0;
};

// When the datagrams of a steady rate are due.
class Pace {
 public:
  Pace(uint64_t rate, Time begin) : rate_(rate), begin_(begin) {}

  // How many are due at `now`.
  [[nodiscard]] uint64_t Due(Time now) const {
    if (rate_ == 0) return UINT64_MAX;
    return static_cast<uint64_t>(Seconds(now - begin_) * static_cast<double>(rate_)) + 1;
  }
  // When the next one after `count` leaves.
  [[nodiscard]] Time At(uint64_t count, Time now) const {
    if (rate_ == 0) return now;
    const double seconds = static_cast<double>(count) / static_cast<double>(rate_);
    const Time due =
        begin_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    return std::max(due, now + kTick);
  }

 private:
  const uint64_t rate_;
  const Time begin_;
};

absl::Status CheckBounds(std::string_view option, uint64_t value, uint64_t min, uint64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::OutOfRangeError(
      fmt::format("{}: expected a number from {} to {}", option, min, max));
}

absl::StatusOr<SendResult> Play(int fd, uint64_t rate, DatagramSource* source,
                                ProgressBar* progress, const SendWait& wait) {
  SendResult result;
  Burst burst(fd, &result);
  const Time begin = Clock::now();
  const Pace pace(rate, begin);
  absl::Status input;
  bool more = true;
  while (more && !result.stopped) {
    const uint64_t due = pace.Due(Clock::now());
    while (more && !burst.full() && result.offered < due) {
      const absl::StatusOr<bool> next = source->Next(burst.Add());
      if (!next.ok()) input = next.status();
      more = next.ok() && *next;
      if (more) {
        ++result.offered;
      } else {
        burst.DropLast();
      }
    }
    // What was read before somebody stopped the reading still leaves.
    result.stopped = burst.Send(wait) || absl::IsCancelled(input);
    const Time now = Clock::now();
    progress->Update(result.offered, source->total(), now);
    // At full speed, or behind the pace, this only looks for a signal.
    if (more && !result.stopped) {
      result.stopped = wait(result.offered < pace.Due(now) ? now : pace.At(result.offered, now));
    }
  }
  if (!result.stopped) RETURN_IF_ERROR(input);
  int last = 0;
  socklen_t size = sizeof last;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &last, &size) == 0 && last != 0) {
    ++result.errors[ErrorName(last)];
  }
  result.seconds = Seconds(Clock::now() - begin);
  return result;
}

}  // namespace

void MakeDatagram(const InputDocument& document, std::string* datagram) {
  datagram->assign(document.has_header ? std::string_view() : kHeader).append(document.bytes);
}

absl::StatusOr<SendResult> RunSend(const std::string& to, uint64_t rate, DatagramSource* source,
                                   ProgressBar* progress, const SendWait& wait) {
  RETURN_IF_ERROR(CheckBounds("--rate", rate, 0, kRateMax));
  ASSIGN_OR_RETURN(const UniqueFd fd, Connect(to));
  return Play(fd.get(), rate, source, progress, wait);
}

absl::StatusOr<SendResult> RunSend(const SendOptions& options, ProgressBar* progress,
                                   const SendWait& wait) {
  RETURN_IF_ERROR(CheckBounds("--rate", options.rate, 0, kRateMax));
  RETURN_IF_ERROR(CheckBounds("--repeat", options.repeat, 1, kRepeatMax));
  // Before what may take long to read.
  ASSIGN_OR_RETURN(const UniqueFd fd, Connect(options.to));
  const absl::StatusOr<std::unique_ptr<Playlist>> list = Playlist::Open(options, wait);
  if (absl::IsCancelled(list.status())) {
    SendResult result;
    result.stopped = true;
    return result;
  }
  RETURN_IF_ERROR(list.status());
  return Play(fd.get(), options.rate, list->get(), progress, wait);
}

std::string SendResultJson(const SendResult& result) {
  std::string errors;
  for (const auto& [name, count] : result.errors) {
    errors += fmt::format("{}\"{}\":{}", errors.empty() ? "" : ",", name, count);
  }
  return fmt::format(
      "{{\"offered\":{},\"sent\":{},\"bytes\":{},\"seconds\":{:.6f},\"errors\":{{{}}}}}",
      result.offered, result.sent, result.bytes, result.seconds, errors);
}

std::string SendResultText(const SendResult& result, const std::string& to) {
  std::string text =
      fmt::format("sent {} of {} datagrams ({} bytes) to {} in {:.2f} s", Grouped(result.sent),
                  Grouped(result.offered), Grouped(result.bytes), to, result.seconds);
  if (result.stopped) text += ", then stopped";
  for (const auto& [name, count] : result.errors) {
    if (name == "ECONNREFUSED") {
      text += fmt::format("\nnobody listens on {} (refused {} times)", to, Grouped(count));
    } else {
      text += fmt::format("\n{}: {} times", name, Grouped(count));
    }
  }
  return text;
}

int SendCommand(const SendOptions& options, OutputForm form) {
  const Signals signals;
  // The wait between datagrams is also where a signal is seen.
  const SendWait wait = [&](Time until) {
    return signals.Next(std::max(Duration::zero(), until - Clock::now())) != 0;
  };
  absl::StatusOr<SendResult> result = absl::UnknownError("");
  {
    ProgressBar progress(STDERR_FILENO);
    result = RunSend(options, &progress, wait);
  }
  if (!result.ok()) {
    std::fprintf(stderr, "mobula send: %s\n",
                 PrintableLines(std::string(result.status().message())).c_str());
    return absl::IsOutOfRange(result.status()) ? 2 : 1;
  }
  const std::string text =
      IsJson(form) ? SendResultJson(*result) : SendResultText(*result, options.to);
  std::printf("%s\n", text.c_str());
  return result->errors.empty() && result->sent == result->offered && !result->stopped ? 0 : 1;
}

}  // namespace mobula
