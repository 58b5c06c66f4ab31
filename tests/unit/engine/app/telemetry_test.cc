#include "engine/app/telemetry.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>

#include "engine/base/log.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

HttpResponse Answer(int status) {
  HttpResponse response;
  response.status = status;
  return response;
}

HttpResponse NoAnswer() {
  HttpResponse response;
  response.transport = absl::UnavailableError("connection refused");
  response.fault = "refused";
  return response;
}

class TelemetryTest : public ::testing::Test {
 protected:
  struct Sent {
    AwsClient::Request request;
    HttpDone done;

    [[nodiscard]] JsonValue body() const { return ParseJson(request.body).value_or(JsonValue()); }
  };

  void Make(std::string resource_arn = "") {
    Telemetry::Options options;
    options.name = "aws";
    options.resource_arn = std::move(resource_arn);
    options.counts = [this] { return counts_; };
    options.host_facts = [this](std::function<void(HostFacts)> done) { facts_ = std::move(done); };
    options.log = log_.get();
    options.now = [this] { return now_; };
    options.wall_clock = [this] { return wall_clock_; };
    telemetry_ = std::make_unique<Telemetry>(
        &loop_, std::move(options), [this](AwsClient::Request request, HttpDone done) {
          sent_.push_back({std::move(request), std::move(done)});
        });
  }

  // What the timer does, a minute later.
  void Minute() {
    now_ += minutes(1);
    wall_clock_ += minutes(1);
    telemetry_->Report();
  }

  // Answers the oldest call that waits for it.
  JsonValue Reply(HttpResponse response) {
    if (sent_.empty()) {
      ADD_FAILURE() << "nothing was sent";
      return {};
    }
    const Sent sent = std::move(sent_.front());
    sent_.pop_front();
    sent.done(std::move(response));
    return sent.body();
  }

  static std::vector<JsonValue> Records(const JsonValue& body) {
    const JsonValue* const records = body.Find("TelemetryRecords");
    return records == nullptr ? std::vector<JsonValue>() : records->items;
  }

  static double Number(const JsonValue& record, std::string_view name) {
    const JsonValue* const value = record.Find(name);
    EXPECT_TRUE(value != nullptr && value->kind == JsonValue::Kind::kNumber) << name;
    return value == nullptr ? -1 : value->number;
  }

  void RunUntil(const bool& condition) {
    const Time limit = std::chrono::steady_clock::now() + seconds(10);
    while (!condition && std::chrono::steady_clock::now() < limit) {
      loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
    }
    EXPECT_TRUE(condition);
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  IoLoop loop_;
  // Not far from the real one, on which the loop's timers run.
  Time now_ = std::chrono::steady_clock::now();
  Telemetry::WallClock::time_point wall_clock_{milliseconds(1'790'000'000'007)};
  TelemetryCounts counts_;
  std::function<void(HostFacts)> facts_;
  std::deque<Sent> sent_;
  std::unique_ptr<Telemetry> telemetry_;
};

TEST_F(TelemetryTest, SaysNothingBeforeTheFirstDatagram) {
  Make();
  Minute();
  Minute();
  EXPECT_TRUE(sent_.empty());
  bool flushed = false;
  telemetry_->Flush(now_ + seconds(60), [&] { flushed = true; });
  EXPECT_FALSE(flushed);
  RunUntil(flushed);
  EXPECT_TRUE(sent_.empty());
}

TEST_F(TelemetryTest, SendsARecordWithEveryMember) {
  Make("arn:aws:ec2:us-west-2:123456789012:instance/i-0123");
  facts_({"host \"x\"", "i-0a1b"});
  counts_ = {73, 70, 1, 2, 4, 5, 6, 7, 8, 9};
  Minute();
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].request.method, "POST");
  EXPECT_EQ(sent_[0].request.path, "/TelemetryRecords");
  EXPECT_EQ(sent_[0].request.deadline, now_ + seconds(10));
  EXPECT_EQ(sent_[0].request.body,
            R"({"EC2InstanceId":"i-0a1b","Hostname":"host \"x\"",)"
            R"("ResourceARN":"arn:aws:ec2:us-west-2:123456789012:instance/i-0123",)"
            R"("TelemetryRecords":[{"Timestamp":1790000060.007,"SegmentsReceivedCount":73,)"
            R"("SegmentsSentCount":70,"SegmentsSpilloverCount":1,"SegmentsRejectedCount":2,)"
            R"("BackendConnectionErrors":{"TimeoutCount":4,"ConnectionRefusedCount":5,)"
            R"("HTTPCode4XXCount":6,"HTTPCode5XXCount":7,"UnknownHostCount":8,"OtherCount":9}}]})");
}

TEST_F(TelemetryTest, ReportsWhatIsNewAndZerosToo) {
  Make();
  counts_.received = 12;
  counts_.sent = 10;
  Minute();
  EXPECT_EQ(Number(Records(Reply(Answer(200)))[0], "SegmentsReceivedCount"), 12);
  Minute();
  EXPECT_EQ(Number(Records(Reply(Answer(200)))[0], "SegmentsReceivedCount"), 0);
  counts_.received = 15;
  // A sum of several threads' counters may be read as less for once; that must not count twice.
  counts_.sent = 9;
  Minute();
  EXPECT_EQ(Number(Records(Reply(Answer(200)))[0], "SegmentsSentCount"), 0);
  counts_.sent = 14;
  Minute();
  const JsonValue last = Records(Reply(Answer(200)))[0];
  EXPECT_EQ(Number(last, "SegmentsReceivedCount"), 0);
  EXPECT_EQ(Number(last, "SegmentsSentCount"), 4);
  EXPECT_TRUE(sent_.empty());
}

TEST_F(TelemetryTest, DoesNotWaitForTheHostsName) {
  Make();
  counts_.received = 1;
  Minute();
  const JsonValue nameless = Reply(Answer(200));
  ASSERT_NE(nameless.Find("Hostname"), nullptr);
  EXPECT_EQ(nameless.FindString("Hostname"), "");
  EXPECT_EQ(nameless.Find("ResourceARN"), nullptr);
  facts_({"late.example", "i-1"});
  Minute();
  const JsonValue named = Reply(Answer(200));
  EXPECT_EQ(named.FindString("Hostname"), "late.example");
  EXPECT_EQ(named.FindString("EC2InstanceId"), "i-1");
}

TEST_F(TelemetryTest, TheHostsNameMayComeWhenAllIsOver) {
  Make();
  telemetry_.reset();
  facts_({"late.example", "i-1"});
}

TEST_F(TelemetryTest, SendsFailedRecordsAgainInOrderTenAtATime) {
  Make();
  for (uint64_t i = 1; i <= 12; ++i) {
    counts_.received += i;
    Minute();
    Reply(i % 2 != 0 ? NoAnswer() : Answer(503));
  }
  counts_.received += 13;
  Minute();
  std::vector<double> seen;
  while (!sent_.empty()) {
    const auto records = Records(Reply(Answer(200)));
    EXPECT_LE(records.size(), 10U);
    for (const JsonValue& r : records) seen.push_back(Number(r, "SegmentsReceivedCount"));
  }
  EXPECT_EQ(seen, (std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}));
}

TEST_F(TelemetryTest, KeepsThirtyRecordsAndDiscardsTheOldest) {
  Make();
  for (uint64_t i = 1; i <= 40; ++i) {
    counts_.received += i;
    Minute();
    Reply(NoAnswer());
  }
  counts_.received += 41;
  Minute();
  std::vector<double> seen;
  while (!sent_.empty()) {
    for (const JsonValue& r : Records(Reply(Answer(200)))) {
      seen.push_back(Number(r, "SegmentsReceivedCount"));
    }
  }
  ASSERT_EQ(seen.size(), 30U);
  EXPECT_EQ(seen.front(), 12);
  EXPECT_EQ(seen.back(), 41);
}

TEST_F(TelemetryTest, OneRequestAtATime) {
  Make();
  counts_.received = 1;
  Minute();
  for (int i = 0; i < 40; ++i) Minute();
  EXPECT_EQ(sent_.size(), 1U);
  // Its record is the oldest, and there is no room for it any more.
  Reply(NoAnswer());
  Minute();
  EXPECT_EQ(Number(Records(Reply(Answer(200)))[0], "SegmentsReceivedCount"), 0);
  Reply(Answer(200));
  Reply(Answer(200));
  EXPECT_TRUE(sent_.empty());
}

TEST_F(TelemetryTest, ARefusalIsToldOnceAndTriedEverMoreRarely) {
  Make();
  counts_.received = 1;
  std::vector<int> minutes_of_calls;
  for (int minute = 1; minute <= 250; ++minute) {
    Minute();
    if (sent_.empty()) continue;
    minutes_of_calls.push_back(minute);
    HttpResponse denied = Answer(403);
    denied.headers = {{"x-amzn-ErrorType", "AccessDeniedException"}};
    Reply(std::move(denied));
  }
  EXPECT_EQ(minutes_of_calls, (std::vector<int>{1, 3, 7, 15, 31, 63, 123, 183, 243}));
  size_t told = 0;
  for (size_t at = 0; (at = lines_.find("X-Ray refuses", at)) != std::string::npos; ++at) ++told;
  EXPECT_EQ(told, 1U) << lines_;
  EXPECT_NE(lines_.find("AccessDeniedException"), std::string::npos);

  for (int i = 0; i < 60 && sent_.empty(); ++i) Minute();
  while (!sent_.empty()) Reply(Answer(200));
  Minute();
  EXPECT_EQ(sent_.size(), 1U) << "not every minute again";
}

TEST_F(TelemetryTest, ThrottlingAndMissingCredentialsAreNoRefusal) {
  Make();
  counts_.received = 1;
  for (int i = 0; i < 3; ++i) {
    Minute();
    Reply(Answer(429));
    Minute();
    HttpResponse without;
    without.transport = absl::FailedPreconditionError("no credentials");
    without.fault = "no_credentials";
    Reply(std::move(without));
  }
  EXPECT_EQ(lines_.find("X-Ray refuses"), std::string::npos);
}

TEST_F(TelemetryTest, FlushSendsTheOpenRecordAndAllThatWait) {
  Make();
  counts_.received = 3;
  Minute();
  Reply(NoAnswer());
  counts_.received = 8;
  bool flushed = false;
  telemetry_->Flush(now_ + seconds(60), [&] { flushed = true; });
  telemetry_->Report();  // no more
  while (sent_.empty()) loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(1));
  const auto records = Records(Reply(Answer(200)));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(Number(records[1], "SegmentsReceivedCount"), 5);
  EXPECT_TRUE(flushed);
  EXPECT_TRUE(sent_.empty());
}

TEST_F(TelemetryTest, FlushFollowsTheRequestUnderWay) {
  for (const HttpResponse& first : {NoAnswer(), Answer(200)}) {
    counts_ = {};
    Make();
    counts_.received = 3;
    Minute();
    bool flushed = false;
    telemetry_->Flush(now_ + seconds(60), [&] { flushed = true; });
    EXPECT_EQ(sent_.size(), 1U);
    Reply(first);
    EXPECT_EQ(sent_.size(), 1U);
    EXPECT_FALSE(flushed);
    Reply(NoAnswer());
    EXPECT_TRUE(flushed) << "tries again and again";
    EXPECT_TRUE(sent_.empty());
    telemetry_.reset();
  }
}

TEST_F(TelemetryTest, FlushEndsAtItsDeadline) {
  Make();
  counts_.received = 3;
  bool flushed = false;
  const Time deadline = now_ + milliseconds(100);
  telemetry_->Flush(deadline, [&] { flushed = true; });
  RunUntil(flushed);
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].request.deadline, deadline);
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  Reply(NoAnswer());  // too late for anything
}

TEST_F(TelemetryTest, TheTimerReports) {
  Telemetry::Options options;
  options.counts = [] { return TelemetryCounts{.received = 1}; };
  options.interval = milliseconds(2);
  options.log = log_.get();
  int calls = 0;
  bool enough = false;
  Telemetry telemetry(&loop_, std::move(options), [&](const AwsClient::Request&, HttpDone done) {
    enough = ++calls >= 3;
    loop_.Post([done = std::move(done)] { done(Answer(200)); });
  });
  RunUntil(enough);
}

}  // namespace
}  // namespace mobula
