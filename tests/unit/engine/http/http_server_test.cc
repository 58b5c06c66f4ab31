// Tests of engine/http/http_server.h, through HttpClient and through plain sockets.
#include "engine/http/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <thread>

#include "engine/base/unique_fd.h"
#include "tests/unit/engine/http/client_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;

class HttpServerTest : public testing::ClientFixture {
 protected:
  HttpReply Answer(const HttpServerRequest& request) {
    ++handled_;
    HttpReply reply;
    reply.body = std::string(request.method) + " " + std::string(request.target) + " " +
                 std::string(request.Header("x-test")) + " " + std::string(request.body);
    reply.headers = {{"X-Reply", "yes"}};
    if (request.target == "/missing") reply.status = 404;
    return reply;
  }

  // A plain connection to a server.
  UniqueFd Dial() const { return Dial(server_.port()); }
  static UniqueFd Dial(uint16_t port) {
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

  // Sends `bytes` on a connection of its own; everything the server says until it closes.
  std::string Raw(const std::string& bytes) {
    std::string answer;
    std::thread client([&] {
      const UniqueFd fd = Dial();
      ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      char data[4096];
      for (ssize_t n; (n = ::recv(fd.get(), data, sizeof data, 0)) > 0;) {
        answer.append(data, static_cast<size_t>(n));
      }
      loop_.Stop();
    });
    loop_.RunUntil(Limit());
    client.join();
    return answer;
  }

  int handled_ = 0;
  HttpServer server_{
      &loop_, [this](const HttpServerRequest& request) { return Answer(request); },
      HttpServer::Options{.head_timeout = milliseconds(200), .timeout = milliseconds(400)}};
};

TEST_F(HttpServerTest, AnswersRequests) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  Connect(server_.port());
  HttpRequest request = Post("/a?b=c", "body");
  request.headers = {{"X-Test", "seen"}};
  const HttpResponse response = Call(std::move(request));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "POST /a?b=c seen body");
  EXPECT_EQ(response.Header("X-Reply"), "yes");
  EXPECT_EQ(response.Header("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(Call(Post("/missing", "")).status, 404);
}

TEST_F(HttpServerTest, HeadIsGetWithoutTheBody) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const std::string answer = Raw("HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("Content-Length: 8\r\n"), std::string::npos) << answer;  // "GET /x  "
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

TEST_F(HttpServerTest, KeepsConnectionsAsAsked) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const std::string get = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string last = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  const std::string answer = Raw(get + last);  // pipelined
  EXPECT_NE(answer.find("GET /1"), std::string::npos);
  EXPECT_NE(answer.find("GET /2"), std::string::npos);
  const std::string old = Raw("GET /3 HTTP/1.0\r\n\r\n");
  EXPECT_NE(old.find("GET /3"), std::string::npos);
  EXPECT_EQ(handled_, 3);
}

TEST_F(HttpServerTest, RefusesWhatIsOverItsLimits) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  EXPECT_TRUE(Raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(Raw("GET / HTTP/1.1\r\nX: " + std::string(9000, 'a') + "\r\n\r\n")
                  .starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(Raw("GET / HTTP/1.1\r\nX: " + std::string(30000, 'a')).starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(Raw("POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + std::string(70000, 'a'))
                  .starts_with("HTTP/1.1 413 "));
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, SilentClientsAreClosed) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  EXPECT_EQ(Raw(""), "");
  EXPECT_EQ(Raw("GET / HTT"), "");
  EXPECT_EQ(Raw("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcd"), "");
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, AHeadThatTricklesInIsNotWaitedForLonger) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const Time limit = Limit();
  bool closed = false;
  std::thread client([&] {
    const UniqueFd fd = Dial();
    const std::string_view start = "GET / HTTP/1.1\r\nX: ";
    ::send(fd.get(), start.data(), start.size(), MSG_NOSIGNAL);
    // 4,000 letters are within the limit of a head, and 40 s.
    for (int i = 0; i < 4000 && !closed; ++i) {
      pollfd answer{fd.get(), POLLIN, 0};
      closed = ::poll(&answer, 1, 10) != 0 || ::send(fd.get(), "x", 1, MSG_NOSIGNAL) != 1;
    }
    loop_.Stop();
  });
  loop_.RunUntil(limit);
  const bool in_time = std::chrono::steady_clock::now() < limit;
  server_.Close();
  client.join();
  EXPECT_TRUE(closed && in_time);
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, OneConnectionTooManyEndsTheOneThatWasQuietLongest) {
  HttpServer patient(&loop_, [this](const HttpServerRequest& request) { return Answer(request); });
  ASSERT_TRUE(patient.Listen("127.0.0.1:0").ok());
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  std::thread clients([&] {
    char data[4096];
    const auto ask = [&](const UniqueFd& fd) {
      ::send(fd.get(), get.data(), get.size(), MSG_NOSIGNAL);
      return ::recv(fd.get(), data, sizeof data, 0) > 0;
    };
    std::vector<UniqueFd> many;
    for (int i = 0; i < 64; ++i) many.push_back(Dial(patient.port()));
    EXPECT_TRUE(ask(many[63]));
    EXPECT_TRUE(ask(many[0]));
    const UniqueFd surplus = Dial(patient.port());
    EXPECT_TRUE(ask(surplus));
    EXPECT_EQ(::recv(many[1].get(), data, 1, 0), 0);
    for (size_t i = 0; i < many.size(); ++i) {
      if (i == 1) continue;
      EXPECT_TRUE(::recv(many[i].get(), data, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN) << i;
    }
    loop_.Stop();
  });
  loop_.RunUntil(Limit());
  clients.join();
}

TEST_F(HttpServerTest, ListenNamesTheAddressItCannotHave) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  HttpServer second(&loop_, [](const HttpServerRequest&) { return HttpReply(); });
  const std::string address = "127.0.0.1:" + std::to_string(server_.port());
  const absl::Status status = second.Listen(address);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find(address), std::string::npos) << status;
  EXPECT_FALSE(second.Listen("nonsense").ok());
  EXPECT_TRUE(second.Listen(":0").ok());
}

TEST_F(HttpServerTest, CloseEndsConnectionsAndListening) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  Connect(server_.port());
  EXPECT_EQ(Call(Post("/", "")).status, 200);
  server_.Close();
  server_.Close();
  EXPECT_EQ(Call(Post("/", "")).transport.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mobula
