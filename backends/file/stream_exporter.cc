// Tested by tests/unit/backends/file/stream_exporter_test.cc and tests/contract.
#include "backends/file/stream_exporter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <list>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "backends/file/append_file.h"
#include "backends/file/file_exporter.h"
#include "backends/file/record_format.h"
#include "engine/http/io_loop.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;

constexpr size_t kPipeWriteBytes = 4096;  // PIPE_BUF on Linux
// How soon a full pipe is tried again: quickly at first, for a reader that keeps up (64 KiB each time).
constexpr Duration kRetryMin = milliseconds(1);
constexpr Duration kRetryMax = milliseconds(50);
// How long Shutdown waits for the reader to take the rest of a document; the program gives all exporters
// together half a second.
constexpr Duration kShutdownWait = milliseconds(400);

class StreamExporter final : public Exporter {
 public:
  StreamExporter(std::string_view name, UniqueFd fd, const FileBackendConfig& config)
      : name_(name), fd_(std::move(fd)), encoder_(config.format, config.compression) {}

  absl::Status Start(IoLoop* loop) override {
    // Closed descriptors are opened for reading at the program's start, so that nothing else gets their
    // numbers.
    const int flags = fd_.valid() ? fcntl(fd_.get(), F_GETFL) : -1;
    struct stat status {};
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(fd_.get(), &status) != 0) {
      return absl::InvalidArgumentError(
          fmt::format("backend {}: standard output is closed", name_));
    }
    is_socket_ = S_ISSOCK(status.st_mode);
    is_file_ = S_ISREG(status.st_mode);
    rest_ = encoder_.Header();
    timer_.emplace(loop);
    return absl::OkStatus();
  }

  void Export(const ExportCall& call, ExportDone done) override {
    calls_.push_back({call, std::move(done)});
    Pump();
  }

  absl::Status Shutdown() override {
    if (timer_.has_value()) timer_->Cancel();
    while (!calls_.empty()) {
      Finish(
          {.verdict = Verdict::kRetry, .code = "shutdown", .message = "the program is stopping"});
    }
    if (broken_ || rest_.empty() || !begun_) return absl::OkStatus();
    const Time until = std::chrono::steady_clock::now() + kShutdownWait;
    while (!rest_.empty()) {
      const auto left =
          std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
      pollfd wait{fd_.get(), POLLOUT, 0};
      if (left.count() > 0) poll(&wait, 1, static_cast<int>(left.count()));
      const absl::StatusOr<size_t> n = WriteSome(rest_);
      if (n.ok()) rest_.erase(0, *n);
      if (!n.ok() || (*n == 0 && left.count() <= 0)) {
        broken_ = true;
        return absl::DataLossError(fmt::format(
            "backend {}: the last document on standard output lacks {} bytes: its reader stopped",
            name_, rest_.size()));
      }
    }
    return absl::OkStatus();
  }

 private:
  struct Call {
    ExportCall call;
    ExportDone done;
  };

  // Writes what can be written now; guarded against `done` calling Export.
  void Pump() {
    if (pumping_) return;
    pumping_ = true;
    if (calls_.empty() && begun_ && !rest_.empty()) {
      const absl::StatusOr<bool> all = WriteRest();
      if (all.ok() && !*all) WaitForReader();
    }
    while (!calls_.empty()) {
      absl::StatusOr<bool> all = WriteRest();
      if (all.ok() && *all) all = WriteCall();
      if (all.ok() && *all) {
        Finish(ExportResult{});
      } else if (all.ok()) {
        WaitForReader();
        break;
      } else {
        broken_ = absl::IsAborted(all.status());
        if (broken_) rest_.clear();
        Finish(FileFailure(all.status()));
      }
    }
    pumping_ = false;
  }

  // What is left of a document whose call was already answered, or the header. True when all is out.
  absl::StatusOr<bool> WriteRest() {
    while (!rest_.empty()) {
      const absl::StatusOr<size_t> n = WriteSome(rest_);
      if (!n.ok()) return n.status();
      if (*n == 0) return false;
      Progressed();
      rest_.erase(0, *n);
    }
    return true;
  }

  // The first call. True when all is out.
  absl::StatusOr<bool> WriteCall() {
    if (bytes_.empty()) {
      const ExportCall& call = calls_.front().call;
      bytes_ = encoder_.Encode(call.batch, call.documents);
      written_ = 0;
    }
    while (written_ < bytes_.size()) {
      const absl::StatusOr<size_t> n = WriteSome(bytes_.substr(written_));
      if (!n.ok()) return n.status();
      if (*n == 0) return false;
      Progressed();
      written_ += *n;
    }
    return true;
  }

  // Answers the first call: what was written, or at least begun, is delivered, the others fare as
  // `others` says. The rest of a document that was begun stays in rest_.
  void Finish(ExportResult others) {
    ExportResult result = std::move(others);
    DocumentSet delivered = 0;
    if (written_ > 0) {
      size_t begin = 0;
      for (const RecordEncoder::Piece& piece : encoder_.pieces()) {
        if (begin < written_ && (piece.end <= written_ || !broken_)) delivered |= piece.documents;
        if (begin < written_ && piece.end > written_ && !broken_) {
          rest_ = bytes_.substr(written_, piece.end - written_);
        }
        begin = piece.end;
      }
    }
    Call call = std::move(calls_.front());
    calls_.pop_front();
    bytes_ = {};
    written_ = 0;
    if (delivered == call.call.documents) result = ExportResult{};
    if (result.verdict != Verdict::kDelivered) {
      ForEach(delivered, [&](size_t i) {
        result.documents.push_back({static_cast<uint8_t>(i), Verdict::kDelivered, ""});
      });
    }
    call.done(std::move(result));
  }

  void Progressed() {
    begun_ = true;
    retry_ = kRetryMin;
  }

  void WaitForReader() {
    Time next = std::chrono::steady_clock::now() + retry_;
    retry_ = std::min(retry_ * 2, kRetryMax);
    for (const Call& call : calls_) next = std::min(next, call.call.deadline);
    timer_->Set(next, [this] {
      Pump();
      Expire();
    });
  }

  // Ends the calls whose deadline has passed, wherever they wait.
  void Expire() {
    const Time now = std::chrono::steady_clock::now();
    const auto late = [&](const Call& call) { return call.call.deadline <= now; };
    const ExportResult timeout{.verdict = Verdict::kThrottled,
                               .code = "timeout",
                               .message = "the reader of standard output is too slow"};
    pumping_ = true;
    while (!calls_.empty() && late(calls_.front())) Finish(timeout);
    // Behind the first call nothing was begun.
    for (auto it = std::find_if(calls_.begin(), calls_.end(), late); it != calls_.end();
         it = std::find_if(calls_.begin(), calls_.end(), late)) {
      Call call = std::move(*it);
      calls_.erase(it);
      call.done(timeout);
    }
    pumping_ = false;
    if (!calls_.empty() || !rest_.empty()) WaitForReader();
  }

  // Writes a part of `bytes` without waiting; 0 when nothing fits now.
  absl::StatusOr<size_t> WriteSome(std::string_view bytes) {
    while (true) {
      ssize_t n = 0;
      if (is_socket_) {
        n = send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      } else {
        pollfd ready{fd_.get(), POLLOUT, 0};
        if (!is_file_ && poll(&ready, 1, 0) <= 0) return 0;
        n = write(fd_.get(), bytes.data(),
                  is_file_ ? bytes.size() : std::min(bytes.size(), kPipeWriteBytes));
      }
      if (n >= 0) return static_cast<size_t>(n);
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return 0;
      if (errno == EPIPE || errno == ECONNRESET) {
        return absl::AbortedError("nobody reads standard output any more");
      }
      return FileError(errno, "standard output");
    }
  }

  const std::string name_;
  const UniqueFd fd_;
  RecordEncoder encoder_;
  bool is_socket_ = false;
  bool is_file_ = false;
  std::optional<IoLoop::Timer> timer_;
  std::list<Call> calls_;
  std::string rest_;        // to be written before anything else
  bool begun_ = false;      // something was written: rest_ is no longer only the header
  bool broken_ = false;     // nobody reads: half a document harms no one
  std::string_view bytes_;  // of the first call, inside encoder_; empty: not encoded yet
  size_t written_ = 0;      // of bytes_
  Duration retry_ = kRetryMin;
  bool pumping_ = false;
};

}  // namespace

std::unique_ptr<Exporter> MakeStreamExporter(std::string_view name, UniqueFd fd,
                                             const FileBackendConfig& config) {
  return std::make_unique<StreamExporter>(name, std::move(fd), config);
}

}  // namespace mobula
