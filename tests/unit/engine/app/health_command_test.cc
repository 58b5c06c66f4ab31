// Tests of engine/app/health_command.h.
#include "engine/app/health_command.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/http/http_server.h"
#include "engine/http/tls_server.h"
#include "tests/support/certificate.h"

namespace mobula {
namespace {

// A page on a thread of its own that answers by the path.
class Page {
 public:
  explicit Page(std::function<HttpReply(std::string_view)> answer, std::string_view address,
                TlsServerContext* tls = nullptr)
      : server_(
            &loop_,
            [answer = std::move(answer)](const HttpServerRequest& request,
                                         const HttpServer::Responder& respond) {
              respond(answer(request.target));
            },
            HttpServer::Options{.tls = tls}) {
    const absl::Status status = server_.Listen(address);
    EXPECT_TRUE(status.ok()) << status;
    thread_ = std::thread([this] { loop_.Run(); });
  }
  ~Page() {
    loop_.Stop();
    thread_.join();
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  [[nodiscard]] std::string port() const { return std::to_string(server_.port()); }

 private:
  IoLoop loop_;
  HttpServer server_;
  std::thread thread_;
};

struct Outcome {
  int status;
  std::string out;
  std::string err;
};

Outcome Ask(const HealthOptions& options) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const int status = HealthCommand(options);
  std::string out = ::testing::internal::GetCapturedStdout();
  return {status, std::move(out), ::testing::internal::GetCapturedStderr()};
}

HttpReply Answer(std::string_view target) {
  if (target == "/healthz") return {200, "text/plain", "ok\n", {}};
  if (target == "/readyz") return {503, "text/plain", "not ready: draining", {}};
  return {404, "text/plain", "", {}};
}

class HealthCommandTest : public ::testing::Test {
 protected:
  void SetUp() override { Unset(); }
  void TearDown() override { Unset(); }

 private:
  static void Unset() {
    unsetenv("MOBULA_ADMIN_ADDRESS");
    unsetenv("MOBULA_ADMIN_TLS_CERT");
  }
};

TEST_F(HealthCommandTest, PrintsTheAnswerAndJudgesByItsStatus) {
  const Page page(Answer, "127.0.0.1:0");
  const Outcome healthy = Ask({"127.0.0.1:" + page.port()});
  EXPECT_EQ(healthy.status, 0);
  EXPECT_EQ(healthy.out, "ok\n");
  EXPECT_EQ(healthy.err, "");
  const Outcome ready = Ask({"127.0.0.1:" + page.port(), true});
  EXPECT_EQ(ready.status, 1);
  EXPECT_EQ(ready.out, "not ready: draining\n");
  EXPECT_NE(ready.err.find("answers 503"), std::string::npos) << ready.err;
}

TEST_F(HealthCommandTest, AsksAnUnspecifiedHostOnLoopback) {
  const Page page(Answer, ":0");
  for (const char* host : {"", "0.0.0.0", "[::]", "localhost"}) {
    EXPECT_EQ(Ask({std::string(host) + ":" + page.port()}).status, 0) << host;
  }
}

TEST_F(HealthCommandTest, TakesTheAddressFromTheEnvironmentUnlessGiven) {
  const Page page(Answer, "127.0.0.1:0");
  setenv("MOBULA_ADMIN_ADDRESS", ("0.0.0.0:" + page.port()).c_str(), 1);
  EXPECT_EQ(Ask({}).status, 0);
  setenv("MOBULA_ADMIN_ADDRESS", "off", 1);
  EXPECT_EQ(Ask({"127.0.0.1:" + page.port()}).status, 0);
  const Outcome off = Ask({});
  EXPECT_EQ(off.status, 1);
  EXPECT_NE(off.err.find("admin.address is off"), std::string::npos) << off.err;
}

TEST_F(HealthCommandTest, SaysWhatToDoWhenNobodyAnswers) {
  std::string port;
  {
    const Page page(Answer, "127.0.0.1:0");
    port = page.port();
  }
  const Outcome nobody = Ask({"127.0.0.1:" + port});
  EXPECT_EQ(nobody.status, 1);
  EXPECT_NE(nobody.err.find("is the agent running?"), std::string::npos) << nobody.err;
  EXPECT_NE(nobody.err.find(port), std::string::npos) << nobody.err;
  EXPECT_EQ(Ask({"nonsense"}).status, 1);
}

TEST_F(HealthCommandTest, DoesNotWaitForAServerThatHangs) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Ask({"127.0.0.1:" + std::to_string(ntohs(address.sin_port))}).status, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST_F(HealthCommandTest, AsksOverTls) {
  testing::Certificate mine("DNS:localhost");
  testing::Certificate other("DNS:localhost");
  const auto tls = TlsServerContext::Create({mine.path(), mine.key_path(), ""});
  ASSERT_TRUE(tls.ok()) << tls.status();
  const Page page(Answer, "127.0.0.1:0", tls->get());
  const std::string address = "127.0.0.1:" + page.port();
  const Outcome plain = Ask({address});
  EXPECT_EQ(plain.status, 1);
  EXPECT_NE(plain.out.find("this port speaks TLS"), std::string::npos) << plain.out;
  EXPECT_EQ(Ask({address, false, true}).out, "ok\n");
  EXPECT_EQ(Ask({"localhost:" + page.port(), false, false, mine.path()}).out, "ok\n");
  // With an authority the name counts too.
  const Outcome misnamed = Ask({address, false, false, mine.path()});
  EXPECT_EQ(misnamed.status, 1);
  EXPECT_NE(misnamed.err.find("https://" + address), std::string::npos) << misnamed.err;
  EXPECT_EQ(Ask({"localhost:" + page.port(), false, false, other.path()}).status, 1);
  EXPECT_EQ(Ask({address, false, false, "/nonexistent/ca"}).status, 1);
  setenv("MOBULA_ADMIN_TLS_CERT", mine.path().c_str(), 1);
  EXPECT_EQ(Ask({address}).out, "ok\n");
}

TEST_F(HealthCommandTest, LetsNoControlBytesThrough) {
  const Page page(
      [](std::string_view) {
        return HttpReply{200, "", "a\x1b[2Jb\r\nc", {}};
      },
      "127.0.0.1:0");
  EXPECT_EQ(Ask({"127.0.0.1:" + page.port()}).out, "a\\x1b[2Jb\\x0d\nc\n");
}

}  // namespace
}  // namespace mobula
