// Headers, checksums, compression.
// Tested by tests/unit/engine/spool/spool_format_test.cc and tests/fuzz/spool_fuzz.cc.
#include "engine/spool/spool_format.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "engine/base/check.h"
#include "engine/batch/batch_builder.h"
#include "engine/spool/crc32c.h"

namespace mobula {
namespace {

static_assert(std::endian::native == std::endian::little, "the structs below are the file's bytes");

constexpr int kLevel = 1;
constexpr uint16_t kVersion = 1;
constexpr std::string_view kFrameMagic = "MbFr";
constexpr size_t kTableEntryBytes = 5;  // size, kind

struct FileBytes {
  char magic[8];
  uint16_t version;
  uint16_t name_size;
  uint32_t crc;  // of all the rest
  uint64_t id;
  uint64_t created_ms;
  uint64_t identity;
  char zero[24];
  char name[64];
};
static_assert(sizeof(FileBytes) == kSpoolFileHeaderBytes);

struct FrameBytes {
  char magic[4];
  uint32_t stored_bytes;
  uint32_t raw_bytes;
  uint16_t documents;
  uint16_t zero;
  uint64_t appended_ms;
  uint32_t payload_crc;
  uint32_t header_crc;  // of the file's id and all before
  uint64_t done;
  uint64_t not_done;
};
static_assert(sizeof(FrameBytes) == kSpoolFrameHeaderBytes);
static_assert(offsetof(FrameBytes, done) == kSpoolMarkOffset);

template <typename T>
std::string_view BytesOf(const T& value) noexcept {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

uint32_t FileCrc(const FileBytes& bytes) noexcept {
  FileBytes rest = bytes;
  rest.crc = 0;
  return Crc32c(BytesOf(rest));
}

uint32_t FrameHeaderCrc(const FrameBytes& bytes, uint64_t file_id) noexcept {
  return Crc32c(BytesOf(bytes).substr(0, offsetof(FrameBytes, header_crc)),
                Crc32c(BytesOf(file_id)));
}

// Times before 1970 and after 2200 are no times of ours.
constexpr uint64_t kMillisecondsMax = 7'258'118'400'000;

uint64_t Milliseconds(SystemTime time) noexcept {
  const int64_t ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  return std::min(static_cast<uint64_t>(std::max(ms, int64_t{0})), kMillisecondsMax);
}

SystemTime FromMilliseconds(uint64_t ms) noexcept {
  return SystemTime(
      std::chrono::milliseconds(static_cast<int64_t>(std::min(ms, kMillisecondsMax))));
}

uint64_t Fnv1a(std::string_view text, uint64_t hash) noexcept {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

uint64_t SpoolIdentity(std::string_view backend, std::string_view identity) noexcept {
  const uint64_t hash = Fnv1a(backend, 0xcbf29ce484222325);
  return Fnv1a(identity, Fnv1a(std::string_view("\0", 1), hash));
}

std::string EncodeFileHeader(const SpoolFileHeader& header) {
  CHECK(header.backend.size() <= kSpoolBackendNameMax);
  FileBytes bytes{};
  std::memcpy(bytes.magic, kSpoolFileMagic.data(), kSpoolFileMagic.size());
  bytes.version = kVersion;
  bytes.name_size = static_cast<uint16_t>(header.backend.size());
  bytes.id = header.id;
  bytes.created_ms = Milliseconds(header.created);
  bytes.identity = header.identity;
  std::memcpy(bytes.name, header.backend.data(), header.backend.size());
  bytes.crc = FileCrc(bytes);
  return std::string(BytesOf(bytes));
}

bool IsUnwrittenHeader(std::string_view bytes) noexcept {
  return bytes.size() < kSpoolFileHeaderBytes ||
         bytes.find_first_not_of('\0') == std::string_view::npos;
}

absl::StatusOr<SpoolFileHeader> DecodeFileHeader(std::string_view text) {
  FileBytes bytes{};
  if (text.size() < sizeof(bytes) || !text.starts_with(kSpoolFileMagic)) {
    return absl::DataLossError("not a spool file");
  }
  std::memcpy(&bytes, text.data(), sizeof(bytes));
  if (bytes.version != kVersion) {
    return absl::UnimplementedError(fmt::format("a spool file of version {}", bytes.version));
  }
  if (bytes.crc != FileCrc(bytes) || bytes.name_size > kSpoolBackendNameMax) {
    return absl::DataLossError("the header is damaged");
  }
  return SpoolFileHeader{std::string(bytes.name, bytes.name_size), bytes.identity, bytes.id,
                         FromMilliseconds(bytes.created_ms)};
}

std::optional<SpoolFrameHeader> DecodeFrameHeader(std::string_view text,
                                                  uint64_t file_id) noexcept {
  FrameBytes bytes{};
  if (text.size() < sizeof(bytes) || !text.starts_with(kFrameMagic)) return std::nullopt;
  std::memcpy(&bytes, text.data(), sizeof(bytes));
  if (bytes.header_crc != FrameHeaderCrc(bytes, file_id)) return std::nullopt;
  if (bytes.stored_bytes == 0 || bytes.stored_bytes > kSpoolStoredBytesMax ||
      bytes.raw_bytes == 0 || bytes.raw_bytes > kSpoolRawBytesMax || bytes.documents == 0 ||
      bytes.documents > Batch::kDocumentsMax) {
    return std::nullopt;
  }
  SpoolFrameHeader header{bytes.stored_bytes, bytes.raw_bytes, bytes.documents,
                          FromMilliseconds(bytes.appended_ms), bytes.payload_crc};
  // A mark that is damaged says nothing: better twice than never.
  const DocumentSet done = bytes.done == ~bytes.not_done ? bytes.done : 0;
  header.remaining = header.all() & ~done;
  return header;
}

void StampFrame(char* frame, uint64_t file_id) noexcept {
  FrameBytes bytes{};
  std::memcpy(&bytes, frame, sizeof(bytes));
  bytes.header_crc = FrameHeaderCrc(bytes, file_id);
  std::memcpy(frame, &bytes, sizeof(bytes));
}

std::string EncodeMark(DocumentSet done) {
  const uint64_t mark[] = {done, ~done};
  return std::string(BytesOf(mark));
}

SpoolEncoder::SpoolEncoder() : context_(ZSTD_createCCtx()) {
  CHECK(context_ != nullptr);
  ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context_, ZSTD_c_checksumFlag, 0);
}

SpoolEncoder::~SpoolEncoder() { ZSTD_freeCCtx(context_); }

bool SpoolEncoder::Encode(const Batch& batch, DocumentSet documents, SystemTime now,
                          std::string* out) {
  documents &= batch.all();
  if (documents == 0) return false;
  raw_.clear();
  bool sendable = true;
  ForEach(documents, [&](size_t i) {
    const DocumentEntry& entry = batch.entry(i);
    sendable = sendable && entry.kind < DocumentKind::kRejected && entry.size > 0;
    raw_.append(BytesOf(entry.size));
    raw_.push_back(static_cast<char>(entry.kind));
  });
  if (!sendable) return false;
  ForEach(documents, [&](size_t i) { raw_.append(batch.document(i)); });
  CHECK(raw_.size() <= kSpoolRawBytesMax);

  const size_t begin = out->size();
  const size_t payload = begin + sizeof(FrameBytes);
  const size_t bound = ZSTD_compressBound(raw_.size());
  out->resize(payload + bound);
  const size_t stored =
      ZSTD_compress2(context_, out->data() + payload, bound, raw_.data(), raw_.size());
  CHECK(!ZSTD_isError(stored));
  CHECK(stored <= kSpoolStoredBytesMax);
  out->resize(payload + stored);

  FrameBytes bytes{};
  std::memcpy(bytes.magic, kFrameMagic.data(), kFrameMagic.size());
  bytes.stored_bytes = static_cast<uint32_t>(stored);
  bytes.raw_bytes = static_cast<uint32_t>(raw_.size());
  bytes.documents = static_cast<uint16_t>(Count(documents));
  bytes.appended_ms = Milliseconds(now);
  bytes.payload_crc = Crc32c({out->data() + payload, stored});
  bytes.not_done = ~uint64_t{0};
  std::memcpy(out->data() + begin, &bytes, sizeof(bytes));
  return true;
}

SpoolDecoder::SpoolDecoder() : context_(ZSTD_createDCtx()) { CHECK(context_ != nullptr); }

SpoolDecoder::~SpoolDecoder() { ZSTD_freeDCtx(context_); }

bool SpoolDecoder::Decode(const SpoolFrameHeader& header, std::string_view stored,
                          SpooledFrame* frame) {
  const size_t table_bytes = header.documents * kTableEntryBytes;
  if (stored.size() != header.stored_bytes || Crc32c(stored) != header.payload_crc ||
      header.raw_bytes <= table_bytes ||
      header.raw_bytes - table_bytes > BatchBuilder::kDocumentBytesMax) {
    return false;
  }
  frame->memory.reset(new char[header.raw_bytes]);
  char* const raw = frame->memory.get();
  if (ZSTD_decompressDCtx(context_, raw, header.raw_bytes, stored.data(), stored.size()) !=
      header.raw_bytes) {
    return false;
  }
  frame->appended = header.appended;
  frame->remaining = header.remaining;
  frame->documents.clear();
  size_t at = table_bytes;
  for (size_t i = 0; i < header.documents; ++i) {
    const char* const entry = raw + i * kTableEntryBytes;
    uint32_t size = 0;
    std::memcpy(&size, entry, sizeof(size));
    const auto kind = static_cast<uint8_t>(entry[sizeof(size)]);
    if (size == 0 || size > header.raw_bytes - at ||
        kind >= static_cast<uint8_t>(DocumentKind::kRejected)) {
      return false;
    }
    frame->documents.push_back({{raw + at, size}, static_cast<DocumentKind>(kind)});
    at += size;
  }
  return at == header.raw_bytes;
}

}  // namespace mobula
