#include "engine/sampling/rules_cache.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

namespace mobula {
namespace {

using std::chrono::seconds;

class RulesCacheTest : public ::testing::Test {
 protected:
  struct Fetch {
    std::string body;
    Duration timeout;
    HttpDone done;
  };

  void Make(Duration age = seconds(60)) {
    cache_ = std::make_unique<RulesCache>(
        RulesCache::Options{.age = age,
                            .now = [this] { return now_; },
                            .wall_clock = [this] { return wall_clock_; }},
        [this](std::string body, Duration timeout, HttpDone done) {
          fetches_.push_back({std::move(body), timeout, std::move(done)});
        },
        &stats_);
  }

  void Pass(seconds s) {
    now_ += s;
    wall_clock_ += s;
  }

  // A client asks; the answer appears in replies_ under the number returned.
  int Ask(std::string_view body = "{}") {
    const int number = ++asked_;
    cache_->Get(
        std::string(body),
        [this, number](HttpReply reply) {
          EXPECT_FALSE(replies_.contains(number)) << "answered twice";
          replies_[number] = std::move(reply);
        },
        nullptr);
    return number;
  }

  void Answer(HttpResponse response) {
    ASSERT_FALSE(fetches_.empty());
    const Fetch fetch = std::move(fetches_.front());
    fetches_.pop_front();
    fetch.done(std::move(response));
  }

  static HttpResponse Rules(std::string_view name) {
    HttpResponse response;
    response.status = 200;
    response.headers = {{"Content-Type", "application/json"}};
    response.body = std::string(R"({"NextToken" : null,"SamplingRuleRecords":[{"N":")")
                        .append(name)
                        .append("\"}]}");
    return response;
  }
  static HttpResponse Error(int status, std::string_view code) {
    HttpResponse response;
    response.status = status;
    response.headers = {{"x-amzn-ErrorType", std::string(code)}};
    response.body = "{}";
    return response;
  }
  static HttpResponse NoAnswer() {
    HttpResponse response;
    response.transport = absl::UnavailableError("connection refused");
    return response;
  }
  // A GetSamplingTargets answer that names a change at `unix_seconds`.
  void Note(double unix_seconds) {
    HttpResponse targets;
    targets.status = 200;
    targets.body =
        "{\"SamplingTargetDocuments\":[],\"LastRuleModification\":" + std::to_string(unix_seconds) +
        "}";
    cache_->NoteTargets(targets);
  }

  static std::string Header(const HttpReply& reply, std::string_view name) {
    std::string value;
    for (const auto& [key, text] : reply.headers) {
      if (key == name) value += text;
    }
    return value;
  }
  // "hit 12", "stale 70", "miss ", or " " for what did not come through the cache.
  std::string How(int number) {
    if (!replies_.contains(number)) return "not answered";
    const HttpReply& reply = replies_[number];
    return Header(reply, "X-Mobula-Cache") + " " + Header(reply, "Age");
  }
  // The first answer, so that there is one.
  void Fill(std::string_view name = "first") {
    Ask();
    Answer(Rules(name));
  }

  Time now_ = Time{} + seconds(1000);
  RulesCache::WallClock::time_point wall_clock_{seconds(1'790'000'000)};
  std::deque<Fetch> fetches_;
  std::map<int, HttpReply> replies_;
  int asked_ = 0;
  SamplingProxyStats stats_;
  std::unique_ptr<RulesCache> cache_;
};

TEST_F(RulesCacheTest, ServesAnAnswerUntilItIsOld) {
  Make();
  const int first = Ask();
  ASSERT_EQ(fetches_.size(), 1U);
  EXPECT_EQ(fetches_[0].body, "{}");
  EXPECT_EQ(fetches_[0].timeout, seconds(10));
  Answer(Rules("first"));
  EXPECT_EQ(How(first), "miss ");
  Pass(seconds(59));
  const int second = Ask();
  EXPECT_EQ(How(second), "hit 59");
  EXPECT_EQ(replies_[second].status, 200);
  EXPECT_EQ(replies_[second].text(), Rules("first").body);
  EXPECT_EQ(Header(replies_[second], "Content-Type"), "application/json");
  EXPECT_TRUE(fetches_.empty());
  Pass(seconds(1));
  const int third = Ask();
  ASSERT_EQ(fetches_.size(), 1U);
  EXPECT_EQ(fetches_[0].timeout, seconds(3)) << "there is something to answer with";
  Answer(Rules("second"));
  EXPECT_EQ(How(third), "miss ");
  EXPECT_EQ(replies_[third].text(), Rules("second").body);
  EXPECT_EQ(stats_.cached.value(), 1U);
  EXPECT_EQ(stats_.stale.value(), 0U);
}

TEST_F(RulesCacheTest, ManyClientsMakeOneCall) {
  Make();
  for (int i = 0; i < 100; ++i) Ask();
  EXPECT_EQ(fetches_.size(), 1U);
  Answer(Rules("first"));
  EXPECT_EQ(replies_.size(), 100U);
  for (const auto& [number, reply] : replies_) EXPECT_EQ(reply.text(), Rules("first").body);
  EXPECT_EQ(stats_.forwarded.value(), 100U);
}

TEST_F(RulesCacheTest, RequestsThatDifferAreKeptApart) {
  Make();
  const int plain = Ask("{}");
  const int next = Ask(R"({"NextToken":"2"})");
  EXPECT_EQ(fetches_.size(), 2U);
  Answer(Rules("first"));
  Answer(Rules("second"));
  EXPECT_EQ(replies_[plain].text(), Rules("first").body);
  EXPECT_EQ(replies_[next].text(), Rules("second").body);
}

TEST_F(RulesCacheTest, AnyFailureIsAnsweredWithTheLastGoodRules) {
  const std::vector<HttpResponse> failures = {
      NoAnswer(),
      Error(500, "InternalFailure"),
      Error(503, ""),
      Error(429, "ThrottledException"),
      Error(400, "ThrottlingException"),
      Error(403, "AccessDeniedException"),
      Error(403, "ExpiredTokenException"),
      Error(400, "ExpiredTokenException"),
      Error(408, "RequestTimeoutException"),
  };
  for (const HttpResponse& failure : failures) {
    Make();
    Fill();
    Pass(seconds(7200));
    const int first = Ask();
    const int second = Ask();
    EXPECT_EQ(fetches_.size(), 1U);
    Answer(failure);
    EXPECT_EQ(How(first), "stale 7200") << failure.status;
    EXPECT_EQ(How(second), "stale 7200") << failure.status;
    EXPECT_EQ(replies_[first].status, 200);
    EXPECT_EQ(replies_[first].text(), Rules("first").body);
  }
  EXPECT_EQ(stats_.stale.value(), 2 * failures.size());
  EXPECT_EQ(stats_.cached.value(), 0U);
  EXPECT_EQ(stats_.forwarded.value(), failures.size());
  EXPECT_EQ(stats_.failed.value(), 0U);
}

TEST_F(RulesCacheTest, AfterAFailureThereIsAPauseBeforeTheNextCall) {
  Make();
  Fill();
  Pass(seconds(60));
  Ask();
  Answer(NoAnswer());
  Pass(seconds(2));
  EXPECT_EQ(How(Ask()), "stale 62");
  EXPECT_TRUE(fetches_.empty());
  Pass(seconds(1));
  const int after = Ask();
  Answer(Rules("second"));
  EXPECT_EQ(replies_[after].text(), Rules("second").body);
  EXPECT_EQ(How(Ask()), "hit 0");
}

TEST_F(RulesCacheTest, AFailureWithoutAnythingCachedPasses) {
  Make();
  for (const int status : {400, 403, 429, 500}) {
    const int number = Ask();
    Answer(Error(status, "X"));
    EXPECT_EQ(replies_[number].status, status);
    EXPECT_EQ(How(number), " ");
  }
  const int number = Ask();
  Answer(NoAnswer());
  EXPECT_EQ(replies_[number].status, 502);
  EXPECT_EQ(stats_.failed.value(), 1U);
  EXPECT_EQ(stats_.cached.value(), 0U);
}

TEST_F(RulesCacheTest, ARefusalOfTheRequestItselfPassesAndForgetsNothing) {
  Make();
  Fill();
  Pass(seconds(60));
  const int refused = Ask();
  Answer(Error(400, "InvalidRequestException"));
  EXPECT_EQ(replies_[refused].status, 400);
  const int later = Ask();
  Answer(NoAnswer());
  EXPECT_EQ(How(later), "stale 60");
}

TEST_F(RulesCacheTest, WhatAreNoRulesIsNotKept) {
  Make();
  for (const char* body :
       {"<html>log in</html>", "", "[]", "{}", R"({"SamplingRuleRecords":null})"}) {
    const int number = Ask();
    HttpResponse response = Rules("");
    response.body = body;
    Answer(response);
    EXPECT_EQ(replies_[number].text(), body);
    EXPECT_EQ(How(number), " ") << body;
  }
  Ask();
  EXPECT_EQ(fetches_.size(), 1U);
}

TEST_F(RulesCacheTest, AChangeIsFetchedAsSoonAsTargetsTellOfIt) {
  Make();
  Fill();
  Pass(seconds(5));
  Note(1'790'000'000 - 10);
  EXPECT_EQ(How(Ask()), "hit 5");
  Note(1'790'000'000 + 3);
  Note(1'790'000'000 - 10);  // of a machine that does not know yet
  const int fresh = Ask();
  ASSERT_EQ(fetches_.size(), 1U);
  Answer(Rules("second"));
  EXPECT_EQ(replies_[fresh].text(), Rules("second").body);
  EXPECT_EQ(How(Ask()), "hit 0");

  Note(1'790'000'000 + 5);  // in the very second in which they were fetched
  const int again = Ask();
  Answer(NoAnswer());
  EXPECT_EQ(How(again), "stale 0") << "what there is serves on";
}

TEST_F(RulesCacheTest, TheFarSidesClockCounts) {
  Make();
  Ask();
  HttpResponse rules = Rules("first");
  // An hour ahead of ours: 1790003600.
  rules.headers.emplace_back("Date", "Mon, 21 Sep 2026 15:13:20 GMT");
  Answer(rules);
  Note(1'790'003'590);
  EXPECT_EQ(How(Ask()), "hit 0");
  Note(1'790'003'601);
  Ask();
  EXPECT_EQ(fetches_.size(), 1U);
}

TEST_F(RulesCacheTest, StrangeTargetsChangeNothing) {
  Make();
  Fill();
  for (const char* body :
       {"", "{", "[]", "{}", R"({"LastRuleModification":"1790000100"})",
        R"({"LastRuleModification":null})", R"({"LastRuleModification":-1})",
        R"({"LastRuleModification":1790000000000})", R"({"LastRuleModification":1e300})"}) {
    HttpResponse targets;
    targets.status = 200;
    targets.body = body;
    cache_->NoteTargets(targets);
    EXPECT_EQ(How(Ask()), "hit 0") << body;
  }
  cache_->NoteTargets(NoAnswer());
  HttpResponse error = Error(500, "");
  error.body = R"({"LastRuleModification":1790000100})";
  cache_->NoteTargets(error);
  EXPECT_EQ(How(Ask()), "hit 0");
}

TEST_F(RulesCacheTest, WithoutAnAgeEachRequestAsksButOutagesAreStillBridged) {
  Make(seconds(0));
  Fill();
  const int first = Ask();
  const int second = Ask();
  EXPECT_EQ(fetches_.size(), 1U) << "not one call for both";
  Answer(Rules("second"));
  EXPECT_EQ(replies_[first].text(), Rules("second").body);
  EXPECT_EQ(replies_[second].text(), Rules("second").body);
  const int third = Ask();
  Answer(NoAnswer());
  EXPECT_EQ(How(third), "stale 0");
}

TEST_F(RulesCacheTest, SixteenRequestsAreKept) {
  Make();
  for (int i = 0; i < 17; ++i) {
    Ask("{\"NextToken\":\"" + std::to_string(i) + "\"}");
    Answer(Rules(std::to_string(i)));
    Pass(seconds(1));
  }
  EXPECT_EQ(How(Ask(R"({"NextToken":"1"})")), "hit 16");
  EXPECT_EQ(How(Ask(R"({"NextToken":"16"})")), "hit 1");
  Ask(R"({"NextToken":"0"})");
  EXPECT_EQ(fetches_.size(), 1U) << "the one used longest ago was kept";
}

TEST_F(RulesCacheTest, MoreRequestsAtOnceThanThatPassBy) {
  Make();
  std::vector<int> numbers;
  for (int i = 0; i < 20; ++i)
    numbers.push_back(Ask("{\"NextToken\":\"" + std::to_string(i) + "\"}"));
  EXPECT_EQ(fetches_.size(), 20U);
  for (int i = 0; i < 20; ++i) Answer(Rules(std::to_string(i)));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(replies_[numbers[static_cast<size_t>(i)]].text(), Rules(std::to_string(i)).body);
  }
}

TEST_F(RulesCacheTest, LongRequestsPassBy) {
  Make();
  const std::string body = "{\"NextToken\":\"" + std::string(2000, 'x') + "\"}";
  for (int i = 0; i < 2; ++i) {
    const int number = Ask(body);
    ASSERT_EQ(fetches_.size(), 1U);
    EXPECT_EQ(fetches_[0].body, body);
    Answer(Rules("first"));
    EXPECT_EQ(How(number), " ");
  }
}

TEST_F(RulesCacheTest, AMebibyteOfAnswersIsKept) {
  Make();
  const std::string large(240'000, 'x');
  for (int i = 0; i < 5; ++i) {
    Ask("{\"NextToken\":\"" + std::to_string(i) + "\"}");
    Answer(Rules(large));
    Pass(seconds(1));
  }
  EXPECT_EQ(How(Ask(R"({"NextToken":"1"})")), "hit 4");
  EXPECT_EQ(How(Ask(R"({"NextToken":"4"})")), "hit 1");
  Ask(R"({"NextToken":"0"})");
  EXPECT_EQ(fetches_.size(), 1U);
}

TEST_F(RulesCacheTest, OnlyThePageThatIsAskedForCounts) {
  Make();
  Ask(R"({"NextToken":null,"Pad":1})");
  ASSERT_EQ(fetches_.size(), 1U);
  EXPECT_EQ(fetches_[0].body, "{}") << "what X-Ray might refuse";
  Answer(Rules("first"));
  for (const char* same : {"{}", "", " { } ", R"({"a":1})", R"({"NextToken" : null})"}) {
    EXPECT_EQ(How(Ask(same)), "hit 0") << same;
  }
  Ask(R"({"NextToken":"a\"\u00e9","Pad":1})");
  ASSERT_EQ(fetches_.size(), 1U);
  EXPECT_EQ(fetches_[0].body, "{\"NextToken\":\"a\\\"\u00e9\"}");
}

TEST_F(RulesCacheTest, WhatAsksForNoPagePassesBy) {
  Make();
  Fill();
  for (const char* body : {"x", "{", "[]", "null", R"({"NextToken":1})", R"({"NextToken":{}})",
                           R"({"NextToken":""})"}) {
    const int number = Ask(body);
    ASSERT_EQ(fetches_.size(), 1U) << body;
    EXPECT_EQ(fetches_[0].body, body);
    Answer(Rules("passed"));
    EXPECT_EQ(How(number), " ") << body;
    EXPECT_EQ(replies_[number].text(), Rules("passed").body);
  }
  EXPECT_EQ(How(Ask()), "hit 0");
}

TEST_F(RulesCacheTest, JunkDoesNotDriveOutTheRules) {
  Make();
  Fill();
  Ask(R"({"NextToken":"good"})");
  Answer(Rules("next"));
  for (int i = 0; i < 100; ++i) {
    Ask("{\"a\":" + std::to_string(i) + "}");
    Ask("{\"NextToken\":\"" + std::to_string(i) + "\"}");
    if (i % 2 == 0) Answer(Error(400, "InvalidRequestException"));
  }
  Pass(seconds(7200));
  const int first = Ask();
  const int next = Ask(R"({"NextToken":"good"})");
  while (!fetches_.empty()) Answer(NoAnswer());
  EXPECT_EQ(How(first), "stale 7200");
  EXPECT_EQ(How(next), "stale 7200");
}

TEST_F(RulesCacheTest, TheFirstPageStaysWhateverElseIsAsked) {
  Make();
  Fill();
  const std::string large(900'000, 'x');
  for (int i = 0; i < 30; ++i) {
    Ask("{\"NextToken\":\"" + std::to_string(i) + "\"}");
    Answer(Rules(i % 2 == 0 ? "small" : large));
    Pass(seconds(1));
  }
  EXPECT_EQ(How(Ask()), "hit 30");
}

TEST_F(RulesCacheTest, NoMoreThanFiveHundredAndTwelveWait) {
  Make();
  for (int i = 0; i < 600; ++i) Ask();
  EXPECT_EQ(fetches_.size(), 1U);
  EXPECT_EQ(replies_.size(), 88U);
  for (const auto& [number, reply] : replies_) {
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(Header(reply, "Retry-After"), "1");
  }
  Answer(Rules("first"));
  EXPECT_EQ(replies_.size(), 600U);

  Pass(seconds(60));
  const int before = asked_;
  for (int i = 0; i < 600; ++i) Ask();
  EXPECT_EQ(How(before + 513), "stale 60") << "what there is, is better than nothing";
  Answer(Rules("second"));
  EXPECT_EQ(How(Ask()), "hit 0");
}

TEST_F(RulesCacheTest, OneTextIsSharedByAllAndCounted) {
  Make();
  const auto budget = std::make_shared<ByteBudget>(1 << 20);
  for (int i = 0; i < 100; ++i) Ask();
  HttpResponse rules = Rules(std::string(50'000, 'x'));
  rules.body.reserve(100'000);
  rules.share = std::make_shared<ByteShare>(budget);
  ASSERT_TRUE(rules.share->Resize(rules.body.capacity()));
  Answer(std::move(rules));
  EXPECT_EQ(replies_[1].shared_body, replies_[100].shared_body);
  EXPECT_GE(budget->used(), 50'000U);
  EXPECT_LT(budget->used(), 60'000U);
  replies_.clear();
  EXPECT_GE(budget->used(), 50'000U) << "it is still kept";
  cache_.reset();
  EXPECT_EQ(budget->used(), 0U);
}

}  // namespace
}  // namespace mobula
