// Files for `mobula send` and `mobula replay`: any bytes under any name are documents within limits, then an end or an
// error. The first line is what the file's name ends with, and after a blank how it is compressed first (`gzip`, `zstd`);
// plain lines and framed records are judged against slow readers of their own.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/file/compressor.h"
#include "backends/file/record_format.h"
#include "engine/app/document_reader.h"
#include "engine/app/fresh_document.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using Texts = std::vector<std::string>;

constexpr std::string_view kBlanks = " \t\r\n";

struct Outcome {
  Texts documents;
  bool ok = true;
};

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "mobula-fuzz-XXXXXX").string();
    EXPECT(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Outcome Read(const std::string& path) {
  Outcome outcome;
  const auto reader = mobula::DocumentReader::Open({path});
  EXPECT(reader.ok());
  for (;;) {
    const auto document = (*reader)->Next();
    if (!document.ok()) {
      EXPECT(document.status().message().find(path) != std::string::npos);
      outcome.ok = false;
      const auto after = (*reader)->Next();
      EXPECT(after.ok() && !after->has_value());
      return outcome;
    }
    if (!document->has_value()) return outcome;
    EXPECT((*document)->bytes.size() <= mobula::kFramedDocumentBytesMax);
    outcome.documents.emplace_back((*document)->bytes);
  }
}

Texts Lines(std::string_view text) {
  Texts lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t begin = line.find_first_not_of(kBlanks);
    if (begin == line.npos) continue;
    lines.emplace_back(line.substr(begin, line.find_last_not_of(kBlanks) + 1 - begin));
  }
  return lines;
}

Outcome Records(std::string_view text) {
  Outcome outcome;
  text.remove_prefix(mobula::kFramedHeader.size());
  while (!text.empty()) {
    outcome.ok = false;
    if (text.size() < 4) break;
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const size_t size =
        byte(0) | byte(1) << 8U | byte(2) << 16U | static_cast<size_t>(byte(3)) << 24U;
    if (size == 0 || size > mobula::kFramedDocumentBytesMax || size > text.size() - 4) break;
    outcome.documents.emplace_back(text.substr(4, size));
    text.remove_prefix(4 + size);
    outcome.ok = true;
  }
  return outcome;
}

// Other ids twice are the old ones, and times that stay are left alone.
void TryRefresh(const std::string& document) {
  EXPECT(mobula::LatestTime(document) >= 0);
  const mobula::FreshShift ids{0, 0x0123456789abcdef, 0xfedcba9876543210};
  const std::string other = mobula::Refresh(document, ids);
  if (document.find_first_of("eE") == document.npos)
    EXPECT(mobula::Refresh(other, ids) == document);
}

bool IsCompressed(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b") || bytes.starts_with("\x28\xb5\x2f\xfd");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder kFolder;
  Input input(data, size);
  const std::string_view first = input.Line();
  const std::string_view ending = first.substr(0, first.find(' '));
  if (ending.size() > 40 || ending.find('/') != ending.npos || ending.find('\0') != ending.npos) {
    return 0;
  }
  const std::string text(input.Rest());
  std::string bytes = text;
  const mobula::Compression compression = first.ends_with(" gzip")   ? mobula::Compression::kGzip
                                          : first.ends_with(" zstd") ? mobula::Compression::kZstd
                                                                     : mobula::Compression::kNone;
  if (const auto compressor = mobula::Compressor::Make(compression)) {
    compressor->Compress(text, &bytes);
  }
  const std::string path = kFolder.path() + "/x" + std::string(ending);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  const Outcome got = Read(path);
  ::unlink(path.c_str());

  const bool plain = compression != mobula::Compression::kNone || !IsCompressed(bytes);
  // A file with a spool file's name or beginning is one, or a mistake.
  if (plain && !text.starts_with("MOBSPOOL") && ending.find(".spool") == ending.npos) {
    if (text.starts_with(mobula::kFramedHeader)) {
      const Outcome expected = Records(text);
      EXPECT(got.documents == expected.documents && got.ok == expected.ok);
    } else if (ending == ".jsonl" || ending == ".jsonl.1.gz") {
      EXPECT(got.ok && got.documents == Lines(text));
    } else if (ending == ".bin") {
      EXPECT(got.ok && got.documents == Texts{text});
    }
  }
  for (const std::string& document : got.documents) TryRefresh(document);
  return 0;
}
