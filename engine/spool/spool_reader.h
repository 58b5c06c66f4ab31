// Walks the frames of one spool file and finds its way across what is damaged.
//
// Room:      warm.
// Threads:   one at a time; the caller's.
// Ownership: the file is the caller's and outlives the reader.
// Errors:    those of reading; damage is no error but something found.
// Limits:    64 KiB while it searches, else a frame's header.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/spool/spool_format.h"

namespace mobula {

class SpoolReader {
 public:
  enum class Found : uint8_t {
    kFrame,  // of which only the header was read
    kGap,    // bytes that are no frame, before the next frame
    kTail,   // bytes that are no frame, up to the end
    kEnd,
  };
  struct Step {
    Found found = Found::kEnd;
    uint64_t begin = 0;
    uint64_t end = 0;
    SpoolFrameHeader header;  // kFrame
  };

  // Of the file `id` up to `size`, beginning at `at`.
  SpoolReader(SpoolFile* file, uint64_t id, uint64_t size, uint64_t at = kSpoolFileHeaderBytes)
      : file_(file), id_(id), size_(size), at_(at) {}

  // Goes one step on; after an error the same step may be tried again.
  absl::StatusOr<Step> Next();

 private:
  // Where a frame begins at or after `from`; size_ when nowhere.
  absl::StatusOr<uint64_t> FindFrame(uint64_t from);
  // True and the header, when a frame that the file holds whole begins at `at`.
  absl::StatusOr<bool> FrameAt(uint64_t at, SpoolFrameHeader* header);

  SpoolFile* const file_;
  const uint64_t id_;
  const uint64_t size_;
  uint64_t at_;
};

// The bytes behind a frame's header, into *stored. DataLoss when the file ends before.
absl::Status ReadPayload(SpoolFile* file, const SpoolReader::Step& frame, std::string* stored);

// What a file holds, by the headers of its frames and the last frame's checksum: what a crash may have torn.
struct SpoolSurvey {
  uint64_t end = 0;  // of the last whole frame
  uint64_t frames = 0;
  uint64_t documents = 0;
  uint64_t remaining = 0;  // documents neither delivered nor dropped
  uint64_t gaps = 0;       // damaged stretches
  SystemTime newest{};
};
absl::StatusOr<SpoolSurvey> SurveyFile(SpoolFile* file, const SpoolFileHeader& header,
                                       uint64_t size);

}  // namespace mobula
