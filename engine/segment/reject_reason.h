// Why a datagram or document was refused: the one list that counters, metrics, log lines, the
// dead-letter file and the documentation share.
#pragma once

#include <cstdint>
#include <string_view>

namespace mobula {

// The header rule of the daemon gives the first group, the body the second, the third are the codes
// PutTraceSegments answers with (only with `validate: strict`), and the last is about the sender.
enum class RejectReason : uint8_t {
  kNone,            // accepted
  kEmpty,           // a datagram without bytes
  kMissingHeader,   // no LF: header only, or body only
  kInvalidHeader,   // the header line does not mean {"format": "json", "version": 1}
  kMissingSegment,  // header and LF, but no body
  kTruncated,       // larger than a slot: over 255 KiB, which only a Unix socket can carry
  kUnknownBody,     // neither a JSON object nor T1S/T1U
  kInvalidJson,     // begins like an object but is not well-formed JSON (RFC 8259)
  kParseError,      // strict: X-Ray's ParseError
  kUnknownType,
  kMissingId,
  kInvalidId,
  kMissingName,
  kInvalidName,
  kMissingTraceId,
  kInvalidTraceId,
  kMissingStartTime,
  kInProgressHasEndTime,
  kMissingEndTime,
  kMissingParentId,
  kInvalidParentId,
  // strict: over 64 KiB, X-Ray's limit. Otherwise what repaired UTF-8 makes larger than a batch takes.
  kTooLarge,
  // By the sender alone, before anything is looked at.
  kNotAllowed,   // not from receivers.udp.allow
  kRateLimited,  // over receivers.udp.source_rate
};
inline constexpr int kRejectReasonCount = static_cast<int>(RejectReason::kRateLimited) + 1;

// The name used in metrics and logs: "missing_header", "invalid_json", "missing_trace_id", ...
std::string_view RejectReasonName(RejectReason reason) noexcept;

}  // namespace mobula
