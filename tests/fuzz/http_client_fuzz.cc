// Answers of HTTP servers and of forward proxies: any bytes, in any pieces, end the call once, within its limits, and the
// pieces make no difference. The first byte says how the call is made, the second how large the pieces are; the rest is
// what the far side sends before it closes the connection.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/unique_fd.h"
#include "engine/http/http_client.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using mobula::HttpClient;
using mobula::HttpResponse;

constexpr size_t kBodyBytesMax = 2000;
constexpr size_t kHeaderBytesMax = 16 * 1024;
constexpr size_t kBudget = 12 * 1024;
constexpr auto kPatience = std::chrono::seconds(10);

mobula::Time Now() { return std::chrono::steady_clock::now(); }

// Where the far side listens, and the loop that carries the calls: one for all inputs.
class Stage {
 public:
  Stage() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    EXPECT(::listen(fd_.get(), 16) == 0);
    socklen_t size = sizeof address;
    EXPECT(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  // The connection that a client is about to make.
  mobula::UniqueFd Accept() {
    for (const mobula::Time end = Now() + kPatience; Now() < end;) {
      loop_.RunUntil(Now());
      mobula::UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd.valid()) return fd;
      loop_.RunUntil(Now() + std::chrono::milliseconds(1));
    }
    return {};
  }
  [[nodiscard]] uint16_t port() const { return port_; }
  mobula::IoLoop* loop() { return &loop_; }

 private:
  mobula::UniqueFd fd_;
  uint16_t port_ = 0;
  mobula::IoLoop loop_;
};

struct Form {
  bool head = false;
  bool tunnel = false;
  bool budget = false;
};

HttpResponse Call(Stage* stage, const Form& form, std::string_view answer, size_t piece) {
  const auto budget = std::make_shared<mobula::ByteBudget>(kBudget);
  HttpResponse result;
  int answers = 0;
  {
    HttpClient::Options options;
    options.url = {form.tunnel, form.tunnel ? "xray.example" : "127.0.0.1",
                   static_cast<uint16_t>(form.tunnel ? 443 : stage->port()), ""};
    if (form.tunnel) {
      options.proxy.emplace();
      options.proxy->url = {false, "127.0.0.1", stage->port(), ""};
    }
    options.verify = false;
    options.body_bytes_max = kBodyBytesMax;
    if (form.budget) options.budget = budget;
    const auto client = *HttpClient::Create(stage->loop(), std::move(options));
    mobula::HttpRequest request;
    request.method = form.head ? "HEAD" : "POST";
    request.target = "/x";
    request.deadline = Now() + kPatience;
    client->Send(std::move(request), [&](HttpResponse response) {
      ++answers;
      result = std::move(response);
    });
    const mobula::UniqueFd far = stage->Accept();
    EXPECT(far.valid());
    const int on = 1;
    ::setsockopt(far.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (size_t at = 0; at < answer.size(); at += piece) {
      const std::string_view bytes = answer.substr(at, piece);
      // A client that has seen enough hangs up.
      if (::send(far.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) break;
      stage->loop()->RunUntil(Now());
    }
    ::shutdown(far.get(), SHUT_WR);
    while (answers == 0 && Now() < request.deadline) {
      stage->loop()->RunUntil(Now() + std::chrono::milliseconds(1));
    }
    EXPECT(answers == 1);
    EXPECT(!form.budget || budget->used() <= kBudget);
    client->Close();
    stage->loop()->RunUntil(Now());
    EXPECT(answers == 1);
  }
  stage->loop()->RunUntil(Now());
  result.share.reset();
  EXPECT(budget->used() == 0);
  return result;
}

void ExpectBounds(const HttpResponse& response) {
  if (!response.transport.ok()) {
    EXPECT(!response.fault.empty());
    EXPECT(!absl::IsDeadlineExceeded(response.transport));
    return;
  }
  EXPECT(response.fault.empty());
  EXPECT(response.status >= 200 && response.status <= 999);
  EXPECT(response.body.size() <= kBodyBytesMax);
  size_t bytes = 0;
  for (const auto& [name, value] : response.headers) {
    EXPECT(!name.empty());
    for (const std::string& text : {name, value}) {
      EXPECT(text.find_first_of(std::string_view("\r\n\0", 3)) == text.npos);
    }
    bytes += name.size() + value.size();
  }
  EXPECT(bytes <= kHeaderBytesMax);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Stage stage;
  Input input(data, size);
  const uint8_t how = input.Byte();
  const Form form{(how & 1) != 0, (how & 2) != 0, (how & 4) != 0};
  const size_t piece = 1 + input.Byte();
  const std::string answer(input.Rest());
  const HttpResponse whole = Call(&stage, form, answer, answer.size() + 1);
  ExpectBounds(whole);
  if (form.tunnel) EXPECT(!whole.transport.ok());
  // Pieces that are too many only take time.
  const HttpResponse pieces = Call(&stage, form, answer, std::max(piece, answer.size() / 200 + 1));
  ExpectBounds(pieces);
  EXPECT(whole.transport.ok() == pieces.transport.ok());
  // Which of two faults is seen first depends on what came together.
  if (!whole.transport.ok()) return 0;
  EXPECT(whole.status == pieces.status);
  EXPECT(whole.headers == pieces.headers);
  EXPECT(whole.body == pieces.body);
  return 0;
}
