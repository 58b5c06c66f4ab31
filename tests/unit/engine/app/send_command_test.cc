#include "engine/app/send_command.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/base/unique_fd.h"
#include "tests/unit/backends/file/file_test_support.h"

namespace mobula {
namespace {

using testing::TemporaryFolder;
using testing::WriteFile;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kHeader = "{\"format\": \"json\", \"version\": 1}\n";

// A UDP socket of the loopback that keeps what it gets.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t length = sizeof address;
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    const int bytes = 4 << 20;
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // Everything that has arrived; on the loopback that is everything sent.
  std::vector<std::string> Take() {
    std::vector<std::string> datagrams;
    std::string buffer(65536, '\0');
    ssize_t n = 0;
    while ((n = recv(fd_.get(), buffer.data(), buffer.size(), 0)) >= 0) {
      datagrams.push_back(buffer.substr(0, static_cast<size_t>(n)));
    }
    return datagrams;
  }
  void Close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

class SendCommandTest : public ::testing::Test {
 protected:
  SendCommandTest() {
    WriteFile(folder_ / "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n");
    options_.inputs = {folder_ / "a.jsonl"};
    options_.to = listener_.address();
    options_.rate = 0;
  }
  SendResult Send() {
    ProgressBar progress(-1);
    auto result = RunSend(options_, &progress, [&](Time until) {
      waits_.push_back(until);
      std::this_thread::sleep_until(until);
      return waits_.size() >= stop_after_;
    });
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : SendResult{};
  }
  absl::Status Error() {
    ProgressBar progress(-1);
    return RunSend(options_, &progress, [](Time) { return false; }).status();
  }

  TemporaryFolder folder_;
  Listener listener_;
  SendOptions options_;
  std::vector<Time> waits_;
  size_t stop_after_ = SIZE_MAX;
};

TEST_F(SendCommandTest, DocumentsGetTheHeaderAndDatagramsStayAsTheyAre) {
  WriteFile(folder_ / "b.bin", std::string_view("anything\0at all\n", 16));
  options_.inputs.push_back(folder_ / "b.bin");
  const SendResult result = Send();
  const std::string header(kHeader);
  const std::vector<std::string> expected = {header + "{\"n\": 1}", header + "{\"n\": 2}",
                                             header + "{\"n\": 3}",
                                             std::string("anything\0at all\n", 16)};
  EXPECT_EQ(listener_.Take(), expected);
  EXPECT_EQ(result.offered, 4U);
  EXPECT_EQ(result.sent, 4U);
  EXPECT_EQ(result.bytes, 3 * (header.size() + 8) + 16);
  EXPECT_TRUE(result.errors.empty());
}

TEST_F(SendCommandTest, RepeatsInOrder) {
  options_.repeat = 50;
  EXPECT_EQ(Send().sent, 150U);
  const std::vector<std::string> datagrams = listener_.Take();
  ASSERT_EQ(datagrams.size(), 150U);
  EXPECT_EQ(datagrams[0], datagrams[3]);
  EXPECT_EQ(datagrams[149], std::string(kHeader) + "{\"n\": 3}");
}

TEST_F(SendCommandTest, KeepsTheRate) {
  options_.repeat = 40;
  options_.rate = 1000;
  const Time before = Clock::now();
  const SendResult result = Send();
  const double seconds = Seconds(Clock::now() - before);
  EXPECT_EQ(result.sent, 120U);
  // The last of 120 leaves 119 ms after the first; later when the machine is busy, never sooner.
  EXPECT_GE(seconds, 0.118);
  ASSERT_FALSE(waits_.empty());
  EXPECT_GE(Seconds(waits_.back() - before), 0.05);
}

TEST_F(SendCommandTest, NobodyListeningIsCountedAndSaid) {
  listener_.Close();
  options_.repeat = 10;
  const SendResult result = Send();
  EXPECT_EQ(result.offered, 30U);
  EXPECT_GE(result.errors.at("ECONNREFUSED"), 1U);
  EXPECT_NE(SendResultText(result, options_.to).find("nobody listens on " + options_.to),
            std::string::npos);
}

TEST_F(SendCommandTest, ADatagramTheKernelRefusesIsCountedAndTheRestIsSent) {
  WriteFile(folder_ / "b.bin", std::string(70'000, 'x'));
  WriteFile(folder_ / "c.bin", "after");
  options_.inputs = {folder_ / "a.jsonl", folder_ / "b.bin", folder_ / "c.bin"};
  const SendResult result = Send();
  EXPECT_EQ(result.offered, 5U);
  EXPECT_EQ(result.sent, 4U);
  EXPECT_EQ(result.errors, (std::map<std::string, uint64_t>{{"EMSGSIZE", 1}}));
  EXPECT_EQ(listener_.Take().back(), "after");
}

TEST_F(SendCommandTest, StopsWhenTold) {
  options_.repeat = 1'000'000;
  options_.rate = 1000;
  stop_after_ = 3;
  const SendResult result = Send();
  EXPECT_TRUE(result.stopped);
  EXPECT_LT(result.offered, 3'000'000U);
  EXPECT_NE(SendResultText(result, options_.to).find("stopped"), std::string::npos);
}

TEST_F(SendCommandTest, StopsWhileAPipeSaysNothing) {
  ASSERT_EQ(mkfifo((folder_ / "in.jsonl").c_str(), 0600), 0);
  // Held open, so that the pipe has no end.
  const UniqueFd pipe(open((folder_ / "in.jsonl").c_str(), O_RDWR | O_CLOEXEC));
  options_.inputs = {folder_ / "in.jsonl"};
  stop_after_ = 3;
  EXPECT_TRUE(Send().stopped);

  // From standard input it is read while sending: what was read by then leaves.
  const UniqueFd before(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  ASSERT_EQ(dup2(pipe.get(), STDIN_FILENO), STDIN_FILENO);
  ASSERT_EQ(write(pipe.get(), "1\n2\n", 4), 4);
  options_.inputs = {"-"};
  waits_.clear();
  stop_after_ = 4;
  const SendResult result = Send();
  if (before.valid()) dup2(before.get(), STDIN_FILENO);
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.sent, 2U);
  EXPECT_EQ(listener_.Take().size(), 2U);
}

TEST_F(SendCommandTest, FreshPassesDifferAndAreCurrent) {
  WriteFile(folder_ / "b.json",
            "{\"trace_id\":\"1-58406520-a006649127e371903a2de979\",\"id\":\"6226467e3f845502\","
            "\"start_time\":1498082657.25,\"end_time\":1498082657.5}");
  options_.inputs = {folder_ / "b.json"};
  options_.repeat = 2;
  options_.fresh = true;
  Send();
  const std::vector<std::string> datagrams = listener_.Take();
  ASSERT_EQ(datagrams.size(), 2U);
  EXPECT_NE(datagrams[0].substr(0, 140), datagrams[1].substr(0, 140));
  const size_t at = datagrams[0].find("\"end_time\":");
  ASSERT_NE(at, std::string::npos);
  const double end = std::stod(datagrams[0].substr(at + 11));
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_LE(end, now);
  EXPECT_GT(end, now - 60);
}

TEST_F(SendCommandTest, PlaysInputsTooLargeForMemoryToo) {
  // 66 MiB in 66 documents, each too large for UDP: read, offered, refused by the kernel, not kept.
  std::string lines;
  for (int i = 0; i < 66; ++i) lines += std::string((1U << 20) - 1, 'x') + "\n";
  WriteFile(folder_ / "big.jsonl", lines);
  options_.inputs = {folder_ / "big.jsonl", folder_ / "a.jsonl"};
  options_.repeat = 2;
  const SendResult result = Send();
  EXPECT_EQ(result.offered, 138U);
  EXPECT_EQ(result.sent, 6U);
  EXPECT_EQ(listener_.Take().size(), 6U);
  options_.fresh = true;
  EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SendCommandTest, SaysWhatIsWrongWithTheOptions) {
  options_.inputs = {"-"};
  options_.repeat = 2;
  EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument);
  options_ = {.inputs = {folder_ / "nothing.json"}};
  EXPECT_EQ(Error().code(), absl::StatusCode::kNotFound);
  for (const char* to : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "999.0.0.1:2000"}) {
    options_ = {.inputs = {folder_ / "a.jsonl"}, .to = to};
    EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument) << to;
  }
}

TEST_F(SendCommandTest, RefusesNumbersThatAreNone) {
  // What a negative number of the command line becomes.
  constexpr auto kMinusOne = static_cast<uint64_t>(-1);
  options_.rate = kMinusOne;
  EXPECT_EQ(Error(), absl::OutOfRangeError("--rate: expected a number from 0 to 1000000000"));
  options_.rate = 0;
  for (const uint64_t repeat : {uint64_t{0}, kMinusOne}) {
    options_.repeat = repeat;
    EXPECT_EQ(Error(),
              absl::OutOfRangeError("--repeat: expected a number from 1 to 1000000000000"));
  }
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(SendCommand(options_, OutputForm::kJson), 2);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("--repeat"), std::string::npos);
  EXPECT_TRUE(listener_.Take().empty());
}

TEST_F(SendCommandTest, ResultsAsJsonAndText) {
  SendResult result;
  result.offered = 1200;
  result.sent = 1199;
  result.bytes = 5000;
  result.seconds = 1.5;
  EXPECT_EQ(SendResultJson(result),
            "{\"offered\":1200,\"sent\":1199,\"bytes\":5000,\"seconds\":1.500000,\"errors\":{}}");
  result.errors = {{"ENOBUFS", 3}, {"EMSGSIZE", 1}};
  EXPECT_EQ(SendResultJson(result),
            "{\"offered\":1200,\"sent\":1199,\"bytes\":5000,\"seconds\":1.500000,"
            "\"errors\":{\"EMSGSIZE\":1,\"ENOBUFS\":3}}");
  options_.to = "[::1]:2000";
  EXPECT_EQ(SendResultText(result, options_.to),
            "sent 1,199 of 1,200 datagrams (5,000 bytes) to [::1]:2000 in 1.50 s\nEMSGSIZE: 1 "
            "times\nENOBUFS: 3 times");
}

// A Unix datagram socket under `path` that keeps what it gets.
UniqueFd ListenUnix(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

TEST_F(SendCommandTest, SendsOverAUnixSocketAsFastAsItIsRead) {
  const UniqueFd listener = ListenUnix(folder_ / "s");
  const std::string large = "{\"n\": \"" + std::string(240000, 'x') + "\"}";
  std::string lines = large + "\n";
  // More than the kernel queues.
  constexpr int kSmall = 2000;
  for (int i = 0; i < kSmall; ++i) lines += "{\"n\": " + std::to_string(i) + "}\n";
  WriteFile(folder_ / "a.jsonl", lines);
  std::vector<std::string> got;
  std::thread reader([&] {
    std::string buffer(262144, '\0');
    while (got.size() <= kSmall) {
      const ssize_t n = recv(listener.get(), buffer.data(), buffer.size(), 0);
      if (n < 0) break;
      got.push_back(buffer.substr(0, static_cast<size_t>(n)));
    }
  });
  options_.to = "unix:" + (folder_ / "s");
  const SendResult result = Send();
  if (result.sent <= kSmall) shutdown(listener.get(), SHUT_RD);
  reader.join();
  EXPECT_EQ(result.sent, kSmall + 1U);
  EXPECT_TRUE(result.errors.empty()) << SendResultJson(result);
  ASSERT_EQ(got.size(), kSmall + 1U);
  EXPECT_EQ(got[0], std::string(kHeader) + large);
  EXPECT_EQ(got[kSmall], std::string(kHeader) + "{\"n\": 1999}");
}

TEST_F(SendCommandTest, CountsDatagramsThatAUnixSocketCannotCarry) {
  const UniqueFd listener = ListenUnix(folder_ / "s");
  WriteFile(folder_ / "a.jsonl", "\"" + std::string(1000000, 'x') + "\"\n{}\n");
  options_.to = "unix:" + (folder_ / "s");
  const SendResult result = Send();
  EXPECT_EQ(result.offered, 2U);
  EXPECT_EQ(result.sent, 1U);
  EXPECT_EQ(result.errors, (std::map<std::string, uint64_t>{{"EMSGSIZE", 1}}));
}

TEST_F(SendCommandTest, SaysWhyAUnixSocketCannotBeReached) {
  options_.to = "unix:" + (folder_ / "nothing");
  EXPECT_TRUE(absl::IsUnavailable(Error())) << Error();
  ListenUnix(folder_ / "stale").reset();
  options_.to = "unix:" + (folder_ / "stale");
  EXPECT_NE(std::string(Error().message()).find("nobody listens"), std::string::npos) << Error();
  for (const std::string& path : {std::string(), std::string(108, 'x')}) {
    options_.to = "unix:" + path;
    EXPECT_TRUE(absl::IsInvalidArgument(Error())) << Error();
  }
}

}  // namespace
}  // namespace mobula
