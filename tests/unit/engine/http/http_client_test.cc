// Tests of engine/http/http_client.h over plain TCP.
#include "engine/http/http_client.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <algorithm>
#include <atomic>
#include <boost/beast/http/error.hpp>
#include <condition_variable>
#include <thread>

#include "engine/http/http_connection.h"
#include "tests/unit/engine/http/client_fixture.h"

namespace {
std::atomic<bool> resolver_down{false};
std::atomic<int> resolutions{0};
}  // namespace

// Stands before the C library's, so that a test can take the resolver away.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                           addrinfo** found) {
  ++resolutions;
  if (resolver_down) return EAI_AGAIN;
  static const auto real =
      reinterpret_cast<decltype(&getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  return real(node, service, hints, found);
}

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Peer;
using testing::ScriptedServer;

class HttpClientTest : public testing::ClientFixture {};

// Answers every request with its own body.
void Echo(Peer& peer) {
  while (const auto request = peer.Read()) peer.Reply(200, request->body);
}

TEST_F(HttpClientTest, SendsTheRequestAsGiven) {
  testing::PeerRequest seen;
  ScriptedServer server([&](Peer& peer) {
    seen = *peer.Read();
    peer.Reply(201, "done", "X-Amzn-RequestId: abc\r\nDate:   now \r\n");
    peer.WaitForEnd();
  });
  Connect(server.port());
  HttpRequest request = Post("/base/TraceSegments", "{}");
  request.headers = {{"Content-Type", "application/json"}, {"X-Token", "a=b/c+d"}};
  const HttpResponse response = Call(std::move(request));
  ASSERT_TRUE(response.transport.ok()) << response.transport;
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(response.body, "done");
  EXPECT_EQ(response.Header("x-amzn-requestid"), "abc");
  EXPECT_EQ(response.Header("date"), "now");
  EXPECT_EQ(response.Header("missing"), "");
  EXPECT_EQ(seen.line, "POST /base/TraceSegments HTTP/1.1");
  EXPECT_EQ(seen.Header("host"), "127.0.0.1:" + std::to_string(server.port()));
  EXPECT_EQ(seen.Header("content-type"), "application/json");
  EXPECT_EQ(seen.Header("x-token"), "a=b/c+d");
  EXPECT_EQ(seen.Header("content-length"), "2");
  EXPECT_EQ(seen.body, "{}");
}

TEST_F(HttpClientTest, KeepsTheConnection) {
  ScriptedServer server(Echo);
  Connect(server.port());
  for (int i = 0; i < 20; ++i) {
    const std::string body = "call " + std::to_string(i);
    EXPECT_EQ(Call(Post("/", body)).body, body);
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, CarriesALargeBodyThroughAFullSocket) {
  ScriptedServer server(Echo);
  HttpClient::Options options;
  options.body_bytes_max = 8 << 20;
  Connect(server.port(), options);
  std::string body(8 << 20, ' ');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i * 7 / 3 % 26);
  EXPECT_EQ(Call(Post("/", body)).body, body);
  EXPECT_EQ(Call(Post("/", "small")).body, "small");
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, ManyCallsAtOnceEachHaveAConnection) {
  std::mutex mutex;
  std::condition_variable all;
  int waiting = 0;
  ScriptedServer server([&](Peer& peer) {
    while (const auto request = peer.Read()) {
      std::unique_lock lock(mutex);
      ++waiting;
      all.notify_all();
      all.wait_for(lock, seconds(10), [&] { return waiting >= 8; });
      peer.Reply(200, request->body);
    }
  });
  Connect(server.port());
  int done = 0;
  for (int i = 0; i < 8; ++i) {
    client_->Send(Post("/", "x"), [&](HttpResponse response) {
      EXPECT_EQ(response.status, 200);
      if (++done == 8) loop_.Stop();
    });
  }
  EXPECT_EQ(done, 0);  // nothing is called from inside Send
  loop_.RunUntil(Limit());
  EXPECT_EQ(done, 8);
  EXPECT_EQ(server.connections(), 8);
}

TEST_F(HttpClientTest, ACallMayBeMadeFromACallback) {
  ScriptedServer server(Echo);
  Connect(server.port());
  std::vector<std::string> answers;
  client_->Send(Post("/", "one"), [&](HttpResponse first) {
    answers.push_back(first.body);
    client_->Send(Post("/", "two"), [&](HttpResponse second) {
      answers.push_back(second.body);
      loop_.Stop();
    });
  });
  loop_.RunUntil(Limit());
  EXPECT_EQ(answers, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, ReadsEveryFormOfAnswer) {
  struct Case {
    const char* answer;
    const char* body;
    bool kept;
  };
  for (const Case& c : {
           Case{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
                "0\r\nT: v\r\n\r\n",
                "abcde", true},
           Case{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", true},
           Case{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", "ab", false},
           Case{"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", false},
           Case{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", "a",
                true},
           Case{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
                "ab", true},
           Case{"HTTP/1.1 204 No Content\r\n\r\n", "", true},
           Case{"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
                "", true},
       }) {
    for (const bool bytewise : {false, true}) {
      ScriptedServer server([&](Peer& peer) {
        const std::string_view answer = c.answer;
        while (peer.Read()) {
          if (bytewise) {
            for (const char byte : answer) peer.Write({&byte, 1});
          } else {
            peer.Write(answer);
          }
          if (!c.kept) return;
        }
      });
      Connect(server.port());
      const HttpResponse response = Call(Post("/", "x"));
      ASSERT_TRUE(response.transport.ok()) << c.answer << response.transport;
      EXPECT_EQ(response.body, c.body) << c.answer;
      if (std::string_view(c.answer).find(" 103 ") != std::string_view::npos) {
        EXPECT_EQ(response.Header("link"), "");  // the interim answer leaves nothing behind
      }
      EXPECT_EQ(Call(Post("/", "x")).body, c.body) << c.answer;
      EXPECT_EQ(server.connections(), c.kept ? 1 : 2) << c.answer;
    }
  }
}

TEST_F(HttpClientTest, TheEndOfAnEmptyChunkedBodyMayComeInPieces) {
  ScriptedServer server([&](Peer& peer) {
    while (peer.Read()) {
      peer.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (const char byte : std::string_view("0\r\n\r\n")) {
        std::this_thread::sleep_for(milliseconds(2));  // so that each is read alone
        peer.Write({&byte, 1});
      }
    }
  });
  Connect(server.port());
  for (int i = 0; i < 5; ++i) {
    const HttpResponse response = Call(Post("/", "x"));
    EXPECT_EQ(response.status, 200) << response.transport;
    EXPECT_EQ(response.body, "");
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, AConnectionWithMoreThanTheAnswerIsOfNoFurtherUse) {
  ScriptedServer server([&](Peer& peer) {
    peer.Read();
    peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc");
    peer.WaitForEnd();
  });
  Connect(server.port());
  EXPECT_EQ(Call(Post("/", "x")).body, "a");
  EXPECT_EQ(Call(Post("/", "x")).body, "a");
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, AnAnswerToHeadHasNoBody) {
  ScriptedServer server([&](Peer& peer) {
    while (peer.Read()) peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
  });
  Connect(server.port());
  for (int i = 0; i < 2; ++i) {
    HttpRequest request = Post("/", "");
    request.method = "HEAD";
    const HttpResponse response = Call(std::move(request));
    EXPECT_TRUE(response.transport.ok()) << response.transport;
    EXPECT_EQ(response.Header("Content-Length"), "1000");
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, GarbledAnswersAreDataLoss) {
  const std::string long_header = "HTTP/1.1 200 OK\r\nX: " + std::string(20000, 'a') + "\r\n\r\n";
  const std::string endless_header = "HTTP/1.1 200 OK\r\nX: " + std::string(40000, 'a');
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string endless_chunk_line = chunked + "3\r\nabc\r\n2;x=" + std::string(40000, 'y');
  const std::string endless_zeros = chunked + std::string(40000, '0');
  const std::string endless_trailer = chunked + "0\r\nT: " + std::string(40000, 'v');
  for (const std::string_view answer :
       {std::string_view("nonsense\r\n\r\n"), std::string_view("HTTP/1.1 abc OK\r\n\r\n"),
        std::string_view("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        std::string_view("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string_view("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"),
        std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16), std::string_view(long_header),
        std::string_view(endless_header), std::string_view(endless_chunk_line),
        std::string_view(endless_zeros), std::string_view(endless_trailer)}) {
    ScriptedServer server([&](Peer& peer) {
      peer.Read();
      peer.Write(answer);
      peer.WaitForEnd();
    });
    Connect(server.port());
    const HttpResponse response = Call(Post("/", "x"));
    EXPECT_EQ(response.transport.code(), absl::StatusCode::kDataLoss)
        << answer.substr(0, 50) << response.transport;
    EXPECT_EQ(response.fault, "garbled");
  }
}

TEST(HttpResponseParserTest, HeadersThatTrickleInCountTogether) {
  HttpResponse response;
  HttpResponseParser parser(&response, 1 << 20, /*head_only=*/false);
  boost::system::error_code error;
  std::string left = "HTTP/1.1 200 OK\r\nX";
  // What is left over after each part is so short that the parser takes the header before it at once.
  for (int i = 0; i < 1000 && (!error || error == boost::beast::http::error::need_more); ++i) {
    left += ": " + std::string(100, 'a') + "\r\nX";
    for (size_t used = 1; used != 0 && !left.empty();) {
      used = parser.put(boost::asio::buffer(left), error);
      left.erase(0, used);
    }
  }
  EXPECT_EQ(error, boost::beast::http::error::header_limit);
  EXPECT_LT(response.headers.size(), 200U);
}

TEST(HttpResponseParserTest, TheLengthAloneTakesNoMemory) {
  HttpResponse response;
  HttpResponseParser parser(&response, 1 << 20, /*head_only=*/false);
  constexpr std::string_view kBegun = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nab";
  boost::system::error_code error;
  size_t used = 0;
  while (used < kBegun.size() && !error) {
    used += parser.put(boost::asio::buffer(kBegun.data() + used, kBegun.size() - used), error);
  }
  EXPECT_EQ(used, kBegun.size()) << error;
  EXPECT_EQ(response.body, "ab");
  EXPECT_LT(response.body.capacity(), 1000U);
}

TEST_F(HttpClientTest, ALostConnectionIsUnavailable) {
  for (const char* part :
       {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}) {
    for (const bool reset : {false, true}) {
      ScriptedServer server([&](Peer& peer) {
        peer.Read();
        peer.Write(part);
        if (reset) peer.Reset();
      });
      Connect(server.port());
      const HttpResponse response = Call(Post("/", "x"));
      EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable) << part;
      EXPECT_EQ(response.fault, "reset") << part;
      EXPECT_EQ(server.connections(), 1) << part;  // a new connection is no reason to try again
    }
  }
}

TEST_F(HttpClientTest, AKeptConnectionThatWasClosedMeanwhileIsReplaced) {
  // The server takes the second request and closes without an answer: only reading can tell.
  std::atomic<int> requests{0};
  ScriptedServer server([&](Peer& peer) {
    const int mine = ++requests;
    if (!peer.Read()) return;
    peer.Reply(200, "connection " + std::to_string(mine));
    if (mine == 1) {
      peer.Read();
    } else {
      peer.WaitForEnd();
    }
  });
  Connect(server.port());
  EXPECT_EQ(Call(Post("/", "x")).body, "connection 1");
  const HttpResponse second = Call(Post("/", "x"));
  EXPECT_EQ(second.body, "connection 2") << second.transport;
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, AKeptConnectionClosedWhileIdleIsNotUsed) {
  ScriptedServer server([&](Peer& peer) {
    peer.Read();
    peer.Reply(200, "x");
  });
  Connect(server.port());
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Call(Post("/", "x")).status, 200);
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
  }
  EXPECT_EQ(server.connections(), 5);
}

TEST_F(HttpClientTest, TheSecondTryIsTheLast) {
  std::atomic<int> requests{0};
  ScriptedServer server([&](Peer& peer) {
    if (!peer.Read()) return;
    if (++requests == 1) {
      peer.Reply(200, "x");
      peer.Read();
    }
  });
  Connect(server.port());
  EXPECT_EQ(Call(Post("/", "x")).status, 200);
  EXPECT_EQ(Call(Post("/", "x")).transport.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, AnAnswerBeforeTheWholeRequestCounts) {
  ScriptedServer server([&](Peer& peer) {
    peer.Reply(413, "too large");
    peer.WaitForEnd();
  });
  Connect(server.port());
  const std::string body(4 << 20, 'x');
  EXPECT_EQ(Call(Post("/", body)).status, 413);
}

TEST_F(HttpClientTest, TimesOutAtTheDeadline) {
  ScriptedServer server([&](Peer& peer) { peer.WaitForEnd(); });
  Connect(server.port());
  HttpRequest request = Post("/", "x");
  const Time start = std::chrono::steady_clock::now();
  request.deadline = start + milliseconds(50);
  const HttpResponse response = Call(std::move(request));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(response.fault, "timeout");
  EXPECT_GE(std::chrono::steady_clock::now(), start + milliseconds(50));
}

TEST_F(HttpClientTest, AShortDeadlineBehindALongOneIsKept) {
  ScriptedServer server([&](Peer& peer) { peer.WaitForEnd(); });
  Connect(server.port());
  HttpRequest patient = Post("/", "x");
  patient.deadline = Limit() + seconds(100);
  bool answered = false;
  client_->Send(std::move(patient), [&](HttpResponse) { answered = true; });
  HttpRequest hasty = Post("/", "x");
  hasty.deadline = std::chrono::steady_clock::now() + milliseconds(20);
  EXPECT_EQ(Call(std::move(hasty)).fault, "timeout");
  EXPECT_FALSE(answered);
}

TEST_F(HttpClientTest, ADeadlineThatHasPassedIsATimeOut) {
  ScriptedServer server(Echo);
  Connect(server.port());
  HttpRequest request = Post("/", "x");
  request.deadline = std::chrono::steady_clock::now() - seconds(1);
  EXPECT_EQ(Call(std::move(request)).fault, "timeout");
}

TEST_F(HttpClientTest, RefusedConnectionsAreUnavailable) {
  uint16_t port;
  {
    ScriptedServer server(Echo);
    port = server.port();
  }
  Connect(port);
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(response.fault, "refused");
}

TEST_F(HttpClientTest, ResolvesNamesAndTriesEveryAddress) {
  // "localhost" may name ::1 first, where nobody listens.
  ScriptedServer server(Echo);
  Connect(server.port(), {}, "http://localhost");
  int done = 0;
  for (int i = 0; i < 3; ++i) {
    client_->Send(Post("/", "x"), [&](HttpResponse response) {
      EXPECT_EQ(response.body, "x") << response.transport;
      if (++done == 3) loop_.Stop();
    });
  }
  loop_.RunUntil(Limit());
  EXPECT_EQ(done, 3);
}

TEST_F(HttpClientTest, AnUnknownNameIsNotFound) {
  Connect(80, {}, "http://no-such-host.invalid");
  const HttpResponse response = Call(Post("/", "x"));
  EXPECT_EQ(response.transport.code(), absl::StatusCode::kNotFound) << response.transport;
  EXPECT_EQ(response.fault, "dns");
}

TEST_F(HttpClientTest, OldAddressesStayInUseWhileTheResolverIsDown) {
  ScriptedServer server([](Peer& peer) {
    peer.Read();
    peer.Reply(200, "x", "Connection: close\r\n");
  });
  HttpClient::Options options;
  options.resolve_ttl = milliseconds(1);
  Connect(server.port(), options, "http://localhost");
  const auto call = [&] {
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(2));  // past the ttl
    return Call(Post("/", "x"));
  };
  resolver_down = true;
  EXPECT_EQ(call().fault, "dns");  // there are no old ones yet
  resolver_down = false;
  EXPECT_EQ(call().body, "x");
  resolver_down = true;
  const int before = resolutions;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(call().body, "x");
  EXPECT_EQ(resolutions, before + 3);  // asked again each time they were due
  resolver_down = false;
  EXPECT_EQ(call().body, "x");
}

TEST_F(HttpClientTest, IdleConnectionsAreClosedAfterAWhile) {
  std::atomic<int> ended{0};
  ScriptedServer server([&](Peer& peer) {
    Echo(peer);
    ++ended;
  });
  HttpClient::Options options;
  options.idle_timeout = milliseconds(20);
  Connect(server.port(), options);
  EXPECT_EQ(Call(Post("/", "x")).status, 200);
  const Time limit = Limit();
  while (ended == 0 && std::chrono::steady_clock::now() < limit) {
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
  }
  EXPECT_EQ(ended, 1);
}

TEST_F(HttpClientTest, NoMoreIdleConnectionsAreKeptThanAllowed) {
  std::atomic<int> ended{0};
  ScriptedServer server([&](Peer& peer) {
    Echo(peer);
    ++ended;
  });
  HttpClient::Options options;
  options.idle_connections_max = 2;
  Connect(server.port(), options);
  int done = 0;
  for (int i = 0; i < 6; ++i) {
    client_->Send(Post("/", "x"), [&](HttpResponse) { ++done; });
  }
  const Time limit = Limit();
  while ((done < 6 || ended < 4) && std::chrono::steady_clock::now() < limit) {
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
  }
  EXPECT_EQ(done, 6);
  EXPECT_EQ(ended, 4);
}

TEST_F(HttpClientTest, CloseAnswersEveryCallOnce) {
  ScriptedServer server([&](Peer& peer) { peer.WaitForEnd(); });
  Connect(server.port());
  int done = 0;
  for (int i = 0; i < 3; ++i) {
    client_->Send(Post("/", "x"), [&](HttpResponse response) {
      EXPECT_EQ(response.transport.code(), absl::StatusCode::kCancelled);
      EXPECT_EQ(response.fault, "canceled");
      ++done;
    });
    loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(2));
  }
  client_->Close();
  EXPECT_EQ(done, 3);
  client_->Close();
  loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(20));
  EXPECT_EQ(done, 3);
}

TEST_F(HttpClientTest, DestructionDropsTheCallbacks) {
  ScriptedServer server([&](Peer& peer) { peer.WaitForEnd(); });
  Connect(server.port());
  auto token = std::make_shared<int>(0);
  client_->Send(Post("/", "x"), [token](HttpResponse) { ++*token; });
  loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
  client_.reset();
  loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(*token, 0);
}

TEST_F(HttpClientTest, NothingIsCalledThatWasPostedBeforeTheDestruction) {
  Connect(1);
  client_->Send(Post("/a b", "x"), [](const HttpResponse&) { ADD_FAILURE() << "called"; });
  client_.reset();
  loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(5));
}

TEST_F(HttpClientTest, AnswersOfAllCallsHaveOneBudget) {
  ScriptedServer server([](Peer& peer) {
    while (peer.Read()) peer.Reply(200, std::string(100000, 'x'));
  });
  const auto budget = std::make_shared<ByteBudget>(250000);
  Connect(server.port(), {.budget = budget});
  auto first = std::make_unique<HttpResponse>(Call(Post("/", "")));
  EXPECT_EQ(first->body, std::string(100000, 'x'));
  ASSERT_NE(first->share, nullptr);
  EXPECT_GE(budget->used(), 100000U);
  EXPECT_LT(budget->used(), 125000U);
  HttpResponse second = Call(Post("/", ""));
  EXPECT_TRUE(second.transport.ok()) << second.transport;
  const HttpResponse third = Call(Post("/", ""));
  EXPECT_TRUE(absl::IsResourceExhausted(third.transport)) << third.transport;
  EXPECT_EQ(third.fault, "busy");
  first.reset();
  second = HttpResponse();
  EXPECT_TRUE(Call(Post("/", "")).transport.ok());
  EXPECT_EQ(budget->used(), 0U);
}

TEST_F(HttpClientTest, HeadersCannotBeForged) {
  ScriptedServer server(Echo);
  Connect(server.port());
  for (const char* value : {"a\r\nX-Evil: 1", "a\nb", "a\rb"}) {
    HttpRequest request = Post("/", "x");
    request.headers = {{"X-A", value}};
    EXPECT_EQ(Call(std::move(request)).fault, "invalid_request");
  }
  EXPECT_EQ(Call(Post("/a b", "x")).fault, "invalid_request");
  EXPECT_EQ(Call(Post("no-slash", "x")).fault, "invalid_request");
}

}  // namespace
}  // namespace mobula
