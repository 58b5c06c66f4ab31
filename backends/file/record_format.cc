// Lines, framed records, and the walk that finds a torn tail.
// Tested by tests/unit/backends/file/record_format_test.cc.
#include "backends/file/record_format.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "backends/file/append_file.h"
#include "backends/file/input_stream.h"
#include "backends/file/little_endian.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

void AppendLine(std::string_view document, std::string* out) {
  const size_t begin = out->size();
  out->append(document);
  // Between tokens they are blanks; inside a JSON string they cannot be.
  // Plain pointers, so that the compiler may use vectors.
  char* const end = out->data() + out->size();
  for (char* c = out->data() + begin; c != end; ++c) *c = *c == '\n' || *c == '\r' ? ' ' : *c;
  out->push_back('\n');
}

void AppendFramed(std::string_view document, std::string* out) {
  std::array<char, kFramedPrefixBytes> prefix{};
  PutU32(static_cast<uint32_t>(document.size()), prefix.data());
  out->append(prefix.data(), prefix.size());
  out->append(document);
}

size_t FramedRecordSize(std::string_view bytes) noexcept {
  if (bytes.size() < kFramedPrefixBytes) return 0;
  const std::optional<size_t> size = FramedDocumentSize(bytes);
  if (!size.has_value() || *size > bytes.size() - kFramedPrefixBytes) return 0;
  return kFramedPrefixBytes + *size;
}

// Fills `buffer` from offset `at`; answers how much there was.
absl::StatusOr<size_t> ReadAt(int fd, uint64_t at, std::string* buffer) {
  size_t have = 0;
  while (have < buffer->size()) {
    const ssize_t n =
        pread(fd, buffer->data() + have, buffer->size() - have, static_cast<off_t>(at + have));
    if (n == 0) break;
    if (n < 0 && errno != EINTR) return FileError(errno, "reading the end of the file");
    if (n > 0) have += static_cast<size_t>(n);
  }
  return have;
}

// The first bytes of what is in the file, decompressed; fewer where it is torn.
absl::StatusOr<std::string> FirstBytes(const std::string& path, size_t size) {
  ASSIGN_OR_RETURN(const std::unique_ptr<InputStream> stream, InputStream::Open(path));
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const absl::StatusOr<size_t> n = stream->Read(bytes.data() + have, size - have);
    if (!n.ok() && !absl::IsDataLoss(n.status())) return n.status();
    if (!n.ok() || *n == 0) break;
    have += *n;
  }
  bytes.resize(have);
  return bytes;
}

}  // namespace

std::optional<size_t> FramedDocumentSize(std::string_view bytes) noexcept {
  DCHECK(bytes.size() >= kFramedPrefixBytes);
  const size_t size = GetU32(bytes.data());
  if (size == 0 || size > kFramedDocumentBytesMax) return std::nullopt;
  return size;
}

std::string FileWritten(const FileBackendConfig& config) {
  const std::string_view suffix = CompressionSuffix(config.compression);
  if (config.path == "-" || config.path.ends_with(suffix)) return config.path;
  return config.path + std::string(suffix);
}

RecordEncoder::RecordEncoder(FileFormat format, Compression compression)
    : format_(format), compressor_(Compressor::Make(compression)) {}

std::string RecordEncoder::Header() {
  if (format_ == FileFormat::kJsonLines) return "";
  std::string header(kFramedHeader);
  if (compressor_ != nullptr) compressor_->Compress(kFramedHeader, &header);
  return header;
}

std::string_view RecordEncoder::Encode(const Batch& batch, DocumentSet documents) {
  plain_.clear();
  pieces_.clear();
  ForEach(documents, [&](size_t i) {
    if (format_ == FileFormat::kFramed) {
      AppendFramed(batch.document(i), &plain_);
    } else {
      AppendLine(batch.document(i), &plain_);
    }
    pieces_.push_back({plain_.size(), DocumentSet{1} << i});
  });
  if (compressor_ == nullptr) return plain_;
  compressor_->Compress(plain_, &compressed_);
  pieces_.assign(1, {compressed_.size(), documents});
  return compressed_;
}

absl::StatusOr<std::optional<uint64_t>> RecordEncoder::WholeBytes(const std::string& path,
                                                                  int fd) const {
  const std::string_view magic = compressor_ == nullptr ? kFramedHeader : compressor_->Magic();
  std::string first(magic.size(), '\0');
  ASSIGN_OR_RETURN(const size_t have, ReadAt(fd, 0, &first));
  if (!magic.starts_with(std::string_view(first).substr(0, have))) return std::nullopt;
  if (have < magic.size()) return 0;  // torn within its first bytes

  ASSIGN_OR_RETURN(const uint64_t whole, Walk(fd, compressor_ == nullptr ? magic.size() : 0));
  if (compressor_ != nullptr && whole > 0) {
    // Lines and records do not mix.
    ASSIGN_OR_RETURN(const std::string inside, FirstBytes(path, kFramedHeader.size()));
    if ((inside == kFramedHeader) != (format_ == FileFormat::kFramed)) return std::nullopt;
  }
  return whole;
}

absl::StatusOr<uint64_t> RecordEncoder::Walk(int fd, uint64_t at) const {
  // Every record, member and frame of ours fits.
  std::string buffer(2 * kFramedDocumentBytesMax, '\0');
  while (true) {
    ASSIGN_OR_RETURN(const size_t have, ReadAt(fd, at, &buffer));
    std::string_view bytes(buffer.data(), have);
    while (!bytes.empty()) {
      const size_t size =
          compressor_ == nullptr ? FramedRecordSize(bytes) : compressor_->WholeSize(bytes);
      if (size == 0) break;
      bytes.remove_prefix(size);
    }
    const size_t walked = have - bytes.size();
    at += walked;
    if (walked == 0 || have < buffer.size()) return at;
  }
}

}  // namespace mobula
