// An Exporter carries batches to one destination: X-Ray, a file, nothing at all. Queueing, retry, pacing and
// counting are not its business: they live once, around it, in Delivery.
//
// Room:      warm. Export runs on the lane's thread and must not wait for the far side.
// Lifecycle: made without I/O by backends/registry, then Start, Export..., Shutdown, destroyed. Shutdown is
//            safe without Start and safe twice.
// Threads:   every call, and every `done`, on the lane's thread; needs no lock of its own.
// Ownership: the batch in a call lives until its `done` was called.
// Errors:    `done` is called exactly once per Export, possibly before Export returns.
// Limits:    many calls may be in flight; Delivery says how many. Memory for request bodies comes from the
//            pool in the context.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/time.h"
#include "engine/batch/batch.h"

namespace mobula {

class AwsContext;
class BlockPool;
class IoLoop;
class Log;

// What became of a call or of one document, in the terms on which Delivery acts (design.md section 3).
enum class Verdict : uint8_t {
  kDelivered,
  kRetry,      // 408, 5xx, reset, strange answer: again, after a backoff
  kThrottled,  // 429, throttling codes, time-out: again, and fewer calls at a time
  kHold,  // access denied, DNS, TLS verification: again, but the lane is degraded until it passes
  kTooLarge,  // split; a single document that is too large is final
  kRefused,   // final: dead-lettered with the reason
};

struct DocumentVerdict {
  uint8_t index;  // in the batch
  Verdict verdict;
  std::string code;  // the far side's word: "ThrottledException", "InvalidTraceId"
};

struct ExportResult {
  Verdict verdict = Verdict::kDelivered;
  // Short and stable, for metrics and logs: "http_503", "AccessDeniedException", "timeout", "refused".
  std::string code;
  int http_status = 0;  // the far side's; 0: it gave none
  // For people; never holds a secret.
  std::string message;
  // The documents this call was about; 0 means all it was given. The others are sent again at once: an
  // exporter takes fewer when they do not fit into one request.
  DocumentSet taken = 0;
  // Documents that fared differently from `verdict`.
  std::vector<DocumentVerdict> documents;
  // The far side's Retry-After; zero when it said nothing.
  Duration retry_after{};
};

using ExportDone = std::function<void(ExportResult)>;

struct ExportCall {
  const Batch& batch;
  DocumentSet documents;  // never empty
  Time deadline;
  int attempt;  // 1 for the first
};

class Exporter {
 public:
  virtual ~Exporter() = default;

  // Opens what Export needs. Fails fast on what no retry can mend: a bad path, a missing permission. A far
  // side that is down is no failure here.
  virtual absl::Status Start(IoLoop* loop) = 0;

  // Sends `call.documents` and calls `done` exactly once, at the latest a little after the deadline.
  // REQUIRES: Start returned OK; Shutdown not called.
  virtual void Export(const ExportCall& call, ExportDone done) = 0;

  // Ends what is in flight (their `done` is called with kRetry) and flushes what was taken.
  virtual absl::Status Shutdown() = 0;

  // SIGHUP: opens files again under their names.
  virtual void Reopen() {}
};

// What it means at the start that another process writes a file that is to be ours. kPredecessor: it ends soon, and the
// file is had then.
enum class OtherWriter : uint8_t { kMistake, kPredecessor };

// What every exporter is given. Outlives it.
struct ExporterContext {
  BlockPool* pool = nullptr;  // for request bodies; their sum is bounded by the lane's quota
  Log* log = nullptr;
  AwsContext* aws = nullptr;  // credentials, region; null where no backend is AWS's
  OtherWriter other_writer = OtherWriter::kMistake;
};

}  // namespace mobula
