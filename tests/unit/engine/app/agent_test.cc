// The agent in one piece, with its admin page, in this process.
#include "engine/app/agent.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>

#include "engine/app/metrics_page.h"
#include "engine/base/log.h"

namespace mobula {
namespace {

using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }

template <typename F>
bool Eventually(F condition) {
  const Time end = Now() + seconds(20);
  while (!condition()) {
    if (Now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.udp.address = "127.0.0.1:0";
    // Not the same number for TCP, which somebody else may have.
    config_.proxy.address = "127.0.0.1:0";
    config_.buffer.memory = 8 << 20;
    config_.batch.age = std::chrono::milliseconds(20);
    BackendConfig backend;
    backend.name = "sink";
    backend.settings = NullBackendConfig{};
    config_.backends.push_back(backend);
  }
  void Start() {
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Create(config_, log_.get());
    ASSERT_TRUE(agent.ok()) << agent.status();
    agent_ = *std::move(agent);
    agent_->Receive();
    ASSERT_TRUE(agent_->Start().ok());
  }
  void Send(const std::string& bytes) {
    const std::string& address = agent_->address();
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(sendto(fd.get(), bytes.data(), bytes.size(), 0,
                     reinterpret_cast<const sockaddr*>(&to), sizeof to),
              static_cast<ssize_t>(bytes.size()));
  }
  bool Drain() {
    agent_->BeginDrain(Now() + seconds(10));
    EXPECT_TRUE(Eventually([&] { return agent_->Drained(); }));
    return agent_->Finish();
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  Config config_;
  std::unique_ptr<Agent> agent_;
  const std::string document_ = "{\"format\": \"json\", \"version\": 1}\n{\"name\":\"x\"}";
};

TEST_F(AgentTest, ServesDrainsAndBalances) {
  Start();
  for (int i = 0; i < 200; ++i) Send(document_);
  Send("garbage");
  ASSERT_TRUE(Eventually([&] { return agent_->ledger().lanes[0].delivered == 200; }));
  EXPECT_TRUE(Drain());
  const Ledger ledger = agent_->ledger();
  EXPECT_TRUE(ledger.balanced());
  EXPECT_EQ(ledger.datagrams, 201U);
  EXPECT_EQ(ledger.rejected, (std::map<std::string, uint64_t>{{"missing_header", 1}}));
  EXPECT_EQ(agent_->pool().bytes_used(), 0U);
  agent_->Housekeep(Now());
  EXPECT_NE(lines_.find("Missing header: garbage"), std::string::npos) << lines_;
}

TEST_F(AgentTest, RefusesASecondInstanceOnThePort) {
  Start();
  Config same = config_;
  same.udp.address = agent_->address();
  const auto second = Agent::Create(same, log_.get());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Drain());
}

TEST_F(AgentTest, IsHealthyWhileItsLoopsTurn) {
  Start();
  std::string text;
  EXPECT_TRUE(agent_->Healthy(&text));
  EXPECT_TRUE(agent_->Ready(&text));
  EXPECT_EQ(text, "ready\n");
  EXPECT_TRUE(Drain());
}

TEST_F(AgentTest, ShowsEveryCountInBothMetricFormats) {
  Start();
  Send(document_);
  ASSERT_TRUE(Eventually([&] { return agent_->ledger().lanes[0].delivered == 1; }));
  const MetricsPage classic = RenderMetrics(*agent_, "");
  EXPECT_EQ(classic.content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(classic.body.find("mobula_backend_documents_delivered_total{backend=\"sink\"} 1\n"),
            std::string::npos)
      << classic.body;
  EXPECT_NE(classic.body.find("mobula_documents_rejected_total{reason=\"invalid_json\"} 0\n"),
            std::string::npos);
  const MetricsPage open = RenderMetrics(*agent_, "application/openmetrics-text; version=1.0.0");
  EXPECT_NE(open.body.find("# TYPE mobula_backend_documents_delivered counter\n"),
            std::string::npos);
  EXPECT_NE(open.body.find("mobula_backend_documents_delivered_total{backend=\"sink\"} 1\n"),
            std::string::npos);
  EXPECT_EQ(open.body.substr(open.body.size() - 6), "# EOF\n");
  EXPECT_TRUE(Drain());
}

TEST_F(AgentTest, AColdThreadThatHangsDoesNotHoldUpTheDrain) {
  Start();
  std::promise<void> release;
  agent_->cold_room().aws().loop()->Post([&] { release.get_future().wait(); });
  for (int i = 0; i < 20; ++i) Send(document_);
  ASSERT_TRUE(Eventually([&] { return agent_->ledger().datagrams == 20; }));
  const Time begin = Now();
  EXPECT_TRUE(Drain());
  EXPECT_LT(Now() - begin, seconds(5));
  EXPECT_EQ(agent_->ledger().lanes[0].delivered, 20U);
  release.set_value();
}

TEST_F(AgentTest, EndsInOrderWhenStartedAndForgotten) {
  Start();
  Send(document_);
  agent_.reset();
}

}  // namespace
}  // namespace mobula
