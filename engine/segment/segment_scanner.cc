// The scanner: simdjson's DOM in the slot, the strict checker where simdjson refuses, the fields
// routes ask for, and X-Ray's own checks. Tested by
// tests/unit/engine/segment/segment_scanner_test.cc, strict_scan_test.cc, no_allocation_test.cc and
// tests/fuzz/scanner_fuzz.cc.
#include "engine/segment/segment_scanner.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "engine/base/check.h"
#include "engine/segment/json_check.h"
#include "engine/segment/utf8.h"

namespace mobula {
namespace {

namespace dom = simdjson::dom;

static_assert(kScanPadding >= simdjson::SIMDJSON_PADDING);

constexpr size_t kDomDepthMax = 1024;
// A nested subsegment costs two levels of depth: its array and itself.
constexpr size_t kEntityDepthMax = kDomDepthMax / 2;
constexpr size_t kEntityIdDigits = 16;

std::string_view TextOr(dom::element value, std::string_view otherwise) {
  std::string_view text;
  return value.get_string().get(text) == simdjson::SUCCESS ? text : otherwise;
}

std::string_view Text(dom::element value) { return TextOr(value, {}); }

double Number(dom::element value) {
  double number = 0;
  return value.get_double().get(number) == simdjson::SUCCESS ? number : 0;
}

bool Flag(dom::element value) {
  bool flag = false;
  return value.get_bool().get(flag) == simdjson::SUCCESS && flag;
}

int64_t IntegerOr(dom::element value, int64_t otherwise) {
  int64_t integer = 0;
  return value.get_int64().get(integer) == simdjson::SUCCESS ? integer : otherwise;
}

// The members of `value`; none when it is no object.
std::optional<dom::object> Object(dom::element value) {
  dom::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS) return std::nullopt;
  return object;
}

std::optional<dom::array> Array(dom::element value) {
  dom::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) return std::nullopt;
  return array;
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

bool IsEntityId(std::string_view id) { return id.size() == kEntityIdDigits && IsHex(id); }

// "1-" 8 hex "-" 24 hex: what X-Ray takes; the W3C form without dashes is not among it.
bool IsTraceId(std::string_view id) {
  return id.size() == 35 && id.starts_with("1-") && id[10] == '-' && IsHex(id.substr(2, 8)) &&
         IsHex(id.substr(11));
}

// Letters of any script are allowed. Every character outside ASCII counts as one here: the tables
// to tell would be large, and refusing too little only leaves the judgement to X-Ray.
bool IsEntityName(std::string_view name) {
  constexpr std::string_view kMarksAndBlanks = "_.:/%&#=+\\-@ \t\n\v\f\r";
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
           (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarksAndBlanks.find(c) != std::string_view::npos;
  });
}

// --- fields -------------------------------------------------------------------------------------
// Of a repeated member the last counts, and null or a wrong type counts as absent.

void ReadHttpRequest(dom::element value, SegmentFields* fields) {
  fields->http_method = fields->http_url = fields->http_user_agent = fields->http_client_ip = {};
  const std::optional<dom::object> request = Object(value);
  if (!request) return;
  for (const auto [key, member] : *request) {
    if (key == "method") {
      fields->http_method = Text(member);
    } else if (key == "url") {
      fields->http_url = Text(member);
    } else if (key == "user_agent") {
      fields->http_user_agent = Text(member);
    } else if (key == "client_ip") {
      fields->http_client_ip = Text(member);
    }
  }
}

void ReadHttpResponse(dom::element value, SegmentFields* fields) {
  fields->http_status = -1;
  const std::optional<dom::object> response = Object(value);
  if (!response) return;
  for (const auto [key, member] : *response) {
    if (key == "status") fields->http_status = IntegerOr(member, -1);
  }
}

void ReadHttp(dom::element value, SegmentFields* fields) {
  fields->http_method = fields->http_url = fields->http_user_agent = fields->http_client_ip = {};
  fields->http_status = -1;
  const std::optional<dom::object> http = Object(value);
  if (!http) return;
  for (const auto [key, member] : *http) {
    if (key == "request") {
      ReadHttpRequest(member, fields);
    } else if (key == "response") {
      ReadHttpResponse(member, fields);
    }
  }
}

void ReadAws(dom::element value, SegmentFields* fields) {
  fields->account_id = {};
  const std::optional<dom::object> aws = Object(value);
  if (!aws) return;
  for (const auto [key, member] : *aws) {
    if (key == "account_id") fields->account_id = Text(member);
  }
}

void ReadMember(std::string_view key, dom::element value, SegmentFields* fields) {
  switch (key.size()) {
    case 2:
      if (key == "id") fields->id = Text(value);
      break;
    case 3:
      if (key == "aws") ReadAws(value, fields);
      break;
    case 4:
      if (key == "name") fields->name = Text(value);
      if (key == "http") ReadHttp(value, fields);
      if (key == "type") fields->type = Text(value);
      if (key == "user") fields->user = Text(value);
      break;
    case 5:
      if (key == "error") fields->error = Flag(value);
      if (key == "fault") fields->fault = Flag(value);
      break;
    case 6:
      if (key == "origin") fields->origin = Text(value);
      break;
    case 8:
      if (key == "trace_id") fields->trace_id = Text(value);
      if (key == "end_time") fields->end_time = Number(value);
      if (key == "throttle") fields->throttle = Flag(value);
      break;
    case 9:
      if (key == "parent_id") fields->parent_id = Text(value);
      break;
    case 10:
      if (key == "start_time") fields->start_time = Number(value);
      break;
    case 11:
      if (key == "in_progress") fields->in_progress = Flag(value);
      break;
    default:
      break;
  }
}

AnnotationValue ToAnnotation(dom::element value) {
  switch (value.type()) {
    case dom::element_type::STRING:
      return Text(value);
    case dom::element_type::BOOL:
      return Flag(value);
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
      return Number(value);
    default:
      return std::monostate{};
  }
}

AnnotationValue FindAnnotation(dom::object annotations, std::string_view key) {
  AnnotationValue found;
  for (const auto [name, value] : annotations) {
    if (name == key) found = ToAnnotation(value);
  }
  return found;
}

// --- X-Ray's checks -----------------------------------------------------------------------------

// What the checks look at; unset: absent or null. A text that is no string stays unset as well.
struct EntityMembers {
  std::optional<dom::element> type;
  std::optional<std::string_view> id;
  std::optional<std::string_view> name;
  std::optional<std::string_view> trace_id;
  std::optional<std::string_view> parent_id;
  bool start_time = false;
  bool end_time = false;
  bool in_progress = false;
  std::optional<dom::array> subsegments;
};

std::optional<std::string_view> TextMember(dom::element value) {
  std::string_view text;
  if (value.get_string().get(text) != simdjson::SUCCESS) return std::nullopt;
  return text;
}

EntityMembers ReadMembers(dom::object entity) {
  EntityMembers members;
  for (const auto [key, value] : entity) {
    if (key == "type") {
      members.type = value.is_null() ? std::nullopt : std::optional<dom::element>(value);
    } else if (key == "id") {
      members.id = TextMember(value);
    } else if (key == "name") {
      members.name = TextMember(value);
    } else if (key == "trace_id") {
      members.trace_id = TextMember(value);
    } else if (key == "parent_id") {
      members.parent_id = TextMember(value);
    } else if (key == "start_time") {
      members.start_time = value.is_number();
    } else if (key == "end_time") {
      members.end_time = value.is_number();
    } else if (key == "in_progress") {
      members.in_progress = Flag(value);
    } else if (key == "subsegments") {
      members.subsegments = Array(value);
    }
  }
  return members;
}

enum class EntityPlace { kRoot, kEmbedded };

// In the order in which X-Ray checks, the first failure is the answer.
RejectReason CheckEntity(const EntityMembers& members, EntityPlace place) {
  const bool root = place == EntityPlace::kRoot;
  const std::string_view type = members.type ? TextOr(*members.type, "?") : "segment";
  if (root && type != "segment" && type != "subsegment") return RejectReason::kUnknownType;
  if (!members.id) return RejectReason::kMissingId;
  if (!IsEntityId(*members.id)) return RejectReason::kInvalidId;
  if (!members.name || members.name->empty()) return RejectReason::kMissingName;
  if (!IsEntityName(*members.name)) return RejectReason::kInvalidName;
  if (root) {
    if (!members.trace_id) return RejectReason::kMissingTraceId;
    if (!IsTraceId(*members.trace_id)) return RejectReason::kInvalidTraceId;
  }
  if (!members.start_time) return RejectReason::kMissingStartTime;
  if (members.in_progress && members.end_time) return RejectReason::kInProgressHasEndTime;
  if (!members.in_progress && !members.end_time) return RejectReason::kMissingEndTime;
  if (root && type == "subsegment") {
    if (!members.parent_id) return RejectReason::kMissingParentId;
    if (!IsEntityId(*members.parent_id)) return RejectReason::kInvalidParentId;
  }
  return RejectReason::kNone;
}

}  // namespace

class SegmentScanner::Impl {
 public:
  Impl(Validate validate, size_t bytes_max)
      : validate_(validate),
        bytes_max_(validate == Validate::kStrict ? std::min(bytes_max, kDocumentBytesMax)
                                                 : bytes_max),
        repaired_(new char[kUtf8RepairGrowth * bytes_max_ + kScanPadding]) {
    // Both to their full size now: simdjson would grow them in Scan otherwise.
    CHECK(parser_.allocate(bytes_max_, kDomDepthMax) == simdjson::SUCCESS);
    CHECK(dom_.allocate(bytes_max_) == simdjson::SUCCESS);
    path_.reserve(kEntityDepthMax);
  }

  ScanResult Scan(std::string_view body) {
    scanned_ = false;
    fields_read_ = false;
    if (validate_ == Validate::kOff) {
      return {RejectReason::kNone, DocumentKind::kRaw, false, body};
    }
    if (body.size() > bytes_max_) return Reject(RejectReason::kTooLarge, body);
    if (!BeginsObject(body)) {
      if (body.starts_with("T1S") || body.starts_with("T1U")) {
        return {RejectReason::kNone, DocumentKind::kOtlp, false, body};
      }
      return Reject(IsStrict() ? RejectReason::kParseError : RejectReason::kUnknownBody, body);
    }
    if (!Parse(body)) return ScanRefused(body);
    return JudgeParsed(body, {RejectReason::kNone, DocumentKind::kJson, false, body});
  }

  const SegmentFields& Fields() {
    DCHECK(scanned_);
    if (!fields_read_) {
      fields_ = {};
      for (const auto [key, value] : root_) ReadMember(key, value, &fields_);
      fields_read_ = true;
    }
    return fields_;
  }

  AnnotationValue Annotation(std::string_view key) {
    DCHECK(scanned_);
    AnnotationValue found;
    VisitEntities([&](dom::object entity, EntityPlace) -> Visited {
      std::optional<dom::object> annotations;
      std::optional<dom::array> subsegments;
      for (const auto [name, value] : entity) {
        if (name == "annotations") annotations = Object(value);
        if (name == "subsegments") subsegments = Array(value);
      }
      if (annotations) found = FindAnnotation(*annotations, key);
      return {.go_on = std::holds_alternative<std::monostate>(found), .subsegments = subsegments};
    });
    return found;
  }

 private:
  struct Visited {
    bool go_on;
    std::optional<dom::array> subsegments;  // to go down into
  };
  // What is still to be visited of one array of subsegments.
  struct Siblings {
    dom::array::iterator next;
    dom::array::iterator end;
  };

  [[nodiscard]] bool IsStrict() const { return validate_ == Validate::kStrict; }

  static ScanResult Reject(RejectReason reason, std::string_view body) {
    return {reason, DocumentKind::kRejected, false, body};
  }

  static bool BeginsObject(std::string_view body) {
    if (body.starts_with('{')) return true;
    const size_t first = body.find_first_not_of(kJsonBlanks);
    return first != std::string_view::npos && body[first] == '{';
  }

  // REQUIRES: at most bytes_max_ bytes, kScanPadding readable behind.
  bool Parse(std::string_view json) {
    constexpr bool kNoCopy = false;
    return parser_.parse_into_document(dom_, json.data(), json.size(), kNoCopy)
               .get_object()
               .get(root_) == simdjson::SUCCESS;
  }

  // simdjson refused `body`: for what it cannot hold, for invalid UTF-8, or because it is no JSON.
  [[gnu::noinline]] ScanResult ScanRefused(std::string_view body) {
    ScanResult result{RejectReason::kNone, DocumentKind::kUnscanned, false, body};
    if (!IsValidUtf8(body)) {
      result.utf8_repaired = true;
      result.document = {repaired_.get(), RepairUtf8(body, repaired_.get())};
      if (result.document.size() > bytes_max_) {
        if (IsStrict()) return Reject(RejectReason::kTooLarge, body);
      } else if (Parse(result.document)) {
        result.kind = DocumentKind::kJson;
        return JudgeParsed(body, result);
      }
    }
    if (IsJsonObject(result.document)) return result;
    return Reject(IsStrict() ? RejectReason::kParseError : RejectReason::kInvalidJson, body);
  }

  ScanResult JudgeParsed(std::string_view body, const ScanResult& result) {
    if (IsStrict()) {
      const RejectReason reason = CheckEntities();
      if (reason != RejectReason::kNone) return Reject(reason, body);
    }
    scanned_ = true;
    return result;
  }

  RejectReason CheckEntities() {
    RejectReason reason = RejectReason::kNone;
    VisitEntities([&](dom::object entity, EntityPlace place) -> Visited {
      const EntityMembers members = ReadMembers(entity);
      reason = CheckEntity(members, place);
      return {.go_on = reason == RejectReason::kNone, .subsegments = members.subsegments};
    });
    return reason;
  }

  // Calls `visit` with the document and then with its embedded subsegments, each before its own, in
  // the order in which they were sent, until one answers not to go on.
  template <typename Visit>
  void VisitEntities(Visit visit) {
    Visited visited = visit(root_, EntityPlace::kRoot);
    path_.clear();
    while (visited.go_on) {
      if (visited.subsegments) {
        DCHECK(path_.size() < kEntityDepthMax);
        path_.push_back({visited.subsegments->begin(), visited.subsegments->end()});
      }
      const std::optional<dom::object> entity = NextEmbedded();
      if (!entity) return;
      visited = visit(*entity, EntityPlace::kEmbedded);
    }
  }

  // What is no object among subsegments is passed over.
  std::optional<dom::object> NextEmbedded() {
    while (!path_.empty()) {
      Siblings& siblings = path_.back();
      while (siblings.next != siblings.end) {
        const std::optional<dom::object> entity = Object(*siblings.next);
        ++siblings.next;
        if (entity) return entity;
      }
      path_.pop_back();
    }
    return std::nullopt;
  }

  const Validate validate_;
  const size_t bytes_max_;
  dom::parser parser_;
  dom::document dom_;  // what was scanned last, if scanned_
  dom::object root_;
  bool scanned_ = false;
  bool fields_read_ = false;
  SegmentFields fields_;
  const std::unique_ptr<char[]> repaired_;
  std::vector<Siblings> path_;  // at most kEntityDepthMax, reserved
};

SegmentScanner::SegmentScanner(Validate validate, size_t bytes_max)
    : impl_(std::make_unique<Impl>(validate, bytes_max)) {}

SegmentScanner::~SegmentScanner() = default;

ScanResult SegmentScanner::Scan(std::string_view body) noexcept {
  DCHECK(!body.empty());
  return impl_->Scan(body);
}

const SegmentFields& SegmentScanner::Fields() noexcept { return impl_->Fields(); }

AnnotationValue SegmentScanner::Annotation(std::string_view key) noexcept {
  return impl_->Annotation(key);
}

}  // namespace mobula
