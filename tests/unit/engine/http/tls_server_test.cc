// Tests of engine/http/tls_server.h, and of HttpServer over it: through HttpClient and through OpenSSL itself.
#include "engine/http/tls_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/http/http_server.h"
#include "tests/support/certificate.h"
#include "tests/unit/engine/http/client_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using testing::Certificate;

constexpr std::string_view kGet = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kLastGet = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

UniqueFd Dial(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  const timeval limit{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// A blocking client made of OpenSSL alone, for what HttpClient does not do.
class Client {
 public:
  // `shown`: whose certificate it has.
  explicit Client(uint16_t port, Certificate* shown = nullptr) : fd_(Dial(port)) {
    context_ = SSL_CTX_new(TLS_client_method());
    if (shown != nullptr) {
      SSL_CTX_use_certificate_file(context_, shown->path().c_str(), SSL_FILETYPE_PEM);
      SSL_CTX_use_PrivateKey_file(context_, shown->key_path().c_str(), SSL_FILETYPE_PEM);
    }
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_.get());
  }
  ~Client() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool Connect() { return SSL_connect(ssl_) == 1; }
  void Send(std::string_view bytes) {
    (void)SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  }
  // Until the answer holds `mark`, or the server ends.
  std::string ReadUntil(std::string_view mark, int step = 4096) {
    std::string received;
    std::vector<char> data(static_cast<size_t>(step));
    while (received.find(mark) == std::string::npos) {
      const int got = SSL_read(ssl_, data.data(), step);
      if (got <= 0) break;
      received.append(data.data(), static_cast<size_t>(got));
    }
    return received;
  }
  std::string ReadAll() { return ReadUntil("<never sent>"); }
  SSL* ssl() { return ssl_; }

 private:
  UniqueFd fd_;
  SSL_CTX* context_;
  SSL* ssl_;
};

class TlsServerTest : public testing::ClientFixture {
 protected:
  void Serve(const std::string& client_ca = "") {
    auto tls = TlsServerContext::Create({mine_.path(), mine_.key_path(), client_ca});
    ASSERT_TRUE(tls.ok()) << tls.status();
    tls_ = *std::move(tls);
    HttpServer::Options options;
    options.head_timeout = milliseconds(300);
    options.timeout = milliseconds(2000);
    options.body_bytes_max = 2 << 20;
    options.tls = tls_.get();
    server_ = std::make_unique<HttpServer>(
        &loop_,
        [this](const HttpServerRequest& request, const HttpServer::Responder& respond) {
          ++handled_;
          HttpReply reply;
          reply.body = std::string(request.verified ? "verified " : "unknown ") + request.body +
                       std::string(padding_, 'p') + " done";
          peer_ = request.peer;
          respond(std::move(reply));
        },
        options);
    ASSERT_TRUE(server_->Listen("127.0.0.1:0").ok());
  }

  // Runs `client` on a thread of its own, and the loop meanwhile.
  void With(const std::function<void()>& client) {
    std::thread thread([&] {
      client();
      loop_.Stop();
    });
    loop_.RunUntil(Limit());
    thread.join();
  }
  // What a client gets to hear; nothing when there is no connection.
  std::string Ask(Certificate* shown = nullptr) {
    std::string answer;
    With([&] {
      Client client(server_->port(), shown);
      if (!client.Connect()) return;
      client.Send(kLastGet);
      answer = client.ReadAll();
    });
    return answer;
  }

  Certificate mine_{"DNS:localhost"};
  std::unique_ptr<TlsServerContext> tls_;
  std::unique_ptr<HttpServer> server_;
  std::atomic<int> handled_{0};
  std::string peer_;
  size_t padding_ = 0;
};

TEST_F(TlsServerTest, ServesOverKeptConnections) {
  Serve();
  HttpClient::Options options;
  options.ca_file = mine_.path();
  options.body_bytes_max = 4 << 20;
  Connect(server_->port(), options, "https://localhost");
  std::string peer;
  for (const size_t size : {0UL, 1UL, 16383UL, 16384UL, 100'000UL, 1'000'000UL}) {
    const std::string body(size, 'b');
    padding_ = size;
    const HttpResponse response = Call(Post("/", body));
    ASSERT_EQ(response.status, 200) << response.transport;
    EXPECT_TRUE(response.body == "unknown " + body + std::string(size, 'p') + " done") << size;
    EXPECT_TRUE(peer.empty() || peer == peer_) << peer;
    peer = peer_;
  }
  EXPECT_EQ(peer_.substr(0, 10), "127.0.0.1:");
}

TEST_F(TlsServerTest, TakesRequestsHoweverTheyAreCut) {
  Serve();
  With([&] {
    Client client(server_->port());
    ASSERT_TRUE(client.Connect());
    // Three in one record, then one byte a record.
    client.Send(std::string(kGet) + std::string(kGet) + std::string(kGet));
    std::string answers;
    for (int i = 0; i < 3; ++i) answers += client.ReadUntil("done");
    for (const char c : kLastGet) client.Send({&c, 1});
    answers += client.ReadAll();
    size_t count = 0;
    for (size_t at = 0; (at = answers.find("HTTP/1.1 200", at)) != std::string::npos; ++at) ++count;
    EXPECT_EQ(count, 4U);
    EXPECT_EQ(SSL_get_shutdown(client.ssl()) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
  });
  EXPECT_EQ(handled_, 4);
}

TEST_F(TlsServerTest, AnAnswerIsTakenSlowly) {
  Serve();
  padding_ = 3 << 20;
  With([&] {
    Client client(server_->port());
    ASSERT_TRUE(client.Connect());
    client.Send(kLastGet);
    std::this_thread::sleep_for(milliseconds(50));  // until nothing more fits
    const std::string answer = client.ReadUntil(" done", 1000);
    EXPECT_TRUE(answer.ends_with(" done"));
    EXPECT_GT(answer.size(), padding_);
  });
}

TEST_F(TlsServerTest, AsksForBodiesWhoseClientsWait) {
  Serve();
  With([&] {
    Client client(server_->port());
    ASSERT_TRUE(client.Connect());
    client.Send(
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: "
        "close\r\n\r\n");
    EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.Send("body");
    EXPECT_TRUE(client.ReadAll().ends_with("unknown body done"));
  });
}

TEST_F(TlsServerTest, AClientThatEndsItsSideIsAnswered) {
  Serve();
  With([&] {
    Client client(server_->port());
    ASSERT_TRUE(client.Connect());
    client.Send(kGet);
    SSL_shutdown(client.ssl());
    EXPECT_TRUE(client.ReadUntil(" done").ends_with(" done"));
  });
}

TEST_F(TlsServerTest, KnowsWhoShowedAnAcceptedCertificate) {
  Certificate friendly("DNS:friend");
  Certificate stranger("DNS:friend");
  Certificate expired("DNS:friend", -1);
  Serve(friendly.path());
  EXPECT_TRUE(Ask(&friendly).ends_with("verified  done"));
  EXPECT_TRUE(Ask().ends_with("unknown  done"));
  EXPECT_EQ(Ask(&stranger), "");
  EXPECT_EQ(Ask(&expired), "");
  EXPECT_EQ(handled_, 2);
}

TEST_F(TlsServerTest, AsksNobodyForACertificateWithoutAnAuthority) {
  Certificate somebody("DNS:somebody");
  Serve();
  EXPECT_TRUE(Ask(&somebody).ends_with("unknown  done"));
}

TEST_F(TlsServerTest, RefusesOldProtocols) {
  Serve();
  With([&] {
    Client old(server_->port());
    SSL_set_security_level(old.ssl(), 0);
    SSL_set_max_proto_version(old.ssl(), TLS1_1_VERSION);
    EXPECT_FALSE(old.Connect());
    Client good(server_->port());
    SSL_set_max_proto_version(good.ssl(), TLS1_2_VERSION);
    EXPECT_TRUE(good.Connect());
  });
}

TEST_F(TlsServerTest, SpeaksNothingButHttp11) {
  Serve();
  With([&] {
    const unsigned char both[] = "\x02h2\x08http/1.1";
    Client client(server_->port());
    SSL_set_alpn_protos(client.ssl(), both, sizeof both - 1);
    EXPECT_TRUE(client.Connect());
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(client.ssl(), &chosen, &size);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), "http/1.1");
    Client newer(server_->port());
    SSL_set_alpn_protos(newer.ssl(), both, 3);
    EXPECT_FALSE(newer.Connect());
  });
}

TEST_F(TlsServerTest, ResumesNoSession) {
  Serve();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    With([&] {
      Client first(server_->port());
      SSL_set_max_proto_version(first.ssl(), version);
      ASSERT_TRUE(first.Connect());
      first.Send(kGet);
      first.ReadUntil(" done");
      Client second(server_->port());
      SSL_set_max_proto_version(second.ssl(), version);
      SSL_set_session(second.ssl(), SSL_get0_session(first.ssl()));
      EXPECT_TRUE(second.Connect());
      EXPECT_EQ(SSL_session_reused(second.ssl()), 0);
    });
  }
}

TEST_F(TlsServerTest, TellsThoseWhoSpeakPlainHttp) {
  Serve();
  With([&] {
    const UniqueFd fd = Dial(server_->port());
    ::send(fd.get(), kGet.data(), kGet.size(), MSG_NOSIGNAL);
    std::string answer;
    char data[1024];
    for (ssize_t n; (n = ::recv(fd.get(), data, sizeof data, 0)) > 0;) {
      answer.append(data, static_cast<size_t>(n));
    }
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
    EXPECT_TRUE(answer.ends_with("this port speaks TLS: ask with https\n")) << answer;
  });
  EXPECT_EQ(handled_, 0);
}

TEST_F(TlsServerTest, AHandshakeIsNotWaitedForLonger) {
  Serve();
  const Time limit = Limit();
  With([&] {
    const UniqueFd silent = Dial(server_->port());
    const UniqueFd slow = Dial(server_->port());
    // The beginning of a record of 16 KiB: enough for 160 s.
    const std::string start("\x16\x03\x01\x40\x00", 5);
    ::send(slow.get(), start.data(), start.size(), MSG_NOSIGNAL);
    for (bool ended = false; !ended && std::chrono::steady_clock::now() < limit;) {
      pollfd answer{slow.get(), POLLIN, 0};
      ended = ::poll(&answer, 1, 10) != 0 || ::send(slow.get(), "\x01", 1, MSG_NOSIGNAL) != 1;
    }
    char byte;
    EXPECT_EQ(::recv(silent.get(), &byte, 1, 0), 0);
  });
  EXPECT_LT(std::chrono::steady_clock::now(), limit);
}

TEST_F(TlsServerTest, SurvivesGarbledRecords) {
  Serve();
  unsigned state = 1;
  const auto random = [&] { return state = state * 1664525U + 1013904223U, state >> 16; };
  for (int i = 0; i < 50; ++i) {
    With([&] {
      const UniqueFd fd = Dial(server_->port());
      std::string bytes("\x16\x03\x01", 3);
      for (unsigned k = random() % 600; k > 0; --k) bytes += static_cast<char>(random());
      ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ::shutdown(fd.get(), SHUT_WR);
      char data[256];
      while (::recv(fd.get(), data, sizeof data, 0) > 0) {
      }
    });
  }
  EXPECT_TRUE(Ask().ends_with(" done"));
  EXPECT_EQ(handled_, 1);
}

TEST_F(TlsServerTest, ChangedFilesAreTakenUp) {
  Serve();
  Certificate next("DNS:localhost", 7);
  const std::string before = tls_->expires();
  EXPECT_FALSE(*tls_->Refresh());
  With([&] {
    Client kept(server_->port());
    ASSERT_TRUE(kept.Connect());
    // Half of a renewal: told once, and of no effect.
    next.WriteTo(mine_.path(), "/dev/null");
    const auto half = tls_->Refresh();
    EXPECT_EQ(half.status().message(),
              mine_.key_path() + ": not the key of the certificate in " + mine_.path());
    EXPECT_TRUE(tls_->Refresh().ok());
    EXPECT_FALSE(*tls_->Refresh());
    EXPECT_EQ(tls_->expires(), before);
    const auto serial = [&](Client* client) {
      X509* const shown = SSL_get1_peer_certificate(client->ssl());
      char* const text = X509_NAME_oneline(X509_get_subject_name(shown), nullptr, 0);
      std::string key(text);
      OPENSSL_free(text);
      const ASN1_TIME* const end = X509_get0_notAfter(shown);
      key.append(reinterpret_cast<const char*>(end->data), static_cast<size_t>(end->length));
      X509_free(shown);
      return key;
    };
    Client during(server_->port());
    EXPECT_TRUE(during.Connect());
    EXPECT_EQ(serial(&during), serial(&kept));
    next.WriteTo(mine_.path(), mine_.key_path());
    const auto whole = tls_->Refresh();
    EXPECT_TRUE(whole.ok() && *whole) << whole.status();
    EXPECT_GT(tls_->expires(), before);
    Client after(server_->port());
    EXPECT_TRUE(after.Connect());
    EXPECT_NE(serial(&after), serial(&kept));
    // What was there before goes on.
    kept.Send(kLastGet);
    EXPECT_TRUE(kept.ReadAll().ends_with(" done"));
    ::unlink(mine_.path().c_str());
    EXPECT_EQ(tls_->Refresh().status().code(), absl::StatusCode::kNotFound);
    EXPECT_TRUE(tls_->Refresh().ok());
  });
}

TEST(TlsServerFilesTest, WhatCouldNotBeReadIsTriedAgain) {
  Certificate mine("DNS:localhost");
  Certificate next("DNS:localhost", 7);
  const auto tls = *TlsServerContext::Create({mine.path(), mine.key_path(), ""});
  const std::string before = tls->expires();
  next.WriteTo(mine.path(), mine.key_path());
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto first = tls->Refresh();
  const auto second = tls->Refresh();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_FALSE(first.ok());
  EXPECT_TRUE(second.ok() && !*second) << second.status();  // told once
  EXPECT_EQ(tls->expires(), before);
  // The files are as they were.
  const auto third = tls->Refresh();
  EXPECT_TRUE(third.ok() && *third) << third.status();
  EXPECT_GT(tls->expires(), before);
}

TEST(TlsServerFilesTest, NamesTheFileThatCannotBeUsed) {
  Certificate one("DNS:a");
  Certificate other("DNS:b");
  const std::string odd = one.path() + ".odd";
  const auto said = [](const TlsServerContext::Files& files) {
    const auto context = TlsServerContext::Create(files);
    return context.ok() ? "fine" : std::string(context.status().message());
  };
  const auto write = [&](const std::string& text) { std::ofstream(odd) << text; };
  EXPECT_EQ(said({one.path(), one.key_path(), ""}), "fine");
  EXPECT_EQ(said({one.path(), one.key_path(), other.path()}), "fine");
  EXPECT_EQ(said({"/nonexistent/a", "/nonexistent/b", "/nonexistent/c"}),
            "cannot read /nonexistent/a: No such file or directory");
  EXPECT_EQ(said({one.path(), "/nonexistent/b", ""}),
            "cannot read /nonexistent/b: No such file or directory");
  EXPECT_EQ(said({one.path(), one.key_path(), "/nonexistent/c"}),
            "cannot read /nonexistent/c: No such file or directory");
  EXPECT_EQ(said({one.path(), other.key_path(), ""}),
            other.key_path() + ": not the key of the certificate in " + one.path());
  EXPECT_EQ(said({one.key_path(), one.key_path(), ""}),
            one.key_path() + ": no certificate in PEM form");
  EXPECT_EQ(said({one.path(), one.path(), ""}),
            one.path() + ": no private key in PEM form without a passphrase");
  write("");
  EXPECT_EQ(said({odd, one.key_path(), ""}), odd + ": no certificate in PEM form");
  EXPECT_EQ(said({one.path(), one.key_path(), odd}), odd + ": no certificate in PEM form");
  write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  EXPECT_EQ(said({odd, one.key_path(), ""}).substr(0, odd.size() + 24),
            odd + ": a broken certificate: ");
  one.WriteTo("/dev/null", odd, "secret");
  EXPECT_EQ(said({one.path(), odd, ""}), odd + ": no private key in PEM form without a passphrase");
  ::unlink(odd.c_str());
}

}  // namespace
}  // namespace mobula
