// Tested by tests/unit/engine/base/small_file_test.cc.
#include "engine/base/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/base/unique_fd.h"

namespace mobula {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max) {
  const auto failed = [&path](int error) {
    const bool missing = error == ENOENT || error == ENOTDIR;
    return absl::Status(
        missing ? absl::StatusCode::kNotFound : absl::StatusCode::kFailedPrecondition,
        fmt::format("cannot read {}: {}", path, std::strerror(error)));
  };
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return failed(errno);
  constexpr size_t kStep = 16 * 1024;
  std::string text;
  size_t size = 0;
  while (size <= bytes_max) {
    text.resize(std::min(size + kStep, bytes_max + 1));
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > bytes_max) return failed(EFBIG);
  text.resize(size);
  return text;
}

FileStamp StampOf(const std::string& path) noexcept {
  struct stat found;
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  return {found.st_mtim.tv_sec, found.st_mtim.tv_nsec, static_cast<int64_t>(found.st_ino),
          found.st_size};
}

}  // namespace mobula
