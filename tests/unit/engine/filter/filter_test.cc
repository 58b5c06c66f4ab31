// Tests of engine/filter/filter.h: what matches which document.
#include "engine/filter/filter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mobula {
namespace {

// A document with the readable bytes behind it that the scanner asks for.
class Subject {
 public:
  explicit Subject(std::string_view document, std::string source = "")
      : bytes_(document), source_(std::move(source)), scanner_(Validate::kJson) {
    bytes_.append(kScanPadding, '\0');
    const ScanResult result = scanner_.Scan({bytes_.data(), document.size()});
    EXPECT_EQ(result.reject, RejectReason::kNone);
    EXPECT_EQ(result.kind, DocumentKind::kJson);
  }

  bool Matches(std::string_view expression) {
    const auto filter = Filter::ParseForDocument(expression);
    EXPECT_TRUE(filter.ok()) << expression << ": " << filter.status();
    return filter.ok() && filter->Matches({&scanner_, source_});
  }

 private:
  std::string bytes_;
  std::string source_;
  SegmentScanner scanner_;
};

constexpr std::string_view kShop = R"({
  "name": "shop", "id": "70de5b6f19ff9a0a", "trace_id": "1-581cf771-a006649127e371903a2de979",
  "start_time": 1790000001.0, "end_time": 1790000001.2, "origin": "AWS::EC2::Instance", "user": "alice",
  "http": {"request": {"method": "GET", "url": "http://shop.example.com/api/game/1",
                       "user_agent": "Mozilla/5.0", "client_ip": "10.1.2.3"},
           "response": {"status": 200}},
  "aws": {"account_id": "111122223333"},
  "annotations": {"gameid": "817DL6VO", "age": 30, "premium": true, "trial": false, "app.version": "1.2", "empty": ""}
})";

// The least a document can say.
constexpr std::string_view kBare =
    R"({"name": "bare", "id": "70de5b6f19ff9a0b", "trace_id": "1-581cf771-a006649127e371903a2de979",
        "start_time": 1790000001.0, "in_progress": true})";

TEST(FilterTest, OneDocumentAgainstManyExpressions) {
  Subject shop(kShop, "10.9.8.7");
  for (const char* expression :
       {"ok",
        "OK",
        "NOT fault",
        "!fault",
        "!!ok",
        "ok = true",
        "ok = \"TRUE\"",
        "fault = false",
        "fault != true",
        "http.status = 200",
        "http.status != 404",
        "http.status >= 200 http.status < 300",
        "http.status",
        "responsetime = 0.2",
        "duration <= 0.2",
        "responseTime > .1",
        "duration < 2e-1 OR duration = 2E-1",
        "http.url",
        "http.url CONTAINS \"/api/game/\"",
        "http.url BEGINSWITH \"http://shop\"",
        "http.url endswith \"/1\"",
        "HTTP.Method = \"GET\"",
        "http.useragent BEGINSWITH \"Mozilla\"",
        "http.clientip = \"10.1.2.3\"",
        "user = \"alice\"",
        "user = \"\\u0061lice\"",
        "user CONTAINS \"\"",
        "name = \"shop\"",
        "type = \"AWS::EC2::Instance\"",
        "origin BEGINSWITH \"AWS::EC2\"",
        "account = \"111122223333\"",
        "source = \"10.9.8.7\"",
        "source BEGINSWITH \"10.\"",
        "annotation.gameid = \"817DL6VO\"",
        "annotation.age",
        "annotation.age > 29",
        "annotation.age = 30",
        "annotation.age != 31",
        "annotation.premium",
        "annotation.premium = true",
        "!annotation.trial",
        "annotation.trial = false",
        "annotation[app.version] = \"1.2\"",
        "annotation.empty",
        "annotation[gameid] BEGINSWITH \"817\"",
        "service(\"shop\")",
        "service()",
        "service(id(name: \"shop\", type: \"AWS::EC2::Instance\", account.id: \"111122223333\"))",
        "service(\"shop\") { ok user = \"alice\" }",
        "!service(\"shop\") { fault }",
        "Service(ID(TYPE:\"AWS::EC2::Instance\")){!fault}",
        "fault OR ok",
        "fault AND ok OR ok",
        "ok OR fault AND fault",
        "(ok OR fault) AND !fault",
        "ok !fault duration <3",
        "!(user = \"bob\" OR fault)",
        "NOT NOT ok",
        "ok\n\tAND\r\n!fault"}) {
    EXPECT_TRUE(shop.Matches(expression)) << expression;
  }
  for (const char* expression : {"fault",
                                 "error",
                                 "throttle",
                                 "!ok",
                                 "ok = false",
                                 "ok != true",
                                 "http.status = 404",
                                 "http.status = \"200\"",
                                 "http.status != \"x\"",
                                 "duration = \"slow\"",
                                 "duration > 0.2",
                                 "http.url = \"\"",
                                 "http.method = \"get\"",
                                 "user = \"Alice\"",
                                 "user ENDSWITH \"malice\"",
                                 "annotation.age = \"30\"",
                                 "annotation.age != \"30\"",
                                 "annotation.Age",
                                 "annotation.none",
                                 "annotation.none != 1",
                                 "annotation.premium = \"true\"",
                                 "annotation.trial",
                                 "annotation.age CONTAINS \"3\"",
                                 "annotation.gameid > 1",
                                 "service(\"Shop\")",
                                 "service(\"shop\") { fault }",
                                 "service(id(name: \"shop\", type: \"AWS::ECS::Container\"))",
                                 "!service()",
                                 "(ok OR fault) AND fault",
                                 "fault OR error OR throttle",
                                 "!(ok OR fault)",
                                 "!(ok user = \"alice\")",
                                 "source = \"10.9.8\""}) {
    EXPECT_FALSE(shop.Matches(expression)) << expression;
  }
}

TEST(FilterTest, WhatIsAbsentMatchesUnderNoOperator) {
  Subject bare(kBare);
  for (const char* expression :
       {"http.url", "http.url = \"\"", "http.url != \"x\"", "http.url CONTAINS \"\"", "http.status",
        "http.status != 200", "http.status < 1000", "user", "user CONTAINS \"\"", "origin",
        "account != \"1\"", "source", "source != \"x\"", "duration", "duration >= 0",
        "annotation.a", "annotation.a != true"}) {
    EXPECT_FALSE(bare.Matches(expression)) << expression;
    EXPECT_TRUE(bare.Matches("!(" + std::string(expression) + ")")) << expression;
  }
}

TEST(FilterTest, ADocumentCountsOnce) {
  const auto with = [](std::string_view flags) {
    return R"({"name": "n", "id": "70de5b6f19ff9a0b", "trace_id": "1-581cf771-a006649127e371903a2de979", )"
           R"("start_time": 1, "end_time": 2, )" +
           std::string(flags) + "}";
  };
  Subject throttle(with(R"("error": true, "throttle": true, "fault": true)"));
  EXPECT_TRUE(throttle.Matches("throttle AND !fault AND !error AND !ok"));
  Subject fault(with(R"("error": true, "fault": true)"));
  EXPECT_TRUE(fault.Matches("fault AND !error AND !throttle AND !ok"));
  Subject error(with(R"("error": true)"));
  EXPECT_TRUE(error.Matches("error AND !fault AND !throttle AND !ok"));
  Subject running(kBare);
  EXPECT_TRUE(running.Matches("ok AND !error"));
}

TEST(FilterTest, AnIndependentSubsegmentIsNoNode) {
  Subject call(
      R"({"name": "shop", "type": "subsegment", "id": "70de5b6f19ff9a0b", "parent_id": "70de5b6f19ff9a0c",
          "trace_id": "1-581cf771-a006649127e371903a2de979", "start_time": 1, "end_time": 2, "fault": true})");
  EXPECT_TRUE(call.Matches("name = \"shop\" fault"));
  EXPECT_FALSE(call.Matches("service(\"shop\")"));
  EXPECT_FALSE(call.Matches("service() { fault }"));
  EXPECT_TRUE(call.Matches("!service(\"shop\")"));
}

TEST(FilterTest, KeepsItsText) {
  const auto filter = Filter::ParseForDocument(" ok ");
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(filter->text(), " ok ");
}

// Rows of the shared test set whose traces are one document each: T3, T4 and T6.
TEST(FilterTest, SingleDocumentTracesOfTheCorpus) {
  const auto shop = [](std::string_view times, std::string_view rest) {
    return R"({"name": "shop", "origin": "AWS::EC2::Instance", "id": "70de5b6f19ff9a0b", )"
           R"("trace_id": "1-6ab13b80-000000000000000000000003", )" +
           std::string(times) + std::string(rest) + "}";
  };
  Subject t3(shop(R"("start_time": 1790000010.0, "end_time": 1790000010.05, )",
                  R"("error": true, "http": {"request": {"method": "GET", "url": )"
                  R"("http://shop.example.com/v2/list"}, "response": {"status": 404}})"));
  Subject t4(
      shop(R"("start_time": 1790000012.0, "end_time": 1790000012.01, )",
           R"("error": true, "throttle": true, "http": {"request": {"method": "GET", "url": )"
           R"("http://shop.example.com/v2/list"}, "response": {"status": 429}})"));
  Subject t6(
      R"({"name": "batch", "id": "70de5b6f19ff9a0b", "trace_id": "1-6ab13b80-000000000000000000000006",
                 "start_time": 1790000020.0, "in_progress": true, "annotations": {"premium": false}})");
  struct Row {
    const char* expression;
    bool t3, t4, t6;
  };
  for (const Row& row : std::vector<Row>{
           {"ok", false, false, true},
           {"!ok", true, true, false},
           {"error", true, false, false},
           {"throttle", false, true, false},
           {"http.status = 404", true, false, false},
           {"http.status != 200", true, true, false},
           {"http.url ENDSWITH \"/list\"", true, true, false},
           {"fault OR throttle", false, true, false},
           {"error OR fault AND http.method = \"POST\"", true, false, false},
           {"(error OR fault) AND http.method = \"POST\"", false, false, false},
           {"!(user = \"alice\" OR fault)", true, true, true},
           {"annotation.premium", false, false, false},
           {"annotation.premium = false", false, false, true},
           {"!annotation.age", true, true, true},
           {"!service(\"shop\")", false, false, true},
           {"service() { http.status = 404 }", true, false, false},
       }) {
    EXPECT_EQ(t3.Matches(row.expression), row.t3) << row.expression;
    EXPECT_EQ(t4.Matches(row.expression), row.t4) << row.expression;
    EXPECT_EQ(t6.Matches(row.expression), row.t6) << row.expression;
  }
}

}  // namespace
}  // namespace mobula
