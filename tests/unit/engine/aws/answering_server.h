// An HTTP service of a test's own: a function answers each request, and every request is kept.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "tests/support/scripted_server.h"

namespace mobula::testing {

struct Answer {
  int status = 200;
  std::string body;
  std::string headers;   // "Name: value\r\n" each
  bool hang = false;     // nothing comes until the client goes
  bool endless = false;  // a body that does not end by itself
  bool reset = false;    // RST instead of an answer
};

class AnsweringServer {
 public:
  // Called by one thread at a time.
  using Handler = std::function<Answer(const PeerRequest&)>;

  explicit AnsweringServer(Handler handler, SSL_CTX* tls = nullptr)
      : handler_(std::move(handler)), server_([this](Peer& peer) { Serve(peer); }, tls) {}

  [[nodiscard]] std::string url() const {
    return "http://127.0.0.1:" + std::to_string(server_.port());
  }
  [[nodiscard]] std::string authority() const {
    return "127.0.0.1:" + std::to_string(server_.port());
  }
  [[nodiscard]] std::vector<PeerRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  // Their first lines.
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const PeerRequest& request : requests()) lines.push_back(request.line);
    return lines;
  }

 private:
  void Serve(Peer& peer) {
    while (const auto request = peer.Read()) {
      Answer answer;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(*request);
        answer = handler_(*request);
      }
      if (answer.reset) {
        peer.Reset();
        return;
      }
      if (answer.hang) {
        peer.WaitForEnd();
        return;
      }
      if (answer.endless) {
        peer.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        const std::string chunk = "1000\r\n" + std::string(4096, '{') + "\r\n";
        for (int i = 0; i < 2000; ++i) peer.Write(chunk);
        return;
      }
      peer.Reply(answer.status, answer.body, answer.headers);
    }
  }

  const Handler handler_;
  mutable std::mutex mutex_;
  std::vector<PeerRequest> requests_;
  ScriptedServer server_;
};

}  // namespace mobula::testing
