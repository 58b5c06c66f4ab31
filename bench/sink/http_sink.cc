// The far side of load runs: answers PutTraceSegments after a fixed delay, and counts. Fast enough never to be
// the bottleneck, and nothing else: no signatures, no checks (tests/support/fake_xray.py has those).
//
//   http_sink PORT DELAY_MS     prints "ready", and on SIGTERM {"calls":N,"documents":N,"bytes":N}
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n"
    "{\"UnprocessedTraceSegments\":[]}";

uint64_t calls = 0;
uint64_t documents = 0;
uint64_t bytes = 0;

// Documents are the strings of one array: two unescaped quotes each, and two for the member's name.
uint64_t CountDocuments(std::string_view body) {
  uint64_t quotes = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    if (body[i] == '\\') {
      ++i;
    } else if (body[i] == '"') {
      ++quotes;
    }
  }
  return quotes / 2 - 1;
}

struct Connection {
  std::string in;
  size_t need = 0;  // bytes of the request being read; 0: its head is not complete
  size_t body_at = 0;
};

// Takes whole requests off the front; answers how many there were.
int TakeRequests(Connection* c) {
  int taken = 0;
  for (;;) {
    if (c->need == 0) {
      const size_t end = c->in.find("\r\n\r\n");
      if (end == std::string::npos) return taken;
      std::string head = c->in.substr(0, end);
      std::transform(head.begin(), head.end(), head.begin(),
                     [](unsigned char ch) { return std::tolower(ch); });
      const size_t at = head.find("content-length:");
      const size_t length = at == std::string::npos ? 0 : std::strtoul(&head[at + 15], nullptr, 10);
      c->body_at = end + 4;
      c->need = c->body_at + length;
    }
    if (c->in.size() < c->need) return taken;
    const std::string_view body(c->in.data() + c->body_at, c->need - c->body_at);
    ++calls;
    bytes += body.size();
    documents += CountDocuments(body);
    c->in.erase(0, c->need);
    c->need = 0;
    ++taken;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: http_sink PORT DELAY_MS\n");
    return 2;
  }
  const auto delay = std::chrono::microseconds(static_cast<int64_t>(std::atof(argv[2]) * 1000));
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[1])));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 256) != 0) {
    std::perror("http_sink");
    return 1;
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const int signals = signalfd(-1, &set, SFD_NONBLOCK);
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  const int poll = epoll_create1(0);
  const auto watch = [&](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener);
  watch(signals);
  watch(timer);
  std::printf("ready\n");
  std::fflush(stdout);

  std::unordered_map<int, std::unique_ptr<Connection>> connections;
  std::deque<std::pair<Clock::time_point, int>> due;  // all have the same delay: in order by nature
  std::string buffer(1 << 18, '\0');
  for (bool serving = true; serving;) {
    epoll_event events[64];
    const int n = epoll_wait(poll, events, 64, -1);
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == signals) {
        serving = false;
      } else if (fd == listener) {
        const int client = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
        if (client < 0) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[client] = std::make_unique<Connection>();
        watch(client);
      } else if (fd == timer) {
        uint64_t count = 0;
        (void)!read(timer, &count, sizeof count);
      } else {
        Connection& c = *connections[fd];
        const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
          connections.erase(fd);
          std::erase_if(due, [fd](const auto& d) { return d.second == fd; });
          close(fd);
          continue;
        }
        if (got < 0) continue;
        c.in.append(buffer.data(), static_cast<size_t>(got));
        for (int k = TakeRequests(&c); k > 0; --k) due.emplace_back(Clock::now() + delay, fd);
      }
    }
    const Clock::time_point now = Clock::now();
    while (!due.empty() && due.front().first <= now) {
      (void)!send(due.front().second, kAnswer.data(), kAnswer.size(), 0);
      due.pop_front();
    }
    if (!due.empty()) {
      const auto left = std::max<int64_t>(1, (due.front().first - now).count());
      itimerspec next{};
      next.it_value = {left / 1'000'000'000, left % 1'000'000'000};
      timerfd_settime(timer, 0, &next, nullptr);
    }
  }
  std::printf("{\"calls\":%lu,\"documents\":%lu,\"bytes\":%lu}\n",
              static_cast<unsigned long>(calls), static_cast<unsigned long>(documents),
              static_cast<unsigned long>(bytes));
  return 0;
}
