// Tests of engine/receive/unix_socket.h, alone and under a worker.
#include "engine/receive/unix_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <string>
#include <utility>

#include "engine/segment/utf8.h"
#include "tests/unit/engine/receive/worker_fixture.h"

namespace mobula {
namespace {

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int Bind(int fd, const std::string& path) {
  const sockaddr_un address = Address(path);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int Connect(int fd, const std::string& path) {
  const sockaddr_un address = Address(path);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

UniqueFd NewSocket(int type = SOCK_DGRAM) {
  return UniqueFd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
}

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777U;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/unix_socket_test.XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class UnixSocketTest : public ::testing::Test {
 protected:
  absl::StatusOr<UnixSocket> Open(int mode = 0666) const { return OpenUnixSocket({path_, mode}); }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "s.sock";
};

TEST_F(UnixSocketTest, OfTwoThatFindAStaleSocketOneGetsThePath) {
  {
    const UniqueFd stale = NewSocket();
    ASSERT_EQ(Bind(stale.get(), path_), 0);
  }
  // The other one is between its look at the stale socket and its own bind.
  UniqueFd folder(open((folder_ / "").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(folder.get(), LOCK_EX), 0);
  auto second = std::async(std::launch::async, [this] { return Open().status(); });
  EXPECT_EQ(second.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  unlink(path_.c_str());
  const UniqueFd first = NewSocket();
  ASSERT_EQ(Bind(first.get(), path_), 0);
  folder.reset();
  EXPECT_EQ(second.get().code(), absl::StatusCode::kAlreadyExists);
  const UniqueFd client = NewSocket();
  EXPECT_EQ(Connect(client.get(), path_), 0) << "the first one lost its path";
}

TEST_F(UnixSocketTest, AFolderThatStaysLockedIsAnError) {
  {
    const UniqueFd stale = NewSocket();
    ASSERT_EQ(Bind(stale.get(), path_), 0);
  }
  const UniqueFd folder(open((folder_ / "").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(folder.get(), LOCK_EX), 0);
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(UnixSocketTest, ReceivesAndRemovesItsFileAtTheEnd) {
  {
    const auto opened = Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->path(), path_);
    EXPECT_GT(opened->queue_bytes(), 0U);
    const UniqueFd sender = NewSocket();
    ASSERT_EQ(Connect(sender.get(), path_), 0);
    ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
    char c = 0;
    EXPECT_EQ(recv(opened->fd(), &c, 1, 0), 1);
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixSocketTest, GivesTheFileTheModeWhateverTheUmask) {
  for (const mode_t umask_now : {0U, 0077U}) {
    const mode_t before = umask(umask_now);
    const auto everybody = OpenUnixSocket({folder_ / "a", 0666});
    const auto few = OpenUnixSocket({folder_ / "b", 0620});
    umask(before);
    ASSERT_TRUE(everybody.ok() && few.ok());
    EXPECT_EQ(ModeOf(folder_ / "a"), 0666U);
    EXPECT_EQ(ModeOf(folder_ / "b"), 0620U);
  }
}

TEST_F(UnixSocketTest, ReplacesASocketThatNobodyIsBoundTo) {
  ASSERT_EQ(Bind(NewSocket().get(), path_), 0);
  ASSERT_TRUE(std::filesystem::exists(path_));
  EXPECT_TRUE(Open().ok());
  ASSERT_EQ(Bind(NewSocket(SOCK_STREAM).get(), path_), 0);
  EXPECT_TRUE(Open().ok());
}

TEST_F(UnixSocketTest, LeavesASocketInUseAlone) {
  const auto first = Open();
  ASSERT_TRUE(first.ok());
  const auto second = Open();
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_NE(std::string(second.status().message()).find(path_), std::string::npos);
  EXPECT_EQ(Connect(NewSocket().get(), path_), 0) << "the first one still listens";

  const UniqueFd stream = NewSocket(SOCK_STREAM);
  ASSERT_EQ(Bind(stream.get(), folder_ / "stream"), 0);
  ASSERT_EQ(listen(stream.get(), 1), 0);
  EXPECT_TRUE(absl::IsAlreadyExists(OpenUnixSocket({folder_ / "stream", 0666}).status()));
}

TEST_F(UnixSocketTest, LeavesWhatIsNoSocketAlone) {
  std::ofstream(path_) << "precious";
  const auto opened = Open();
  EXPECT_TRUE(absl::IsAlreadyExists(opened.status()));
  EXPECT_NE(std::string(opened.status().message()).find("no socket"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
  std::filesystem::remove(path_);
  std::filesystem::create_symlink(folder_ / "elsewhere", path_);
  EXPECT_TRUE(absl::IsAlreadyExists(Open().status()));
}

TEST_F(UnixSocketTest, TakesThePathOfTheOneThatHasIt) {
  std::optional<absl::StatusOr<UnixSocket>> first = Open();
  ASSERT_TRUE(first->ok());
  const UniqueFd connected = NewSocket();
  ASSERT_EQ(Connect(connected.get(), path_), 0);
  std::optional<absl::StatusOr<UnixSocket>> second =
      OpenUnixSocket({path_, 0620}, PortUse::kShared);
  ASSERT_TRUE((*second).ok()) << (*second).status();
  const auto send_to_path = [&] {
    const UniqueFd sender = NewSocket();
    ASSERT_EQ(Connect(sender.get(), path_), 0);
    ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
  };
  char text[8];
  send_to_path();
  EXPECT_EQ(recv((*first)->fd(), text, sizeof text, MSG_DONTWAIT), 1) << "the other is not ready";

  ASSERT_TRUE((*second)->TakePath().ok());
  ASSERT_TRUE((*second)->TakePath().ok());
  send_to_path();
  EXPECT_EQ(recv((*second)->fd(), text, sizeof text, MSG_DONTWAIT), 1);
  EXPECT_EQ(ModeOf(path_), 0620U);
  ASSERT_EQ(send(connected.get(), "old", 3, 0), 3);
  EXPECT_EQ(recv((*first)->fd(), text, sizeof text, MSG_DONTWAIT), 3);
  first.reset();
  send_to_path();
  EXPECT_EQ(recv((*second)->fd(), text, sizeof text, MSG_DONTWAIT), 1);
  second.reset();
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / ""));
}

TEST_F(UnixSocketTest, ASuccessorThatFailsLeavesThePathAsItWas) {
  const auto first = Open();
  ASSERT_TRUE(first.ok());
  // The second finds what is left of the first, which was killed.
  ASSERT_EQ(Bind(NewSocket().get(), path_ + "~"), 0);
  { ASSERT_TRUE(OpenUnixSocket({path_, 0666}, PortUse::kShared).ok()); }
  EXPECT_EQ(Connect(NewSocket().get(), path_), 0);
  EXPECT_FALSE(std::filesystem::exists(path_ + "~"));
}

TEST_F(UnixSocketTest, TakesNoPathFromWhatIsNoAgent) {
  std::ofstream(path_) << "precious";
  EXPECT_TRUE(absl::IsAlreadyExists(OpenUnixSocket({path_, 0666}, PortUse::kShared).status()));
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
  std::filesystem::remove(path_);
  const UniqueFd stream = NewSocket(SOCK_STREAM);
  ASSERT_EQ(Bind(stream.get(), path_), 0);
  ASSERT_EQ(listen(stream.get(), 1), 0);
  EXPECT_TRUE(absl::IsAlreadyExists(OpenUnixSocket({path_, 0666}, PortUse::kShared).status()));
}

TEST_F(UnixSocketTest, LeavesASuccessorsFileAtTheEnd) {
  std::optional<absl::StatusOr<UnixSocket>> first = Open();
  ASSERT_TRUE(first->ok());
  std::filesystem::remove(path_);
  const UniqueFd successor = NewSocket();
  ASSERT_EQ(Bind(successor.get(), path_), 0);
  first.reset();
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(UnixSocketTest, SaysWhatIsWrongWithAPath) {
  const auto longest = OpenUnixSocket({"/tmp/" + std::string(103, 'x'), 0666});
  EXPECT_TRUE(absl::IsInvalidArgument(longest.status()));
  EXPECT_NE(std::string(longest.status().message()).find("at most 107"), std::string::npos)
      << longest.status();
  const auto nowhere = OpenUnixSocket({folder_ / "missing/s", 0666});
  EXPECT_TRUE(absl::IsInvalidArgument(nowhere.status()));
  EXPECT_NE(std::string(nowhere.status().message()).find("folder"), std::string::npos);
}

class UnixWorkerTest : public WorkerFixture {
 protected:
  void Start(Validate validate = Validate::kJson) {
    auto opened = OpenUnixSocket({folder_ / "s", 0666});
    ASSERT_TRUE(opened.ok()) << opened.status();
    socket_.emplace(*std::move(opened));
    Worker::Options options;
    options.engine = ReceiveEngine::kRecvmmsg;
    options.sockets = {socket_->fd()};
    options.queue_bytes = socket_->queue_bytes();
    options.slots = kUnixSlots;
    options.validate = validate;
    StartWorker(std::move(options), {{"", {"a"}}});
    sender_ = NewSocket();
    const int bytes = 4 << 20;
    setsockopt(sender_.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    ASSERT_EQ(Connect(sender_.get(), socket_->path()), 0);
  }
  static std::string Large(size_t bytes) {
    const std::string frame = Segment("large", ",\"metadata\":{\"x\":\"\"}");
    return Segment("large",
                   ",\"metadata\":{\"x\":\"" + std::string(bytes - frame.size(), 'x') + "\"}");
  }

  const TemporaryFolder folder_;
  std::optional<UnixSocket> socket_;
};

TEST_F(UnixWorkerTest, HandsOverEveryDocumentByteForByteAndInOrder) {
  Start();
  std::vector<std::string> sent;
  // More than the kernel's queue: the sender waits, and nothing is lost.
  for (int i = 0; i < 2000; ++i) {
    sent.push_back(Segment("service-" + std::to_string(i)));
    SendDocument(sent.back());
  }
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2000; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), sent);
  EXPECT_EQ(worker_->stats().kernel_drops.value(), 0U);
  ExpectLedger(2000);
}

TEST_F(UnixWorkerTest, TakesDocumentsUpToABatch) {
  Start();
  const std::string header = "{\"format\": \"json\", \"version\": 1}\n";
  std::vector<std::string> sent;
  for (const size_t bytes : {size_t{65507}, size_t{65537}, size_t{200000},
                             BatchBuilder::kDocumentBytesMax - header.size()}) {
    sent.push_back(Large(bytes));
    SendDocument(sent.back());
  }
  SendRaw(header + Large(BatchBuilder::kDocumentBytesMax - header.size() + 1));
  SendDocument(Segment("small"));
  sent.push_back(Segment("small"));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 6; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), sent);
  EXPECT_EQ(worker_->stats().unscanned.value(), 0U);
  EXPECT_EQ(Rejected(RejectReason::kTruncated), 1U);
  ExpectLedger(6);
}

TEST_F(UnixWorkerTest, StrictKeepsToXraysLimit) {
  Start(Validate::kStrict);
  SendDocument(Large(kDocumentBytesMax));
  SendDocument(Large(kDocumentBytesMax + 1));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]), std::vector<std::string>{Large(kDocumentBytesMax)});
  EXPECT_EQ(TakeDocuments(&dead_), std::vector<std::string>{Large(kDocumentBytesMax + 1)});
  EXPECT_EQ(Rejected(RejectReason::kTooLarge), 1U);
  ExpectLedger(2);
}

TEST_F(UnixWorkerTest, RefusesWhatRepairMakesLargerThanABatch) {
  Start();
  const std::string broken =
      Segment("x", ",\"metadata\":{\"x\":\"" + std::string(100000, '\xff') + "\"}");
  SendDocument(broken);
  // It fits: a third of that grows to less than a batch, but more than the parser holds in other receivers.
  SendDocument(Segment("x", ",\"metadata\":{\"x\":\"" + std::string(40000, '\xff') + "\"}"));
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2; }));
  StopWorker();
  EXPECT_EQ(Rejected(RejectReason::kTooLarge), 1U);
  EXPECT_EQ(TakeDocuments(&dead_), std::vector<std::string>{broken});
  const std::vector<std::string> documents = TakeDocuments(&lanes_[0]);
  ASSERT_EQ(documents.size(), 1U);
  EXPECT_TRUE(IsValidUtf8(documents[0]));
  EXPECT_GT(documents[0].size(), 120000U);
  ExpectLedger(2);
}

TEST_F(UnixWorkerTest, RefusesInvalidDocumentsOfAnySizeIntoTheDeadLetters) {
  Start();
  std::string cut = Large(240000);
  cut.pop_back();
  SendDocument(cut);
  const std::string headless(250000, 'x');
  SendRaw(headless);
  ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == 2; }));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&dead_), (std::vector<std::string>{cut, headless}));
  ExpectLedger(2);
}

TEST_F(UnixWorkerTest, DeliversWhatTheKernelHeldAndTurnsLaterSendersAway) {
  Start();
  ASSERT_TRUE(Eventually([&] { return worker_->engine() == ReceiveEngine::kRecvmmsg; }));
  for (int i = 0; i < 10; ++i) SendDocument(Segment("s"));
  StopWorker();
  EXPECT_EQ(TakeDocuments(&lanes_[0]).size(), 10U);
  EXPECT_EQ(send(sender_.get(), "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EPIPE);
  ExpectLedger(10);
}

TEST_F(UnixSocketTest, OneOfSomebodyElseKeepsItsFile) {
  UniqueFd bound = NewSocket();
  ASSERT_EQ(Bind(bound.get(), path_), 0);
  {
    const UnixSocket adopted = AdoptUnixSocket(UniqueFd(fcntl(bound.get(), F_DUPFD_CLOEXEC, 0)));
    EXPECT_TRUE(adopted.inherited());
    EXPECT_EQ(adopted.path(), path_);
    EXPECT_GT(adopted.queue_bytes(), 0U);
  }
  const UniqueFd client = NewSocket();
  EXPECT_EQ(Connect(client.get(), path_), 0);
}

TEST(UnixSocketNameTest, OfOneWithoutAFileIsWrittenWithAnAtSign) {
  UniqueFd bound = NewSocket();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "mobula-test-" + std::to_string(getpid());
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(bind(bound.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  EXPECT_EQ(AdoptUnixSocket(std::move(bound)).path(), "@" + name);
  EXPECT_EQ(AdoptUnixSocket(NewSocket()).path(), "") << "it was never bound";
}

}  // namespace
}  // namespace mobula
