// Replaces references in one pass; files are opened so that a pipe or a terminal cannot hold us up.
// Tested by tests/unit/engine/config/references_test.cc.
#include "engine/config/references.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr size_t kFileBytesMax = size_t{64} << 10;

absl::Status Unresolved(std::string_view reference, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", reference, why));
}

absl::StatusOr<std::string> ReadValueFile(std::string_view reference, std::string_view path) {
  const UniqueFd fd(
      ::open(std::string(path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) {
    return Unresolved(reference, fmt::format("cannot be read: {}", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) return Unresolved(reference, "is not a regular file");
  std::string content;
  std::array<char, 4096> block;
  while (content.size() <= kFileBytesMax) {
    const ssize_t n = ::read(fd.get(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return Unresolved(reference, fmt::format("cannot be read: {}", std::strerror(errno)));
    if (n == 0) break;
    content.append(block.data(), static_cast<size_t>(n));
  }
  if (content.size() > kFileBytesMax) return Unresolved(reference, "is larger than 64KiB");
  if (!content.empty() && content.back() == '\n') content.pop_back();
  if (!content.empty() && content.back() == '\r') content.pop_back();
  return content;
}

bool IsVariableName(std::string_view name) {
  constexpr std::string_view kDigits = "0123456789";
  constexpr std::string_view kLetters =
      "0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return !name.empty() && kDigits.find(name.front()) == kDigits.npos &&
         name.find_first_not_of(kLetters) == name.npos;
}

absl::StatusOr<std::string> ResolveVariable(std::string_view reference, std::string_view body,
                                            const Environment& environment) {
  const size_t dash = body.find(":-");
  const std::string_view name = body.substr(0, dash);
  if (!IsVariableName(name)) return Unresolved(reference, "is not a name of a variable");
  std::optional<std::string> value = environment(name);
  if (value && (!value->empty() || dash == body.npos)) return *std::move(value);
  if (dash == body.npos) return Unresolved(reference, "is not set, and has no default (:-…)");
  return std::string(body.substr(dash + 2));
}

absl::StatusOr<std::string> ResolveOne(std::string_view reference, const Environment& environment) {
  constexpr std::string_view kEnv = "${env:";
  constexpr std::string_view kFile = "${file:";
  const std::string_view inner = reference.substr(0, reference.size() - 1);
  if (inner.substr(0, kEnv.size()) == kEnv) {
    return ResolveVariable(reference, inner.substr(kEnv.size()), environment);
  }
  if (inner.substr(0, kFile.size()) == kFile && inner.size() > kFile.size()) {
    return ReadValueFile(reference, inner.substr(kFile.size()));
  }
  return Unresolved(reference, "expected ${env:NAME}, ${env:NAME:-default} or ${file:path}");
}

}  // namespace

bool HasReference(std::string_view text) { return text.find("${") != text.npos; }

absl::StatusOr<std::string> ResolveReferences(std::string_view text,
                                              const Environment& environment) {
  std::string out;
  while (true) {
    const size_t begin = text.find("${");
    out.append(text.substr(0, begin));
    if (begin == text.npos) return out;
    text.remove_prefix(begin);
    const size_t end = text.find('}');
    if (end == text.npos) return Unresolved(text, "the closing } is missing");
    ASSIGN_OR_RETURN(const std::string value, ResolveOne(text.substr(0, end + 1), environment));
    out += value;
    text.remove_prefix(end + 1);
  }
}

}  // namespace mobula
