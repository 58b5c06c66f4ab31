// The bytes of a spool file: docs/wire/spool.md as code.
//
// Room:   warm.
// Errors: foreign bytes are refused, never believed: sizes are judged before memory is taken.
// Limits: a frame holds 64 documents and 256 KiB, and always fits into a Batch.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch/batch.h"
#include "engine/spool/spool_disk.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace mobula {

inline constexpr std::string_view kSpoolFileMagic = "MOBSPOOL";
inline constexpr size_t kSpoolFileHeaderBytes = 128;
inline constexpr size_t kSpoolFrameHeaderBytes = 48;
inline constexpr size_t kSpoolBackendNameMax = 63;
// Of a frame before and after compression: a block of zstd that does not shrink grows a little.
inline constexpr size_t kSpoolRawBytesMax = 256U << 10;
inline constexpr size_t kSpoolStoredBytesMax = kSpoolRawBytesMax + (8U << 10);
inline constexpr size_t kSpoolFrameBytesMax = kSpoolFrameHeaderBytes + kSpoolStoredBytesMax;

struct SpoolFileHeader {
  std::string backend;
  uint64_t identity = 0;  // SpoolIdentity of where the documents may go
  uint64_t id = 0;        // random: ties frames to their file
  SystemTime created{};
};

// The hash in a file's header: of the backend's name and of what it is (type, endpoint, role).
uint64_t SpoolIdentity(std::string_view backend, std::string_view identity) noexcept;

std::string EncodeFileHeader(const SpoolFileHeader& header);
// What a crash between making a file and writing its header leaves: nothing, a part, or zeros.
bool IsUnwrittenHeader(std::string_view bytes) noexcept;
// DataLoss: no header of ours; Unimplemented: of another version.
absl::StatusOr<SpoolFileHeader> DecodeFileHeader(std::string_view bytes);

struct SpoolFrameHeader {
  uint32_t stored_bytes = 0;
  uint32_t raw_bytes = 0;
  uint32_t documents = 0;
  SystemTime appended{};
  uint32_t payload_crc = 0;
  // Neither delivered nor dropped when the frame was last marked.
  DocumentSet remaining = 0;

  [[nodiscard]] DocumentSet all() const noexcept { return SetOfFirst(documents); }
  [[nodiscard]] uint64_t bytes() const noexcept { return kSpoolFrameHeaderBytes + stored_bytes; }

  static DocumentSet SetOfFirst(uint32_t documents) noexcept {
    return documents >= 64 ? ~DocumentSet{0} : (DocumentSet{1} << documents) - 1;
  }
};

// Nothing when `bytes` do not begin with a whole frame header of the file `file_id`.
std::optional<SpoolFrameHeader> DecodeFrameHeader(std::string_view bytes,
                                                  uint64_t file_id) noexcept;
// Ties the frame that `frame` begins with to the file it is written to. REQUIRES: made by the encoder.
void StampFrame(char* frame, uint64_t file_id) noexcept;

// Which documents of a frame are done, as it stands on disk: written over without a checksum, so twice.
inline constexpr size_t kSpoolMarkOffset = 32;
std::string EncodeMark(DocumentSet done);

// A frame read back.
struct SpooledFrame {
  struct Document {
    std::string_view bytes;  // never empty
    DocumentKind kind;
  };
  uint64_t token = 0;  // names it in SpoolLane::Done and Again
  SystemTime appended{};
  // All of the batch that was spooled; those in `remaining` are still to be delivered.
  std::vector<Document> documents;
  DocumentSet remaining = 0;
  std::unique_ptr<char[]> memory;  // what the documents view
};

class SpoolEncoder {
 public:
  SpoolEncoder();
  ~SpoolEncoder();
  // Adds the frame of `documents` to *out, unstamped. False when there are none, or of a kind that is never sent.
  [[nodiscard]] bool Encode(const Batch& batch, DocumentSet documents, SystemTime now,
                            std::string* out);

 private:
  ZSTD_CCtx_s* context_;
  std::string raw_;
};

class SpoolDecoder {
 public:
  SpoolDecoder();
  ~SpoolDecoder();
  // Makes the frame of its header and the bytes behind it, all but the token. False: damaged.
  [[nodiscard]] bool Decode(const SpoolFrameHeader& header, std::string_view stored,
                            SpooledFrame* frame);

 private:
  ZSTD_DCtx_s* context_;
};

}  // namespace mobula
