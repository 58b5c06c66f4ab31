#include "engine/sampling/default_rules.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "engine/sampling/sampling_paths.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr int64_t kStart = 1'790'000'000;

// The steady clock's time at a time of the wall clock, which began elsewhere.
Time At(int64_t wall) { return Time{} + std::chrono::seconds(wall - kStart + 7777); }

std::string Statistics(std::string_view client, std::string_view rule = "Default") {
  return std::string(R"({"SamplingStatisticsDocuments":[{"RuleName":")")
      .append(rule)
      .append(R"(","ClientID":")")
      .append(client)
      .append(R"(","Timestamp":1790000000,"RequestCount":7,"SampledCount":4,"BorrowCount":3}]})");
}

JsonValue Body(const HttpReply& reply) {
  EXPECT_EQ(reply.content_type, "application/json");
  const auto body = ParseJson(reply.body);
  EXPECT_TRUE(body) << reply.body;
  return body.value_or(JsonValue());
}

double Number(const JsonValue& object, std::string_view name) {
  const JsonValue* const value = object.Find(name);
  EXPECT_TRUE(value != nullptr && value->kind == JsonValue::Kind::kNumber) << name;
  return value == nullptr ? -1 : value->number;
}

// What a client holds after an answer.
struct Quota {
  double quota = 0;
  double until = 0;
};

Quota Ask(DefaultRules* rules, std::string_view client, int64_t now) {
  const HttpReply reply = rules->Answer(kTargetsPath, Statistics(client), At(now), now);
  EXPECT_EQ(reply.status, 200);
  const JsonValue body = Body(reply);
  const JsonValue* const targets = body.Find("SamplingTargetDocuments");
  if (targets == nullptr || targets->items.size() != 1) {
    ADD_FAILURE() << reply.body;
    return {};
  }
  const JsonValue& target = targets->items[0];
  EXPECT_EQ(target.FindString("RuleName"), "Default");
  EXPECT_EQ(Number(target, "FixedRate"), 0.05);
  EXPECT_EQ(Number(target, "Interval"), 10);
  return {Number(target, "ReservoirQuota"), Number(target, "ReservoirQuotaTTL")};
}

TEST(DefaultRulesTest, TheRuleIsOneThatEverySdkTakes) {
  DefaultRules rules(kStart);
  for (const char* body : {"", "{}", R"({"NextToken":null})"}) {
    const HttpReply reply = rules.Answer(kRulesPath, body, At(kStart), kStart);
    EXPECT_EQ(reply.status, 200);
    const JsonValue answer = Body(reply);
    ASSERT_EQ(answer.Find("SamplingRuleRecords")->items.size(), 1U);
    const JsonValue* const rule = answer.Find("SamplingRuleRecords")->items[0].Find("SamplingRule");
    ASSERT_NE(rule, nullptr);
    EXPECT_EQ(rule->FindString("RuleName"), "Default");
    for (const char* any :
         {"ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath", "ResourceARN"}) {
      EXPECT_EQ(rule->FindString(any), "*") << any;
    }
    EXPECT_EQ(Number(*rule, "Priority"), 10000);
    EXPECT_EQ(Number(*rule, "FixedRate"), 0.05);
    EXPECT_EQ(Number(*rule, "ReservoirSize"), 1);
    EXPECT_EQ(Number(*rule, "Version"), 1);
    ASSERT_NE(rule->Find("Attributes"), nullptr);
    EXPECT_EQ(rule->Find("Attributes")->kind, JsonValue::Kind::kObject);
  }
}

TEST(DefaultRulesTest, OneClientAloneKeepsTheReservoir) {
  DefaultRules rules(kStart);
  for (int64_t now = kStart; now < kStart + 300; now += 10) {
    const Quota got = Ask(&rules, "a", now);
    EXPECT_EQ(got.quota, 1);
    EXPECT_EQ(got.until, static_cast<double>(now + 20));
  }
}

TEST(DefaultRulesTest, TheReservoirGoesRoundAndIsNeverLentTwice) {
  std::mt19937 random(7);
  for (int clients = 2; clients <= 40; clients *= 2) {
    DefaultRules rules(kStart);
    std::map<int, int64_t> polls;  // by client, when it asks next
    for (int c = 0; c < clients; ++c) polls[c] = kStart + static_cast<int64_t>(random() % 10);
    std::map<int, Quota> held;
    std::map<int, int> seconds;
    for (int64_t now = kStart; now < kStart + 40 * clients; ++now) {
      for (auto& [client, at] : polls) {
        if (at != now) continue;
        at += 10 + static_cast<int64_t>(random() % 2);
        held[client] = Ask(&rules, std::to_string(client), now);
      }
      double sum = 0;
      for (const auto& [client, quota] : held) {
        if (quota.until <= static_cast<double>(now)) continue;
        sum += quota.quota;
        seconds[client] += quota.quota > 0 ? 1 : 0;
      }
      ASSERT_LE(sum, 1) << now - kStart;
    }
    for (int c = 0; c < clients; ++c) EXPECT_GE(seconds[c], 20) << c << " of " << clients;
  }
}

TEST(DefaultRulesTest, AClientThatFellSilentLosesTheReservoirWhenItsTimeIsOver) {
  DefaultRules rules(kStart);
  EXPECT_EQ(Ask(&rules, "a", kStart).quota, 1);
  EXPECT_EQ(Ask(&rules, "b", kStart + 9).quota, 0);
  EXPECT_EQ(Ask(&rules, "b", kStart + 19).quota, 0);
  EXPECT_EQ(Ask(&rules, "b", kStart + 20).quota, 1);
}

TEST(DefaultRulesTest, AClockThatIsSetChangesNoLoan) {
  for (const int64_t jump : {-100'000, 100'000}) {
    DefaultRules rules(kStart);
    const auto ask = [&](std::string_view client, int64_t after, int64_t wall) {
      const HttpReply reply =
          rules.Answer(kTargetsPath, Statistics(client), At(kStart + after), wall);
      const JsonValue body = Body(reply);
      const JsonValue& target = body.Find("SamplingTargetDocuments")->items.at(0);
      return Quota{Number(target, "ReservoirQuota"), Number(target, "ReservoirQuotaTTL")};
    };
    EXPECT_EQ(ask("a", 0, kStart).quota, 1);
    EXPECT_EQ(ask("b", 5, kStart + 5).quota, 0);
    EXPECT_EQ(ask("b", 10, kStart + jump).quota, 0) << "lent twice";
    const Quota again = ask("a", 12, kStart + jump);
    EXPECT_EQ(again.quota, 1);
    EXPECT_EQ(again.until, static_cast<double>(kStart + jump + 8));
    EXPECT_EQ(ask("b", 20, kStart + jump).quota, 1) << "lost for long";
  }
}

TEST(DefaultRulesTest, UnknownRulesAreUnprocessed) {
  DefaultRules rules(kStart);
  const HttpReply reply =
      rules.Answer(kTargetsPath, Statistics("a", "check\\\"out"), At(kStart), kStart);
  EXPECT_EQ(reply.status, 200);
  const JsonValue body = Body(reply);
  EXPECT_TRUE(body.Find("SamplingTargetDocuments")->items.empty());
  EXPECT_EQ(Number(body, "LastRuleModification"), static_cast<double>(kStart));
  ASSERT_EQ(body.Find("UnprocessedStatistics")->items.size(), 1U);
  const JsonValue& entry = body.Find("UnprocessedStatistics")->items[0];
  EXPECT_EQ(entry.FindString("RuleName"), "check\"out");
  EXPECT_EQ(entry.FindString("ErrorCode"), "400");
  EXPECT_FALSE(entry.FindString("Message").empty());
}

TEST(DefaultRulesTest, NoStatisticsAreFine) {
  DefaultRules rules(kStart);
  for (const char* body :
       {"{}", R"({"SamplingStatisticsDocuments":[]})", R"({"SamplingStatisticsDocuments":null})"}) {
    const HttpReply reply = rules.Answer(kTargetsPath, body, At(kStart), kStart);
    EXPECT_EQ(reply.status, 200) << body;
    EXPECT_TRUE(Body(reply).Find("SamplingTargetDocuments")->items.empty());
  }
  const HttpReply summaries = rules.Answer(kSummariesPath, "{}", At(kStart), kStart);
  EXPECT_EQ(summaries.status, 200);
  EXPECT_TRUE(Body(summaries).Find("SamplingStatisticSummaries")->items.empty());
}

TEST(DefaultRulesTest, WhatIsNoRequestIsRefused) {
  DefaultRules rules(kStart);
  std::string many = R"({"SamplingStatisticsDocuments":[)";
  for (int i = 0; i < 26; ++i) {
    many += std::string(i > 0 ? "," : "") + R"({"RuleName":"Default","ClientID":"a"})";
  }
  many += "]}";
  for (const std::string& body :
       {std::string("{"), std::string("[]"), std::string("null"), std::string("\xff"),
        std::string(R"({"SamplingStatisticsDocuments":{}})"),
        std::string(R"({"SamplingStatisticsDocuments":[1]})"),
        std::string(R"({"SamplingStatisticsDocuments":[{"RuleName":"Default"}]})"),
        std::string(R"({"SamplingStatisticsDocuments":[{"ClientID":"a","RuleName":7}]})"),
        Statistics(std::string(65, 'a')), many, std::string(100000, '[')}) {
    const HttpReply reply = rules.Answer(kTargetsPath, body, At(kStart), kStart);
    EXPECT_EQ(reply.status, 400) << body.substr(0, 100);
    EXPECT_FALSE(Body(reply).FindString("Message").empty());
  }
  EXPECT_EQ(rules.Answer(kRulesPath, "{", At(kStart), kStart).status, 400);
  EXPECT_EQ(rules.Answer(kSummariesPath, "[]", At(kStart), kStart).status, 400);
}

TEST(DefaultRulesTest, AFloodOfClientsIsForgotten) {
  DefaultRules rules(kStart);
  for (int i = 0; i < 3000; ++i) (void)Ask(&rules, std::to_string(i), kStart);
  EXPECT_EQ(Ask(&rules, "later", kStart + 20).quota, 1);
  EXPECT_EQ(Ask(&rules, "later", kStart + 30).until, static_cast<double>(kStart + 50)) << "alone";
}

}  // namespace
}  // namespace mobula
