// Plain, gzip and zstd sources. Tested by tests/unit/backends/file/input_stream_test.cc.
#include "backends/file/input_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/file/append_file.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

constexpr size_t kChunkBytes = 64 * 1024;
constexpr size_t kOutputBytesMax = 1U << 30;  // zlib counts in 32 bits
constexpr int kZstdWindowLogMax = 25;
constexpr int kStopCheckMilliseconds = 100;

// The bytes of the file itself, with a look ahead at the first ones.
class FileBytes {
 public:
  FileBytes(UniqueFd fd, std::string path, InputStream::StopCheck stop)
      : fd_(std::move(fd)), path_(std::move(path)), stop_(std::move(stop)), buffer_(kChunkBytes) {}

  // What is buffered, after reading when that is nothing; empty at the end.
  absl::StatusOr<std::string_view> Peek() {
    if (begin_ == end_) {
      begin_ = end_ = 0;
      RETURN_IF_ERROR(ReadMore().status());
    }
    return std::string_view(buffer_.data() + begin_, end_ - begin_);
  }
  // Peek, but for at least `size` bytes unless the file ends before.
  absl::StatusOr<std::string_view> PeekAtLeast(size_t size) {
    ASSIGN_OR_RETURN(std::string_view bytes, Peek());
    while (!bytes.empty() && bytes.size() < size) {
      std::memmove(buffer_.data(), bytes.data(), bytes.size());
      begin_ = 0;
      end_ = bytes.size();
      ASSIGN_OR_RETURN(const bool more, ReadMore());
      if (!more) break;
      bytes = {buffer_.data(), end_};
    }
    return std::string_view(buffer_.data() + begin_, end_ - begin_);
  }
  void Consume(size_t bytes) {
    DCHECK(bytes <= end_ - begin_);
    begin_ += bytes;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  // Reads behind what is buffered; false at the end.
  absl::StatusOr<bool> ReadMore() {
    while (true) {
      if (stop_ && stop_()) return absl::CancelledError(fmt::format("{}: stopped", path_));
      pollfd ready{fd_.get(), POLLIN, 0};
      const int polled = poll(&ready, 1, kStopCheckMilliseconds);
      if (polled == 0 || (polled < 0 && errno == EINTR)) continue;
      const ssize_t n = read(fd_.get(), buffer_.data() + end_, buffer_.size() - end_);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0) return FileError(errno, path_);
      end_ += static_cast<size_t>(n);
      return n > 0;
    }
  }

  UniqueFd fd_;
  std::string path_;
  InputStream::StopCheck stop_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

class PlainStream final : public InputStream {
 public:
  explicit PlainStream(FileBytes file) : file_(std::move(file)) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    ASSIGN_OR_RETURN(const std::string_view bytes, file_.Peek());
    const size_t n = std::min(size, bytes.size());
    if (n > 0) std::memcpy(buffer, bytes.data(), n);
    file_.Consume(n);
    return n;
  }

 private:
  FileBytes file_;
};

class GzipStream final : public InputStream {
 public:
  explicit GzipStream(FileBytes file) : file_(std::move(file)) {
    CHECK(inflateInit2(&stream_, MAX_WBITS + 16) == Z_OK);
  }
  ~GzipStream() override { inflateEnd(&stream_); }

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    while (true) {
      ASSIGN_OR_RETURN(const std::string_view bytes, file_.Peek());
      if (bytes.empty()) {
        if (!inside_) return 0;
        return absl::DataLossError(fmt::format("gzip data ends in the middle: {}", file_.path()));
      }
      if (!inside_) CHECK(inflateReset(&stream_) == Z_OK);
      inside_ = true;
      // zlib's interface predates const; it only reads.
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      stream_.avail_in = static_cast<uInt>(bytes.size());
      stream_.next_out = reinterpret_cast<Bytef*>(buffer);
      stream_.avail_out = static_cast<uInt>(std::min<size_t>(size, kOutputBytesMax));
      const uInt room = stream_.avail_out;
      const int answer = inflate(&stream_, Z_NO_FLUSH);
      file_.Consume(bytes.size() - stream_.avail_in);
      if (answer == Z_STREAM_END) {
        inside_ = false;
      } else if (answer != Z_OK) {
        return absl::DataLossError(fmt::format("damaged gzip data: {}", file_.path()));
      }
      if (stream_.avail_out < room) return room - stream_.avail_out;
    }
  }

 private:
  FileBytes file_;
  z_stream stream_{};
  bool inside_ = false;
};

class ZstdStream final : public InputStream {
 public:
  explicit ZstdStream(FileBytes file) : file_(std::move(file)), context_(ZSTD_createDCtx()) {
    CHECK(context_ != nullptr);
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    while (true) {
      ASSIGN_OR_RETURN(const std::string_view bytes, file_.Peek());
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      ZSTD_outBuffer out{buffer, size, 0};
      // At the end of the file bytes may still wait inside the decompressor.
      const size_t answer = ZSTD_decompressStream(context_.get(), &out, &in);
      file_.Consume(in.pos);
      if (ZSTD_isError(answer)) {
        return absl::DataLossError(
            fmt::format("damaged zstd data ({}): {}", ZSTD_getErrorName(answer), file_.path()));
      }
      if (in.pos > 0 || out.pos > 0) inside_ = answer != 0;
      if (out.pos > 0) return out.pos;
      if (!bytes.empty()) continue;
      if (!inside_) return 0;
      return absl::DataLossError(fmt::format("zstd data ends in the middle: {}", file_.path()));
    }
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };

  FileBytes file_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  bool inside_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<InputStream>> InputStream::Open(const std::string& path,
                                                               StopCheck stop) {
  // Without O_NONBLOCK a named pipe would be waited for here, until it has a writer. Standard input keeps its
  // flags: others may share them.
  UniqueFd fd(path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                          : open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) {
    const int error = errno;
    if (error == ENOENT) return absl::NotFoundError(fmt::format("no such file: {}", path));
    return FileError(error, path);
  }
  FileBytes file(std::move(fd), path == "-" ? "standard input" : path, std::move(stop));
  ASSIGN_OR_RETURN(const std::string_view first, file.PeekAtLeast(4));
  const bool gzip = first.starts_with("\x1f\x8b");
  // A frame, or the skippable kind that may come before one.
  const bool zstd = first.starts_with("\x28\xb5\x2f\xfd") ||
                    (first.size() >= 4 && (static_cast<unsigned char>(first[0]) & 0xf0) == 0x50 &&
                     first.substr(1, 3) == "\x2a\x4d\x18");
  std::unique_ptr<InputStream> stream;
  if (gzip) {
    stream = std::make_unique<GzipStream>(std::move(file));
  } else if (zstd) {
    stream = std::make_unique<ZstdStream>(std::move(file));
  } else {
    stream = std::make_unique<PlainStream>(std::move(file));
  }
  return stream;
}

}  // namespace mobula
