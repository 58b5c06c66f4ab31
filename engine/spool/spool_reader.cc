// Tested by tests/unit/engine/spool/spool_reader_test.cc and tests/fuzz/spool_fuzz.cc.
#include "engine/spool/spool_reader.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "engine/base/status_macros.h"
#include "engine/spool/crc32c.h"

namespace mobula {
namespace {

constexpr size_t kSearchBytes = 64U << 10;
constexpr std::string_view kMagic = "MbFr";

}  // namespace

absl::StatusOr<bool> SpoolReader::FrameAt(uint64_t at, SpoolFrameHeader* header) {
  char bytes[kSpoolFrameHeaderBytes];
  ASSIGN_OR_RETURN(const size_t n, file_->Read(at, bytes, sizeof(bytes)));
  const std::optional<SpoolFrameHeader> found = DecodeFrameHeader({bytes, n}, id_);
  if (!found.has_value() || found->bytes() > size_ - at) return false;
  *header = *found;
  return true;
}

absl::StatusOr<uint64_t> SpoolReader::FindFrame(uint64_t from) {
  std::string chunk(kSearchBytes, '\0');
  while (from < size_) {
    const size_t wanted = std::min<uint64_t>(chunk.size(), size_ - from);
    ASSIGN_OR_RETURN(const size_t n, file_->Read(from, chunk.data(), wanted));
    if (n < kSpoolFrameHeaderBytes) break;
    const std::string_view bytes(chunk.data(), n);
    const size_t end = n - kSpoolFrameHeaderBytes + 1;  // of where a whole header may begin
    for (size_t at = bytes.find(kMagic); at < end; at = bytes.find(kMagic, at + 1)) {
      const std::optional<SpoolFrameHeader> found = DecodeFrameHeader(bytes.substr(at), id_);
      if (found.has_value() && found->bytes() <= size_ - (from + at)) return from + at;
    }
    from += end;
  }
  return size_;
}

absl::StatusOr<SpoolReader::Step> SpoolReader::Next() {
  Step step;
  step.begin = at_;
  if (at_ >= size_) {
    step.end = at_;
    return step;
  }
  ASSIGN_OR_RETURN(const bool frame, FrameAt(at_, &step.header));
  if (frame) {
    step.found = Found::kFrame;
    step.end = at_ + step.header.bytes();
  } else {
    ASSIGN_OR_RETURN(step.end, FindFrame(at_ + 1));
    step.found = step.end < size_ ? Found::kGap : Found::kTail;
  }
  at_ = step.end;
  return step;
}

absl::Status ReadPayload(SpoolFile* file, const SpoolReader::Step& frame, std::string* stored) {
  stored->resize(frame.header.stored_bytes);
  ASSIGN_OR_RETURN(const size_t n, file->Read(frame.begin + kSpoolFrameHeaderBytes, stored->data(),
                                              stored->size()));
  return n == stored->size() ? absl::OkStatus() : absl::DataLossError("the file became shorter");
}

absl::StatusOr<SpoolSurvey> SurveyFile(SpoolFile* file, const SpoolFileHeader& header,
                                       uint64_t size) {
  SpoolSurvey survey;
  survey.end = std::min<uint64_t>(size, kSpoolFileHeaderBytes);
  survey.newest = header.created;
  SpoolReader reader(file, header.id, size);
  SpoolReader::Step last;
  uint64_t gaps = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const SpoolReader::Step step, reader.Next());
    if (step.found == SpoolReader::Found::kGap) ++gaps;
    if (step.found != SpoolReader::Found::kFrame) {
      if (step.found == SpoolReader::Found::kGap) continue;
      break;
    }
    survey.gaps = gaps;
    survey.end = step.end;
    ++survey.frames;
    survey.documents += step.header.documents;
    survey.remaining += static_cast<uint64_t>(Count(step.header.remaining));
    survey.newest = std::max(survey.newest, step.header.appended);
    last = step;
  }
  if (survey.frames == 0) return survey;
  std::string stored;
  RETURN_IF_ERROR(ReadPayload(file, last, &stored));
  if (Crc32c(stored) != last.header.payload_crc) {
    survey.end = last.begin;
    --survey.frames;
    survey.documents -= last.header.documents;
    survey.remaining -= static_cast<uint64_t>(Count(last.header.remaining));
  }
  return survey;
}

}  // namespace mobula
