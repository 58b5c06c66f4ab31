// The scanner without X-Ray's checks: verdicts, fields, annotations, bad input.
#include "engine/segment/segment_scanner.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/unit/engine/segment/padded_text.h"

namespace mobula {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::string Nested(size_t arrays) {
  return "{\"a\":" + std::string(arrays, '[') + std::string(arrays, ']') + "}";
}

class SegmentScannerTest : public testing::Test {
 protected:
  // Scans `text` with every kind of byte behind it; the verdict must not depend on it.
  ScanResult Scan(std::string_view text) {
    ScanResult result;
    for (const char padding : {'}', ']', ',', '"', '1', ' ', '\xff', '\0'}) {
      padded_ = PaddedText(text, padding);
      const ScanResult other = scanner_.Scan(padded_.view());
      if (padding != '}') {
        EXPECT_EQ(other.reject, result.reject) << text << " before " << padding;
        EXPECT_EQ(other.kind, result.kind) << text << " before " << padding;
      }
      result = other;
    }
    return result;
  }

  const SegmentFields& FieldsOf(std::string_view text) {
    EXPECT_EQ(Scan(text).kind, DocumentKind::kJson) << text;
    return scanner_.Fields();
  }

  PaddedText padded_{""};
  SegmentScanner scanner_{Validate::kJson};
};

TEST_F(SegmentScannerTest, PassesJsonObjectsOnWhereTheyLie) {
  for (const std::string_view text : {"{}", " \t\r\n{\"a\":1} \n", "{\"a\":[1,{\"b\":null}]}"}) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.reject, RejectReason::kNone) << text;
    EXPECT_EQ(result.kind, DocumentKind::kJson) << text;
    EXPECT_FALSE(result.utf8_repaired);
    EXPECT_EQ(result.document.data(), padded_.view().data());
    EXPECT_EQ(result.document, text);
  }
}

TEST_F(SegmentScannerTest, PassesOtlpOnUnread) {
  for (const std::string_view text : {"T1S", "T1SCs0ICo0B", "T1U=", "T1S{\xff"}) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.reject, RejectReason::kNone) << text;
    EXPECT_EQ(result.kind, DocumentKind::kOtlp) << text;
    EXPECT_EQ(result.document.data(), padded_.view().data());
  }
}

TEST_F(SegmentScannerTest, RefusesUnknownBodies) {
  for (const std::string_view text :
       {" "sv, "\n"sv, "x"sv, "[]"sv, "1"sv, "\"{}\""sv, "null"sv, "T1"sv, "T1X"sv, " T1S"sv,
        "t1s"sv, "\0"sv, "\0{}"sv, "\xff"sv, "\xEF\xBB\xBF{}"sv, "\f{}"sv}) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.reject, RejectReason::kUnknownBody) << text;
    EXPECT_EQ(result.kind, DocumentKind::kRejected) << text;
    EXPECT_EQ(result.document, text);
  }
}

TEST_F(SegmentScannerTest, RefusesBrokenJson) {
  for (const std::string_view text : {
           "{"sv,
           "{]"sv,
           "{\"a\":1,}"sv,
           "{\"a\":1} x"sv,
           "{}{}"sv,
           "{}\0\0"sv,
           "{\"a\":\0001}"sv,
           "{\"a\":\"\0\"}"sv,
           "{\"a\":\"\x01\"}"sv,
           "{\"a\":\"\t\"}"sv,
           "{\"a\":{\"b\":1}"sv,
           "{\"a\":[1}"sv,
           "{\"a\":01}"sv,
           "{\"a\":1.}"sv,
           "{\"a\":truex}"sv,
           "{\"a\":\"\\x\"}"sv,
           "{\"a\":\"\\u00g0\"}"sv,
           "{\"a\" 1}"sv,
           "{\"a\":1\f}"sv,
           "{\"a\"\x1a 1}"sv,
           "{\"a\":1\xff}"sv,
           "{\"a\":\"\xff}"sv,
           "{\"a\":1}\xe2\x82"sv,
           "{\"a\":1e400,}"sv,
           "{\"a\":\"\\ud800\",}"sv,
       }) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.reject, RejectReason::kInvalidJson) << text;
    EXPECT_EQ(result.kind, DocumentKind::kRejected) << text;
    EXPECT_FALSE(result.utf8_repaired);
    EXPECT_EQ(result.document, text);
  }
}

TEST_F(SegmentScannerTest, PassesWhatOnlySimdjsonRefusesOnUnscanned) {
  for (const std::string& text : {
           std::string("{\"a\":1e400}"),
           "{\"a\":" + std::string(500, '9') + "}",
           std::string("{\"a\":18446744073709551616}"),
           std::string("{\"a\":-9223372036854775809}"),
           std::string("{\"a\":\"\\ud800\"}"),
           std::string("{\"a\":\"\\ud800\\u0041\"}"),
           std::string("{\"a\":\"\\udc00\"}"),
           std::string("{\"a\":\"\\ud800\\ud800\"}"),
           Nested(1024),
           Nested(9999),
           Nested(32000),
       }) {
    const ScanResult result = Scan(text);
    EXPECT_EQ(result.reject, RejectReason::kNone) << text.substr(0, 40);
    EXPECT_EQ(result.kind, DocumentKind::kUnscanned) << text.substr(0, 40);
    EXPECT_EQ(result.document, text);
  }
}

TEST_F(SegmentScannerTest, ScansOddButOrdinaryNumbers) {
  for (const std::string& text : {
           std::string("{\"a\":-0}"),
           std::string("{\"a\":1e-400}"),
           std::string("{\"a\":18446744073709551615}"),
           std::string("{\"a\":1.7976931348623157e308}"),
           "{\"a\":0." + std::string(700, '1') + "}",
           Nested(1023),
       }) {
    EXPECT_EQ(Scan(text).kind, DocumentKind::kJson) << text.substr(0, 40);
  }
}

TEST_F(SegmentScannerTest, RefusesBrokenJsonHoweverDeep) {
  EXPECT_EQ(Scan("{\"a\":" + std::string(10000, '[')).reject, RejectReason::kInvalidJson);
  EXPECT_EQ(Scan("{\"a\":" + std::string(65000, '[')).reject, RejectReason::kInvalidJson);
  EXPECT_EQ(Scan(Nested(10000) + "]").reject, RejectReason::kInvalidJson);
  std::string objects;
  for (int i = 0; i < 13000; ++i) objects += "{\"\":";
  EXPECT_EQ(Scan(objects).reject, RejectReason::kInvalidJson);
}

TEST_F(SegmentScannerTest, RepairsUtf8AndLooksAgain) {
  const ScanResult result = Scan("{\"name\":\"a\xffz\",\"id\":\"\xed\xa0\x80\"}");
  EXPECT_EQ(result.reject, RejectReason::kNone);
  EXPECT_EQ(result.kind, DocumentKind::kJson);
  EXPECT_TRUE(result.utf8_repaired);
  const std::string r(kReplacement);
  EXPECT_EQ(result.document, "{\"name\":\"a" + r + "z\",\"id\":\"" + r + r + r + "\"}");
  EXPECT_EQ(scanner_.Fields().name, "a" + r + "z");
  EXPECT_EQ(scanner_.Fields().id, r + r + r);
}

TEST_F(SegmentScannerTest, RepairsWhatSimdjsonCannotHoldEither) {
  const ScanResult result = Scan("{\"name\":\"\xff\",\"a\":1e400}");
  EXPECT_EQ(result.reject, RejectReason::kNone);
  EXPECT_EQ(result.kind, DocumentKind::kUnscanned);
  EXPECT_TRUE(result.utf8_repaired);
  EXPECT_EQ(result.document, "{\"name\":\"" + std::string(kReplacement) + "\",\"a\":1e400}");
}

TEST_F(SegmentScannerTest, PassesRepairedTextTooLargeForTheParserOnUnscanned) {
  const std::string text = "{\"a\":\"" + std::string(60000, '\xff') + "\"}";
  const ScanResult result = Scan(text);
  EXPECT_EQ(result.reject, RejectReason::kNone);
  EXPECT_EQ(result.kind, DocumentKind::kUnscanned);
  EXPECT_TRUE(result.utf8_repaired);
  EXPECT_EQ(result.document.size(), text.size() + 2 * 60000);
  EXPECT_EQ(Scan("{\"a\":\"" + std::string(60000, '\xff') + "\"").reject,
            RejectReason::kInvalidJson);
}

TEST_F(SegmentScannerTest, HoldsTheLargestDocuments) {
  const auto document = [](size_t size) {
    return "{\"a\":\"" + std::string(size - 8, 'x') + "\"}";
  };
  EXPECT_EQ(Scan(document(65507)).kind, DocumentKind::kJson);
  EXPECT_EQ(Scan(document(kDocumentBytesMax)).kind, DocumentKind::kJson);
  EXPECT_EQ(Scan(document(kDocumentBytesMax + 1)).reject, RejectReason::kTooLarge);
  // Nothing but structure: the most entries simdjson's index can get.
  std::string dense = "{\"a\":[";
  while (dense.size() < kDocumentBytesMax - 4) dense += "0,";
  EXPECT_EQ(Scan(dense + "0]}").kind, DocumentKind::kJson);
}

TEST_F(SegmentScannerTest, HoldsWhatItIsMadeFor) {
  constexpr size_t kMax = 200000;
  SegmentScanner scanner(Validate::kJson, kMax);
  SegmentScanner strict(Validate::kStrict, kMax);
  const auto document = [](size_t size) {
    return "{\"a\":\"" + std::string(size - 8, 'x') + "\"}";
  };
  const PaddedText largest(document(kMax));
  EXPECT_EQ(scanner.Scan(largest.view()).kind, DocumentKind::kJson);
  const PaddedText over(document(kMax + 1));
  EXPECT_EQ(scanner.Scan(over.view()).reject, RejectReason::kTooLarge);
  const PaddedText over_xray(document(kDocumentBytesMax + 1));
  EXPECT_EQ(strict.Scan(over_xray.view()).reject, RejectReason::kTooLarge);
  const PaddedText broken("{\"a\":\"" + std::string(kMax - 8, '\xff') + "\"}");
  const ScanResult repaired = scanner.Scan(broken.view());
  EXPECT_TRUE(repaired.utf8_repaired);
  EXPECT_EQ(repaired.document.size(), 3 * (kMax - 8) + 8);
}

TEST_F(SegmentScannerTest, StaysWellAfterEveryKindOfRefusal) {
  for (const std::string& bad :
       {std::string("{"), std::string("x"), Nested(10000), std::string("{\"a\":1e400}"),
        std::string("{\"a\":\"\xff\"}"), std::string(65536, '{'), std::string("{\"a\":\"")}) {
    Scan(bad);
    EXPECT_EQ(FieldsOf("{\"id\":\"b\"}").id, "b");
  }
}

TEST_F(SegmentScannerTest, LooksAtNothingWhenOff) {
  SegmentScanner off(Validate::kOff);
  for (const std::string_view text : {"{\"a\":1}"sv, "{"sv, "x"sv, "\0\xff"sv, "T1Sabc"sv, " "sv}) {
    const PaddedText padded(text);
    const ScanResult result = off.Scan(padded.view());
    EXPECT_EQ(result.reject, RejectReason::kNone);
    EXPECT_EQ(result.kind, DocumentKind::kRaw);
    EXPECT_EQ(result.document.data(), padded.view().data());
    EXPECT_EQ(result.document.size(), text.size());
  }
}

TEST_F(SegmentScannerTest, FindsEveryField) {
  const SegmentFields& fields = FieldsOf(R"({
      "trace_id": "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f", "id": "fa35b830a6eae8e6",
      "parent_id": "0123456789abcdef", "name": "pay\u00e9 \"x\"", "type": "subsegment",
      "origin": "AWS::EC2::Instance", "user": "alice", "start_time": 1.478293361271E9,
      "end_time": 1478293362, "in_progress": true, "error": true, "fault": true,
      "throttle": true, "aws": {"ec2": {"account_id": "x"}, "account_id": "123456789012"},
      "http": {"request": {"method": "GET", "url": "http://a/b", "user_agent": "curl",
                           "client_ip": "10.0.0.1", "traced": true},
               "response": {"status": 503, "content_length": -1}},
      "metadata": {"id": "no"}, "subsegments": [{"id": "no", "name": "no"}]})");
  EXPECT_EQ(fields.trace_id, "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f");
  EXPECT_EQ(fields.id, "fa35b830a6eae8e6");
  EXPECT_EQ(fields.parent_id, "0123456789abcdef");
  EXPECT_EQ(fields.name, "pay\xC3\xA9 \"x\"");
  EXPECT_EQ(fields.type, "subsegment");
  EXPECT_EQ(fields.origin, "AWS::EC2::Instance");
  EXPECT_EQ(fields.account_id, "123456789012");
  EXPECT_EQ(fields.user, "alice");
  EXPECT_EQ(fields.http_method, "GET");
  EXPECT_EQ(fields.http_url, "http://a/b");
  EXPECT_EQ(fields.http_user_agent, "curl");
  EXPECT_EQ(fields.http_client_ip, "10.0.0.1");
  EXPECT_EQ(fields.http_status, 503);
  EXPECT_DOUBLE_EQ(fields.start_time, 1478293361.271);
  EXPECT_DOUBLE_EQ(fields.end_time, 1478293362);
  EXPECT_TRUE(fields.in_progress);
  EXPECT_TRUE(fields.error);
  EXPECT_TRUE(fields.fault);
  EXPECT_TRUE(fields.throttle);
}

TEST_F(SegmentScannerTest, KeepsIdsAsSent) {
  EXPECT_EQ(FieldsOf(R"({"id":"FA35B830A6EAE8E6"})").id, "FA35B830A6EAE8E6");
  EXPECT_EQ(FieldsOf(R"({"trace_id":"6b032d9cfd1bb0ecdc976e5e8f1eeb6f"})").trace_id,
            "6b032d9cfd1bb0ecdc976e5e8f1eeb6f");
  EXPECT_EQ(FieldsOf(R"({"id":"12345"})").id, "12345");
}

TEST_F(SegmentScannerTest, LeavesAbsentFieldsEmpty) {
  for (
      const std::string_view text :
      {R"({})", R"({"id":null,"name":null,"http":null,"aws":null,"start_time":null,"error":null})",
       R"({"id":1,"name":["a"],"http":[],"aws":"x","start_time":"1","error":1,"user":{},"type":true})",
       R"({"http":{"request":null,"response":{"status":"200"}},"aws":{"account_id":123}})",
       R"({"http":{"request":[],"response":[]},"aws":[{"account_id":"1"}],"in_progress":"true"})",
       R"({"http":{"response":{"status":200.5}},"ID":"x","Name":"y"})",
       R"({"http":{"response":{"status":18446744073709551615}}})"}) {
    const SegmentFields& fields = FieldsOf(text);
    EXPECT_TRUE(fields.id.empty()) << text;
    EXPECT_TRUE(fields.name.empty());
    EXPECT_TRUE(fields.type.empty());
    EXPECT_TRUE(fields.user.empty());
    EXPECT_TRUE(fields.account_id.empty());
    EXPECT_TRUE(fields.http_method.empty());
    EXPECT_EQ(fields.http_status, -1);
    EXPECT_EQ(fields.start_time, 0);
    EXPECT_FALSE(fields.error);
    EXPECT_FALSE(fields.in_progress);
  }
}

TEST_F(SegmentScannerTest, TakesTheLastOfARepeatedMember) {
  const SegmentFields& fields = FieldsOf(
      R"({"id":"a","id":"b","name":"a","name":null,"error":true,"error":false,
          "aws":{"account_id":"1"},"aws":{},
          "http":{"request":{"method":"GET","url":"u"},"response":{"status":200}},
          "http":{"request":{"url":"v"},"request":{"user_agent":"w"}}})");
  EXPECT_EQ(fields.id, "b");
  EXPECT_EQ(fields.name, "");
  EXPECT_FALSE(fields.error);
  EXPECT_EQ(fields.account_id, "");
  EXPECT_EQ(fields.http_method, "");
  EXPECT_EQ(fields.http_url, "");
  EXPECT_EQ(fields.http_user_agent, "w");
  EXPECT_EQ(fields.http_status, -1);
}

TEST_F(SegmentScannerTest, ForgetsTheFieldsOfTheLastDocument) {
  EXPECT_EQ(FieldsOf(R"({"id":"a","http":{"response":{"status":200}}})").id, "a");
  const SegmentFields& fields = FieldsOf(R"({"name":"n"})");
  EXPECT_EQ(fields.id, "");
  EXPECT_EQ(fields.http_status, -1);
  EXPECT_EQ(fields.name, "n");
}

TEST_F(SegmentScannerTest, FindsAnnotationsOfEachType) {
  Scan(R"({"annotations":{"s":"text","i":-3,"u":18446744073709551615,"d":2.5,"t":true,"f":false,
           "n":null,"l":[1],"o":{},"dotted.key":"k","e":"","r":1,"r":"last"}})");
  EXPECT_EQ(scanner_.Annotation("s"), AnnotationValue("text"sv));
  EXPECT_EQ(scanner_.Annotation("i"), AnnotationValue(-3.0));
  EXPECT_EQ(scanner_.Annotation("u"), AnnotationValue(18446744073709551616.0));
  EXPECT_EQ(scanner_.Annotation("d"), AnnotationValue(2.5));
  EXPECT_EQ(scanner_.Annotation("t"), AnnotationValue(true));
  EXPECT_EQ(scanner_.Annotation("f"), AnnotationValue(false));
  EXPECT_EQ(scanner_.Annotation("dotted.key"), AnnotationValue("k"sv));
  EXPECT_EQ(scanner_.Annotation("e"), AnnotationValue(""sv));
  EXPECT_EQ(scanner_.Annotation("r"), AnnotationValue("last"sv));
  for (const std::string_view absent : {"n", "l", "o", "x", "", "S"}) {
    EXPECT_EQ(scanner_.Annotation(absent), AnnotationValue()) << absent;
  }
}

TEST_F(SegmentScannerTest, LooksForAnnotationsInEmbeddedSubsegmentsToo) {
  Scan(R"({"subsegments":[7,null,
             {"annotations":{"a":"first","deep":[]},
              "subsegments":[{"annotations":{"deep":"nested","b":1}},[]]},
             {"annotations":{"a":"second","deep":"sibling","b":2,"c":3}}],
           "annotations":{"a":null,"top":"t"}})");
  EXPECT_EQ(scanner_.Annotation("top"), AnnotationValue("t"sv));
  EXPECT_EQ(scanner_.Annotation("a"), AnnotationValue("first"sv));
  EXPECT_EQ(scanner_.Annotation("deep"), AnnotationValue("nested"sv));
  EXPECT_EQ(scanner_.Annotation("b"), AnnotationValue(1.0));
  EXPECT_EQ(scanner_.Annotation("c"), AnnotationValue(3.0));
  EXPECT_EQ(scanner_.Annotation("d"), AnnotationValue());
}

TEST_F(SegmentScannerTest, PrefersTheDocumentsOwnAnnotations) {
  Scan(R"({"subsegments":[{"annotations":{"a":"inner"}}],"annotations":{"a":"outer"}})");
  EXPECT_EQ(scanner_.Annotation("a"), AnnotationValue("outer"sv));
}

TEST_F(SegmentScannerTest, FindsAnnotationsAtTheGreatestDepthSimdjsonHolds) {
  std::string text;
  std::string close;
  for (int i = 0; i < 511; ++i) {
    text += "{\"subsegments\":[";
    close += "]}";
  }
  text += R"({"annotations":1,"id":"x"})";
  ASSERT_EQ(Scan(text + close).kind, DocumentKind::kJson);
  EXPECT_EQ(scanner_.Annotation("a"), AnnotationValue());
  ASSERT_EQ(Scan("{\"subsegments\":[]," + text.substr(1) + close).kind, DocumentKind::kJson);
  EXPECT_EQ(scanner_.Annotation("a"), AnnotationValue());
  text.replace(text.find("{\"annotations\":1"), std::string::npos, R"({"subsegments":[]})");
  ASSERT_EQ(Scan(text + close).kind, DocumentKind::kJson);
  EXPECT_EQ(scanner_.Annotation("a"), AnnotationValue());
}

}  // namespace
}  // namespace mobula
