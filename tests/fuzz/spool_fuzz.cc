// Spool files: any bytes end in documents, in files set aside or in nothing; never in a crash, a loop or a frame
// beyond its limits. The first byte says whether checksums are made right first, so that what lies behind them is
// reached, and whether the file is that of another backend.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "engine/spool/crc32c.h"
#include "engine/spool/inspect.h"
#include "engine/spool/spool.h"
#include "engine/spool/spool_format.h"
#include "tests/fuzz/expect.h"
#include "tests/support/fake_spool_disk.h"

namespace {

using mobula::FakeSpoolDisk;
using mobula::SpoolAccount;
using mobula::SpooledFrame;
using mobula::SystemTime;

constexpr SystemTime kNow{std::chrono::seconds(1'800'000'000)};
constexpr uint64_t kFileId = 7;

template <typename T>
void Poke(std::string* bytes, size_t at, T value) {
  std::memcpy(bytes->data() + at, &value, sizeof(value));
}

uint32_t U32(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// Gives the file a header that is right, and each thing that looks like a frame right checksums.
void Mend(std::string* bytes) {
  const mobula::SpoolFileHeader header{"prod", mobula::SpoolIdentity("prod", "x"), kFileId, kNow};
  bytes->insert(0, mobula::EncodeFileHeader(header));
  size_t at = mobula::kSpoolFileHeaderBytes;
  while ((at = bytes->find("MbFr", at)) != std::string::npos &&
         at + mobula::kSpoolFrameHeaderBytes <= bytes->size()) {
    const size_t payload = at + mobula::kSpoolFrameHeaderBytes;
    const uint32_t stored = U32(*bytes, at + 4);
    if (stored <= bytes->size() - payload) {
      Poke(bytes, at + 24, mobula::Crc32c(std::string_view(*bytes).substr(payload, stored)));
    }
    mobula::StampFrame(bytes->data() + at, kFileId);
    at += 4;
  }
}

void ExpectBalance(const SpoolAccount& a) {
  EXPECT(a.appended.value() + a.restored.value() ==
         a.done.value() + a.dropped_total() + a.held.value());
}

void ExpectSound(const SpooledFrame& frame) {
  EXPECT(!frame.documents.empty() && frame.documents.size() <= mobula::Batch::kDocumentsMax);
  size_t bytes = 0;
  for (const SpooledFrame::Document& document : frame.documents) {
    EXPECT(!document.bytes.empty());
    EXPECT(document.kind < mobula::DocumentKind::kRejected);
    bytes += document.bytes.size();
  }
  EXPECT(bytes <= mobula::BatchBuilder::kDocumentBytesMax);
  EXPECT((frame.remaining >> (frame.documents.size() - 1) >> 1) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string bytes(data + 1, data + size);
  if ((data[0] & 1) != 0) Mend(&bytes);

  FakeSpoolDisk disk;
  disk.Put("/s/instance-0000000000000001/1-prod.spool", bytes);
  const auto found = *mobula::ListSpool("/s", mobula::SpoolCheck::kContents, &disk);
  EXPECT(found.size() <= 1);
  for (const mobula::SpoolFileInfo& info : found) {
    EXPECT(info.remaining <= info.documents);
    EXPECT(info.damage.size() <= info.damaged_frames + info.gaps);
    uint64_t end = mobula::kSpoolFileHeaderBytes;
    for (const mobula::SpoolDamage& damage : info.damage) {
      EXPECT(damage.offset >= end && damage.bytes > 0);
      end = damage.offset + damage.bytes;
    }
    EXPECT(end + info.torn_bytes <= std::max(bytes.size(), mobula::kSpoolFileHeaderBytes));
  }

  std::string lines;
  const auto log = mobula::Log::ForTesting(&lines);
  mobula::Spool::Options options;
  options.path = "/s";
  options.seed = 1;
  for (int start = 0; start < 2; ++start) {
    const std::string identity = (data[0] & 2) != 0 ? "y" : "x";
    auto spool = *mobula::Spool::Open(options, {{"prod", identity}}, &disk, log.get(), kNow);
    mobula::SpoolLane* const lane = spool->lane("prod");
    EXPECT(spool->state().on);
    uint64_t documents = 0;
    uint64_t frames = 0;
    while (const auto frame = lane->Next(kNow)) {
      ExpectSound(*frame);
      EXPECT(++frames <= bytes.size() / mobula::kSpoolFrameHeaderBytes);
      documents += static_cast<uint64_t>(mobula::Count(frame->remaining));
      lane->Done(frame->token);
    }
    ExpectBalance(lane->account());
    EXPECT(lane->account().done.value() == documents);
    EXPECT(lane->account().held.value() == 0);
    EXPECT(!lane->waiting());
    if ((data[0] & 2) != 0) EXPECT((data[0] & 1) == 0 || documents == 0);
    // Neither comes anything a second time.
    if (start == 1) EXPECT(documents == 0);
    spool->Housekeep(kNow);
  }
  return 0;
}
