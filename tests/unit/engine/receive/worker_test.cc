#include "engine/receive/worker.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/unit/engine/receive/worker_fixture.h"

namespace mobula {
namespace {

class WorkerTest : public WorkerFixture, public ::testing::WithParamInterface<ReceiveEngine> {
 protected:
  void SetUp() override {
    std::string why;
    const absl::StatusOr<ReceiveEngine> engine = ChooseEngine(GetParam(), &why);
    if (!engine.ok()) GTEST_SKIP() << engine.status().message();
  }
};

TEST_P(WorkerTest, HandsOverEveryDocumentByteForByte) {
  StartWorker(GetParam(), {{"", {"a"}}});
  std::vector<std::string> sent;
  for (int i = 0; i < 333; ++i) {
    sent.push_back(
        Segment("service-" + std::to_string(i), ",\"metadata\":{\"é\\u00e9\": [ 1.50 ]}"));
    SendDocument(sent.back());
  }
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 333; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), sent);
  EXPECT_EQ(worker_->stats().batches.value(), 7U);
  ExpectLedger(333);
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST_P(WorkerTest, ClosesAnOpenBatchByAge) {
  StartWorker(GetParam(), {{"", {"a"}}});
  SendDocument(Segment("lone"));
  ASSERT_TRUE(Eventually([&] { return lanes_[0].account.entered.value() == 1; }));
}

TEST_P(WorkerTest, CountsEveryRowOfTheDaemonsTable) {
  StartWorker(GetParam(), {{"", {"a"}}});
  const std::string body = Segment("x");
  for (const char* header :
       {"{\"format\":\"json\",\"version\":1}", "{\"format\":\"json\",\"version\":1}\r",
        "{\"version\":1,\"FORMAT\":\"JSON\",\"more\":[1]}"}) {
    SendRaw(std::string(header) + "\n" + body);
  }
  SendRaw("no line feed at all");
  SendRaw("{\"format\":\"json\",\"version\":1}\n");
  SendRaw("{\"format\":\"json\",\"version\":2}\n" + body);
  SendRaw("\n" + body);
  SendRaw("");
  SendDocument("{\"name\":");
  SendDocument("[1]");
  SendDocument("T1SAAAA");
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 11; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), (std::vector<std::string>{body, body, body, "T1SAAAA"}));
  EXPECT_EQ(Rejected(RejectReason::kMissingHeader), 1U);
  EXPECT_EQ(Rejected(RejectReason::kMissingSegment), 1U);
  EXPECT_EQ(Rejected(RejectReason::kInvalidHeader), 2U);
  EXPECT_EQ(Rejected(RejectReason::kEmpty), 1U);
  EXPECT_EQ(Rejected(RejectReason::kInvalidJson), 1U);
  EXPECT_EQ(Rejected(RejectReason::kUnknownBody), 1U);
  EXPECT_EQ(worker_->stats().otlp.value(), 1U);
  ExpectLedger(11);
  // The empty datagram has nothing to keep.
  EXPECT_EQ(TakeDocuments(&dead_).size(), 6U);
  RejectSample sample;
  int samples = 0;
  while (worker_->TakeSample(&sample)) {
    ++samples;
    EXPECT_STREQ(sample.source.data(), "127.0.0.1");
  }
  EXPECT_EQ(samples, 7);
}

TEST_P(WorkerTest, RoutesByFilterFansOutAndDropsWhatNobodyWants) {
  StartWorker(GetParam(), {{"http.url ENDSWITH \"/healthz\"", {}},
                           {"annotation.tenant = \"acme\"", {"b", "c"}},
                           {"source = \"127.0.0.1\" AND service(\"local\")", {"c"}},
                           {"service(\"main\")", {"a"}}});
  SendDocument(Segment("main", ",\"http\":{\"request\":{\"url\":\"http://x/healthz\"}}"));
  SendDocument(Segment("main", ",\"annotations\":{\"tenant\":\"acme\"}"));
  SendDocument(Segment("main"));
  SendDocument(Segment("local"));
  SendDocument(Segment("unknown"));
  SendDocument("T1SAAAA");
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 6; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]).size(), 1U);
  EXPECT_EQ(TakeDocuments(&lanes_[1]).size(), 1U);
  EXPECT_EQ(TakeDocuments(&lanes_[2]).size(), 2U);
  EXPECT_EQ(worker_->stats().filtered.value(), 3U);
  ExpectLedger(6);
  EXPECT_EQ(pool_->bytes_used(), 0U) << "both lanes of a fan-out gave the shared batch back";
}

TEST_P(WorkerTest, HearsOnlyTheSendersOnTheList) {
  senders_.allow = {*ParseIpNetwork("10.0.0.0/8"), *ParseIpNetwork("127.0.0.1/32")};
  StartWorker(GetParam(), {{"", {"a"}}});
  const std::string document = Segment("s");
  SendFrom("127.0.0.2", "{\"format\": \"json\", \"version\": 1}\n" + document, 30);
  SendDocument(document);
  SendRaw("");
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 32; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), std::vector<std::string>{document});
  EXPECT_EQ(Rejected(RejectReason::kNotAllowed), 30U);
  EXPECT_EQ(Rejected(RejectReason::kEmpty), 1U);
  EXPECT_TRUE(TakeDocuments(&dead_).empty());
  ExpectLedger(32);
  // They leave room for samples of what others send.
  RejectSample sample;
  std::map<RejectReason, int> samples;
  while (worker_->TakeSample(&sample)) {
    ++samples[sample.reason];
    EXPECT_STREQ(sample.source.data(),
                 sample.reason == RejectReason::kNotAllowed ? "127.0.0.2" : "127.0.0.1");
  }
  EXPECT_EQ(samples[RejectReason::kNotAllowed], 4);
  EXPECT_EQ(samples[RejectReason::kEmpty], 1);
}

TEST_P(WorkerTest, CapsEverySourceByItself) {
  senders_.rate = 1;
  senders_.burst = 100;
  StartWorker(GetParam(), {{"", {"a"}}});
  const Time begin = Now();
  SendFrom("127.0.0.2", "{\"format\": \"json\", \"version\": 1}\n" + Segment("mad"), 500);
  for (int i = 0; i < 100; ++i) SendDocument(Segment("sound"));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 600; }));
  StopWorker();
  const auto more = static_cast<uint64_t>((Now() - begin) / std::chrono::seconds(1)) + 1;
  std::map<std::string, size_t> got;
  for (const std::string& document : TakeDocuments(&lanes_[0])) ++got[document];
  EXPECT_EQ(got[Segment("sound")], 100U);
  EXPECT_GE(got[Segment("mad")], 100U);
  EXPECT_LE(got[Segment("mad")], 100U + more);
  EXPECT_EQ(Rejected(RejectReason::kRateLimited), 500U - got[Segment("mad")]);
  EXPECT_TRUE(TakeDocuments(&dead_).empty());
  ExpectLedger(600);
}

TEST_P(WorkerTest, RepairsUtf8AndCountsWhatItCannotIndex) {
  StartWorker(GetParam(), {{"", {"a"}}});
  SendDocument(Segment("bad\xff"));
  SendDocument(Segment("x", ",\"metadata\":{\"n\":1e400}"));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]),
            (std::vector<std::string>{Segment("bad\xef\xbf\xbd"),
                                      Segment("x", ",\"metadata\":{\"n\":1e400}")}));
  EXPECT_EQ(worker_->stats().utf8_repaired.value(), 1U);
  EXPECT_EQ(worker_->stats().unscanned.value(), 1U);
}

TEST_P(WorkerTest, ValidateOffPassesEverythingWithAHeader) {
  StartWorker(GetParam(), {{"", {"a"}}}, Validate::kOff);
  SendDocument("hello");
  SendDocument(std::string("\x00\xff", 2));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), (std::vector<std::string>{"hello", {"\x00\xff", 2}}));
}

TEST_P(WorkerTest, DeliversWhatTheKernelHeldWhenStopped) {
  StartWorker(GetParam(), {{"", {"a"}}});
  ASSERT_TRUE(Eventually([&] { return worker_->engine() == GetParam(); }));
  for (int i = 0; i < 1000; ++i) SendDocument(Segment("s"));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]).size() + worker_->stats().kernel_drops.value(), 1000U);
  ExpectLedger(1000 - worker_->stats().kernel_drops.value());
}

TEST_P(WorkerTest, TakesUpAnotherTableWithoutLosingADocument) {
  StartWorker(GetParam(), {{"", {"a"}}});
  std::vector<std::string> got;
  std::vector<std::string> sent;
  const auto take = [&](TestLane* lane) {
    for (std::string& document : TakeDocuments(lane)) got.push_back(std::move(document));
  };
  for (int i = 0; i < 40; ++i) {
    const std::string now = i % 2 == 0 ? "b" : "a";
    // Some are still in the kernel, some in an open batch, when the table changes.
    for (int k = 0; k < 7; ++k) {
      sent.push_back(Segment(std::to_string(sent.size())));
      SendDocument(sent.back());
    }
    worker_->Switch(MakeTable({{"", {now}}}, {now}, true));
    ASSERT_TRUE(Eventually([&] { return worker_->Switched(); }));
    // The lane that is left gets nothing more.
    TestLane* const left = &lanes_[now == "b" ? 0 : 1];
    take(left);
    const uint64_t entered = left->account.entered.value();
    sent.push_back(Segment(std::to_string(sent.size())));
    SendDocument(sent.back());
    ASSERT_TRUE(Eventually([&] {
      return worker_->stats().routed.value() == sent.size() && worker_->stats().open.value() == 0;
    }));
    ASSERT_EQ(left->account.entered.value(), entered);
    take(&lanes_[now == "b" ? 1 : 0]);
  }
  StopWorker();
  EXPECT_EQ(got, sent) << "each once, and in order";
  EXPECT_GT(lanes_[0].account.entered.value(), 0U);
  EXPECT_GT(lanes_[1].account.entered.value(), 0U);
  ExpectLedger(sent.size());
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST_P(WorkerTest, SwitchesWhileDatagramsPourIn) {
  StartWorker(GetParam(), {{"", {"a"}}});
  constexpr int kDocuments = 20'000;
  std::thread sender([&] {
    for (int i = 0; i < kDocuments; ++i) {
      SendDocument(Segment(std::to_string(i)));
      if (i % 20 == 19) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const std::vector<std::vector<std::string>> targets = {{"b"}, {"c", "a"}, {"a", "b", "c"}, {"a"}};
  std::array<std::multiset<std::string>, 3> got;
  const auto take = [&] {
    for (size_t i = 0; i < lanes_.size(); ++i) {
      for (std::string& document : TakeDocuments(&lanes_[i])) got[i].insert(std::move(document));
    }
    TakeDocuments(&dead_);
  };
  const auto counted = [&] {
    return worker_->stats().datagrams.value() + worker_->stats().kernel_drops.value();
  };
  for (size_t i = 0; counted() < kDocuments; ++i) {
    const std::vector<std::string>& to = targets[i % targets.size()];
    worker_->Switch(MakeTable({{"", to}}, to, i % 3 != 0));
    ASSERT_TRUE(Eventually([&] { return worker_->Switched(); }));
    take();
  }
  sender.join();
  StopWorker();
  take();
  std::set<std::string> all;
  for (const auto& lane : got) {
    const std::set<std::string> once(lane.begin(), lane.end());
    EXPECT_EQ(once.size(), lane.size()) << "a document came twice to one lane";
    all.insert(once.begin(), once.end());
  }
  EXPECT_EQ(all.size(), worker_->stats().datagrams.value());
  for (const TestLane& lane : lanes_) EXPECT_EQ(lane.account.dropped_total(), 0U);
  ExpectLedger(kDocuments - worker_->stats().kernel_drops.value());
  EXPECT_EQ(pool_->bytes_used(), 0U);
}

TEST_P(WorkerTest, LeavesItsTableAlsoWhenItHasEnded) {
  StartWorker(GetParam(), {{"", {"a"}}});
  worker_->Stop();
  thread_.join();
  worker_->Switch(MakeTable({{"", {"b"}}}, {"b"}, false));
  EXPECT_TRUE(worker_->Switched());
  lanes_[0].inbox.reset();
  dead_.inbox.reset();
  worker_.reset();
}

TEST_P(WorkerTest, SurvivesRandomDatagrams) {
  StartWorker(GetParam(), {{"annotation.a = 1 OR http.status = 200", {"a"}}, {"", {"b"}}},
              Validate::kStrict);
  unsigned state = 1;
  const auto random = [&] { return state = state * 1664525U + 1013904223U, state >> 8; };
  for (uint64_t i = 0; i < 5000; ++i) {
    std::string bytes = i % 3 == 0 ? "" : "{\"format\": \"json\", \"version\": 1}\n";
    if (i % 5 == 0) bytes += Segment("x", ",\"annotations\":{\"a\":1}");
    const size_t more = random() % 200;
    for (size_t k = 0; k < more; ++k) bytes += static_cast<char>(random());
    if (!bytes.empty() && i % 2 == 0) bytes[random() % bytes.size()] = static_cast<char>(random());
    SendRaw(bytes);
    if (i % 200 == 199) {
      ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == i + 1; }));
      TakeDocuments(&lanes_[0]);
      TakeDocuments(&lanes_[1]);
      TakeDocuments(&dead_);
    }
  }
  StopWorker();
  ExpectLedger(5000);
}

INSTANTIATE_TEST_SUITE_P(Engines, WorkerTest,
                         ::testing::Values(ReceiveEngine::kIoUring, ReceiveEngine::kRecvmmsg),
                         [](const auto& p) { return std::string(ReceiveEngineName(p.param)); });

}  // namespace
}  // namespace mobula
