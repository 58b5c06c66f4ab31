#include "tests/sim/spool_files.h"

#include <zstd.h>

#include <cstring>

#include "engine/spool/crc32c.h"
#include "tests/sim/documents.h"

namespace mobula::sim {
namespace {

constexpr size_t kFileHeader = 128;
constexpr size_t kFrameHeader = 48;
constexpr size_t kRawMax = 256U << 10;

template <typename T>
T Get(std::string_view bytes, size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

void ReadFrame(std::string_view frame, std::vector<uint64_t>* remaining) {
  const uint64_t done = Get<uint64_t>(frame, 32);
  const bool marked = done == ~Get<uint64_t>(frame, 40);
  const uint32_t documents = Get<uint16_t>(frame, 12);
  const uint64_t all = documents >= 64 ? ~uint64_t{0} : (uint64_t{1} << documents) - 1;
  if (marked && done == all) return;
  const std::string_view stored = frame.substr(kFrameHeader);
  if (Crc32c(stored) != Get<uint32_t>(frame, 24)) return;
  std::string raw(std::min<size_t>(Get<uint32_t>(frame, 8), kRawMax), '\0');
  const size_t size = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) != 0 || size != raw.size() || size < documents * 5U) return;
  size_t at = documents * 5U;
  for (uint32_t i = 0; i < documents; ++i) {
    const uint32_t bytes = Get<uint32_t>(raw, i * 5U);
    if (bytes > raw.size() - at) return;
    const std::optional<uint64_t> number = NumberOf(std::string_view(raw).substr(at, bytes));
    if (number.has_value() && !(marked && (done >> i & 1) != 0)) remaining->push_back(*number);
    at += bytes;
  }
}

}  // namespace

uint64_t IdentityHash(std::string_view backend, std::string_view identity) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](char c) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  };
  for (const char c : backend) add(c);
  add('\0');
  for (const char c : identity) add(c);
  return hash;
}

std::optional<SpoolFileContent> ReadSpoolFile(std::string_view bytes) {
  if (bytes.size() < kFileHeader || !bytes.starts_with("MOBSPOOL")) return std::nullopt;
  std::string header(bytes.substr(0, kFileHeader));
  std::memset(header.data() + 12, 0, 4);
  // "of the other 124 bytes with zeros here".
  if (Crc32c(header) != Get<uint32_t>(bytes, 12)) return std::nullopt;
  SpoolFileContent content;
  content.backend = header.substr(64, Get<uint16_t>(header, 10));
  content.identity = Get<uint64_t>(header, 32);
  const std::string id = header.substr(16, 8);
  for (size_t at = kFileHeader; at + kFrameHeader <= bytes.size();) {
    const std::string_view rest = bytes.substr(at);
    const size_t size = kFrameHeader + Get<uint32_t>(rest, 4);
    const bool frame = rest.starts_with("MbFr") && size <= rest.size() &&
                       Crc32c(rest.substr(0, 28), Crc32c(id)) == Get<uint32_t>(rest, 28);
    if (frame) {
      ReadFrame(rest.substr(0, size), &content.remaining);
      at += size;
    } else {
      const size_t next = bytes.find("MbFr", at + 1);
      at = next == std::string_view::npos ? bytes.size() : next;
    }
  }
  return content;
}

}  // namespace mobula::sim
