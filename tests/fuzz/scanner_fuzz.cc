// The scanner in all its modes against the slow reference. The first byte of the input fills the
// padding behind the document, whose content must not matter; the rest is the document.
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/segment/segment_scanner.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/slow_json.h"

namespace {

using mobula::DocumentKind;
using mobula::RejectReason;
using mobula::ScanResult;
using mobula::SegmentScanner;
using mobula::Validate;

struct Expected {
  RejectReason reject = RejectReason::kNone;
  bool otlp = false;
  // Holds something simdjson may refuse: kUnscanned is a fair answer then, and only then.
  bool hard = false;
  std::string document;
  std::map<std::string, mobula::slow::Token>
      members;  // of the outermost object, the last one of each name
};

Expected Judge(std::string_view body) {
  Expected expected;
  expected.document = body;
  const size_t first = body.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || body[first] != '{') {
    expected.otlp = body.substr(0, 3) == "T1S" || body.substr(0, 3) == "T1U";
    if (!expected.otlp) expected.reject = RejectReason::kUnknownBody;
    return expected;
  }
  const std::string repaired = mobula::slow::Repaired(body);
  const auto tokens = mobula::slow::Tokens(repaired);
  const auto depth = tokens ? mobula::slow::DepthOfObject(*tokens) : std::nullopt;
  if (!depth) {
    expected.reject = RejectReason::kInvalidJson;
    return expected;
  }
  expected.document = repaired;
  expected.hard = repaired.size() > mobula::kDocumentBytesMax || *depth > 1000;
  for (const auto& token : *tokens) {
    if (token.kind == 's' && mobula::slow::HasLoneSurrogate(token.text)) expected.hard = true;
    if (token.kind == 'n' &&
        (token.text.size() > 18 || token.text.find_first_of("eE") != std::string::npos)) {
      expected.hard = true;
    }
  }
  for (const auto& [key, value] : mobula::slow::Members(*tokens)) {
    expected.members.insert_or_assign(mobula::slow::Decoded(key.text), value);
  }
  return expected;
}

std::string MemberText(const Expected& expected, const std::string& key) {
  const auto found = expected.members.find(key);
  if (found == expected.members.end() || found->second.kind != 's') return {};
  return mobula::slow::Decoded(found->second.text);
}

bool MemberFlag(const Expected& expected, const std::string& key) {
  const auto found = expected.members.find(key);
  return found != expected.members.end() && found->second.text == "true";
}

void CheckFields(SegmentScanner* scanner, const Expected& expected) {
  const mobula::SegmentFields& fields = scanner->Fields();
  EXPECT(fields.trace_id == MemberText(expected, "trace_id"));
  EXPECT(fields.id == MemberText(expected, "id"));
  EXPECT(fields.parent_id == MemberText(expected, "parent_id"));
  EXPECT(fields.name == MemberText(expected, "name"));
  EXPECT(fields.type == MemberText(expected, "type"));
  EXPECT(fields.origin == MemberText(expected, "origin"));
  EXPECT(fields.user == MemberText(expected, "user"));
  EXPECT(fields.in_progress == MemberFlag(expected, "in_progress"));
  EXPECT(fields.error == MemberFlag(expected, "error"));
  EXPECT(fields.fault == MemberFlag(expected, "fault"));
  EXPECT(fields.throttle == MemberFlag(expected, "throttle"));
  // No reference for annotations: they must only come to an end, and twice to the same.
  EXPECT(scanner->Annotation("a").index() == scanner->Annotation("a").index());
}

void CheckJson(SegmentScanner* scanner, std::string_view body, const Expected& expected) {
  const ScanResult result = scanner->Scan(body);
  EXPECT(result.reject == expected.reject);
  EXPECT(result.document == expected.document);
  EXPECT(result.utf8_repaired == (expected.document != body));
  switch (result.kind) {
    case DocumentKind::kJson:
      EXPECT(!expected.otlp);
      CheckFields(scanner, expected);
      break;
    case DocumentKind::kUnscanned:
      EXPECT(expected.hard);
      break;
    case DocumentKind::kOtlp:
      EXPECT(expected.otlp);
      break;
    case DocumentKind::kRejected:
      EXPECT(expected.reject != RejectReason::kNone);
      break;
    case DocumentKind::kRaw:
      EXPECT(false);
  }
}

void CheckStrict(SegmentScanner* scanner, std::string_view body, const Expected& expected) {
  const ScanResult result = scanner->Scan(body);
  if (expected.reject != RejectReason::kNone) {
    EXPECT(result.reject == RejectReason::kParseError);
  } else if (result.reject == RejectReason::kNone) {
    EXPECT(result.document == expected.document);
    if (result.kind == DocumentKind::kJson) {
      CheckFields(scanner, expected);
      EXPECT(scanner->Fields().id.size() == 16);
      EXPECT(!scanner->Fields().name.empty());
      EXPECT(scanner->Fields().trace_id.size() == 35);
    }
  } else {
    EXPECT(result.reject >= RejectReason::kUnknownType);
    EXPECT(result.kind == DocumentKind::kRejected);
    EXPECT(result.document == body);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static SegmentScanner json(Validate::kJson);
  static SegmentScanner strict(Validate::kStrict);
  static SegmentScanner off(Validate::kOff);
  if (size < 2 || size - 1 > mobula::kDocumentBytesMax) return 0;

  const size_t length = size - 1;
  const std::unique_ptr<char[]> copy(new char[length + mobula::kScanPadding]);
  std::memcpy(copy.get(), data + 1, length);
  std::memset(copy.get() + length, data[0], mobula::kScanPadding);
  const std::string_view body(copy.get(), length);

  const Expected expected = Judge(body);
  CheckJson(&json, body, expected);
  CheckStrict(&strict, body, expected);
  const ScanResult raw = off.Scan(body);
  EXPECT(raw.reject == RejectReason::kNone && raw.kind == DocumentKind::kRaw);
  EXPECT(raw.document.data() == body.data() && raw.document.size() == body.size());
  return 0;
}
