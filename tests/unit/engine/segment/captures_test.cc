// The datagrams of real SDKs, all of them, against the slow reference and a few values written down here.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/segment/framing.h"
#include "engine/segment/segment_scanner.h"
#include "tests/fuzz/slow_json.h"
#include "tests/unit/engine/segment/padded_text.h"

namespace mobula {
namespace {

using std::string_view_literals::operator""sv;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The last value of the outermost member `key`, decoded; empty when it is no string.
std::string Member(std::string_view json, std::string_view key) {
  std::string found;
  const auto tokens = slow::Tokens(json);
  EXPECT_TRUE(tokens.has_value());
  for (const auto& [name, value] : slow::Members(*tokens)) {
    if (slow::Decoded(name.text) == key) {
      found = value.kind == 's' ? slow::Decoded(value.text) : std::string();
    }
  }
  return found;
}

class CapturesTest : public testing::Test {
 protected:
  // The fields of the document in capture `name`.
  const SegmentFields& FieldsOf(const std::string& name) {
    datagram_ = PaddedText(ReadFile(std::filesystem::path(MOBULA_CAPTURES) / (name + ".bin")));
    const Frame frame = Framing::Split(datagram_.view());
    EXPECT_EQ(frame.reject, RejectReason::kNone) << name;
    EXPECT_EQ(scanner_.Scan(frame.body).kind, DocumentKind::kJson) << name;
    return scanner_.Fields();
  }

  PaddedText datagram_{""};
  SegmentScanner scanner_{Validate::kJson};
};

TEST_F(CapturesTest, AreAllAcceptedUnchanged) {
  int documents = 0;
  for (const Validate validate : {Validate::kJson, Validate::kStrict}) {
    SegmentScanner scanner(validate);
    for (const auto& entry : std::filesystem::directory_iterator(MOBULA_CAPTURES)) {
      if (entry.path().extension() != ".bin") continue;
      SCOPED_TRACE(entry.path());
      ++documents;
      const std::string bytes = ReadFile(entry.path());
      const PaddedText datagram(bytes);
      const Frame frame = Framing::Split(datagram.view());
      ASSERT_EQ(frame.reject, RejectReason::kNone);
      const ScanResult result = scanner.Scan(frame.body);
      ASSERT_EQ(result.reject, RejectReason::kNone) << RejectReasonName(result.reject);
      EXPECT_EQ(result.document, std::string_view(bytes).substr(bytes.find('\n') + 1));
      EXPECT_FALSE(result.utf8_repaired);
      if (entry.path().filename() == "node-otel-001.bin") {
        EXPECT_EQ(result.kind, DocumentKind::kOtlp);
        continue;
      }
      ASSERT_EQ(result.kind, DocumentKind::kJson);
      const SegmentFields& fields = scanner.Fields();
      EXPECT_EQ(fields.id, Member(result.document, "id"));
      EXPECT_EQ(fields.name, Member(result.document, "name"));
      EXPECT_EQ(fields.trace_id, Member(result.document, "trace_id"));
      EXPECT_EQ(fields.parent_id, Member(result.document, "parent_id"));
      EXPECT_EQ(fields.type, Member(result.document, "type"));
    }
  }
  EXPECT_EQ(documents, 2 * 106);
}

TEST_F(CapturesTest, PythonSegment) {
  const SegmentFields& fields = FieldsOf("py-minimal-001");
  EXPECT_EQ(fields.trace_id, "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f");
  EXPECT_EQ(fields.id, "fa35b830a6eae8e6");
  EXPECT_EQ(fields.name, "payments.example.com");
  EXPECT_EQ(fields.user, "alice");
  EXPECT_DOUBLE_EQ(fields.start_time, 1795370396.9424415);
  EXPECT_DOUBLE_EQ(fields.end_time, 1795370396.945643);
  EXPECT_EQ(scanner_.Annotation("order_id"), AnnotationValue("A-1001"sv));
  EXPECT_EQ(scanner_.Annotation("amount"), AnnotationValue(42.5));
  EXPECT_EQ(scanner_.Annotation("retry"), AnnotationValue(false));
  EXPECT_EQ(scanner_.Annotation("items"), AnnotationValue(3.0));
}

TEST_F(CapturesTest, PythonSegmentInProgress) {
  const SegmentFields& fields = FieldsOf("py-inprogress-001");
  EXPECT_TRUE(fields.in_progress);
  EXPECT_EQ(fields.end_time, 0);
  EXPECT_EQ(fields.id, "7804b746403bb891");
}

TEST_F(CapturesTest, NodeStreamedSubsegment) {
  const SegmentFields& fields = FieldsOf("node-stream_b-004");
  EXPECT_EQ(fields.trace_id, "1-6b032dda-36e324fc487007568577b67f");
  EXPECT_EQ(fields.id, "db40268b18e54267");
  EXPECT_EQ(fields.parent_id, "6c55298d38897bba");
  EXPECT_EQ(fields.name, "q-9");
  EXPECT_EQ(fields.type, "subsegment");
}

TEST_F(CapturesTest, NodeServerSegment) {
  const SegmentFields& fields = FieldsOf("nodeweb-xff-001");
  EXPECT_EQ(fields.parent_id, "00f91aa01f4984fd");
  EXPECT_EQ(fields.http_method, "GET");
  EXPECT_EQ(fields.http_url, "http://127.0.0.1:8202/api/ok");
  EXPECT_EQ(fields.http_user_agent, "curl/7.88.1");
  EXPECT_EQ(fields.http_client_ip, "203.0.113.9");
  EXPECT_EQ(fields.http_status, 200);
}

TEST_F(CapturesTest, FaultsAndErrorsAndOrigin) {
  EXPECT_TRUE(FieldsOf("pyweb-boom-001").fault);
  EXPECT_EQ(scanner_.Fields().http_status, 500);
  EXPECT_TRUE(FieldsOf("pyweb-404-001").error);
  EXPECT_FALSE(scanner_.Fields().fault);
  EXPECT_EQ(FieldsOf("node-plugins-001").origin, "AWS::ElasticBeanstalk::Environment");
}

}  // namespace
}  // namespace mobula
