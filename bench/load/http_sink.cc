// The far side of load runs: answers PutTraceSegments, counts, and misbehaves as told. Fast enough never to be the
// bottleneck, and nothing else: no signatures, no checks (tests/support/fake_xray.py has those). Of the sender's
// numbered documents (blast.cc) it knows which arrived, which came twice, and how long they took.
//
//   http_sink PORT DELAY_MS [CERTIFICATE KEY]     PEM files: TLS
//
// Commands on standard input, a line each; every answer is a line of JSON:
//   ok                  takes everything
//   delay MS            answers so long after a request's last byte
//   status N            answers every call with this status
//   hang                reads, and never answers what came meanwhile
//   reset               cuts the connection when a request is complete
//   refuse              nobody listens, and what was connected is cut
//   partial N           one of N documents is answered as throttled
//   drop                cuts what is connected
//   move ADDRESS        refuses, and comes back at another address of this machine
//   tls CERTIFICATE KEY changes the certificate, and cuts what is connected
//   state               {"calls":N,"failed":N,"documents":N,"bytes":N,"unique":N,"duplicates":N,"connections":N}
//   missing FROM TO     [[FROM,TO],...]: numbers that did not arrive, TO excluded
//   latency             [[T,N,P50,P99,MAX],...]: of the documents sent from T on, for 100 ms; T in ms since 1970
// The end of standard input ends it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kNumbersMax = 1U << 30;

int64_t Microseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// How long the documents of one tenth of a second took: a histogram in quarters of an octave.
class Latency {
 public:
  void Add(int64_t us) {
    const auto eighth = static_cast<uint64_t>(std::max<int64_t>(us, kUnit)) * 4 / kUnit;
    const int octave = std::bit_width(eighth) - 3;
    const int bin = 4 * octave + static_cast<int>((eighth >> octave) & 3);
    ++bins_[static_cast<size_t>(std::min<int>(bin, kBins - 1))];
    ++count_;
    max_us_ = std::max(max_us_, us);
  }
  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] double max_ms() const { return static_cast<double>(max_us_) / 1000; }
  // The upper end of the bin.
  [[nodiscard]] double QuantileMs(double q) const {
    auto left = static_cast<int64_t>(q * static_cast<double>(count_));
    for (int bin = 0; bin < kBins; ++bin) {
      left -= bins_[static_cast<size_t>(bin)];
      if (left >= 0) continue;
      return std::min(max_ms(), static_cast<double>(kUnit << (bin / 4)) * (5 + bin % 4) / 4000);
    }
    return max_ms();
  }

 private:
  static constexpr int64_t kUnit = 128;
  static constexpr int kBins = 88;
  std::array<uint32_t, kBins> bins_{};
  uint64_t count_ = 0;
  int64_t max_us_ = 0;
};

// --- what arrived ------------------------------------------------------------------------------------------

struct Counts {
  uint64_t calls = 0;
  uint64_t failed = 0;  // calls that were not answered with 200
  uint64_t documents = 0;
  uint64_t bytes = 0;
  uint64_t unique = 0;  // numbered ones
  uint64_t duplicates = 0;
};

class Book {
 public:
  Counts counts;

  // Takes a body; `throttled` gets the ids of those that are not.
  void Take(std::string_view body, uint64_t one_of, std::string* throttled) {
    ++counts.calls;
    counts.bytes += body.size();
    const int64_t now = Microseconds();
    // Documents are the strings of one array, behind the string that is the member's name.
    bool inside = false;
    bool name = true;
    for (size_t i = 0; i < body.size(); ++i) {
      if (body[i] == '\\') {
        ++i;
      } else if (body[i] == '"') {
        inside = !inside;
        if (!inside) continue;
        if (!name) One(body.substr(i + 1), now, one_of, throttled);
        name = false;
      }
    }
  }

  void PrintMissing(uint64_t from, uint64_t to) const {
    std::printf("[");
    const char* separator = "";
    for (uint64_t n = from; n < to; ++n) {
      if (Seen(n)) continue;
      const uint64_t first = n;
      while (n < to && !Seen(n)) ++n;
      std::printf("%s[%lu,%lu]", separator, first, n);
      separator = ",";
    }
    std::printf("]\n");
  }

  void PrintLatency() const {
    std::printf("[");
    const char* separator = "";
    for (const auto& [tenth, latency] : latencies_) {
      std::printf("%s[%ld,%lu,%.1f,%.1f,%.1f]", separator, tenth * 100, latency.count(),
                  latency.QuantileMs(0.5), latency.QuantileMs(0.99), latency.max_ms());
      separator = ",";
    }
    std::printf("]\n");
  }

 private:
  void One(std::string_view document, int64_t now, uint64_t one_of, std::string* throttled) {
    constexpr std::string_view kNumber = "{\\\"n\\\":";
    constexpr std::string_view kTime = ",\\\"t\\\":";
    if (!document.starts_with(kNumber)) {
      ++counts.documents;
      return;
    }
    char* end = nullptr;
    const uint64_t number = std::strtoul(document.data() + kNumber.size(), &end, 10);
    if (one_of > 0 && number % one_of == 0) {
      char entry[128];
      std::snprintf(entry, sizeof entry,
                    "%s{\"ErrorCode\":\"ThrottledException\",\"Id\":\"%016lx\",\"Message\":\"\"}",
                    throttled->empty() ? "" : ",", number + 1);
      throttled->append(entry);
      return;
    }
    ++counts.documents;
    if (number >= kNumbersMax) return;
    if (number >= seen_.size()) seen_.resize(std::max<uint64_t>(2 * number, 1U << 20));
    if (seen_[number]) {
      ++counts.duplicates;
      return;
    }
    seen_[number] = true;
    ++counts.unique;
    if (std::string_view(end, kTime.size()) != kTime) return;
    const int64_t sent = std::strtol(end + kTime.size(), nullptr, 10);
    latencies_[sent / 100'000].Add(now - sent);
  }

  [[nodiscard]] bool Seen(uint64_t n) const { return n < seen_.size() && seen_[n]; }

  std::vector<bool> seen_;
  std::map<int64_t, Latency> latencies_;
};

// --- how it behaves ----------------------------------------------------------------------------------------

enum class Mode { kOk, kStatus, kHang, kReset };

struct Behaviour {
  Mode mode = Mode::kOk;
  int status = 200;
  uint64_t throttle_one_of = 0;
  std::chrono::microseconds delay{};
};

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct Connection {
  std::unique_ptr<SSL, SslFree> ssl;
  std::string in;
  size_t need = 0;  // bytes of the request being read; 0: its head is not complete
  size_t body_at = 0;
  bool segments = false;  // what the request is about
};

// An answer on its way.
struct Due {
  Clock::time_point at;
  int fd;
  std::string answer;
};

std::string Answer(int status, std::string_view body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

std::string Failure(int status) {
  return Answer(status, status == 429 ? R"({"__type":"ThrottledException","Message":"slow down"})"
                                      : R"({"__type":"ServiceUnavailable","Message":"not now"})");
}

class Sink {
 public:
  Sink(uint16_t port, std::chrono::microseconds delay)
      : port_(port), poll_(epoll_create1(0)), buffer_(1 << 18, '\0') {
    behaviour_.delay = delay;
  }

  bool UseCertificate(const std::string& certificate, const std::string& key) {
    context_.reset(SSL_CTX_new(TLS_server_method()));
    return SSL_CTX_use_certificate_chain_file(context_.get(), certificate.c_str()) == 1 &&
           SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM) == 1;
  }

  bool Listen() {
    const int one = 1;
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = inet_addr(address_.c_str());
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener_, 256) != 0) {
      return false;
    }
    Watch(listener_);
    return true;
  }

  // Until standard input ends.
  void Serve() {
    Watch(STDIN_FILENO);
    for (;;) {
      epoll_event events[64];
      const int n = epoll_wait(poll_, events, 64, NextTimeoutMs());
      for (int i = 0; i < n; ++i) {
        const int fd = events[i].data.fd;
        if (fd == STDIN_FILENO) {
          if (!ReadCommands()) return;
        } else if (fd == listener_) {
          Accept();
        } else if (connections_.contains(fd)) {
          Read(fd);
        }
      }
      SendDue();
    }
  }

 private:
  void Watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
  }

  [[nodiscard]] int NextTimeoutMs() const {
    if (due_.empty()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(due_.front().at - Clock::now());
    return static_cast<int>(std::max<int64_t>(0, left.count()));
  }

  void Accept() {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
    if (client < 0) return;
    const int one = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    auto connection = std::make_unique<Connection>();
    if (context_ != nullptr) {
      connection->ssl.reset(SSL_new(context_.get()));
      SSL_set_fd(connection->ssl.get(), client);
      SSL_set_accept_state(connection->ssl.get());
    }
    connections_[client] = std::move(connection);
    Watch(client);
  }

  void Close(int fd, bool cut) {
    if (cut) {
      const linger now{1, 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    connections_.erase(fd);
    std::erase_if(due_, [fd](const Due& due) { return due.fd == fd; });
    close(fd);
  }

  void CutAll() {
    while (!connections_.empty()) Close(connections_.begin()->first, /*cut=*/true);
  }

  // Bytes, 0 for "later", or -1 for the end.
  ssize_t ReadSome(int fd, const Connection& c) {
    if (c.ssl == nullptr) {
      const ssize_t n = recv(fd, buffer_.data(), buffer_.size(), 0);
      if (n > 0) return n;
      return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    ERR_clear_error();
    const int n = SSL_read(c.ssl.get(), buffer_.data(), static_cast<int>(buffer_.size()));
    if (n > 0) return n;
    return SSL_get_error(c.ssl.get(), n) == SSL_ERROR_WANT_READ ? 0 : -1;
  }

  void Read(int fd) {
    Connection& c = *connections_[fd];
    for (;;) {
      const ssize_t n = ReadSome(fd, c);
      if (n < 0) return Close(fd, /*cut=*/false);
      if (n == 0) return;
      c.in.append(buffer_.data(), static_cast<size_t>(n));
      while (TakeHead(&c) && c.in.size() >= c.need) {
        if (!TakeRequest(fd, &c)) return Close(fd, /*cut=*/true);
      }
      if (c.ssl == nullptr) return;
    }
  }

  // True when the head of a request is complete.
  static bool TakeHead(Connection* c) {
    if (c->need > 0) return true;
    const size_t end = c->in.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    std::string head = c->in.substr(0, end);
    c->segments = head.starts_with("POST /TraceSegments ");
    std::transform(head.begin(), head.end(), head.begin(),
                   [](unsigned char ch) { return std::tolower(ch); });
    const size_t at = head.find("content-length:");
    const size_t length = at == std::string::npos ? 0 : std::strtoul(&head[at + 15], nullptr, 10);
    c->body_at = end + 4;
    c->need = c->body_at + length;
    return true;
  }

  // A whole request off the front. False: the connection is to be cut.
  bool TakeRequest(int fd, Connection* c) {
    const std::string_view body(c->in.data() + c->body_at, c->need - c->body_at);
    std::string answer;
    if (behaviour_.mode != Mode::kOk) {
      ++book_.counts.failed;
      if (behaviour_.mode == Mode::kReset) return false;
      if (behaviour_.mode == Mode::kStatus) answer = Failure(behaviour_.status);
    } else if (c->segments) {
      std::string throttled;
      book_.Take(body, behaviour_.throttle_one_of, &throttled);
      answer = Answer(200, "{\"UnprocessedTraceSegments\":[" + throttled + "]}");
    } else {
      answer = Answer(200, "{}");
    }
    c->in.erase(0, c->need);
    c->need = 0;
    if (!answer.empty()) {
      // In order, though the delay may have changed.
      Due due{Clock::now() + behaviour_.delay, fd, std::move(answer)};
      if (!due_.empty()) due.at = std::max(due.at, due_.back().at);
      due_.push_back(std::move(due));
    }
    return true;
  }

  void SendDue() {
    while (!due_.empty() && due_.front().at <= Clock::now()) {
      const Due& due = due_.front();
      SSL* const ssl = connections_[due.fd]->ssl.get();
      const int size = static_cast<int>(due.answer.size());
      if (ssl != nullptr) {
        ERR_clear_error();
        SSL_write(ssl, due.answer.data(), size);
      } else {
        (void)!send(due.fd, due.answer.data(), due.answer.size(), MSG_NOSIGNAL);
      }
      due_.pop_front();
    }
  }

  // --- commands --------------------------------------------------------------------------------------------

  bool ReadCommands() {
    char chunk[4096];
    const ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
    if (n <= 0) return false;
    commands_.append(chunk, static_cast<size_t>(n));
    for (size_t end = 0; (end = commands_.find('\n')) != std::string::npos;) {
      std::istringstream words(commands_.substr(0, end));
      std::vector<std::string> command;
      for (std::string word; words >> word;) command.push_back(word);
      commands_.erase(0, end + 1);
      command.resize(3);
      Obey(command);
      std::fflush(stdout);
    }
    return true;
  }

  void Obey(const std::vector<std::string>& command) {
    const std::string& name = command[0];
    if (name == "missing") {
      return book_.PrintMissing(std::strtoul(command[1].c_str(), nullptr, 10),
                                std::strtoul(command[2].c_str(), nullptr, 10));
    }
    if (name == "latency") return book_.PrintLatency();
    if (name == "state") return PrintState();
    if (!Change(name, command[1], command[2])) {
      std::printf("{\"error\":\"%s\"}\n", name.c_str());
      return;
    }
    std::printf("{}\n");
  }

  bool Change(const std::string& name, const std::string& first, const std::string& second) {
    if (name == "drop") return CutAll(), true;
    if (name == "tls") return CutAll(), UseCertificate(first, second);
    if (name == "delay") {
      const double us = std::atof(first.c_str()) * 1000;
      behaviour_.delay = std::chrono::microseconds(static_cast<int64_t>(us));
      return true;
    }
    behaviour_.throttle_one_of = 0;
    if (name == "move") address_ = first;
    if (name == "refuse" || name == "move") {
      if (listener_ >= 0) close(listener_);
      listener_ = -1;
      CutAll();
      return true;
    }
    if (name == "ok" || name == "partial") {
      behaviour_.mode = Mode::kOk;
      behaviour_.throttle_one_of = std::strtoul(first.c_str(), nullptr, 10);
    } else if (name == "status") {
      behaviour_.mode = Mode::kStatus;
      behaviour_.status = std::atoi(first.c_str());
    } else if (name == "hang") {
      behaviour_.mode = Mode::kHang;
    } else if (name == "reset") {
      behaviour_.mode = Mode::kReset;
    } else {
      return false;
    }
    return listener_ >= 0 || Listen();
  }

  void PrintState() const {
    const Counts& c = book_.counts;
    std::printf(
        "{\"calls\":%lu,\"failed\":%lu,\"documents\":%lu,\"bytes\":%lu,\"unique\":%lu,"
        "\"duplicates\":%lu,\"connections\":%zu}\n",
        c.calls, c.failed, c.documents, c.bytes, c.unique, c.duplicates, connections_.size());
  }

  const uint16_t port_;
  std::string address_ = "127.0.0.1";
  const int poll_;
  int listener_ = -1;
  std::string buffer_;
  std::string commands_;
  std::unique_ptr<SSL_CTX, SslFree> context_;  // null: no TLS
  Behaviour behaviour_;
  Book book_;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
  std::deque<Due> due_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    std::fprintf(stderr, "usage: http_sink PORT DELAY_MS [CERTIFICATE KEY]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  Sink sink(static_cast<uint16_t>(std::atoi(argv[1])),
            std::chrono::microseconds(static_cast<int64_t>(std::atof(argv[2]) * 1000)));
  if (argc == 5 && !sink.UseCertificate(argv[3], argv[4])) {
    ERR_print_errors_fp(stderr);
    return 1;
  }
  if (!sink.Listen()) {
    std::perror("http_sink");
    return 1;
  }
  std::printf("{}\n");
  std::fflush(stdout);
  sink.Serve();
  return 0;
}
