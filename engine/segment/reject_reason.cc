// The names of the reject reasons.
// Tested by tests/unit/engine/segment/reject_reason_test.cc.
#include "engine/segment/reject_reason.h"

namespace mobula {

std::string_view RejectReasonName(RejectReason reason) noexcept {
  // No default: the compiler tells when a reason has no name.
  switch (reason) {
    case RejectReason::kNone:
      return "none";
    case RejectReason::kEmpty:
      return "empty";
    case RejectReason::kMissingHeader:
      return "missing_header";
    case RejectReason::kInvalidHeader:
      return "invalid_header";
    case RejectReason::kMissingSegment:
      return "missing_segment";
    case RejectReason::kTruncated:
      return "truncated";
    case RejectReason::kUnknownBody:
      return "unknown_body";
    case RejectReason::kInvalidJson:
      return "invalid_json";
    case RejectReason::kParseError:
      return "parse_error";
    case RejectReason::kUnknownType:
      return "unknown_type";
    case RejectReason::kMissingId:
      return "missing_id";
    case RejectReason::kInvalidId:
      return "invalid_id";
    case RejectReason::kMissingName:
      return "missing_name";
    case RejectReason::kInvalidName:
      return "invalid_name";
    case RejectReason::kMissingTraceId:
      return "missing_trace_id";
    case RejectReason::kInvalidTraceId:
      return "invalid_trace_id";
    case RejectReason::kMissingStartTime:
      return "missing_start_time";
    case RejectReason::kInProgressHasEndTime:
      return "in_progress_has_end_time";
    case RejectReason::kMissingEndTime:
      return "missing_end_time";
    case RejectReason::kMissingParentId:
      return "missing_parent_id";
    case RejectReason::kInvalidParentId:
      return "invalid_parent_id";
    case RejectReason::kTooLarge:
      return "too_large";
    case RejectReason::kNotAllowed:
      return "not_allowed";
    case RejectReason::kRateLimited:
      return "rate_limited";
  }
  return "unknown";
}

}  // namespace mobula
