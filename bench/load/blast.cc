// The sender of load runs: numbered documents, one datagram each, at a pace that standard input sets. Tells which of
// them found nobody listening, so that what a restart costs is known apart from what the agent loses.
//
//   blast PORT [BYTES]      documents of BYTES (700); {"n":NUMBER,"t":MICROSECONDS SINCE 1970,...
//
// Commands, a line each; every answer is a line of JSON:
//   rate N [M]  N datagrams a second from now on; 0 pauses; only M of them
//   burst N     N datagrams back to back
//   state       {"next":NUMBER,"sent":N,"refused":N,"failed":N}: all numbers below `next` were tried
//   refused     [[FROM,TO],...]: numbers that met a closed port, TO excluded
// The end of standard input ends it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kHeader = "{\"format\": \"json\", \"version\": 1}\n";
// After a stall it goes on at the pace; no more than this is made up for.
constexpr double kCatchUpSeconds = 0.01;
constexpr double kCatchUpDatagrams = 50;

int64_t Microseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

class Sender {
 public:
  Sender(int fd, size_t bytes) : fd_(fd), bytes_(bytes) {}

  void set_rate(double rate, uint64_t count) {
    rate_ = rate;
    left_ = count;
    owed_ = 0;
    at_ = Clock::now();
  }
  [[nodiscard]] bool paused() const { return rate_ == 0 || left_ == 0; }

  // Sends what is due.
  void Tick() {
    if (paused()) return;
    const Clock::time_point now = Clock::now();
    owed_ += std::chrono::duration<double>(now - at_).count() * rate_;
    owed_ = std::min(owed_, std::max(kCatchUpDatagrams, rate_ * kCatchUpSeconds));
    at_ = now;
    for (; owed_ >= 1 && left_ > 0; --owed_, --left_) {
      Send();
      // Over loopback the answer of a closed port is there when send returns.
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error == ECONNREFUSED) Refused(next_ - 1);
    }
  }

  void Send() {
    const uint64_t number = next_++;
    const size_t size = Compose(number);
    for (int tries = 0; tries < 1000; ++tries) {
      const ssize_t n = send(fd_, datagram_, size, 0);
      if (n >= 0) {
        ++sent_;
        return;
      }
      if (errno == ECONNREFUSED) {
        Refused(number - 1);  // a late answer to the one before; this one was not looked at yet
      } else if (errno == ENOBUFS || errno == EAGAIN) {
        usleep(1000);
      } else if (errno != EINTR) {
        break;
      }
    }
    ++failed_;
    Refused(number);
  }

  void PrintState() const {
    std::printf("{\"next\":%lu,\"sent\":%lu,\"refused\":%lu,\"failed\":%lu}\n", next_, sent_,
                refused_count_, failed_);
  }

  void PrintRefused() const {
    std::printf("[");
    const char* separator = "";
    for (const auto& [from, to] : refused_) {
      std::printf("%s[%lu,%lu]", separator, from, to);
      separator = ",";
    }
    std::printf("]\n");
  }

 private:
  // Members as of a segment of a web service; ids differ in every document, and half of the padding is random, so
  // that it compresses like one.
  size_t Compose(uint64_t number) {
    const int64_t now = Microseconds();
    const double seconds = static_cast<double>(now) / 1e6;
    int at = std::snprintf(
        datagram_, sizeof datagram_,
        "%.*s{\"n\":%lu,\"t\":%ld,\"name\":\"checkout.example.com\",\"id\":\"%016lx\","
        "\"trace_id\":\"1-%08lx-%024lx\",\"start_time\":%.6f,\"end_time\":%.6f,"
        "\"http\":{\"request\":{\"method\":\"GET\",\"url\":\"https://checkout.example.com/api/v1/"
        "cart\","
        "\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64)\",\"client_ip\":\"10.1.2.3\"},"
        "\"response\":{\"status\":200}},\"annotations\":{\"tenant\":\"acme\"},"
        "\"origin\":\"AWS::ECS::Container\",\"metadata\":{\"default\":{\"pad\":\"",
        static_cast<int>(kHeader.size()), kHeader.data(), number, now, number + 1, now / 1'000'000,
        number + 1, seconds - 0.1, seconds);
    const size_t size = std::max(bytes_ + kHeader.size(), static_cast<size_t>(at) + 4);
    const size_t pad = size - static_cast<size_t>(at) - 4;
    for (size_t i = 0; i < pad; ++i) {
      random_ = random_ * 6364136223846793005U + 1442695040888963407U;
      datagram_[at++] = i < pad / 2 ? 'x' : static_cast<char>('a' + (random_ >> 60));
    }
    std::memcpy(datagram_ + at, "\"}}}", 4);
    return size;
  }

  void Refused(uint64_t number) {
    ++refused_count_;
    if (!refused_.empty() && refused_.back().second >= number) {
      refused_.back().second = number + 1;
    } else {
      refused_.emplace_back(number, number + 1);
    }
  }

  const int fd_;
  const size_t bytes_;
  double rate_ = 0;
  double owed_ = 0;
  uint64_t left_ = 0;
  Clock::time_point at_{};
  uint64_t next_ = 0;
  uint64_t sent_ = 0;
  uint64_t refused_count_ = 0;
  uint64_t failed_ = 0;
  uint64_t random_ = 1;
  std::vector<std::pair<uint64_t, uint64_t>> refused_;
  char datagram_[65507];
};

void Obey(const std::string& command, Sender* sender) {
  char name[16] = "";
  double number = 0;
  uint64_t count = UINT64_MAX;
  (void)std::sscanf(command.c_str(), "%15s %lf %lu", name, &number, &count);
  const std::string_view what = name;
  if (what == "rate") sender->set_rate(number, count);
  if (what == "burst") {
    for (; number >= 1; --number) sender->Send();
  }
  if (what == "refused") {
    sender->PrintRefused();
  } else {
    sender->PrintState();
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const long bytes = argc == 3 ? std::atol(argv[2]) : 700;
  if (argc < 2 || argc > 3 || bytes <= 0 || bytes > 65000) {
    std::fprintf(stderr, "usage: blast PORT [BYTES]\n");
    return 2;
  }
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[1])));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    std::perror("blast");
    return 1;
  }
  Sender sender(fd, static_cast<size_t>(bytes));
  fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  std::string commands;
  for (;;) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, sender.paused() ? -1 : 1) > 0) {
      char chunk[4096];
      const ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
      if (n == 0) return 0;
      if (n > 0) commands.append(chunk, static_cast<size_t>(n));
      for (size_t end = 0; (end = commands.find('\n')) != std::string::npos;) {
        Obey(commands.substr(0, end), &sender);
        commands.erase(0, end + 1);
      }
    }
    sender.Tick();
  }
}
