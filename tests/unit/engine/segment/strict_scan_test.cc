// X-Ray's checks: each code, their order, embedded subsegments.
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "engine/segment/segment_scanner.h"
#include "tests/unit/engine/segment/padded_text.h"

namespace mobula {
namespace {

using std::string_view_literals::operator""sv;

// The members of a good segment, each of which a test can change or leave out.
struct Entity {
  std::string type;
  std::string id = R"("id":"fa35b830a6eae8e6",)";
  std::string name = R"("name":"a",)";
  std::string trace_id = R"("trace_id":"1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f",)";
  std::string start = R"("start_time":1.5,)";
  std::string end = R"("end_time":2,)";
  std::string parent_id;
  std::string rest;

  [[nodiscard]] std::string Json() const {
    return "{" + type + id + name + trace_id + start + end + parent_id + rest + "\"z\":0}";
  }
};

class StrictScanTest : public testing::Test {
 protected:
  ScanResult Scan(std::string_view text) {
    padded_ = PaddedText(text);
    return scanner_.Scan(padded_.view());
  }
  RejectReason Verdict(std::string_view text) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.kind == DocumentKind::kRejected, result.reject != RejectReason::kNone);
    EXPECT_TRUE(result.reject == RejectReason::kNone || result.document == text);
    return result.reject;
  }
  // Of a good segment with the embedded subsegments given.
  RejectReason EmbeddedVerdict(const std::string& subsegments) {
    return Verdict(Entity{.rest = "\"subsegments\":[" + subsegments + "],"}.Json());
  }

  PaddedText padded_{""};
  SegmentScanner scanner_{Validate::kStrict};
};

TEST_F(StrictScanTest, AcceptsWhatXRayAccepts) {
  EXPECT_EQ(Verdict(Entity{}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.type = R"("type":"segment",)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.type = R"("type":null,)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.id = R"("id":"FA35B830A6EAE8E6",)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.end = R"("in_progress":true,)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.end = R"("in_progress":true,"end_time":null,)"}.Json()),
            RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.end = R"("in_progress":false,"end_time":3E9,)"}.Json()),
            RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.start = R"("start_time":9,)", .end = R"("end_time":1,)"}.Json()),
            RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.start = R"("start_time":0,)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.type = R"("type":"subsegment",)",
                           .parent_id = R"("parent_id":"0123456789abcdef",)"}
                        .Json()),
            RejectReason::kNone);
  // Only a subsegment needs a parent.
  EXPECT_EQ(Verdict(Entity{.parent_id = R"("parent_id":"x",)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.rest = R"("cause":7,"http":"x","Dummy":false,)"}.Json()),
            RejectReason::kNone);
}

TEST_F(StrictScanTest, IndexesWhatItAccepts) {
  EXPECT_EQ(Scan(Entity{}.Json()).kind, DocumentKind::kJson);
  EXPECT_EQ(scanner_.Fields().id, "fa35b830a6eae8e6");
}

TEST_F(StrictScanTest, RefusesWhatIsNoJsonObjectAsParseError) {
  for (const std::string_view text :
       {"{"sv, "[]"sv, "x"sv, " "sv, "{\"a\":1,}"sv, "\0"sv, "{\"a\":\xff}"sv, "T1"sv}) {
    EXPECT_EQ(Verdict(text), RejectReason::kParseError) << text;
  }
}

TEST_F(StrictScanTest, RefusesUnknownTypes) {
  for (const std::string_view type : {"\"\"", "\"Segment\"", "\"trace\"", "7", "{}", "false"}) {
    EXPECT_EQ(Verdict(Entity{.type = "\"type\":" + std::string(type) + ","}.Json()),
              RejectReason::kUnknownType)
        << type;
  }
}

TEST_F(StrictScanTest, ChecksTheId) {
  EXPECT_EQ(Verdict("{}"), RejectReason::kMissingId);
  EXPECT_EQ(Verdict(Entity{.id = ""}.Json()), RejectReason::kMissingId);
  EXPECT_EQ(Verdict(Entity{.id = R"("id":null,)"}.Json()), RejectReason::kMissingId);
  EXPECT_EQ(Verdict(Entity{.id = R"("id":1234567890123456,)"}.Json()), RejectReason::kMissingId);
  for (const std::string_view id :
       {"", "fa35b830a6eae8e", "fa35b830a6eae8e66", "fa35b830a6eae8eg", "fa35b830-6eae8e6"}) {
    EXPECT_EQ(Verdict(Entity{.id = "\"id\":\"" + std::string(id) + "\","}.Json()),
              RejectReason::kInvalidId)
        << id;
  }
}

TEST_F(StrictScanTest, ChecksTheName) {
  const auto verdict = [this](std::string_view name) {
    return Verdict(Entity{.name = "\"name\":\"" + std::string(name) + "\","}.Json());
  };
  EXPECT_EQ(Verdict(Entity{.name = ""}.Json()), RejectReason::kMissingName);
  EXPECT_EQ(Verdict(Entity{.name = R"("name":null,)"}.Json()), RejectReason::kMissingName);
  EXPECT_EQ(Verdict(Entity{.name = R"("name":5,)"}.Json()), RejectReason::kMissingName);
  EXPECT_EQ(verdict(""), RejectReason::kMissingName);
  for (const std::string_view name :
       {"a", "a b", "a\\tb\\n", "_.:/%&#=+\\\\-@", "\xE5\x90\x8D\xE5\x89\x8D",
        "\xD0\x98\xD0\xBC\xD1\x8F", "\\u00e9", "Az09"}) {
    EXPECT_EQ(verdict(name), RejectReason::kNone) << name;
  }
  EXPECT_EQ(verdict(std::string(200, 'a')), RejectReason::kNone);
  EXPECT_EQ(verdict(std::string(201, 'a')), RejectReason::kNone);  // the service cuts it
  for (const std::string_view name :
       {"?",    "a?b", "a*",  "<a>", "a,b", "a;b", "a'b", "\\\"",    "a|b",     "a!",
        "a(b)", "a$",  "a~b", "a^b", "{a}", "[a]", "`",   "\\u0000", "\\u0007", "\\u007f"}) {
    EXPECT_EQ(verdict(name), RejectReason::kInvalidName) << name;
  }
}

TEST_F(StrictScanTest, ChecksTheTraceId) {
  EXPECT_EQ(Verdict(Entity{.trace_id = ""}.Json()), RejectReason::kMissingTraceId);
  EXPECT_EQ(Verdict(Entity{.trace_id = R"("trace_id":null,)"}.Json()),
            RejectReason::kMissingTraceId);
  for (const std::string_view id :
       {"", "1", "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6", "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f0",
        "2-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f", "1-6b032d9g-fd1bb0ecdc976e5e8f1eeb6f",
        "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6g", "1-6b032d9c0fd1bb0ecdc976e5e8f1eeb6f",
        "6b032d9cfd1bb0ecdc976e5e8f1eeb6f"}) {
    EXPECT_EQ(Verdict(Entity{.trace_id = "\"trace_id\":\"" + std::string(id) + "\","}.Json()),
              RejectReason::kInvalidTraceId)
        << id;
  }
  EXPECT_EQ(
      Verdict(Entity{.trace_id = R"("trace_id":"1-6B032D9C-FD1BB0ECDC976E5E8F1EEB6F",)"}.Json()),
      RejectReason::kNone);
}

TEST_F(StrictScanTest, ChecksTheTimes) {
  EXPECT_EQ(Verdict(Entity{.start = ""}.Json()), RejectReason::kMissingStartTime);
  EXPECT_EQ(Verdict(Entity{.start = R"("start_time":"1",)"}.Json()),
            RejectReason::kMissingStartTime);
  EXPECT_EQ(Verdict(Entity{.end = R"("end_time":1,"in_progress":true,)"}.Json()),
            RejectReason::kInProgressHasEndTime);
  EXPECT_EQ(Verdict(Entity{.end = ""}.Json()), RejectReason::kMissingEndTime);
  EXPECT_EQ(Verdict(Entity{.end = R"("in_progress":false,)"}.Json()),
            RejectReason::kMissingEndTime);
  EXPECT_EQ(Verdict(Entity{.end = R"("in_progress":"true",)"}.Json()),
            RejectReason::kMissingEndTime);
  EXPECT_EQ(Verdict(Entity{.end = R"("end_time":"2",)"}.Json()), RejectReason::kMissingEndTime);
}

TEST_F(StrictScanTest, ChecksTheParentOfASubsegment) {
  const auto verdict = [this](std::string parent_id) {
    return Verdict(
        Entity{.type = R"("type":"subsegment",)", .parent_id = std::move(parent_id)}.Json());
  };
  EXPECT_EQ(verdict(""), RejectReason::kMissingParentId);
  EXPECT_EQ(verdict(R"("parent_id":null,)"), RejectReason::kMissingParentId);
  EXPECT_EQ(verdict(R"("parent_id":"",)"), RejectReason::kInvalidParentId);
  EXPECT_EQ(verdict(R"("parent_id":"0123456789abcdeg",)"), RejectReason::kInvalidParentId);
}

TEST_F(StrictScanTest, ChecksInXRaysOrder) {
  // Mends one fault after the other and meets the next.
  Entity entity{.type = R"("type":"x",)",
                .id = "",
                .name = "",
                .trace_id = "",
                .start = "",
                .end = R"("in_progress":true,"end_time":1,)"};
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kUnknownType);
  entity.type = R"("type":"subsegment",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingId);
  entity.id = R"("id":"x",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kInvalidId);
  entity.id = Entity().id;
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingName);
  entity.name = R"("name":"?",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kInvalidName);
  entity.name = Entity().name;
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingTraceId);
  entity.trace_id = R"("trace_id":"x",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kInvalidTraceId);
  entity.trace_id = Entity().trace_id;
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingStartTime);
  entity.start = Entity().start;
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kInProgressHasEndTime);
  entity.end = "";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingEndTime);
  entity.end = Entity().end;
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kMissingParentId);
  entity.parent_id = R"("parent_id":"x",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kInvalidParentId);
  entity.parent_id = R"("parent_id":"0123456789abcdef",)";
  EXPECT_EQ(Verdict(entity.Json()), RejectReason::kNone);
}

TEST_F(StrictScanTest, TakesTheLastOfARepeatedMember) {
  EXPECT_EQ(Verdict(Entity{.rest = R"("id":null,)"}.Json()), RejectReason::kMissingId);
  EXPECT_EQ(Verdict(Entity{.rest = R"("name":"?",)"}.Json()), RejectReason::kInvalidName);
  EXPECT_EQ(Verdict(Entity{.type = R"("type":"x","type":"segment",)"}.Json()), RejectReason::kNone);
}

TEST_F(StrictScanTest, AcceptsEmbeddedSubsegmentsWithoutTraceAndParent) {
  EXPECT_EQ(EmbeddedVerdict(""), RejectReason::kNone);
  EXPECT_EQ(EmbeddedVerdict(Entity{.trace_id = ""}.Json()), RejectReason::kNone);
  EXPECT_EQ(EmbeddedVerdict(Entity{.type = R"("type":"subsegment",)",
                                   .trace_id = R"("trace_id":"x",)",
                                   .parent_id = R"("parent_id":"x",)"}
                                .Json()),
            RejectReason::kNone);
  EXPECT_EQ(EmbeddedVerdict("null,7,\"x\",[]," + Entity{}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.rest = R"("subsegments":{"id":1},)"}.Json()), RejectReason::kNone);
  EXPECT_EQ(Verdict(Entity{.rest = R"("subsegments":null,)"}.Json()), RejectReason::kNone);
}

TEST_F(StrictScanTest, RefusesADocumentForOneBadEmbeddedSubsegment) {
  const std::string good = Entity{.trace_id = ""}.Json();
  EXPECT_EQ(EmbeddedVerdict("{}"), RejectReason::kMissingId);
  EXPECT_EQ(EmbeddedVerdict(good + "," + Entity{.id = R"("id":"x",)"}.Json()),
            RejectReason::kInvalidId);
  EXPECT_EQ(EmbeddedVerdict(Entity{.name = R"("name":"?",)"}.Json() + "," + good),
            RejectReason::kInvalidName);
  EXPECT_EQ(EmbeddedVerdict(Entity{.start = ""}.Json()), RejectReason::kMissingStartTime);
  EXPECT_EQ(EmbeddedVerdict(Entity{.end = ""}.Json()), RejectReason::kMissingEndTime);
  EXPECT_EQ(EmbeddedVerdict(Entity{.rest = R"("in_progress":true,)"}.Json()),
            RejectReason::kInProgressHasEndTime);
  // The document itself is looked at first.
  EXPECT_EQ(Verdict(Entity{.trace_id = "", .rest = R"("subsegments":[{}],)"}.Json()),
            RejectReason::kMissingTraceId);
}

TEST_F(StrictScanTest, GoesDownToTheDeepestSubsegment) {
  const auto nested = [](int levels, const std::string& innermost) {
    std::string json = innermost;
    for (int i = 0; i < levels; ++i) {
      std::string outer = Entity{.rest = "\"subsegments\":[" + json + "],"}.Json();
      json = std::move(outer);
    }
    return json;
  };
  const std::string bad = R"({"id":"x"})";
  EXPECT_EQ(Verdict(nested(400, Entity{}.Json())), RejectReason::kNone);
  EXPECT_EQ(Verdict(nested(400, bad)), RejectReason::kInvalidId);
  EXPECT_EQ(Verdict(nested(1, nested(3, Entity{}.Json()) + "," + nested(3, bad))),
            RejectReason::kInvalidId);
}

TEST_F(StrictScanTest, PassesWhatItCannotJudgeOn) {
  EXPECT_EQ(Scan("{\"a\":1e400}").kind, DocumentKind::kUnscanned);
  EXPECT_EQ(Scan("{\"a\":\"\\ud800\"}").kind, DocumentKind::kUnscanned);
  EXPECT_EQ(Scan("T1Sabc").kind, DocumentKind::kOtlp);
}

TEST_F(StrictScanTest, ChecksRepairedDocumentsAndTheirSize) {
  const ScanResult result = Scan(Entity{.name = "\"name\":\"a\xff\","}.Json());
  EXPECT_EQ(result.reject, RejectReason::kNone);
  EXPECT_TRUE(result.utf8_repaired);
  EXPECT_EQ(Verdict("{\"a\":\"\xff\"}"), RejectReason::kMissingId);
  const std::string grown = Entity{.rest = "\"a\":\"" + std::string(22000, '\xff') + "\","}.Json();
  EXPECT_EQ(Verdict(grown), RejectReason::kTooLarge);
}

}  // namespace
}  // namespace mobula
