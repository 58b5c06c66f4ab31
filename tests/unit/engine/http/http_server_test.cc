// Tests of engine/http/http_server.h, through HttpClient and through plain sockets.
#include "engine/http/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
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
  HttpServer::Handler Answering() {
    return [this](const HttpServerRequest& request, const HttpServer::Responder& respond) {
      respond(Answer(request));
    };
  }
  // Keeps the responders until a test wants them.
  HttpServer::Handler Keeping() {
    return [this](const HttpServerRequest& request, HttpServer::Responder respond) {
      seen_.push_back(
          {std::string(request.target), std::string(request.Header("x-test")), request.body});
      waiting_.push_back(std::move(respond));
      loop_.Stop();
    };
  }
  static HttpReply Text(std::string body) {
    HttpReply reply;
    reply.body = std::move(body);
    return reply;
  }

  static void Send(const UniqueFd& fd, std::string_view bytes) {
    ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // Runs the loop until `fd` has shown `count` answers or parts that hold `mark`, or has ended.
  std::string ReadUntil(const UniqueFd& fd, std::string_view mark, size_t count = 1) {
    std::string received;
    const auto found = [&] {
      size_t n = 0;
      for (size_t at = 0; (at = received.find(mark, at)) != std::string::npos; ++at) ++n;
      return n;
    };
    for (const Time limit = Limit(); found() < count;) {
      if (std::chrono::steady_clock::now() > limit) return received + "<nothing more came>";
      loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(2));
      char data[4096];
      for (ssize_t n; (n = ::recv(fd.get(), data, sizeof data, MSG_DONTWAIT)) >= 0;) {
        if (n == 0) return received + "<end>";
        received.append(data, static_cast<size_t>(n));
      }
    }
    return received;
  }
  // Runs the loop until the server has ended the connection.
  std::string ReadAll(const UniqueFd& fd) { return ReadUntil(fd, "<never sent>"); }
  void RunFor(Duration duration) { loop_.RunUntil(std::chrono::steady_clock::now() + duration); }

  struct Seen {
    std::string target;
    std::string test;  // X-Test
    std::string body;
  };
  std::vector<Seen> seen_;
  std::vector<HttpServer::Responder> waiting_;
  HttpServer server_{
      &loop_, Answering(),
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
  HttpServer patient(&loop_, Answering());
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

TEST_F(HttpServerTest, AConnectionWhoseClientIsGoneMakesRoomFirst) {
  HttpServer keeping(&loop_, Keeping(), HttpServer::Options{.connections_max = 2});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const UniqueFd quiet = Dial(keeping.port());
  UniqueFd gone = Dial(keeping.port());
  Send(gone, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.empty()) loop_.RunUntil(Limit());
  gone.reset();
  RunFor(milliseconds(20));
  const UniqueFd next = Dial(keeping.port());
  Send(next, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.size() < 2) loop_.RunUntil(Limit());
  // The quiet one is still there.
  Send(quiet, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.size() < 3) loop_.RunUntil(Limit());
  waiting_[2](Text("still here"));
  EXPECT_NE(ReadUntil(quiet, "still here").find("still here"), std::string::npos);
}

TEST_F(HttpServerTest, AnAnswerMayComeLater) {
  HttpServer keeping(
      &loop_, Keeping(),
      HttpServer::Options{.head_timeout = milliseconds(30), .timeout = milliseconds(30)});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(keeping.port());
  Send(fd, "POST /later HTTP/1.1\r\nX-Test: kept\r\nContent-Length: 4\r\n\r\nbody");
  while (waiting_.empty()) loop_.RunUntil(Limit());
  RunFor(milliseconds(100));  // no time-out of the connection ends it
  EXPECT_EQ(seen_[0].target, "/later");
  EXPECT_EQ(seen_[0].test, "kept");
  EXPECT_EQ(seen_[0].body, "body");
  waiting_[0](Text("at last"));
  waiting_[0](Text("once more"));
  waiting_[0](Text("and again"));
  const std::string answer = ReadUntil(fd, "at last");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("at last")) << answer;
  Send(fd, "GET /next HTTP/1.1\r\n\r\n");
  while (waiting_.size() < 2) loop_.RunUntil(Limit());
  waiting_[0](Text("of the first request"));  // must not answer the second
  waiting_[1](Text("of the second"));
  EXPECT_TRUE(ReadUntil(fd, "of the ").ends_with("of the second"));
}

TEST_F(HttpServerTest, ADroppedResponderAnswers500) {
  HttpServer dropping(&loop_, [](const HttpServerRequest&, const HttpServer::Responder&) {});
  ASSERT_TRUE(dropping.Listen("127.0.0.1:0").ok());
  const UniqueFd at_once = Dial(dropping.port());
  Send(at_once, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(ReadAll(at_once).starts_with("HTTP/1.1 500 "));

  HttpServer keeping(&loop_, Keeping());
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const UniqueFd later = Dial(keeping.port());
  Send(later, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.empty()) loop_.RunUntil(Limit());
  const HttpServer::Responder copy = waiting_[0];
  waiting_.clear();
  RunFor(milliseconds(10));
  char data[64];
  EXPECT_TRUE(::recv(later.get(), data, sizeof data, MSG_DONTWAIT) < 0 && errno == EAGAIN);
  copy(Text("by the copy"));
  EXPECT_TRUE(ReadUntil(later, "by the copy").starts_with("HTTP/1.1 200 "));
  Send(later, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.empty()) loop_.RunUntil(Limit());
  waiting_.clear();
  EXPECT_TRUE(ReadUntil(later, "not answered").starts_with("HTTP/1.1 500 "));
}

TEST_F(HttpServerTest, AClientMayGoBeforeItsAnswer) {
  HttpServer keeping(&loop_, Keeping());
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  for (const bool reset : {false, true}) {
    UniqueFd fd = Dial(keeping.port());
    Send(fd, "POST /gone HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody");
    waiting_.clear();
    seen_.clear();
    while (waiting_.empty()) loop_.RunUntil(Limit());
    if (reset) {
      const linger now{1, 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    fd.reset();
    RunFor(milliseconds(20));
    EXPECT_EQ(seen_[0].target, "/gone");
    EXPECT_EQ(seen_[0].body, "body");
    waiting_[0](Text("for nobody"));
    RunFor(milliseconds(20));
  }
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, AClientThatOnlySendsNoMoreIsAnswered) {
  HttpServer keeping(&loop_, Keeping());
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(keeping.port());
  Send(fd, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3");
  ::shutdown(fd.get(), SHUT_WR);
  while (waiting_.empty()) loop_.RunUntil(Limit());
  RunFor(milliseconds(20));
  waiting_[0](Text("first"));
  while (waiting_.size() < 2) loop_.RunUntil(Limit());
  waiting_[1](Text("second"));
  const std::string answers = ReadAll(fd);
  EXPECT_NE(answers.find("first"), std::string::npos) << answers;
  EXPECT_TRUE(answers.ends_with("second<end>")) << answers;
}

TEST_F(HttpServerTest, ARespondersServerMayBeGone) {
  auto keeping = std::make_unique<HttpServer>(&loop_, Keeping());
  ASSERT_TRUE(keeping->Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(keeping->port());
  const UniqueFd other = Dial(keeping->port());
  Send(fd, "GET / HTTP/1.1\r\n\r\n");
  Send(other, "GET / HTTP/1.1\r\n\r\n");
  while (waiting_.size() < 2) loop_.RunUntil(Limit());
  keeping.reset();
  EXPECT_EQ(ReadAll(fd), "<end>");
  waiting_[0](Text("too late"));
  waiting_.clear();
  RunFor(milliseconds(5));
}

TEST_F(HttpServerTest, AHandlerMayEndTheServer) {
  std::unique_ptr<HttpServer> ending;
  ending = std::make_unique<HttpServer>(
      &loop_, [&](const HttpServerRequest& request, const HttpServer::Responder& respond) {
        ending.reset();
        respond(Answer(request));
      });
  ASSERT_TRUE(ending->Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(ending->port());
  Send(fd, "GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(ReadAll(fd), "<end>");
  EXPECT_EQ(handled_, 1);
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrderOneAfterTheOther) {
  HttpServer keeping(&loop_, Keeping(), HttpServer::Options{.header_bytes_max = 256});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(keeping.port());
  constexpr size_t kRequests = 100;  // more than is read ahead
  std::string requests;
  for (size_t i = 0; i < kRequests; ++i) {
    const std::string body = std::to_string(i);
    requests += "POST / HTTP/1.1\r\nX-Fill: " + std::string(150, 'f') +
                "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  Send(fd, requests);
  for (size_t i = 0; i < kRequests; ++i) {
    while (waiting_.size() <= i) loop_.RunUntil(Limit());
    RunFor(milliseconds(i < 3 ? 10 : 0));
    ASSERT_EQ(waiting_.size(), i + 1);  // the next one waits for this answer
    waiting_[i](Text("answer " + seen_[i].body + "!"));
  }
  const std::string answers = ReadUntil(fd, "!", kRequests);
  size_t at = 0;
  for (size_t i = 0; i < kRequests; ++i) {
    at = answers.find("answer " + std::to_string(i) + "!", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST_F(HttpServerTest, ABodyMayComeChunked) {
  HttpServer small(&loop_, Answering(), HttpServer::Options{.body_bytes_max = 10});
  ASSERT_TRUE(small.Listen("127.0.0.1:0").ok());
  const std::string head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const bool bytewise : {false, true}) {
    for (const auto& [chunks, body] :
         {std::pair("3\r\nabc\r\n7;x=y\r\ndefghij\r\n0\r\nTrailer: v\r\n\r\n", "abcdefghij"),
          std::pair("0\r\n\r\n", "")}) {
      const UniqueFd fd = Dial(small.port());
      const std::string request = head + chunks;
      if (bytewise) {
        for (const char byte : request) {
          Send(fd, {&byte, 1});
          RunFor(milliseconds(1));
        }
      } else {
        Send(fd, request);
      }
      const std::string end = "POST /  " + std::string(body);
      EXPECT_TRUE(ReadUntil(fd, end).ends_with(end)) << request;
    }
  }
  for (const auto& [chunks, status] :
       {std::pair<std::string, const char*>("6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n", "413"),
        {"fffffffffffffff0\r\n", "413"},
        {"zz\r\n\r\n", "400"},
        {std::string(9000, '0'), "400"},
        {"1;" + std::string(9000, 'x'), "400"},
        {"0\r\nT: " + std::string(9000, 'v'), "400"}}) {
    const UniqueFd fd = Dial(small.port());
    Send(fd, head + chunks);
    ::shutdown(fd.get(), SHUT_WR);
    EXPECT_TRUE(ReadAll(fd).starts_with(std::string("HTTP/1.1 ") + status)) << chunks.substr(0, 40);
  }
}

TEST_F(HttpServerTest, TwoLengthsOrAnUnknownCodingAreRefused) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const std::string post = "POST / HTTP/1.1\r\n";
  for (const auto& [headers, status] :
       {std::pair("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "400"),
        {"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "400"},
        {"Content-Length: 3\r\nContent-Length: 4\r\n", "400"},
        {"Content-Length: -3\r\n", "400"},
        {"Content-Length: 99999999999999999999\r\n", "400"},
        {"Transfer-Encoding: gzip\r\n", "501"},
        {"Transfer-Encoding: chunked, gzip\r\n", "501"},
        {"Transfer-Encoding: gzip, chunked\r\n", "501"},
        {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "501"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400"},
        {"Transfer-Encoding:\r\nTransfer-Encoding: gzip\r\n", "501"},
        {"Transfer-Encoding:\r\nTransfer-Encoding: xchunked\r\n", "501"},
        {"Transfer-Encoding:\r\n", "501"},
        {"Expect: a miracle\r\n", "417"},
        {" folded: first\r\n", "400"}}) {
    const std::string answer = Raw(post + headers + "\r\n0\r\n\r\n");
    EXPECT_TRUE(answer.starts_with(std::string("HTTP/1.1 ") + status)) << headers << answer;
    EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << headers;
  }
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, AClientThatAsksMaySendItsBody) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial();
  Send(fd, "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(ReadUntil(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  Send(fd, "hello");
  EXPECT_TRUE(ReadUntil(fd, "hello").starts_with("HTTP/1.1 200 "));
  // Not when the body is there, nor for a body that is too large, nor for HTTP/1.0.
  Send(fd, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nthere");
  EXPECT_TRUE(ReadUntil(fd, "there").starts_with("HTTP/1.1 200 "));
  Send(fd, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n");
  EXPECT_TRUE(ReadUntil(fd, "\r\n\r\n").starts_with("HTTP/1.1 413 "));
  const UniqueFd old = Dial();
  Send(old, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  RunFor(milliseconds(20));
  Send(old, "old");
  EXPECT_TRUE(ReadUntil(old, "old").starts_with("HTTP/1.0 200 "));
}

TEST_F(HttpServerTest, Http10IsClosedUnlessAskedToBeKept) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial();
  Send(fd, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string kept = ReadUntil(fd, "GET /1");
  EXPECT_TRUE(kept.starts_with("HTTP/1.0 200 OK\r\n")) << kept;
  EXPECT_NE(kept.find("Connection: keep-alive\r\n"), std::string::npos) << kept;
  Send(fd, "\r\nGET /2 HTTP/1.0\r\n\r\n");  // after an empty line, as old clients do
  const std::string closed = ReadAll(fd);
  EXPECT_NE(closed.find("GET /2"), std::string::npos) << closed;
  EXPECT_EQ(closed.find("Connection:"), std::string::npos) << closed;
  EXPECT_TRUE(closed.ends_with("<end>")) << closed;
  EXPECT_TRUE(Raw("GET / HTTP/2.0\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, HeadersOfAnAnswerMayRepeat) {
  HttpReply reply;
  HttpServer fixed(&loop_, [&](const HttpServerRequest&, const HttpServer::Responder& respond) {
    respond(reply);
  });
  ASSERT_TRUE(fixed.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(fixed.port());
  const auto ask = [&] {
    Send(fd, "GET / HTTP/1.1\r\n\r\n");
    return ReadUntil(fd, "\r\n\r\n");
  };
  reply.headers = {{"X-Many", "1"},
                   {"x-many", "2"},
                   {"Content-Length", "9"},
                   {"Connection", "close"},
                   {"X-Bad", "a\r\nb: c"},
                   {"Bad Name", "x"},
                   {"", "x"},
                   {"Transfer-Encoding", "chunked"}};
  EXPECT_EQ(ask(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-Many: 1\r\n"
            "x-many: 2\r\nContent-Length: 0\r\n\r\n");
  reply.content_type.clear();
  reply.headers.clear();
  EXPECT_EQ(ask(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  reply.content_type = "text/html";
  reply.headers = {{"content-type", "application/json"}};
  EXPECT_EQ(ask(),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 0\r\n\r\n");
  reply = HttpReply();
  reply.content_type.clear();
  reply.status = 204;
  reply.body = "none of this";
  EXPECT_EQ(ask(), "HTTP/1.1 204 No Content\r\n\r\n");
  reply.status = 777;
  EXPECT_EQ(ask().substr(0, 22), "HTTP/1.1 777 Unknown\r\n");
}

TEST_F(HttpServerTest, BodiesOfAllConnectionsHaveOneLimit) {
  std::vector<std::shared_ptr<ByteShare>> shares;
  HttpServer keeping(
      &loop_,
      [&](HttpServerRequest& request, HttpServer::Responder respond) {
        shares.push_back(request.share);
        waiting_.push_back(std::move(respond));
        loop_.Stop();
      },
      HttpServer::Options{.body_bytes_max = 10000, .budget = std::make_shared<ByteBudget>(20000)});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const std::string request =
      "POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + std::string(9000, 'x');
  const UniqueFd one = Dial(keeping.port());
  const UniqueFd two = Dial(keeping.port());
  Send(one, request);
  Send(two, request);
  while (waiting_.size() < 2) loop_.RunUntil(Limit());
  const UniqueFd three = Dial(keeping.port());
  Send(three, request);
  EXPECT_TRUE(ReadUntil(three, "\r\n\r\n").starts_with("HTTP/1.1 503 "));
  waiting_[0](Text(std::string(30000, 'y')));  // an answer over it
  EXPECT_TRUE(ReadUntil(one, "\r\n\r\n").starts_with("HTTP/1.1 503 "));
  waiting_[1](Text("fine"));
  EXPECT_TRUE(ReadUntil(two, "fine").starts_with("HTTP/1.1 200 "));
  shares.clear();
  const UniqueFd four = Dial(keeping.port());
  Send(four, request);
  while (waiting_.size() < 3) loop_.RunUntil(Limit());
  shares.clear();
  waiting_[2](Text(std::string(15000, 'z')));
  EXPECT_TRUE(ReadUntil(four, "z").starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, OverTheBudgetAClientIsToldToTryAgain) {
  const auto budget = std::make_shared<ByteBudget>(20000);
  HttpServer keeping(&loop_, Keeping(), HttpServer::Options{.budget = budget});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  ByteShare others(budget);
  ASSERT_TRUE(others.Resize(15000));
  const UniqueFd fd = Dial(keeping.port());
  Send(fd, "POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + std::string(9000, 'x'));
  const std::string answer = ReadUntil(fd, "try again");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos) << answer;
  EXPECT_NE(answer.find("too many requests at once, try again\n"), std::string::npos) << answer;
  RunFor(milliseconds(5));
  EXPECT_EQ(budget->used(), 15000U);
}

TEST_F(HttpServerTest, ARequestWhoseClientIsGoneTakesNoMemory) {
  const auto budget = std::make_shared<ByteBudget>(1 << 20);
  HttpServer keeping(&loop_, Keeping(), HttpServer::Options{.budget = budget});
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  for (size_t i = 1; i <= 400; ++i) {
    const UniqueFd fd = Dial(keeping.port());
    const linger now{1, 0};  // it breaks off
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    Send(fd, "GET / HTTP/1.1\r\nX: " + std::string(7000, 'x') + "\r\n\r\nGET /next");
    while (waiting_.size() < i) loop_.RunUntil(Limit());
  }
  RunFor(milliseconds(20));
  EXPECT_EQ(budget->used(), 0U);
  for (const HttpServer::Responder& respond : waiting_) respond(Text("for nobody"));
}

TEST_F(HttpServerTest, ABodyMayBeTakenAndCountsUntilItIsLetGo) {
  const auto budget = std::make_shared<ByteBudget>(1 << 20);
  std::string body;
  std::shared_ptr<ByteShare> share;
  HttpServer taking(
      &loop_,
      [&](HttpServerRequest& request, const HttpServer::Responder& respond) {
        body = std::move(request.body);
        share = request.share;
        respond(Text("taken"));
      },
      HttpServer::Options{.budget = budget});
  ASSERT_TRUE(taking.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(taking.port());
  Send(fd, "POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + std::string(9000, 'x'));
  EXPECT_TRUE(ReadUntil(fd, "taken").starts_with("HTTP/1.1 200 "));
  RunFor(milliseconds(5));
  EXPECT_EQ(body.size(), 9000U);
  EXPECT_GE(budget->used(), 9000U);
  EXPECT_EQ(budget->used(), share->bytes());
  share.reset();
  EXPECT_EQ(budget->used(), 0U);
}

TEST_F(HttpServerTest, AnAnswerMayBeShared) {
  const auto text = std::make_shared<const std::string>(50000, 's');
  const auto budget = std::make_shared<ByteBudget>(40000);
  HttpServer sharing(
      &loop_,
      [&](const HttpServerRequest& request, const HttpServer::Responder& respond) {
        HttpReply reply;
        reply.shared_body = text;
        if (request.target == "/none") reply.status = 204;
        respond(std::move(reply));
      },
      HttpServer::Options{.budget = budget});
  ASSERT_TRUE(sharing.Listen("127.0.0.1:0").ok());
  const UniqueFd one = Dial(sharing.port());
  const UniqueFd two = Dial(sharing.port());
  for (const UniqueFd* fd : {&one, &two}) {
    Send(*fd, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    const std::string answer = ReadAll(*fd);
    EXPECT_NE(answer.find("Content-Length: 50000\r\n"), std::string::npos);
    EXPECT_TRUE(answer.ends_with("\r\n\r\n" + *text + "<end>"));
  }
  const UniqueFd none = Dial(sharing.port());
  Send(none, "GET /none HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(ReadAll(none).ends_with("\r\n\r\n<end>"));
  EXPECT_EQ(text.use_count(), 1);
}

TEST_F(HttpServerTest, SlowRequestsGiveWayWhereThereIsNoRoom) {
  const auto budget = std::make_shared<ByteBudget>(64 * 1024);
  HttpServer small(&loop_, Answering(), HttpServer::Options{.budget = budget});
  ASSERT_TRUE(small.Listen("127.0.0.1:0").ok());
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 40; ++i) {
    slow.push_back(Dial(small.port()));
    Send(slow.back(), "GET / HTTP/1.1\r\nX: " + std::string(6000, 'x'));
    RunFor(milliseconds(1));
  }
  const UniqueFd fd = Dial(small.port());
  Send(fd, "GET /good HTTP/1.1\r\nX-Test: " + std::string(4000, 'y') + "\r\n\r\n");
  EXPECT_TRUE(ReadUntil(fd, "GET /good").starts_with("HTTP/1.1 200 "));
  EXPECT_LE(budget->used(), 64U * 1024);
  EXPECT_TRUE(ReadUntil(slow.front(), "try again").starts_with("HTTP/1.1 503 "));
}

// What a program that this process starts would have open beside its own.
std::vector<int> Inherited() {
  std::vector<int> found;
  for (int fd = 3; fd < 1024; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) found.push_back(fd);
  }
  return found;
}

TEST_F(HttpServerTest, NoProgramInheritsASocket) {
  const std::vector<int> before = Inherited();
  HttpServer keeping(&loop_, Keeping());
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  Connect(keeping.port());
  client_->Send(Post("/", ""), [](const HttpResponse&) {});
  while (waiting_.empty()) loop_.RunUntil(Limit());
  EXPECT_EQ(Inherited(), before);
  waiting_.clear();
}

TEST_F(HttpServerTest, ABodyThatTricklesInIsNotWaitedForLonger) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial();
  Send(fd, "POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n");
  const Time start = std::chrono::steady_clock::now();
  const Time limit = Limit();
  bool closed = false;
  while (!closed && std::chrono::steady_clock::now() < limit) {
    closed = ::send(fd.get(), "x", 1, MSG_NOSIGNAL) != 1;
    RunFor(milliseconds(5));
  }
  EXPECT_TRUE(closed);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(390));
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, HeadersThatTrickleInCountTogether) {
  HttpServer patient(&loop_, Answering());
  ASSERT_TRUE(patient.Listen("127.0.0.1:0").ok());
  // What is left over after each part is so short that the parser takes the header before it at once.
  for (const auto& [header, many] : {std::pair(": " + std::string(500, 'a') + "\r\nX", 40),
                                     std::pair(std::string(": 1\r\nX"), 300)}) {
    const UniqueFd fd = Dial(patient.port());
    Send(fd, "GET / HTTP/1.1\r\nX");
    std::string answer;
    for (int i = 0; i < many && answer.empty(); ++i) {
      Send(fd, header);
      RunFor(std::chrono::microseconds(500));
      char data[100];
      const ssize_t n = ::recv(fd.get(), data, sizeof data, MSG_DONTWAIT);
      if (n > 0) answer.assign(data, static_cast<size_t>(n));
    }
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 431 ")) << header << answer;
  }
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, AnAnswerNobodyTakesIsGivenUp) {
  HttpServer large(
      &loop_,
      [&](const HttpServerRequest&, const HttpServer::Responder& respond) {
        respond(Text(std::string(16 << 20, 'x')));
      },
      HttpServer::Options{.timeout = milliseconds(50)});
  ASSERT_TRUE(large.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(large.port());
  Send(fd, "GET / HTTP/1.1\r\n\r\n");
  RunFor(milliseconds(200));
  const std::string answer = ReadAll(fd);
  EXPECT_LT(answer.size(), 16U << 20);
}

TEST_F(HttpServerTest, AKeptConnectionIsClosedWhenItIsIdle) {
  HttpServer brief(&loop_, Answering(), HttpServer::Options{.idle_timeout = milliseconds(30)});
  ASSERT_TRUE(brief.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial(brief.port());
  Send(fd, "GET /once HTTP/1.1\r\n\r\n");
  const std::string answer = ReadAll(fd);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
  EXPECT_TRUE(answer.ends_with("<end>")) << answer;
}

TEST_F(HttpServerTest, EmptyLinesBuyNoTime) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const UniqueFd fd = Dial();
  const Time limit = Limit();
  bool closed = false;
  while (!closed && std::chrono::steady_clock::now() < limit) {
    closed = ::send(fd.get(), "\r\n", 2, MSG_NOSIGNAL) != 2;
    RunFor(milliseconds(5));
  }
  EXPECT_TRUE(closed);
}

TEST_F(HttpServerTest, ListenNamesTheAddressItCannotHave) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  HttpServer second(&loop_, Answering());
  const std::string address = "127.0.0.1:" + std::to_string(server_.port());
  const absl::Status status = second.Listen(address);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find(address), std::string::npos) << status;
  EXPECT_FALSE(second.Listen("nonsense").ok());
  EXPECT_TRUE(second.Listen(":0").ok());
}

TEST_F(HttpServerTest, ASharedPortBelongsToTheOneThatCameLast) {
  ASSERT_TRUE(server_.Listen("127.0.0.1:0").ok());
  const std::string address = "127.0.0.1:" + std::to_string(server_.port());
  const auto answers = [&](const std::string& who) {
    for (int i = 0; i < 20; ++i) {
      const UniqueFd fd = Dial(server_.port());
      Send(fd, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
      EXPECT_NE(ReadAll(fd).find(who), std::string::npos) << who;
    }
  };
  const auto saying = [](std::string who) {
    return [who](const HttpServerRequest&, const HttpServer::Responder& respond) {
      respond(Text(who));
    };
  };
  answers("GET /");
  {
    HttpServer failed(&loop_, saying("failed"));
    ASSERT_TRUE(failed.Listen(address, PortUse::kShared).ok());
    answers("failed");
  }
  answers("GET /");
  HttpServer second(&loop_, saying("second"));
  ASSERT_TRUE(second.Listen(address, PortUse::kShared).ok());
  answers("second");
  EXPECT_EQ(HttpServer(&loop_, Answering()).Listen(address).code(), absl::StatusCode::kUnavailable);
  const UniqueFd late = Dial(second.port());
  server_.Close();
  HttpServer third(&loop_, saying("third"));
  ASSERT_TRUE(third.Listen(address, PortUse::kShared).ok());
  second.StopListening();
  Send(late, "GET / HTTP/1.1\r\n\r\n");
  EXPECT_NE(ReadAll(late).find("second"), std::string::npos);
  const UniqueFd fd = Dial(third.port());
  Send(fd, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_NE(ReadAll(fd).find("third"), std::string::npos);
}

TEST_F(HttpServerTest, WhatCameBeforeItStoppedListeningIsAnswered) {
  HttpServer keeping(&loop_, Keeping());
  ASSERT_TRUE(keeping.Listen("127.0.0.1:0").ok());
  const uint16_t port = keeping.port();
  const UniqueFd handled = Dial(port);
  Send(handled, "GET /handled HTTP/1.1\r\n\r\n");
  loop_.RunUntil(Limit());
  // The loop has not turned since, so that it waits in the kernel.
  const UniqueFd waiting = Dial(port);
  Send(waiting, "GET /waiting HTTP/1.1\r\n\r\n");
  keeping.StopListening();
  keeping.StopListening();
  loop_.RunUntil(Limit());
  ASSERT_EQ(waiting_.size(), 2U);
  for (const auto& respond : waiting_) respond(Text("answered"));
  for (const UniqueFd* fd : {&handled, &waiting}) {
    const std::string answer = ReadAll(*fd);
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << answer;
    EXPECT_NE(answer.find("answered<end>"), std::string::npos) << answer;
  }
  HttpServer next(&loop_, Answering());
  EXPECT_TRUE(next.Listen("127.0.0.1:" + std::to_string(port)).ok());
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
