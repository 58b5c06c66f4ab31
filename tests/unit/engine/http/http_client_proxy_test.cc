// Tests of engine/http/http_client.h through a forward proxy.
#include <gtest/gtest.h>

#include <atomic>

#include "tests/support/certificate.h"
#include "tests/unit/engine/http/client_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using testing::Certificate;
using testing::Peer;
using testing::PeerRequest;
using testing::ScriptedServer;

constexpr std::string_view kEstablished = "HTTP/1.1 200 Connection established\r\n\r\n";

class HttpClientProxyTest : public testing::ClientFixture {
 protected:
  static HttpClient::Options Through(const ScriptedServer& proxy) {
    HttpClient::Options options;
    options.proxy.emplace();
    options.proxy->url.host = "127.0.0.1";
    options.proxy->url.port = proxy.port();
    return options;
  }

  void Use(const std::string& url, HttpClient::Options options) {
    options.url = *ParseHttpUrl(url);
    auto client = HttpClient::Create(&loop_, std::move(options));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }
};

void Echo(Peer& peer) {
  while (const auto request = peer.Read()) peer.Reply(200, request->body);
}

TEST_F(HttpClientProxyTest, HttpIsAskedForWithTheWholeUrl) {
  PeerRequest seen;
  ScriptedServer proxy([&](Peer& peer) {
    while (const auto request = peer.Read()) {
      seen = *request;
      peer.Reply(200, "from afar");
    }
  });
  HttpClient::Options options = Through(proxy);
  options.proxy->authorization = "Basic eDp5";
  // A name that nobody resolves here.
  Use("http://nowhere.invalid:8080/base", std::move(options));
  for (int i = 0; i < 3; ++i) {
    HttpRequest request = Post("/base/TraceSegments?x=y", "{}");
    request.headers = {{"X-Test", "kept"}};
    const HttpResponse response = Call(std::move(request));
    ASSERT_TRUE(response.transport.ok()) << response.transport;
    EXPECT_EQ(response.body, "from afar");
    EXPECT_EQ(seen.line, "POST http://nowhere.invalid:8080/base/TraceSegments?x=y HTTP/1.1");
    EXPECT_EQ(seen.Header("host"), "nowhere.invalid:8080");
    EXPECT_EQ(seen.Header("proxy-authorization"), "Basic eDp5");
    EXPECT_EQ(seen.Header("x-test"), "kept");
    EXPECT_EQ(seen.body, "{}");
  }
  EXPECT_EQ(proxy.connections(), 1);
}

TEST_F(HttpClientProxyTest, HttpsGoesThroughATunnel) {
  Certificate certificate("DNS:xray.test");
  PeerRequest tunnel;
  PeerRequest seen;
  std::string name;
  ScriptedServer proxy([&](Peer& peer) {
    tunnel = *peer.Read();
    peer.Write(kEstablished);
    peer.StartTls(certificate.context());
    name = peer.server_name();
    while (const auto request = peer.Read()) {
      seen = *request;
      peer.Reply(200, request->body);
    }
  });
  HttpClient::Options options = Through(proxy);
  options.ca_file = certificate.path();
  options.proxy->authorization = "Basic eDp5";
  Use("https://xray.test", std::move(options));
  const std::string body(1000000, 'b');
  for (int i = 0; i < 3; ++i) {
    const HttpResponse response = Call(Post("/TraceSegments", body));
    ASSERT_TRUE(response.transport.ok()) << response.transport;
    EXPECT_EQ(response.body, body);
  }
  EXPECT_EQ(proxy.connections(), 1);
  EXPECT_EQ(tunnel.line, "CONNECT xray.test:443 HTTP/1.1");
  EXPECT_EQ(tunnel.Header("host"), "xray.test:443");
  EXPECT_EQ(tunnel.Header("proxy-authorization"), "Basic eDp5");
  EXPECT_EQ(tunnel.headers.size(), 2U);
  EXPECT_EQ(name, "xray.test");
  EXPECT_EQ(seen.line, "POST /TraceSegments HTTP/1.1");
  EXPECT_EQ(seen.Header("host"), "xray.test");
  EXPECT_EQ(seen.Header("proxy-authorization"), "");  // no business of the target
}

TEST_F(HttpClientProxyTest, TheTargetsCertificateIsTheOneThatCounts) {
  Certificate of_the_proxy("DNS:proxy.test,IP:127.0.0.1");
  ScriptedServer proxy([&](Peer& peer) {
    peer.Read();
    peer.Write(kEstablished);
    peer.StartTls(of_the_proxy.context());
    peer.WaitForEnd();
  });
  HttpClient::Options options = Through(proxy);
  options.ca_file = of_the_proxy.path();
  Use("https://xray.test", std::move(options));
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnauthenticated) << response.transport;
  EXPECT_EQ(response.fault, "tls_verify");
}

TEST_F(HttpClientProxyTest, AnyGoodAnswerOpensTheTunnel) {
  Certificate certificate("IP:127.0.0.9");
  for (const char* answer :
       {"HTTP/1.0 200 Connection established\r\n\r\n", "HTTP/1.1 299 \r\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",  // means nothing here
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}) {
    for (const bool bytewise : {false, true}) {
      ScriptedServer proxy([&](Peer& peer) {
        EXPECT_EQ(peer.Read()->line, "CONNECT 127.0.0.9:8443 HTTP/1.1");
        const std::string_view text = answer;
        for (size_t i = 0; i < text.size(); i += bytewise ? 1 : text.size()) {
          peer.Write(text.substr(i, bytewise ? 1 : text.size()));
        }
        peer.StartTls(certificate.context());
        Echo(peer);
      });
      HttpClient::Options options = Through(proxy);
      options.ca_file = certificate.path();
      Use("https://127.0.0.9:8443", std::move(options));
      const HttpResponse response = Call(Post("/", "through"));
      EXPECT_EQ(response.body, "through") << answer << response.transport;
    }
  }
}

TEST_F(HttpClientProxyTest, ARefusedTunnelIsUnavailableAndSaysWhy) {
  for (const char* status : {"407", "403", "502", "301"}) {
    ScriptedServer proxy([&](Peer& peer) {
      peer.Read();
      peer.Write("HTTP/1.1 " + std::string(status) +
                 " No\r\nProxy-Authenticate: Basic\r\nContent-Length: 1000000\r\n\r\nwhat");
      peer.WaitForEnd();
    });
    HttpClient::Options options = Through(proxy);
    options.proxy->authorization = "Basic c2VjcmV0";
    Use("https://xray.test", std::move(options));
    const HttpResponse response = Call(Post("/", "x"));
    EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable) << response.transport;
    EXPECT_EQ(response.fault, "proxy_refused");
    EXPECT_EQ(response.status, 0);
    const std::string message(response.transport.message());
    EXPECT_NE(message.find(status), std::string::npos) << message;
    EXPECT_NE(message.find("127.0.0.1:" + std::to_string(proxy.port())), std::string::npos);
    EXPECT_NE(message.find("xray.test"), std::string::npos) << message;
    EXPECT_EQ(message.find("c2VjcmV0"), std::string::npos) << message;
    EXPECT_EQ(proxy.connections(), 1);
  }
}

TEST_F(HttpClientProxyTest, AProxyThatWantsAPasswordForHttpHasRefused) {
  std::atomic<int> status{407};
  ScriptedServer proxy([&](Peer& peer) {
    while (peer.Read()) peer.Reply(status, "who are you?");
  });
  Use("http://xray.test", Through(proxy));
  const HttpResponse refused = Call(Post("/", "x"));
  EXPECT_EQ(refused.transport.code(), absl::StatusCode::kUnavailable) << refused.transport;
  EXPECT_EQ(refused.fault, "proxy_refused");
  // Any other answer may be the target's.
  status = 403;
  EXPECT_EQ(Call(Post("/", "x")).status, 403);
}

TEST_F(HttpClientProxyTest, A407OfTheTargetIsAnAnswer) {
  Certificate certificate("DNS:xray.test");
  ScriptedServer proxy([&](Peer& peer) {
    peer.Read();
    peer.Write(kEstablished);
    peer.StartTls(certificate.context());
    while (peer.Read()) peer.Reply(407, "odd");
  });
  HttpClient::Options options = Through(proxy);
  options.ca_file = certificate.path();
  Use("https://xray.test", std::move(options));
  EXPECT_EQ(Call(Post("/", "x")).status, 407);
}

TEST_F(HttpClientProxyTest, GarbageInPlaceOfATunnelIsDataLoss) {
  std::string many_interim;
  for (int i = 0; i < 2000; ++i) many_interim += "HTTP/1.1 100 Continue\r\n\r\n";
  for (const std::string& answer :
       {std::string("nonsense\r\n\r\n"), std::string("SSH-2.0-OpenSSH_9.2\r\n"),
        std::string("\x15\x03\x01\x00\x02\x02\x46\x15\x03\x01", 10),
        std::string("HTTP/1.1 200 OK\r\nX: ") + std::string(40000, 'a'),
        std::string("HTTP/1.1 200 ") + std::string(40000, 'a'), many_interim,
        std::string(kEstablished) + "and more"}) {
    ScriptedServer proxy([&](Peer& peer) {
      peer.Read();
      peer.Write(answer);
      peer.WaitForEnd();
    });
    Use("https://xray.test", Through(proxy));
    const HttpResponse response = Call(Post("/", "x"));
    EXPECT_EQ(response.transport.code(), absl::StatusCode::kDataLoss)
        << answer.substr(0, 50) << response.transport;
    EXPECT_EQ(response.fault, "garbled");
  }
}

TEST_F(HttpClientProxyTest, AHeadWithoutEndThatTricklesInIsBounded) {
  std::atomic<size_t> sent{0};
  ScriptedServer proxy([&](Peer& peer) {
    peer.Read();
    peer.Write("HTTP/1.1 200 OK\r\nX");
    for (; sent < 1000; ++sent) peer.Write(": " + std::string(100, 'a') + "\r\nX");
    peer.WaitForEnd();
  });
  Use("https://xray.test", Through(proxy));
  EXPECT_EQ(Call(Post("/", "x")).fault, "garbled");
}

TEST_F(HttpClientProxyTest, AProxyThatNeverAnswersTimesOut) {
  ScriptedServer proxy([&](Peer& peer) { peer.WaitForEnd(); });
  Use("https://xray.test", Through(proxy));
  HttpRequest request = Post("/", "x");
  request.deadline = std::chrono::steady_clock::now() + milliseconds(50);
  const HttpResponse response = Call(std::move(request));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kDeadlineExceeded) << response.transport;
  EXPECT_EQ(response.fault, "timeout");
  EXPECT_NE(response.transport.message().find("proxy"), std::string::npos) << response.transport;
}

TEST_F(HttpClientProxyTest, AProxyThatGoesIsUnavailable) {
  for (const char* part : {"", "HTTP/1.1 200 OK\r\n"}) {
    for (const bool reset : {false, true}) {
      ScriptedServer proxy([&](Peer& peer) {
        peer.Read();
        peer.Write(part);
        if (reset) peer.Reset();
      });
      Use("https://xray.test", Through(proxy));
      const HttpResponse response = Call(Post("/", "x"));
      EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable) << response.transport;
      EXPECT_EQ(response.fault, "reset");
      EXPECT_NE(response.transport.message().find("proxy"), std::string::npos);
    }
  }
}

TEST_F(HttpClientProxyTest, AnUnreachableProxyIsNamed) {
  HttpClient::Options options;
  uint16_t port = 0;
  {
    ScriptedServer gone([](Peer&) {});
    port = gone.port();
    options = Through(gone);
  }
  Use("https://xray.test", options);
  const HttpResponse refused = Call(Post("/", "x"));
  EXPECT_EQ(refused.fault, "refused");
  EXPECT_NE(refused.transport.message().find("proxy 127.0.0.1:" + std::to_string(port)),
            std::string::npos)
      << refused.transport;

  options.proxy->url.host = "proxy.invalid";
  Use("https://xray.test", options);
  const HttpResponse unknown = Call(Post("/", "x"));
  EXPECT_EQ(unknown.fault, "dns");
  EXPECT_NE(unknown.transport.message().find("proxy.invalid"), std::string::npos)
      << unknown.transport;
}

TEST_F(HttpClientProxyTest, ACallMayBeCanceledInTheTunnel) {
  std::atomic<bool> asked{false};
  ScriptedServer proxy([&](Peer& peer) {
    asked = peer.Read().has_value();
    peer.WaitForEnd();
  });
  Use("https://xray.test", Through(proxy));
  std::optional<HttpResponse> answer;
  client_->Send(Post("/", "x"), [&](HttpResponse response) { answer = std::move(response); });
  for (const Time limit = Limit(); !asked && std::chrono::steady_clock::now() < limit;) {
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(1));
  }
  client_->Close();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->fault, "canceled");
}

TEST_F(HttpClientProxyTest, ProxiesThatCannotBeUsedAreRefusedAtOnce) {
  HttpClient::Options options;
  options.url = *ParseHttpUrl("https://xray.test");
  options.proxy.emplace();
  options.proxy->url = *ParseHttpUrl("https://proxy.test");
  const auto tls = HttpClient::Create(&loop_, options);
  ASSERT_FALSE(tls.ok());
  EXPECT_EQ(tls.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(tls.status().message().find("https://proxy.test"), std::string::npos) << tls.status();

  options.proxy->url = *ParseHttpUrl("http://proxy.test");
  options.proxy->authorization = "Basic c2VjcmV0\r\nX: y";
  const auto unclean = HttpClient::Create(&loop_, options);
  ASSERT_FALSE(unclean.ok());
  EXPECT_EQ(unclean.status().message().find("c2VjcmV0"), std::string::npos);
}

}  // namespace
}  // namespace mobula
