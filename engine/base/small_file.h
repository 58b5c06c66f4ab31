// Reads a small file whole: the shared AWS files, tokens, certificates.
//
// Room:   cold.
// Errors: NotFound when there is no such file; FailedPrecondition when it cannot be read or is over the limit. The
//         message names the path and holds nothing of the contents.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mobula {

// A pipe or a device is not waited for.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max);

// What tells one state of a file from another; the same for all that do not exist.
using FileStamp = std::array<int64_t, 4>;
FileStamp StampOf(const std::string& path) noexcept;

}  // namespace mobula
