// Makes whole gzip members and zstd frames, and finds where they end.
//
// Room:    warm.
// Threads: one at a time; the caller's.
// Limits:  a gzip compressor keeps about 270 KB, a zstd one about 1.5 MB.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/config/config.h"

namespace mobula {

class Compressor {
 public:
  // Null for Compression::kNone.
  static std::unique_ptr<Compressor> Make(Compression compression);
  virtual ~Compressor() = default;

  // Replaces *out by one whole member or frame that holds `bytes`. REQUIRES: under 1 GiB.
  virtual void Compress(std::string_view bytes, std::string* out) = 0;

  // What every member or frame of this compressor begins with.
  [[nodiscard]] virtual std::string_view Magic() const = 0;
  // The size of the whole member or frame that `bytes` begins with; 0 when there is none.
  [[nodiscard]] virtual size_t WholeSize(std::string_view bytes) const = 0;

 protected:
  Compressor() = default;
};

// ".gz", ".zst" or "".
std::string_view CompressionSuffix(Compression compression) noexcept;

}  // namespace mobula
