// How documents become the bytes of a file: JSON lines or framed records, plain or compressed. The formats are
// described in docs/wire/file.md.
//
// Room:    warm.
// Threads: one at a time; the caller's.
// Limits:  what Encode makes is bounded by a batch: 256 KiB and 4 bytes a document.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/file/compressor.h"
#include "engine/batch/batch.h"
#include "engine/config/config.h"

namespace mobula {

// The first bytes of every framed file; after them come records: u32 little-endian size, then the document.
inline constexpr std::string_view kFramedHeader = "mobula-framed 1\n";
inline constexpr size_t kFramedPrefixBytes = 4;
// A record claiming more is damage, not a document.
inline constexpr size_t kFramedDocumentBytesMax = 1U << 20;

// The size of the document whose record begins at `bytes`, or nothing when that cannot be one.
// REQUIRES: at least kFramedPrefixBytes bytes.
std::optional<size_t> FramedDocumentSize(std::string_view bytes) noexcept;

// The file a backend of this configuration writes: its path with the compression's ending; "-" is standard output.
std::string FileWritten(const FileBackendConfig& config);

class RecordEncoder {
 public:
  // Bytes that make sense only together: one document, or with compression a whole call.
  struct Piece {
    size_t end;  // in the encoded bytes
    DocumentSet documents;
  };

  RecordEncoder(FileFormat format, Compression compression);

  // What a file or stream begins with.
  std::string Header();
  // Encodes `documents` of the batch. With compression the result is one whole gzip member or zstd frame, so
  // that a file may end, and another writer go on, after any call. The bytes live until the next call.
  std::string_view Encode(const Batch& batch, DocumentSet documents);
  [[nodiscard]] const std::vector<Piece>& pieces() const noexcept { return pieces_; }

  // How many leading bytes of the file at `path`, open as `fd`, are whole records; nothing when it does not
  // begin as this encoder's files do. Not for plain JSON lines.
  [[nodiscard]] absl::StatusOr<std::optional<uint64_t>> WholeBytes(const std::string& path,
                                                                   int fd) const;

 private:
  [[nodiscard]] absl::StatusOr<uint64_t> Walk(int fd, uint64_t at) const;

  const FileFormat format_;
  const std::unique_ptr<Compressor> compressor_;  // null without compression
  std::string plain_;
  std::string compressed_;
  std::vector<Piece> pieces_;
};

}  // namespace mobula
