// Tested by tests/unit/engine/app/document_reader_test.cc.
#include "engine/app/document_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <system_error>
#include <utility>

#include "backends/file/record_format.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr size_t kDocumentMax = kFramedDocumentBytesMax;
constexpr size_t kReadBytes = 64 * 1024;
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view WithoutBlanks(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// "segments.jsonl.3.gz" -> "segments.jsonl".
std::string_view WithoutSuffixes(std::string_view name) {
  for (const std::string_view suffix : {".gz", ".zst"}) {
    if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  }
  const size_t dot = name.find_last_not_of("0123456789");
  if (dot != std::string_view::npos && dot + 1 < name.size() && name[dot] == '.') {
    name = name.substr(0, dot);
  }
  return name;
}

absl::Status TooLarge(const std::string& name) {
  return absl::InvalidArgumentError(
      fmt::format("{}: a document larger than {} bytes", name, kDocumentMax));
}

absl::StatusOr<std::vector<std::string>> FilesOf(const std::string& folder,
                                                 bool (*known)(std::string_view name)) {
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    if (entry->is_regular_file(error) && known(path)) files.push_back(path);
  }
  if (error) return absl::UnavailableError(fmt::format("{}: {}", folder, error.message()));
  if (files.empty())
    return absl::NotFoundError(fmt::format("no documents in the folder: {}", folder));
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentReader>> DocumentReader::Open(
    const std::vector<std::string>& inputs, InputStream::StopCheck stop) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    std::error_code error;
    if (input != "-" && !std::filesystem::exists(input, error)) {
      return absl::NotFoundError(fmt::format("no such file: {}", input));
    }
    if (!std::filesystem::is_directory(input, error)) {
      files.push_back(input);
      continue;
    }
    ASSIGN_OR_RETURN(
        const std::vector<std::string> inside,
        FilesOf(input, [](std::string_view name) { return KindByName(name) != Kind::kUnknown; }));
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return std::unique_ptr<DocumentReader>(new DocumentReader(std::move(files), std::move(stop)));
}

DocumentReader::Kind DocumentReader::KindByName(std::string_view path) {
  if (path == "-") return Kind::kLines;
  constexpr std::array<std::pair<std::string_view, Kind>, 9> kNames = {
      {{".bin", Kind::kDatagram},
       {".packet", Kind::kDatagram},
       {".json", Kind::kDocument},
       {".jsonl", Kind::kLines},
       {".ndjson", Kind::kLines},
       {".mobula", Kind::kFramed},
       {".spool", Kind::kSpool},
       {".spool.foreign", Kind::kSpool},
       {".spool.damaged", Kind::kSpool}}};
  const std::string_view name = WithoutSuffixes(path);
  for (const auto& [ending, kind] : kNames) {
    if (name.ends_with(ending)) return kind;
  }
  return Kind::kUnknown;
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::Next() {
  while (true) {
    if (stream_ == nullptr) {
      if (next_ == files_.size()) return std::nullopt;
      if (absl::Status opened = OpenNext(); !opened.ok()) {
        next_ = files_.size();
        stream_.reset();
        return opened;
      }
    }
    absl::StatusOr<std::optional<InputDocument>> document = NextInFile();
    if (document.ok() && document->has_value()) return document;
    stream_.reset();
    if (!document.ok()) {
      next_ = files_.size();
      return document;
    }
  }
}

absl::Status DocumentReader::OpenNext() {
  const std::string& file = files_[next_++];
  buffer_.clear();
  begin_ = 0;
  ended_ = false;
  scan_.reset();
  frame_.reset();
  left_ = 0;
  ASSIGN_OR_RETURN(stream_, InputStream::Open(file, stop_));
  kind_ = KindByName(file);
  RETURN_IF_ERROR(Fill(1).status());
  // A framed file begins with a letter no document begins with.
  if (there().starts_with(kFramedHeader[0])) RETURN_IF_ERROR(Fill(kFramedHeader.size()).status());
  if (there().starts_with(kSpoolFileMagic[0]))
    RETURN_IF_ERROR(Fill(kSpoolFileMagic.size()).status());
  if (there().starts_with(kSpoolFileMagic)) kind_ = Kind::kSpool;
  if (kind_ == Kind::kSpool) {
    absl::StatusOr<std::unique_ptr<SpoolScan>> scan = SpoolScan::Open(file, PosixSpoolDisk());
    // Nothing was written to it.
    if (absl::IsNotFound(scan.status())) return absl::OkStatus();
    if (!scan.ok()) {
      return absl::Status(scan.status().code(),
                          fmt::format("{}: {}", file, std::string(scan.status().message())));
    }
    scan_ = *std::move(scan);
  } else if (there().starts_with(kFramedHeader)) {
    kind_ = Kind::kFramed;
    begin_ = kFramedHeader.size();
  } else if (kind_ == Kind::kFramed && !there().empty()) {
    return absl::DataLossError(fmt::format("{}: does not begin like a framed file", file));
  } else if (kind_ == Kind::kUnknown) {
    return absl::InvalidArgumentError(
        fmt::format("{}: expected a name ending in .bin, .packet, .json, .jsonl, .ndjson, "
                    ".mobula or .spool, with or without "
                    ".gz or .zst",
                    file));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::NextInFile() {
  switch (kind_) {
    case Kind::kLines:
      return Line();
    case Kind::kFramed:
      return Record();
    case Kind::kSpool:
      return Spooled();
    default:
      return Whole();
  }
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::Whole() {
  // begin_ beyond the buffer says that the file's one document was handed out.
  if (begin_ > 0) return std::nullopt;
  ASSIGN_OR_RETURN(const bool more, Fill(kDocumentMax + 1));
  if (more) return TooLarge(name());
  begin_ = 1;
  if (kind_ == Kind::kDatagram) return InputDocument{buffer_, true};
  const std::string_view document = WithoutBlanks(buffer_);
  if (document.empty()) return absl::InvalidArgumentError(fmt::format("{}: empty", name()));
  return InputDocument{document, false};
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::Line() {
  while (true) {
    size_t end = there().find('\n');
    while (end == std::string_view::npos && there().size() <= kDocumentMax) {
      const size_t looked = there().size();
      ASSIGN_OR_RETURN(const bool more, ReadMore());
      if (!more) break;
      end = there().find('\n', looked);
    }
    const std::string_view line = there().substr(0, end);
    if (line.size() > kDocumentMax) return TooLarge(name());
    if (line.empty() && end == std::string_view::npos) return std::nullopt;
    begin_ += line.size() + (end == std::string_view::npos ? 0 : 1);
    const std::string_view document = WithoutBlanks(line);
    if (!document.empty()) return InputDocument{document, false};
  }
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::Record() {
  ASSIGN_OR_RETURN(const bool prefix, Fill(kFramedPrefixBytes));
  if (!prefix && there().empty()) return std::nullopt;
  const absl::Status torn =
      absl::DataLossError(fmt::format("{}: ends in the middle of a record", name()));
  if (!prefix) return torn;
  const std::optional<size_t> size = FramedDocumentSize(there());
  if (!size.has_value()) return absl::DataLossError(fmt::format("{}: damaged record", name()));
  ASSIGN_OR_RETURN(const bool whole, Fill(kFramedPrefixBytes + *size));
  if (!whole) return torn;
  const std::string_view document = there().substr(kFramedPrefixBytes, *size);
  begin_ += kFramedPrefixBytes + *size;
  return InputDocument{document, false};
}

absl::StatusOr<std::optional<InputDocument>> DocumentReader::Spooled() {
  if (scan_ == nullptr) return std::nullopt;
  while (left_ == 0) {
    if (stop_ && stop_()) return absl::CancelledError("stopped");
    ASSIGN_OR_RETURN(frame_, scan_->Next());
    if (!frame_.has_value()) {
      const SpoolFileInfo& info = scan_->info();
      if (info.sound()) return std::nullopt;
      const uint64_t places = info.damaged_frames + info.gaps;
      return absl::DataLossError(fmt::format("{}: damaged in {} place{}, the rest was read", name(),
                                             places, places == 1 ? "" : "s"));
    }
    left_ = frame_->remaining;
  }
  const auto i = static_cast<size_t>(std::countr_zero(left_));
  left_ &= left_ - 1;
  return InputDocument{frame_->documents[i].bytes, false};
}

absl::StatusOr<bool> DocumentReader::Fill(size_t size) {
  while (there().size() < size) {
    ASSIGN_OR_RETURN(const bool more, ReadMore());
    if (!more) return false;
  }
  return true;
}

absl::StatusOr<bool> DocumentReader::ReadMore() {
  if (ended_) return false;
  if (kind_ == Kind::kLines || kind_ == Kind::kFramed) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  const size_t have = buffer_.size();
  buffer_.resize(have + kReadBytes);
  const absl::StatusOr<size_t> n = stream_->Read(buffer_.data() + have, kReadBytes);
  buffer_.resize(have + (n.ok() ? *n : 0));
  if (!n.ok()) return n.status();
  ended_ = *n == 0;
  return !ended_;
}

}  // namespace mobula
