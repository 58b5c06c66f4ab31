// A TCP server on loopback for tests: each connection runs a script on a thread of its own, in plain
// blocking calls, so that it can misbehave in every way a real far side does.
//
// Room:    test.
// Threads: the script runs on the connection's thread; count what it sees in atomics.
// Limits:  every wait ends after 20 s, or when the server is destroyed.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "engine/base/check.h"

namespace mobula::testing {

struct PeerRequest {
  std::string line;  // "POST /TraceSegments HTTP/1.1"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  [[nodiscard]] std::string Header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (absl::EqualsIgnoreCase(key, absl::string_view(name.data(), name.size()))) return value;
    }
    return "";
  }
};

// The server's end of one connection.
class Peer {
 public:
  Peer(int fd, SSL_CTX* tls) : fd_(fd) {
    const timeval limit{20, 0};
    const int one = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls != nullptr) StartTls(tls);
  }
  ~Peer() {
    if (ssl_ != nullptr && accepted_ && !reset_) SSL_shutdown(ssl_);
    SSL_free(ssl_);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Goes on in TLS, as behind a tunnel. REQUIRES: not in TLS yet.
  void StartTls(SSL_CTX* tls) {
    ssl_ = SSL_new(tls);
    SSL_set_fd(ssl_, fd_);
    accepted_ = SSL_accept(ssl_) == 1;
  }

  // The name the client asked for in TLS; empty: none.
  [[nodiscard]] std::string server_name() const {
    const char* const name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }
  [[nodiscard]] bool accepted() const { return accepted_; }
  [[nodiscard]] bool resumed() const { return ssl_ != nullptr && SSL_session_reused(ssl_) == 1; }

  // The next request; nothing at the end of the connection.
  std::optional<PeerRequest> Read() {
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!Fill()) return std::nullopt;
    }
    PeerRequest request;
    std::string_view head = std::string_view(buffer_).substr(0, end);
    size_t bytes = 0;
    for (bool first = true; !head.empty(); first = false) {
      const std::string_view line = head.substr(0, head.find("\r\n"));
      head.remove_prefix(std::min(head.size(), line.size() + 2));
      if (first) {
        request.line = line;
        continue;
      }
      const size_t colon = line.find(": ");
      request.headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    static_cast<void>(absl::SimpleAtoi(request.Header("content-length"), &bytes));
    buffer_.erase(0, end + 4);
    while (buffer_.size() < bytes) {
      if (!Fill()) return std::nullopt;
    }
    request.body = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return request;
  }

  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ssl_ != nullptr
                               ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                               : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }

  void Reply(int status, std::string_view body, std::string_view headers = "") {
    Write("HTTP/1.1 " + std::to_string(status) + " Word\r\n" + std::string(headers) +
          "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
  }

  // The connection ends with RST, and without TLS's word of the end, instead of FIN.
  void Reset() {
    reset_ = true;
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }

  // Waits until the client closes.
  void WaitForEnd() {
    buffer_.clear();
    while (Fill()) buffer_.clear();
  }

 private:
  bool Fill() {
    char data[16384];
    const ssize_t received =
        ssl_ != nullptr ? SSL_read(ssl_, data, sizeof data) : ::recv(fd_, data, sizeof data, 0);
    if (received <= 0) return false;
    buffer_.append(data, static_cast<size_t>(received));
    return true;
  }

  const int fd_;
  SSL* ssl_ = nullptr;
  bool accepted_ = true;
  bool reset_ = false;
  std::string buffer_;
};

class ScriptedServer {
 public:
  using Script = std::function<void(Peer&)>;

  explicit ScriptedServer(Script script, SSL_CTX* tls = nullptr)
      : script_(std::move(script)), tls_(tls), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    CHECK(::bind(listener_, any, size) == 0);
    CHECK(::listen(listener_, 64) == 0);
    CHECK(::getsockname(listener_, any, &size) == 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }

  ~ScriptedServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }
  // Connections accepted so far.
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void Accept() {
    for (;;) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0 || stopping_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] {
        sigset_t
            pipe;  // OpenSSL writes without MSG_NOSIGNAL; blocked here only, so that the client is tested
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
        {
          Peer peer(fd, tls_);
          if (peer.accepted()) script_(peer);
        }
        const std::lock_guard guard(mutex_);
        std::erase(open_, fd);
        ::close(fd);
      });
    }
  }

  const Script script_;
  SSL_CTX* const tls_;
  const int listener_;
  uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace mobula::testing
