#include "engine/app/fresh_document.h"

#include "gtest/gtest.h"

namespace mobula {
namespace {

constexpr FreshShift kShift = {
    .seconds = 16, .id_mask = 0xffffffffffffffffULL, .trace_mask = 0xfULL};

TEST(FreshDocumentTest, MovesTimesAndIdsAndNothingElse) {
  EXPECT_EQ(
      Refresh("{\"format\": \"json\", \"version\": 1}\n"
              "{\"trace_id\": \"1-58406520-a006649127e371903a2de979\", \"id\":\"6226467e3f845502\","
              "\"parent_id\" : \"0123456789abcdef\", \"name\": \"a \\\"quoted\\\" 1\","
              "\"start_time\": 1498082657.37518, \"end_time\":1498082695,"
              "\"annotations\": {\"n\": 1498082657.5, \"deadbeef\": \"deadbeef\"},"
              "\"cause\": \"fedcba9876543210\", \"precursor_ids\": [\"0000000000000000\"]}",
              kShift),
      "{\"format\": \"json\", \"version\": 1}\n"
      "{\"trace_id\": \"1-58406530-a006649127e371903a2de976\", \"id\":\"9dd9b981c07baafd\","
      "\"parent_id\" : \"fedcba9876543210\", \"name\": \"a \\\"quoted\\\" 1\","
      "\"start_time\": 1498082673.37518, \"end_time\":1498082711,"
      "\"annotations\": {\"n\": 1498082657.5, \"deadbeef\": \"deadbeef\"},"
      "\"cause\": \"0123456789abcdef\", \"precursor_ids\": [\"ffffffffffffffff\"]}");
}

TEST(FreshDocumentTest, KnowsTheW3cTraceIdByItsKeyOnly) {
  EXPECT_EQ(Refresh("{\"trace_id\":\"58406520a006649127e371903a2de979\",\"md5\":"
                    "\"58406520a006649127e371903a2de979\"}",
                    kShift),
            "{\"trace_id\":\"58406530a006649127e371903a2de976\",\"md5\":"
            "\"58406520a006649127e371903a2de979\"}");
}

TEST(FreshDocumentTest, KeepsExponentsRightAndStrangeNumbersAlone) {
  EXPECT_EQ(Refresh("{\"start_time\":1.5E9}", kShift), "{\"start_time\":1500000016.000000}");
  EXPECT_EQ(Refresh("{\"start_time\":-5}", kShift), "{\"start_time\":-5}");
  EXPECT_EQ(Refresh("{\"start_time\":1e400}", kShift), "{\"start_time\":1e400}");
  EXPECT_EQ(Refresh("{\"start_time\":99999999999999999999}", kShift),
            "{\"start_time\":99999999999999999999}");
}

TEST(FreshDocumentTest, ForeignBytesComeBack) {
  for (const std::string text : {"", "\"", "\"\\", "{\"a", "T1SAAA+/=", "{\"id\":", "\xff\xfe{",
                                 "1-1-1", "{\"start_time\":\"x\"}"}) {
    EXPECT_EQ(Refresh(text, kShift), text);
  }
}

TEST(FreshDocumentTest, FindsTheLatestTime) {
  EXPECT_EQ(
      LatestTime("{\"start_time\":1500000000.5,\"end_time\":1500000001.25,"
                 "\"subsegments\":[{\"start_time\":1500000000.75,\"end_time\": 1500000000.9}]}"),
      1500000001.25);
  EXPECT_EQ(LatestTime("{\"x\":1500000000.5,\"end_time\":1e300}"), 0);
  EXPECT_EQ(LatestTime("T1S"), 0);
}

}  // namespace
}  // namespace mobula
