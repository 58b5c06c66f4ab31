// Judges one document where it lies and finds the fields that routes ask for.
//
// Room:      hot. No allocation after construction; simdjson stays behind this door.
// Threads:   one worker owns one scanner.
// Ownership: every view handed out points into the scanned bytes or into the scanner and dies with
//            the next Scan.
// Errors:    foreign bytes end in a RejectReason, never in a crash.
// Limits:    documents up to `bytes_max`, with Validate::kStrict up to kDocumentBytesMax, else kTooLarge; what
//            repaired UTF-8 makes larger is judged by the strict checker alone and goes on unscanned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>

#include "engine/segment/document_kind.h"
#include "engine/segment/reject_reason.h"
#include "engine/segment/validate.h"

namespace mobula {

// Bytes behind a document that must be readable (their content does not matter).
inline constexpr size_t kScanPadding = 64;
// X-Ray's limit. The largest UDP payload is 65,507 bytes over IPv4, 65,527 over IPv6 (RFC 768, RFC 8200).
inline constexpr size_t kDocumentBytesMax = 65536;

// What a route may ask of one document. Absent members are empty or unset; strings are decoded.
struct SegmentFields {
  std::string_view trace_id;  // "1-8hex-24hex" or the W3C form of 32 hex digits, as sent
  std::string_view id;
  std::string_view parent_id;
  std::string_view name;
  std::string_view type;  // "subsegment", "segment" or empty
  std::string_view origin;
  std::string_view account_id;  // aws.account_id
  std::string_view user;
  std::string_view http_method;
  std::string_view http_url;
  std::string_view http_user_agent;
  std::string_view http_client_ip;
  int64_t http_status = -1;  // -1: absent or no integer
  double start_time = 0;     // epoch seconds; 0: absent
  double end_time = 0;
  bool in_progress = false;
  bool error = false;
  bool fault = false;
  bool throttle = false;
};

// An annotation's value; monostate: absent, or of a type annotations cannot have.
using AnnotationValue = std::variant<std::monostate, bool, double, std::string_view>;

struct ScanResult {
  RejectReason reject = RejectReason::kNone;
  DocumentKind kind = DocumentKind::kRaw;
  bool utf8_repaired = false;
  // What is to be passed on: the bytes given, or the repaired copy inside the scanner.
  std::string_view document;
};

class SegmentScanner {
 public:
  explicit SegmentScanner(Validate validate, size_t bytes_max = kDocumentBytesMax);
  ~SegmentScanner();
  SegmentScanner(const SegmentScanner&) = delete;
  SegmentScanner& operator=(const SegmentScanner&) = delete;

  // Judges a body. What is refused keeps its bytes: `document` is `body` then.
  // REQUIRES: `body` not empty, kScanPadding bytes readable behind it.
  ScanResult Scan(std::string_view body) noexcept;

  // The fields of the document last scanned, extracted at the first call.
  // REQUIRES: the last Scan answered DocumentKind::kJson and no reject.
  const SegmentFields& Fields() noexcept;
  // The annotation `key` of the document last scanned. REQUIRES: as Fields.
  AnnotationValue Annotation(std::string_view key) noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
