// Reads a file or standard input as plain bytes: gzip and zstd are recognised by their first bytes and
// decompressed, several members or frames one after the other too.
//
// Room:   cold.
// Errors: Cancelled when told to stop; NotFound, PermissionDenied or Unavailable from the system; DataLoss when compressed data is damaged or
//         ends in the middle.
// Limits: about 200 KiB, and with zstd the window the data asks for, at most 32 MiB.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace mobula {

class InputStream {
 public:
  // Asked before each read and every 100 ms while a pipe or terminal says nothing; true: stop. May be empty.
  using StopCheck = std::function<bool()>;

  // "-" is standard input. A pipe's first bytes are waited for.
  static absl::StatusOr<std::unique_ptr<InputStream>> Open(const std::string& path,
                                                           StopCheck stop = {});
  virtual ~InputStream() = default;

  // Reads up to `size` bytes as soon as there is one; 0 at the end. REQUIRES: size > 0.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;

 protected:
  InputStream() = default;
};

}  // namespace mobula
