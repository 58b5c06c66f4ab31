#include "engine/receive/inherited_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace mobula {
namespace {

UniqueFd NewSocket(int family, int type) { return UniqueFd(socket(family, type, 0)); }

// A UDP socket bound to `host`, a number, and a port of the kernel's choice; or to the address of `same`.
UniqueFd Udp(uint32_t host, const UniqueFd* same = nullptr) {
  UniqueFd fd = NewSocket(AF_INET, SOCK_DGRAM);
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  socklen_t length = sizeof address;
  if (same != nullptr) {
    EXPECT_EQ(getsockname(same->get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  }
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

class InheritedSocketsTest : public ::testing::Test {
 protected:
  static constexpr int kFirst = 200;  // where nothing else is

  void TearDown() override {
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
      EXPECT_EQ(std::getenv(name), nullptr)
          << name << " would be told to programs started from here";
    }
    for (int fd = kFirst; fd < kFirst + 8; ++fd) close(fd);
  }

  absl::StatusOr<InheritedSockets> Take(std::vector<UniqueFd> given, pid_t to = getpid()) {
    for (size_t i = 0; i < given.size(); ++i) {
      EXPECT_GE(dup2(given[i].get(), kFirst + static_cast<int>(i)), 0);
    }
    return Take(std::to_string(given.size()), std::to_string(to));
  }
  static absl::StatusOr<InheritedSockets> Take(const std::string& count, const std::string& to) {
    setenv("LISTEN_FDS", count.c_str(), 1);
    setenv("LISTEN_PID", to.c_str(), 1);
    setenv("LISTEN_FDNAMES", "a:b", 1);
    return TakeInheritedSockets(kFirst);
  }
  template <typename... Fds>
  static std::vector<UniqueFd> List(Fds... fds) {
    std::vector<UniqueFd> list;
    (list.push_back(std::move(fds)), ...);
    return list;
  }
};

TEST_F(InheritedSocketsTest, AreNoneWithoutVariables) {
  const auto taken = TakeInheritedSockets();
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_TRUE(taken->udp.empty());
  EXPECT_FALSE(taken->unix_socket.valid());
}

TEST_F(InheritedSocketsTest, AreToldApartAndHandedToNobodyElse) {
  UniqueFd first = Udp(INADDR_LOOPBACK);
  UniqueFd second = Udp(INADDR_LOOPBACK, &first);
  const auto taken =
      Take(List(std::move(first), NewSocket(AF_UNIX, SOCK_DGRAM), std::move(second)));
  ASSERT_TRUE(taken.ok()) << taken.status();
  ASSERT_EQ(taken->udp.size(), 2U);
  EXPECT_EQ(taken->udp[0].get(), kFirst);
  EXPECT_EQ(taken->unix_socket.get(), kFirst + 1);
  EXPECT_EQ(taken->udp[1].get(), kFirst + 2);
  for (int fd = kFirst; fd < kFirst + 3; ++fd) {
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0) << "a receiver would hang in it";
  }
}

TEST_F(InheritedSocketsTest, AreNoneWhenTheyAreMeantForAnotherProcess) {
  const auto taken = Take(List(Udp(INADDR_LOOPBACK)), getppid());
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_TRUE(taken->udp.empty());
}

TEST_F(InheritedSocketsTest, AreNoneWhenTheNumbersAreNone) {
  for (const char* count : {"", "x", "0", "-1", "1x", "99999999999999999999"}) {
    const auto taken = Take(count, std::to_string(getpid()));
    ASSERT_TRUE(taken.ok()) << count << ": " << taken.status();
    EXPECT_TRUE(taken->udp.empty()) << count;
  }
}

TEST_F(InheritedSocketsTest, OfAnotherKindAreAMistakeThatNamesTheDescriptor) {
  const auto fails = [&](std::vector<UniqueFd> given, const std::string& words) {
    const auto taken = Take(std::move(given));
    EXPECT_EQ(taken.status().code(), absl::StatusCode::kInvalidArgument) << words;
    EXPECT_NE(taken.status().message().find(words), std::string::npos) << taken.status();
  };
  fails(List(NewSocket(AF_INET, SOCK_STREAM)), "descriptor 200");
  fails(List(Udp(INADDR_LOOPBACK), NewSocket(AF_UNIX, SOCK_STREAM)), "descriptor 201");
  fails(List(UniqueFd(open("/dev/null", O_RDWR))), "no UDP socket");
  fails(List(Udp(INADDR_LOOPBACK), Udp(INADDR_LOOPBACK)), "another address");
  fails(List(NewSocket(AF_UNIX, SOCK_DGRAM), NewSocket(AF_UNIX, SOCK_DGRAM)), "second Unix socket");
  const auto gone = Take("1000", std::to_string(getpid()));
  EXPECT_EQ(gone.status().code(), absl::StatusCode::kInvalidArgument) << "it is not there";
}

}  // namespace
}  // namespace mobula
