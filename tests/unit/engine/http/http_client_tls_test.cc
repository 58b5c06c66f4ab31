// Tests of engine/http/http_client.h over TLS, with certificates made here.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/certificate.h"
#include "tests/unit/engine/http/client_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using testing::Certificate;
using testing::Peer;
using testing::ScriptedServer;

class HttpClientTlsTest : public testing::ClientFixture {
 protected:
  void ConnectTls(uint16_t port, const std::string& ca_file,
                  const std::string& base = "https://localhost") {
    HttpClient::Options options;
    options.ca_file = ca_file;
    Connect(port, options, base);
  }
};

void Echo(Peer& peer) {
  while (const auto request = peer.Read()) peer.Reply(200, request->body);
}

TEST_F(HttpClientTlsTest, TrustsTheGivenAuthorityAndKeepsTheConnection) {
  Certificate certificate("DNS:localhost");
  ScriptedServer server(Echo, certificate.context());
  ConnectTls(server.port(), certificate.path());
  for (int i = 0; i < 5; ++i) {
    const HttpResponse response = Call(Post("/", "hello"));
    EXPECT_EQ(response.body, "hello") << response.transport;
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTlsTest, CarriesLargeBodiesBothWays) {
  Certificate certificate("DNS:localhost");
  ScriptedServer server(Echo, certificate.context());
  ConnectTls(server.port(), certificate.path());
  for (const size_t size : {15000UL, 16384UL, 40000UL, 1000000UL}) {
    std::string body(size, ' ');
    for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + i * 7 / 3 % 26);
    const HttpResponse response = Call(Post("/", body));
    EXPECT_TRUE(response.body == body) << size << response.transport;
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTlsTest, AcceptsAnAddressTheCertificateNames) {
  Certificate certificate("IP:127.0.0.1");
  ScriptedServer server(Echo, certificate.context());
  ConnectTls(server.port(), certificate.path(), "https://127.0.0.1");
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.status, 200) << response.transport;
}

TEST_F(HttpClientTlsTest, RefusesWhatItCannotVerify) {
  Certificate trusted("DNS:localhost");
  Certificate other("DNS:localhost");
  Certificate misnamed("DNS:example.com,IP:127.0.0.2");
  Certificate expired("DNS:localhost", -1);
  struct Case {
    Certificate* server;
    std::string ca_file;
    const char* base;
  };
  for (const Case& c : {
           Case{&other, trusted.path(), "https://localhost"},
           Case{&trusted, "", "https://localhost"},  // not among the system's
           Case{&misnamed, misnamed.path(), "https://localhost"},
           Case{&misnamed, misnamed.path(), "https://127.0.0.1"},
           Case{&expired, expired.path(), "https://localhost"},
       }) {
    ScriptedServer server(Echo, c.server->context());
    ConnectTls(server.port(), c.ca_file, c.base);
    const HttpResponse response = Call(Post("/", "x"));
    EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnauthenticated) << response.transport;
    EXPECT_EQ(response.fault, "tls_verify");
  }
}

TEST_F(HttpClientTlsTest, VerificationCanBeSwitchedOff) {
  Certificate certificate("DNS:example.com");
  ScriptedServer server(Echo, certificate.context());
  HttpClient::Options options;
  options.verify = false;
  Connect(server.port(), options, "https://localhost");
  EXPECT_EQ(Call(Post("/", "x")).status, 200);
}

TEST_F(HttpClientTlsTest, ABadAuthorityFileFailsAtOnce) {
  HttpClient::Options options;
  options.url = *ParseHttpUrl("https://localhost");
  options.ca_file = "/nonexistent/ca.pem";
  const auto client = HttpClient::Create(&loop_, options);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.status().message(),
            "cannot read certificates from \"/nonexistent/ca.pem\": No such file or directory");
}

TEST_F(HttpClientTlsTest, APlainServerIsAFailedHandshake) {
  ScriptedServer server([](Peer& peer) { peer.Reply(200, "plain"); });
  ConnectTls(server.port(), "");
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable) << response.transport;
  EXPECT_EQ(response.fault, "tls_handshake");
}

// So that what Debian's OpenSSL forbids by itself is not what the test sees.
void AllowOldProtocols(SSL_CTX* context) {
  ASSERT_EQ(SSL_CTX_set_min_proto_version(context, TLS1_VERSION), 1);
  ASSERT_EQ(SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION), 1);
  ASSERT_EQ(SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0"), 1);
}

// The protocol that a client which minds nothing agrees on with the server; "" when there is none.
std::string ProtocolOf(uint16_t port) {
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  AllowOldProtocols(context);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string protocol;
  SSL* const ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      SSL_connect(ssl) == 1) {
    protocol = SSL_get_version(ssl);
  }
  SSL_free(ssl);
  ::close(fd);
  SSL_CTX_free(context);
  return protocol;
}

TEST_F(HttpClientTlsTest, OldProtocolsAreRefused) {
  Certificate certificate("DNS:localhost");
  AllowOldProtocols(certificate.context());
  ScriptedServer server(Echo, certificate.context());
  EXPECT_EQ(ProtocolOf(server.port()), "TLSv1.1");
  for (const bool verify : {true, false}) {
    HttpClient::Options options;
    options.verify = verify;
    options.ca_file = certificate.path();
    Connect(server.port(), options, "https://localhost");
    EXPECT_EQ(Call(Post("/", "x")).fault, "tls_handshake") << verify;
  }
}

TEST_F(HttpClientTlsTest, AServerThatSaysNothingTimesOut) {
  ScriptedServer server([](Peer& peer) { peer.WaitForEnd(); });  // never answers the hello
  ConnectTls(server.port(), "");
  HttpRequest request = Post("/", "x");
  request.deadline = std::chrono::steady_clock::now() + milliseconds(50);
  EXPECT_EQ(Call(std::move(request)).fault, "timeout");
}

TEST_F(HttpClientTlsTest, NewConnectionsResumeTheSession) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Certificate certificate("DNS:localhost");
    SSL_CTX_set_max_proto_version(certificate.context(), version);
    std::atomic<int> resumed{0};
    ScriptedServer server(
        [&](Peer& peer) {
          if (peer.resumed()) ++resumed;
          if (const auto request = peer.Read()) {
            peer.Reply(200, request->body, "Connection: close\r\n");
          }
        },
        certificate.context());
    ConnectTls(server.port(), certificate.path());
    for (int i = 0; i < 4; ++i) EXPECT_EQ(Call(Post("/", "x")).body, "x");
    EXPECT_EQ(server.connections(), 4);
    EXPECT_EQ(resumed, 3);
  }
}

TEST_F(HttpClientTlsTest, AClosedIdleConnectionIsReplaced) {
  Certificate certificate("DNS:localhost");
  std::atomic<int> connection{0};
  ScriptedServer server(
      [&](Peer& peer) {
        const int mine = ++connection;
        if (!peer.Read()) return;
        peer.Reply(200, std::to_string(mine));
        if (mine == 1) peer.Read();  // takes the second request and goes
        if (mine == 2) peer.WaitForEnd();
      },
      certificate.context());
  ConnectTls(server.port(), certificate.path());
  EXPECT_EQ(Call(Post("/", "x")).body, "1");
  EXPECT_EQ(Call(Post("/", "x")).body, "2");
}

TEST_F(HttpClientTlsTest, ACutAnswerIsNoAnswer) {
  Certificate certificate("DNS:localhost");
  ScriptedServer server(
      [&](Peer& peer) {
        peer.Read();
        peer.Write("HTTP/1.1 200 OK\r\n\r\nhalf");
        peer.Reset();
      },
      certificate.context());
  ConnectTls(server.port(), certificate.path());
  // The body ends with the connection, but without TLS's word that this is the end.
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(response.fault, "reset");
}

}  // namespace
}  // namespace mobula
