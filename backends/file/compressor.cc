// zlib's raw deflate inside gzip members that know their size; zstd frames.
// Tested by tests/unit/backends/file/record_format_test.cc.
#include "backends/file/compressor.h"

#include <zlib.h>
#include <zstd.h>

#include <cstring>

#include "backends/file/little_endian.h"
#include "engine/base/check.h"

namespace mobula {
namespace {

// The figures behind the levels are in docs/wire/file.md.
constexpr int kGzipLevel = 4;
constexpr int kZstdLevel = 3;

// A gzip member of ours: the fixed 10 bytes (RFC 1952), an extra field "MB" with the member's whole size, so
// that a walk over the file need not inflate it, raw deflate, CRC-32 and length.
constexpr std::string_view kGzipMagic("\x1f\x8b\x08\x04\0\0\0\0\0\xff\x08\0MB\x04\0", 16);
constexpr size_t kGzipHeaderBytes = kGzipMagic.size() + 4;
constexpr size_t kGzipTrailerBytes = 8;

class GzipCompressor final : public Compressor {
 public:
  GzipCompressor() {
    // Only memory can be missing here, and without it there is no program.
    CHECK(deflateInit2(&stream_, kGzipLevel, Z_DEFLATED, -MAX_WBITS, MAX_MEM_LEVEL - 1,
                       Z_DEFAULT_STRATEGY) == Z_OK);
  }
  ~GzipCompressor() override { deflateEnd(&stream_); }
  GzipCompressor(const GzipCompressor&) = delete;
  GzipCompressor& operator=(const GzipCompressor&) = delete;

  void Compress(std::string_view bytes, std::string* out) override {
    CHECK(deflateReset(&stream_) == Z_OK);
    out->resize(kGzipHeaderBytes + deflateBound(&stream_, bytes.size()) + kGzipTrailerBytes);
    // zlib's interface predates const; it only reads.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out->data() + kGzipHeaderBytes);
    stream_.avail_out = static_cast<uInt>(out->size() - kGzipHeaderBytes - kGzipTrailerBytes);
    CHECK(deflate(&stream_, Z_FINISH) == Z_STREAM_END);
    const size_t trailer = kGzipHeaderBytes + stream_.total_out;
    out->resize(trailer + kGzipTrailerBytes);
    std::memcpy(out->data(), kGzipMagic.data(), kGzipMagic.size());
    PutU32(static_cast<uint32_t>(out->size()), out->data() + kGzipMagic.size());
    const uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    PutU32(static_cast<uint32_t>(crc), out->data() + trailer);
    PutU32(static_cast<uint32_t>(bytes.size()), out->data() + trailer + 4);
  }

  [[nodiscard]] std::string_view Magic() const override { return kGzipMagic; }

  [[nodiscard]] size_t WholeSize(std::string_view bytes) const override {
    if (bytes.size() < kGzipHeaderBytes || !bytes.starts_with(kGzipMagic)) return 0;
    const size_t size = GetU32(bytes.data() + kGzipMagic.size());
    return size >= kGzipHeaderBytes + kGzipTrailerBytes && size <= bytes.size() ? size : 0;
  }

 private:
  z_stream stream_{};
};

class ZstdCompressor final : public Compressor {
 public:
  ZstdCompressor() : context_(ZSTD_createCCtx()) {
    CHECK(context_ != nullptr);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kZstdLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }

  void Compress(std::string_view bytes, std::string* out) override {
    out->resize(ZSTD_compressBound(bytes.size()));
    const size_t size =
        ZSTD_compress2(context_.get(), out->data(), out->size(), bytes.data(), bytes.size());
    CHECK(!ZSTD_isError(size));
    out->resize(size);
  }

  [[nodiscard]] std::string_view Magic() const override { return {"\x28\xb5\x2f\xfd", 4}; }

  [[nodiscard]] size_t WholeSize(std::string_view bytes) const override {
    if (!bytes.starts_with(Magic())) return 0;
    const size_t size = ZSTD_findFrameCompressedSize(bytes.data(), bytes.size());
    return ZSTD_isError(size) ? 0 : size;
  }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> context_;
};

}  // namespace

std::unique_ptr<Compressor> Compressor::Make(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<GzipCompressor>();
    case Compression::kZstd:
      return std::make_unique<ZstdCompressor>();
    case Compression::kNone:
      break;
  }
  return nullptr;
}

std::string_view CompressionSuffix(Compression compression) noexcept {
  switch (compression) {
    case Compression::kGzip:
      return ".gz";
    case Compression::kZstd:
      return ".zst";
    case Compression::kNone:
      break;
  }
  return "";
}

}  // namespace mobula
