// Tests of backends/xray/xray_exporter.h against a server that checks signatures.
#include "backends/xray/xray_exporter.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <deque>
#include <mutex>
#include <optional>

#include "engine/aws/xray_service.h"
#include "engine/base/log.h"
#include "engine/segment/json_reader.h"
#include "tests/support/certificate.h"
#include "tests/support/running_aws.h"
#include "tests/support/scripted_server.h"
#include "tests/unit/backends/xray/batch_fixture.h"
#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::Peer;
using testing::PeerRequest;
using testing::ScriptedServer;

class XrayExporterTest : public testing::BatchFixture {
 protected:
  XrayExporterTest() {
    home_.variables["AWS_ACCESS_KEY_ID"] = "AKIDEXAMPLE";
    home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t/+key";
  }
  ~XrayExporterTest() override {
    if (exporter_ != nullptr) {
      EXPECT_TRUE(exporter_->Shutdown().ok());
    }
    exporter_.reset();
    aws_.reset();
    EXPECT_EQ(log_lines_.find("s3cr3t"), std::string::npos);
  }

  static Time Limit() { return std::chrono::steady_clock::now() + seconds(10); }

  // What the server does with the next requests; after them it answers {}.
  struct Answer {
    int status = 200;
    std::string body = "{}";
    std::string headers;  // lines with CRLF
  };

  void StartServer(SSL_CTX* tls = nullptr) {
    const auto serve = [this](Peer& peer) {
      while (auto request = peer.Read()) {
        Answer answer;
        {
          const std::lock_guard lock(mutex_);
          requests_.push_back(*std::move(request));
          if (!answers_.empty()) {
            answer = answers_.front();
            answers_.pop_front();
          }
        }
        if (answer.status == 0) {  // hang
          peer.WaitForEnd();
          return;
        }
        peer.Reply(answer.status, answer.body, answer.headers);
      }
    };
    server_ = std::make_unique<ScriptedServer>(serve, tls);
    config_.endpoint =
        fmt::format("{}://127.0.0.1:{}/base", tls != nullptr ? "https" : "http", server_->port());
  }

  absl::Status StartExporter() {
    if (config_.region.empty()) config_.region = "eu-west-1";
    aws_ = std::make_unique<testing::RunningAws>(
        log_.get(), AwsContext::Options{.environment = home_.environment(),
                                        .metadata = false,
                                        .user_agent = XrayUserAgent("1.2.3", home_.environment())});
    exporter_ = std::make_unique<XrayExporter>(
        "prod", config_, ExporterContext{pool_.get(), log_.get(), aws_->get()},
        [this] { return now_; });
    const absl::Status status = exporter_->Start(&loop_);
    if (status.ok()) (void)Settled();
    return status;
  }
  // What the exporter's identity has, once nothing is being fetched.
  absl::StatusOr<CredentialsPtr> Settled() {
    return aws_->Settled(IdentityOf(config_, config_.region));
  }

  void Start() {
    StartServer();
    ASSERT_TRUE(StartExporter().ok());
  }

  ExportResult Export(const BatchRef& batch, std::optional<DocumentSet> documents = {},
                      Time deadline = Limit()) {
    std::optional<ExportResult> result;
    exporter_->Export({*batch, documents.value_or(batch->all()), deadline, 1},
                      [&](ExportResult answer) {
                        EXPECT_FALSE(result) << "done was called twice";
                        result = std::move(answer);
                        loop_.Stop();
                      });
    if (!result) loop_.RunUntil(Limit() + seconds(5));
    EXPECT_TRUE(result) << "done was not called";
    return result.value_or(ExportResult());
  }

  ExportResult ExportOne() { return Export(MakeBatch({Segment("1111111111111111")})); }

  // The verdict when the far side answers with `answer`.
  ExportResult ExportAnswered(const Answer& answer) {
    answers_.push_back(answer);
    return ExportOne();
  }

  static std::string Error(const std::string& code) { return "x-amzn-ErrorType: " + code + "\r\n"; }

  // The Authorization header that `request` should carry.
  static std::string Expected(const PeerRequest& request, const std::string& token = "") {
    const std::string host = request.Header("host");
    const std::string stamp = request.Header("x-amzn-xray-timestamp");
    const std::pair<std::string_view, std::string_view> headers[] = {
        {"host", host}, {"content-type", "application/json"}, {"x-amzn-xray-timestamp", stamp}};
    std::tm parts{};
    EXPECT_NE(::strptime(request.Header("x-amz-date").c_str(), "%Y%m%dT%H%M%SZ", &parts), nullptr);
    return SigV4Signer("eu-west-1", "xray")
        .Sign({"POST", "/base/TraceSegments", "", headers, Sha256().Update(request.body).Finish()},
              {"AKIDEXAMPLE", "s3cr3t/+key", token, std::nullopt},
              system_clock::from_time_t(::timegm(&parts)))
        .authorization;
  }

  testing::FakeHome home_;
  IoLoop loop_;
  std::string log_lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&log_lines_);
  system_clock::time_point now_ =
      system_clock::from_time_t(1800000000) + std::chrono::nanoseconds(42);
  XrayBackendConfig config_;
  std::mutex mutex_;
  std::deque<Answer> answers_;
  std::vector<PeerRequest> requests_;
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<testing::RunningAws> aws_;
  std::unique_ptr<XrayExporter> exporter_;
};

TEST_F(XrayExporterTest, SendsWhatTheServiceExpects) {
  home_.variables["AWS_EXECUTION_ENV"] = "AWS_ECS_FARGATE\r\nX: y";
  Start();
  const std::vector<std::string> documents = {Segment("1111111111111111"),
                                              Segment("2222222222222222", R"(,"a":"\"\\")")};
  const BatchRef batch = MakeBatch(documents);
  const size_t used = pool_->bytes_used();
  const ExportResult result = Export(batch);
  EXPECT_EQ(result.verdict, Verdict::kDelivered) << result.code << result.message;
  EXPECT_EQ(result.taken, batch->all());
  EXPECT_TRUE(result.documents.empty());
  EXPECT_EQ(pool_->bytes_used(), used);  // the body went back

  ASSERT_EQ(requests_.size(), 1U);
  const PeerRequest& request = requests_[0];
  EXPECT_EQ(request.line, "POST /base/TraceSegments HTTP/1.1");
  EXPECT_EQ(request.Header("content-type"), "application/json");
  EXPECT_EQ(request.Header("x-amzn-xray-timestamp"), "1800000000.000000042");
  EXPECT_EQ(request.Header("x-amz-date"), "20270115T080000Z");
  EXPECT_EQ(request.Header("x-amz-security-token"), "");
#if defined(__x86_64__)
  EXPECT_EQ(request.Header("user-agent"),
            "mobula/1.2.3 xray-agent/xray-daemon/1.2.3 exec-env/AWS_ECS_FARGATE__X:_y "
            "OS/linux-amd64");
#endif
  EXPECT_EQ(request.Header("authorization"), Expected(request));
  const auto body = ParseJson(request.body);
  ASSERT_TRUE(body);
  ASSERT_EQ(body->Find("TraceSegmentDocuments")->items.size(), 2U);
  EXPECT_EQ(body->Find("TraceSegmentDocuments")->items[0].string, documents[0]);
  EXPECT_EQ(body->Find("TraceSegmentDocuments")->items[1].string, documents[1]);
}

TEST_F(XrayExporterTest, SignsTheSessionToken) {
  home_.variables["AWS_SESSION_TOKEN"] = "IQoJ/+to=ken==";
  Start();
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  EXPECT_EQ(requests_[0].Header("x-amz-security-token"), "IQoJ/+to=ken==");
  EXPECT_EQ(requests_[0].Header("authorization"), Expected(requests_[0], "IQoJ/+to=ken=="));
}

TEST_F(XrayExporterTest, KeepsItsConnection) {
  Start();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(XrayExporterTest, DeliversOverTls) {
  std::signal(SIGPIPE, SIG_IGN);  // as the program does
  testing::Certificate certificate("IP:127.0.0.1");
  StartServer(certificate.context());
  config_.tls.ca = certificate.path();
  ASSERT_TRUE(StartExporter().ok());
  for (int i = 0; i < 2; ++i) {
    const ExportResult result = ExportOne();
    EXPECT_EQ(result.verdict, Verdict::kDelivered) << result.code << result.message;
  }
  ASSERT_EQ(requests_.size(), 2U);
  EXPECT_EQ(requests_[1].Header("authorization"), Expected(requests_[1]));
  EXPECT_EQ(server_->connections(), 1);
  exporter_.reset();
  server_.reset();  // before the certificate
}

TEST_F(XrayExporterTest, ACertificateNobodyVouchesForHoldsDocuments) {
  std::signal(SIGPIPE, SIG_IGN);
  testing::Certificate certificate("IP:127.0.0.1");
  testing::Certificate stranger("IP:127.0.0.1");
  testing::Certificate of_another_name("DNS:xray.eu-west-1.amazonaws.com");
  const auto expect_held = [&](testing::Certificate& server, const std::string& ca) {
    StartServer(server.context());
    config_.tls.ca = ca;
    ASSERT_TRUE(StartExporter().ok());
    const ExportResult result = ExportOne();
    EXPECT_EQ(result.verdict, Verdict::kHold) << result.message;
    EXPECT_EQ(result.code, "tls_verify");
  };
  expect_held(certificate, "");  // the system's
  expect_held(certificate, stranger.path());
  expect_held(of_another_name, of_another_name.path());
  EXPECT_TRUE(requests_.empty());  // nothing was said to any of them
  exporter_.reset();
  server_.reset();  // before the certificates
}

TEST_F(XrayExporterTest, ManyCallsMayBeInFlight) {
  Start();
  std::vector<BatchRef> batches;
  int done = 0;
  for (int i = 0; i < 16; ++i) {
    batches.push_back(MakeBatch({Segment("1111111111111111")}));
    exporter_->Export({*batches.back(), 1, Limit(), 1}, [&](const ExportResult& result) {
      EXPECT_EQ(result.verdict, Verdict::kDelivered);
      if (++done == 16) loop_.Stop();
    });
  }
  loop_.RunUntil(Limit());
  EXPECT_EQ(done, 16);
  EXPECT_EQ(server_->connections(), 16);
}

TEST_F(XrayExporterTest, SendsWhatFitsAndLeavesTheRest) {
  Start();
  const BatchRef batch = MakeBatch(std::vector<std::string>(64, "{}"));
  const ExportResult first = Export(batch);
  EXPECT_EQ(first.verdict, Verdict::kDelivered);
  EXPECT_EQ(Count(first.taken), 50);
  EXPECT_EQ(Count(Export(batch, batch->all() & ~first.taken).taken), 14);
}

TEST_F(XrayExporterTest, EveryAnswerHasItsVerdict) {
  Start();
  struct Case {
    Answer answer;
    Verdict verdict;
    const char* code;
  };
  for (const Case& c : {
           Case{{400, "{}", Error("ThrottlingException")},
                Verdict::kThrottled,
                "ThrottlingException"},
           Case{{429, "", ""}, Verdict::kThrottled, "http_429"},
           Case{{408, "", ""}, Verdict::kRetry, "http_408"},
           Case{{500, "", ""}, Verdict::kRetry, "http_500"},
           Case{{503, "<html>", ""}, Verdict::kRetry, "http_503"},
           Case{{403, "{}", Error("AccessDeniedException")},
                Verdict::kHold,
                "AccessDeniedException"},
           Case{{403, "{}", Error("InvalidSignatureException")},
                Verdict::kHold,
                "InvalidSignatureException"},
           Case{{413, "", ""}, Verdict::kTooLarge, "http_413"},
           Case{{404, "", ""}, Verdict::kRefused, "http_404"},
           Case{{400, R"({"__type":"InvalidRequestException","Message":"no"})", ""},
                Verdict::kRefused,
                "InvalidRequestException"},
       }) {
    const ExportResult result = ExportAnswered(c.answer);
    EXPECT_EQ(result.verdict, c.verdict) << c.code;
    EXPECT_EQ(result.code, c.code);
    EXPECT_EQ(result.taken, 1U);
  }
  EXPECT_EQ(ExportAnswered({503, "", "Retry-After: 7\r\n"}).retry_after, seconds(7));
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
}

TEST_F(XrayExporterTest, NoAnswerIsATimeOut) {
  Start();
  answers_.push_back({.status = 0});
  const BatchRef batch = MakeBatch({Segment("1111111111111111")});
  const size_t used = pool_->bytes_used();
  const ExportResult result =
      Export(batch, {}, std::chrono::steady_clock::now() + milliseconds(50));
  EXPECT_EQ(result.verdict, Verdict::kThrottled);
  EXPECT_EQ(result.code, "timeout");
  EXPECT_EQ(pool_->bytes_used(), used);
}

TEST_F(XrayExporterTest, ResetsAndHalfAnswersAreRetried) {
  for (const char* part :
       {"", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "nonsense\r\n\r\n"}) {
    ScriptedServer server([&](Peer& peer) {
      peer.Read();
      peer.Write(part);
    });
    config_.endpoint = "http://127.0.0.1:" + std::to_string(server.port());
    ASSERT_TRUE(StartExporter().ok());
    EXPECT_EQ(ExportOne().verdict, Verdict::kRetry) << part;
  }
}

TEST_F(XrayExporterTest, ADeadEndpointIsRetriedAndAnUnknownOneHeld) {
  StartServer();
  server_.reset();
  ASSERT_TRUE(StartExporter().ok());
  const ExportResult refused = ExportOne();
  EXPECT_EQ(refused.verdict, Verdict::kRetry);
  EXPECT_EQ(refused.code, "refused");
  config_.endpoint = "http://no-such-host.invalid";
  ASSERT_TRUE(StartExporter().ok());
  const ExportResult unknown = ExportOne();
  EXPECT_EQ(unknown.verdict, Verdict::kHold);
  EXPECT_EQ(unknown.code, "dns");
}

TEST_F(XrayExporterTest, UnprocessedDocumentsFareOnTheirOwn) {
  Start();
  answers_.push_back({200,
                      R"({"UnprocessedTraceSegments":[)"
                      R"({"Id":"2222222222222222","ErrorCode":"InvalidName","Message":"bad name"},)"
                      R"({"Id":"3333333333333333","ErrorCode":"ThrottledException"},)"
                      R"({"Id":null,"ErrorCode":"ParseError"},)"
                      R"({"Id":"ffffffffffffffff","ErrorCode":"InvalidId"}]})"});
  const BatchRef batch = MakeBatch({Segment("1111111111111111"), Segment("2222222222222222"),
                                    Segment("3333333333333333"), Segment("2222222222222222")});
  const ExportResult result = Export(batch);
  EXPECT_EQ(result.verdict, Verdict::kDelivered);
  ASSERT_EQ(result.documents.size(), 3U);
  EXPECT_EQ(result.documents[0].index, 2);
  EXPECT_EQ(result.documents[0].verdict, Verdict::kThrottled);
  EXPECT_EQ(result.documents[1].index, 1);
  EXPECT_EQ(result.documents[1].verdict, Verdict::kRefused);
  EXPECT_EQ(result.documents[1].code, "InvalidName");
  EXPECT_EQ(result.documents[2].index, 3) << "the one of that id the entry may be about as well";
  EXPECT_EQ(result.documents[2].verdict, Verdict::kRetry);
  EXPECT_NE(log_lines_.find("Unprocessed trace 1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f, segment "
                            "2222222222222222: InvalidName"),
            std::string::npos)
      << log_lines_;
}

TEST_F(XrayExporterTest, EntriesWithoutIdAreAboutDocumentsWithoutOne) {
  Start();
  answers_.push_back({200, R"({"UnprocessedTraceSegments":[)"
                           R"({"Id":null,"ErrorCode":"MissingId","Message":"no id"},)"
                           R"({"Id":"ffffffffffffffff","ErrorCode":"ThrottledException"},)"
                           R"({"Id":"short","ErrorCode":"InvalidId"},)"
                           R"({"Id":null},null,7,)"
                           R"({"ErrorCode":"ParseError"},{"ErrorCode":"ParseError"}]})"});
  const BatchRef batch =
      MakeBatch({Segment("1111111111111111"), Segment("short"), "{}", R"({"name":"x"})", "[1]"});
  const ExportResult result = Export(batch);
  EXPECT_EQ(result.verdict, Verdict::kDelivered);
  ASSERT_EQ(result.documents.size(), 4U);
  const auto expect = [&](size_t i, int index, Verdict verdict, const char* code) {
    EXPECT_EQ(result.documents[i].index, index);
    EXPECT_EQ(result.documents[i].verdict, verdict);
    EXPECT_EQ(result.documents[i].code, code);
  };
  // Which of the three is the one that was throttled, nobody can tell.
  expect(0, 2, Verdict::kThrottled, "ThrottledException");
  expect(1, 3, Verdict::kThrottled, "ThrottledException");
  expect(2, 4, Verdict::kThrottled, "ThrottledException");
  expect(3, 1, Verdict::kRefused, "InvalidId");  // by its own id, whatever came before it
  EXPECT_NE(log_lines_.find("Unprocessed segment without id: MissingId"), std::string::npos)
      << log_lines_;
}

TEST_F(XrayExporterTest, AStrangeSuccessIsASuccessThatIsTold) {
  Start();
  EXPECT_EQ(ExportAnswered({200, R"({"UnprocessedTraceSegments":"x"})", ""}).verdict,
            Verdict::kDelivered);
  EXPECT_NE(log_lines_.find("UnprocessedTraceSegments is no list"), std::string::npos);
}

TEST_F(XrayExporterTest, APageInsteadOfAnAnswerIsRetried) {
  Start();
  const ExportResult result =
      ExportAnswered({200, "<html>Please log in</html>", "Content-Type: text/html\r\n"});
  EXPECT_EQ(result.verdict, Verdict::kRetry);
  EXPECT_EQ(result.code, "strange_answer");
  EXPECT_EQ(result.taken, 1U);
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
}

TEST_F(XrayExporterTest, AnAnswerOverTheLimitIsRetried) {
  Start();
  EXPECT_EQ(ExportAnswered({200, "{}" + std::string(60'000, ' '), ""}).verdict,
            Verdict::kDelivered);
  const ExportResult result = ExportAnswered({200, "{}" + std::string(65'536, ' '), ""});
  EXPECT_EQ(result.verdict, Verdict::kRetry);
  EXPECT_EQ(result.code, "garbled");
}

TEST_F(XrayExporterTest, RefusedCredentialsAreReadAgain) {
  home_.variables.erase("AWS_ACCESS_KEY_ID");
  home_.variables.erase("AWS_SECRET_ACCESS_KEY");
  const auto write = [this](const std::string& id) {
    home_.Write(".aws/credentials",
                "[default]\naws_access_key_id=" + id + "\naws_secret_access_key=s3cr3t\n");
  };
  write("OLD");
  Start();
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  write("NEW");
  EXPECT_EQ(ExportAnswered({403, "", Error("ExpiredTokenException")}).verdict, Verdict::kRetry);
  ASSERT_TRUE(Settled().ok());
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  EXPECT_NE(requests_.back().Header("authorization").find("Credential=NEW/"), std::string::npos);
}

TEST_F(XrayExporterTest, CredentialsThatAreBeingFetchedAreAskedForAgainSoon) {
  Start();
  EXPECT_EQ(ExportAnswered({403, "", Error("ExpiredTokenException")}).verdict, Verdict::kRetry);
  ASSERT_TRUE(Settled().ok());
  // Refused twice within moments: fetching waits a little, and so do the documents.
  EXPECT_NE(ExportAnswered({403, "", Error("ExpiredTokenException")}).verdict, Verdict::kDelivered);
  const size_t calls = requests_.size();
  const ExportResult result = ExportOne();
  EXPECT_EQ(result.verdict, Verdict::kRetry);
  EXPECT_EQ(result.code, "credentials_pending");
  EXPECT_GT(result.retry_after, Duration::zero());
  EXPECT_EQ(requests_.size(), calls);
}

TEST_F(XrayExporterTest, WithoutCredentialsDocumentsAreHeld) {
  home_.variables.erase("AWS_ACCESS_KEY_ID");
  Start();
  const ExportResult result = ExportOne();
  EXPECT_EQ(result.verdict, Verdict::kHold);
  EXPECT_EQ(result.code, "no_credentials");
  EXPECT_NE(result.message.find("AWS_ACCESS_KEY_ID"), std::string::npos);
  EXPECT_TRUE(requests_.empty());
}

TEST_F(XrayExporterTest, AWrongClockIsCorrected) {
  Start();
  // One hour behind: the far side says so twice, to two calls signed alike.
  const std::string date = "Date: Fri, 15 Jan 2027 09:00:00 GMT\r\n";
  const Answer skewed{403, "", Error("InvalidSignatureException") + date};
  answers_ = {skewed, skewed};
  const BatchRef batch = MakeBatch({Segment("1111111111111111")});
  int done = 0;
  for (int i = 0; i < 2; ++i) {
    exporter_->Export({*batch, 1, Limit(), 1}, [&](const ExportResult& result) {
      EXPECT_EQ(result.verdict, Verdict::kRetry);
      if (++done == 2) loop_.Stop();
    });
  }
  loop_.RunUntil(Limit());
  ASSERT_EQ(done, 2);
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  EXPECT_EQ(requests_.back().Header("x-amz-date"), "20270115T085959Z");
  EXPECT_EQ(requests_.back().Header("authorization"), Expected(requests_.back()));
  // And when the clock was set right: back again.
  now_ += std::chrono::hours(1);
  EXPECT_EQ(ExportAnswered(skewed).verdict, Verdict::kRetry);
  EXPECT_EQ(ExportOne().verdict, Verdict::kDelivered);
  EXPECT_EQ(requests_.back().Header("x-amz-date"), "20270115T090000Z");
}

TEST_F(XrayExporterTest, NoRoomForTheBodyIsRetried) {
  Start();
  const BatchRef batch = MakeBatch({Segment("1111111111111111")});
  std::vector<Block> all;
  while (const Block block = pool_->TryAcquire(BlockPool::kPageBytes)) all.push_back(block);
  const ExportResult result = Export(batch);
  EXPECT_EQ(result.verdict, Verdict::kRetry);
  EXPECT_EQ(result.code, "no_memory");
  for (const Block block : all) pool_->Release(block);
}

TEST_F(XrayExporterTest, ADocumentThatFitsNowhereIsTooLarge) {
  Start();
  const BatchRef batch = MakeBatch({std::string(60000, '\x01'), "{}"}, DocumentKind::kRaw);
  const ExportResult result = Export(batch);
  EXPECT_EQ(result.verdict, Verdict::kTooLarge);
  EXPECT_EQ(result.taken, 1U);
}

TEST_F(XrayExporterTest, ShutdownEndsWhatIsInFlight) {
  Start();
  answers_ = {{.status = 0}, {.status = 0}};
  const BatchRef batch = MakeBatch({Segment("1111111111111111")});
  const size_t used = pool_->bytes_used();
  int done = 0;
  for (int i = 0; i < 2; ++i) {
    exporter_->Export({*batch, 1, Limit(), 1}, [&](const ExportResult& result) {
      EXPECT_EQ(result.verdict, Verdict::kRetry);
      ++done;
    });
  }
  loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(20));
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_EQ(done, 2);
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_EQ(pool_->bytes_used(), used);
}

TEST_F(XrayExporterTest, ShutdownWithoutStartIsFine) {
  XrayExporter exporter("prod", config_, ExporterContext{pool_.get(), log_.get()},
                        [this] { return now_; });
  EXPECT_TRUE(exporter.Shutdown().ok());
}

TEST_F(XrayExporterTest, StartFailsOnWhatNoRetryMends) {
  config_.region = "no region";
  EXPECT_FALSE(StartExporter().ok());
  config_.region = "eu-west-1";
  home_.variables["AWS_ENDPOINT_URL_XRAY"] = "nonsense";
  EXPECT_FALSE(StartExporter().ok());
  home_.variables.erase("AWS_ENDPOINT_URL_XRAY");
  config_.tls.ca = "/nonexistent/ca.pem";
  EXPECT_FALSE(StartExporter().ok());
  config_.tls.ca.clear();
  EXPECT_TRUE(StartExporter().ok());
  EXPECT_NE(log_lines_.find("https://xray.eu-west-1.amazonaws.com/TraceSegments"),
            std::string::npos)
      << log_lines_;
  config_.endpoint = "nonsense";
  EXPECT_FALSE(MakeXrayExporter("prod", config_, ExporterContext{pool_.get(), log_.get()}).ok());
}

}  // namespace
}  // namespace mobula
