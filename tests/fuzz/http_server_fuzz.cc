// Requests to the HTTP server, and what judges them behind it: any bytes, in any pieces, end in whole requests within
// the limits, each answered once, and the pieces make no difference. The first byte says how the requests are answered,
// the second how large the pieces are; the rest is what a client sends before it sends no more.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/app/admin_access.h"
#include "engine/base/unique_fd.h"
#include "engine/http/http_server.h"
#include "engine/sampling/default_rules.h"
#include "engine/sampling/pass_through.h"
#include "engine/sampling/sampling_paths.h"
#include "engine/segment/json_reader.h"
#include "tests/fuzz/expect.h"

namespace {

using mobula::HttpReply;
using mobula::HttpServer;
using mobula::HttpServerRequest;

constexpr size_t kHeaderBytesMax = 1024;
constexpr size_t kBodyBytesMax = 512;
constexpr size_t kBudget = 3000;
constexpr auto kPatience = std::chrono::seconds(10);
constexpr char kToken[] = "0123456789abcdef";

mobula::Time Now() { return std::chrono::steady_clock::now(); }

// --- What a handler is shown

bool IsToken(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || kOthers.find(c) != kOthers.npos;
  });
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

void ExpectBounds(const HttpServerRequest& request) {
  EXPECT(IsToken(request.method));
  EXPECT(request.method != "HEAD");
  EXPECT(!request.target.empty());
  EXPECT(std::all_of(request.target.begin(), request.target.end(),
                     [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '\x7f'; }));
  EXPECT(request.headers.size() <= 128);
  size_t bytes = request.method.size() + request.target.size();
  for (const auto& [name, value] : request.headers) {
    EXPECT(IsToken(name));
    EXPECT(value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos);
    bytes += name.size() + value.size();
  }
  EXPECT(bytes <= kHeaderBytesMax);
  EXPECT(request.body.size() <= kBodyBytesMax);
  EXPECT(request.share->bytes() >= bytes + request.body.size());
  EXPECT(!request.verified);
  EXPECT(request.peer.starts_with("127.0.0.1:"));
}

// --- What judges requests behind the server

// Nobody is let in who shows neither the token, nor an address or a name that only this machine can have.
void CheckAccess(const HttpServerRequest& request) {
  static const mobula::AdminAccess on_loopback(mobula::AdminConfig(), true);
  static const mobula::AdminAccess elsewhere(mobula::AdminConfig(), false);
  static const mobula::AdminAccess with_token(mobula::AdminConfig{.token = kToken}, false);
  EXPECT(elsewhere.Refuse(request).has_value());
  if (!on_loopback.Refuse(request)) {
    for (const auto& [name, value] : request.headers) {
      if (Lower(name) != "host") continue;
      std::string host = Lower(value);
      if (!host.starts_with('[')) host = host.substr(0, host.rfind(':'));
      if (host.ends_with('.')) host.pop_back();
      EXPECT(host == "localhost" || host.ends_with(".localhost") ||
             host.find_first_not_of("0123456789abcdef:.[]") == host.npos || host.starts_with('['));
    }
  }
  const auto refusal = with_token.Refuse(request);
  const std::string_view shown = request.Header("authorization");
  const bool right = Lower(shown.substr(0, 7)) == "bearer " && shown.ends_with(kToken) &&
                     shown.find_first_not_of(' ', 7) == shown.size() - sizeof kToken + 1;
  EXPECT(right == !refusal.has_value());
  if (refusal) EXPECT(refusal->status == 401 && refusal->headers.size() == 1);
}

void CheckSampling(const HttpServerRequest& request, mobula::DefaultRules* rules) {
  std::set<std::string> names;
  for (const auto& [name, value] : mobula::PassedRequestHeaders(request)) {
    EXPECT(IsToken(name));
    EXPECT(names.insert(Lower(name)).second);
    EXPECT(std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c < '\x7f'; }));
  }
  const std::string_view path = request.target.substr(0, request.target.find('?'));
  if (!mobula::IsSamplingPath(path)) return;
  const HttpReply reply = rules->Answer(path, request.body, Now(), 1'800'000'000);
  EXPECT(reply.status == 200 || reply.status == 400);
  EXPECT(mobula::ParseJson(reply.text()).has_value());
}

// --- The conversation

struct Form {
  bool later = false;   // answers come when the loop has turned once more
  bool budget = false;  // of few bytes
};

struct Seen {
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  friend bool operator==(const Seen&, const Seen&) = default;
};

mobula::UniqueFd Dial(uint16_t port) {
  mobula::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // No port is kept in TIME_WAIT for each of a million inputs.
  const linger at_once{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  return fd;
}

// What the handler saw of `bytes`.
std::vector<Seen> Converse(mobula::IoLoop* loop, const Form& form, std::string_view bytes,
                           size_t piece) {
  std::vector<Seen> seen;
  std::vector<HttpServer::Responder> waiting;
  mobula::DefaultRules rules(1'700'000'000);
  const auto budget = std::make_shared<mobula::ByteBudget>(form.budget ? kBudget : 1 << 20);
  HttpServer::Options options;
  options.header_bytes_max = kHeaderBytesMax;
  options.body_bytes_max = kBodyBytesMax;
  options.budget = budget;
  HttpServer server(
      loop,
      [&](HttpServerRequest& request, HttpServer::Responder respond) {
        ExpectBounds(request);
        CheckAccess(request);
        CheckSampling(request, &rules);
        Seen& one = seen.emplace_back();
        one.method = request.method;
        one.target = request.target;
        for (const auto& [name, value] : request.headers) one.headers.emplace_back(name, value);
        one.body = request.body;
        if (form.later) {
          waiting.push_back(std::move(respond));
        } else {
          respond(HttpReply{.headers = {{"X-Mark", "1"}}});
        }
      },
      options);
  EXPECT(server.Listen("127.0.0.1:0").ok());

  const mobula::UniqueFd fd = Dial(server.port());
  std::string answers;
  const auto turn = [&](mobula::Duration wait) {
    loop->RunUntil(Now() + wait);
    for (const HttpServer::Responder& respond : std::exchange(waiting, {})) {
      respond(HttpReply{.headers = {{"X-Mark", "1"}}});
    }
    char data[4096];
    ssize_t got = 0;
    while ((got = ::recv(fd.get(), data, sizeof data, MSG_DONTWAIT)) > 0) {
      answers.append(data, static_cast<size_t>(got));
    }
    return got == 0;
  };
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const std::string_view part = bytes.substr(at, piece);
    if (::send(fd.get(), part.data(), part.size(), MSG_NOSIGNAL) < 0) break;
    turn(mobula::Duration::zero());
  }
  ::shutdown(fd.get(), SHUT_WR);
  bool ended = false;
  for (const mobula::Time end = Now() + kPatience; !ended && Now() < end;) {
    ended = turn(mobula::Duration::zero()) || turn(std::chrono::milliseconds(1));
  }
  EXPECT(ended);  // long before any time-out
  EXPECT(answers.empty() || answers.starts_with("HTTP/1."));
  size_t marks = 0;
  for (size_t at = 0; (at = answers.find("\r\nX-Mark: 1\r\n", at)) != answers.npos; ++at) ++marks;
  EXPECT(form.budget ? marks <= seen.size() : marks == seen.size());
  server.Close();
  loop->RunUntil(Now());
  EXPECT(budget->used() == 0);
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mobula::IoLoop loop;
  if (size < 2) return 0;
  const uint8_t how = data[0];
  const Form form{(how & 1) != 0, (how & 2) != 0};
  const size_t piece = size_t{1} + data[1];
  const std::string bytes(data + 2, data + size);
  // More is over the limits of a few requests; it would only take time.
  if (bytes.size() > 16 * 1024) return 0;
  const std::vector<Seen> whole = Converse(&loop, form, bytes, bytes.size() + 1);
  const std::vector<Seen> pieces =
      Converse(&loop, form, bytes, std::max(piece, bytes.size() / 200 + 1));
  // What a small budget refuses depends on what came together.
  if (!form.budget) EXPECT(whole == pieces);
  return 0;
}
