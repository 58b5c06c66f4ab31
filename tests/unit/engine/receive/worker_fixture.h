// A worker on a loopback socket with lanes whose far side is the test.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/receive/udp_sockets.h"
#include "engine/receive/worker.h"

namespace mobula {

inline Time Now() { return std::chrono::steady_clock::now(); }

// Waits until `condition` holds; false after twenty seconds.
template <typename F>
bool Eventually(F condition) {
  const Time end = Now() + std::chrono::seconds(20);
  while (!condition()) {
    if (Now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class WorkerFixture : public ::testing::Test {
 protected:
  static constexpr size_t kQuota = 8 << 20;

  struct TestLane {
    LaneAccount account;
    std::unique_ptr<LaneInbox> inbox;
  };

  // Starts a worker over `routes`; backends are named a, b, c.
  void StartWorker(ReceiveEngine engine, const std::vector<RouteConfig>& routes = {},
                   Validate validate = Validate::kJson, bool dead_letters = true) {
    UdpConfig udp;
    udp.address = "127.0.0.1:0";
    absl::StatusOr<UdpSockets> sockets = OpenUdpSockets(udp, 1);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    sockets_ = *std::move(sockets);
    Worker::Options options;
    options.engine = engine;
    options.sockets = {sockets_.by_worker[0][0].get()};
    options.queue_bytes = sockets_.receive_buffer;
    options.validate = validate;
    options.senders = senders_;
    StartWorker(std::move(options), routes, dead_letters);
    sender_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(sockets_.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(sender_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  // The same over what `options` say of the receiving side.
  void StartWorker(Worker::Options options, const std::vector<RouteConfig>& routes,
                   bool dead_letters = true) {
    options.batch.age = std::chrono::milliseconds(50);
    options.pool = pool_.get();
    for (auto& lane : lanes_) MakeInbox(&lane);
    MakeInbox(&dead_);
    options.routes = MakeTable(routes, {"a", "b", "c"}, dead_letters);
    worker_ = std::make_unique<Worker>(std::move(options));
    thread_ = std::thread([this] {
      if (in_worker_thread_) in_worker_thread_();
      status_ = worker_->Run();
    });
  }
  // A table of `routes` to `backends`, which are some of a, b and c.
  std::shared_ptr<const RouteTable> MakeTable(const std::vector<RouteConfig>& routes,
                                              const std::vector<std::string>& backends,
                                              bool dead_letters) {
    std::vector<BackendConfig> configs;
    auto table = std::make_shared<RouteTable>();
    for (const std::string& name : backends) {
      configs.emplace_back().name = name;
      table->lanes.push_back(lanes_[static_cast<size_t>(name[0] - 'a')].inbox.get());
    }
    absl::StatusOr<std::unique_ptr<Router>> router = Router::Create(routes, configs);
    EXPECT_TRUE(router.ok()) << router.status();
    table->router = *std::move(router);
    if (dead_letters) table->dead_letter = dead_.inbox.get();
    return table;
  }
  void StopWorker() {
    if (!thread_.joinable()) return;
    worker_->Stop();
    thread_.join();
    EXPECT_TRUE(status_.ok()) << status_;
  }
  void TearDown() override { StopWorker(); }

  // Sends from another address of the loopback network.
  void SendFrom(const char* source, const std::string& bytes, int times) {
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = inet_addr(source);
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    address.sin_port = htons(sockets_.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < times; ++i) {
      ASSERT_EQ(sendto(fd.get(), bytes.data(), bytes.size(), 0,
                       reinterpret_cast<const sockaddr*>(&address), sizeof address),
                static_cast<ssize_t>(bytes.size()));
    }
  }
  void SendRaw(const std::string& bytes) {
    ASSERT_EQ(send(sender_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  void SendDocument(const std::string& document) {
    SendRaw("{\"format\": \"json\", \"version\": 1}\n" + document);
  }
  // All documents the lane was handed so far.
  static std::vector<std::string> TakeDocuments(TestLane* lane) {
    std::vector<std::string> documents;
    while (const BatchRef batch = lane->inbox->Pop()) {
      for (size_t i = 0; i < batch->size(); ++i) documents.emplace_back(batch->document(i));
      lane->account.held.Sub(batch->size());
      lane->account.held_bytes.Sub(batch->cost());
      lane->account.delivered.Add(batch->size());
    }
    return documents;
  }
  void ExpectLedger(uint64_t datagrams) {
    const WorkerStats& s = worker_->stats();
    EXPECT_EQ(s.datagrams.value(), datagrams);
    EXPECT_EQ(s.datagrams.value(), s.accepted.value() + s.rejected_total());
    EXPECT_EQ(s.accepted.value(), s.routed.value() + s.filtered.value() + s.open.value());
  }
  [[nodiscard]] uint64_t Rejected(RejectReason reason) const {
    return worker_->stats().rejected[static_cast<size_t>(reason)].value();
  }

  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(32 << 20);
  UdpSockets sockets_;
  std::array<TestLane, 3> lanes_;
  TestLane dead_;
  SourceGate::Options senders_;
  std::function<void()> in_worker_thread_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
  absl::Status status_;
  UniqueFd sender_;

 private:
  static void MakeInbox(TestLane* lane) {
    lane->inbox = std::make_unique<LaneInbox>(&lane->account, kQuota, 8192, 1);
    lane->inbox->set_notify([] {});
  }
};

inline std::string Segment(const std::string& name, const std::string& more = "") {
  return "{\"name\":\"" + name +
         "\",\"id\":\"70de5b6f19ff9a0a\",\"trace_id\":\"1-581cf771-a006649127e371903a2de979\","
         "\"start_time\":1478293361.271,\"end_time\":1478293361.449" +
         more + "}";
}

}  // namespace mobula
