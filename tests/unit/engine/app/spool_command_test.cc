#include "engine/app/spool_command.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "engine/base/unique_fd.h"
#include "engine/config/options.h"
#include "tests/unit/backends/file/file_test_support.h"
#include "tests/unit/engine/spool/spool_fixture.h"
#include "tests/unit/engine/spool/temporary_directory.h"

namespace mobula {
namespace {

using testing::ReadFile;
using testing::WriteFile;
using Kind = SpoolFileInfo::Kind;

SpoolFileInfo File(const std::string& path, const std::string& backend, Kind kind = Kind::kReady) {
  SpoolFileInfo file;
  file.path = "/s/" + path;
  file.instance = "instance-0000000000000001";
  file.backend = backend;
  file.kind = kind;
  file.created = kNow - std::chrono::hours(2);
  file.newest = kNow - std::chrono::seconds(5);
  file.bytes = 1536;
  file.frames = 1;
  file.documents = 2000;
  file.remaining = 1000;
  return file;
}

TEST(SpoolTableTest, TellsFilesOfOneKindInOneLine) {
  std::vector<SpoolFileInfo> files = {File("1", "prod"), File("2", "prod"),
                                      File("3", "audit", Kind::kForeign)};
  files[0].newest = kNow;
  files[0].in_use = files[1].in_use = true;
  files[1].created = kNow - std::chrono::hours(3);
  SpoolFileInfo broken = File("4", "");
  broken.header = absl::DataLossError("not a spool file");
  files.push_back(broken);
  EXPECT_EQ(
      SpoolTable(files, kNow, false),
      "BACKEND  STATE    DOCUMENTS     SIZE  FILES     OLDEST  NEWEST  INSTANCE\n"
      "?        damaged          ?  1.5 KiB      1          ?       ?  instance-0000000000000001\n"
      "audit    foreign      1,000  1.5 KiB      1  2 h 0 min     5 s  instance-0000000000000001\n"
      "prod     ready        2,000  3.0 KiB      2  3 h 0 min     0 s  instance-0000000000000001 "
      "(in use)\n");
  EXPECT_EQ(SpoolListJson(files, kNow),
            "{\"documents\":4000,\"bytes\":6144,\"groups\":["
            "{\"backend\":null,\"instance\":\"instance-0000000000000001\",\"in_use\":false,"
            "\"state\":\"damaged\",\"documents\":null,\"bytes\":1536,\"oldest_s\":null,"
            "\"newest_s\":null,\"files\":[\"/s/4\"]},"
            "{\"backend\":\"audit\",\"instance\":\"instance-0000000000000001\",\"in_use\":false,"
            "\"state\":\"foreign\",\"documents\":1000,\"bytes\":1536,\"oldest_s\":7200.000,"
            "\"newest_s\":5.000,\"files\":[\"/s/3\"]},"
            "{\"backend\":\"prod\",\"instance\":\"instance-0000000000000001\",\"in_use\":true,"
            "\"state\":\"ready\",\"documents\":2000,\"bytes\":3072,\"oldest_s\":10800.000,"
            "\"newest_s\":0.000,\"files\":[\"/s/1\",\"/s/2\"]}]}\n");
}

TEST(SpoolTableTest, NoNameGetsOutOfItsLine) {
  const std::string table = SpoolTable({File("1", "a\n\x1b[31mb")}, kNow, false);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 2);
  EXPECT_EQ(table.find('\x1b'), std::string::npos);
  EXPECT_NE(SpoolTable({File("1", "a")}, kNow, true).find("\x1b[32mready\x1b[0m"),
            std::string::npos);
}

TEST(SpoolPathTest, IsSaidOrConfigured) {
  const TemporaryDirectory folder;
  ConfigInput input;
  input.path = folder.path() + "/mobula.yaml";
  EXPECT_EQ(*SpoolPath("/s//", input), "/s");
  EXPECT_EQ(*SpoolPath("/", input), "/");
  const std::string backends = "backends: { out: { type: \"null\" } }\n";
  WriteFile(input.path, backends);
  EXPECT_NE(SpoolPath("", input).status().message().find("no buffer.spool.path"),
            std::string::npos);
  WriteFile(input.path, backends + "buffer: { spool: { path: /var/lib/m/ } }\n");
  EXPECT_EQ(*SpoolPath("", input), "/var/lib/m");
  WriteFile(input.path, "nonsense");
  EXPECT_NE(SpoolPath("", input).status().message().find("mobula.yaml:1:1"), std::string::npos);
}

// The file of configuration knows no spool, so the two have to agree.
TEST(SpoolPathTest, WhatTheConfigurationAllowsTheSpoolTakes) {
  EXPECT_EQ(FindOption("buffer.spool.size", "")->min, Spool::kBytesMin);
  EXPECT_EQ(FindOption("buffer.spool.file_size", "")->max, Spool::kFileBytesMax);
  const SpoolConfig config;
  const Spool::Options spool;
  EXPECT_EQ(config.size, spool.bytes_max);
  EXPECT_EQ(config.file_size, spool.file_bytes_max);
  EXPECT_EQ(config.age, spool.age_max);
  EXPECT_EQ(config.fsync_interval, spool.fsync_interval);
}

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
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  [[nodiscard]] const std::string& address() const { return address_; }
  // The documents that arrived; on the loopback these are all that were sent.
  std::vector<std::string> Take() {
    std::vector<std::string> documents;
    std::string buffer(65536, '\0');
    ssize_t n = 0;
    while ((n = recv(fd_.get(), buffer.data(), buffer.size(), 0)) >= 0) {
      const std::string datagram = buffer.substr(0, static_cast<size_t>(n));
      documents.push_back(datagram.substr(datagram.find('\n') + 1));
    }
    return documents;
  }

 private:
  UniqueFd fd_;
  std::string address_;
};

// On the disk of the machine, with two documents for `prod`, of which one is done, and one for `audit`.
class SpoolCommandTest : public SpoolFixture {
 protected:
  struct Outcome {
    int status;
    std::string out;
    std::string err;
  };

  SpoolCommandTest() {
    options_ = DefaultOptions();
    options_.path = folder_.path() + "/spool";
    const auto spool = OpenSpool(options_);
    EXPECT_TRUE(Append(spool->lane("prod"), {"first", "second"}).ok());
    EXPECT_TRUE(Append(spool->lane("prod"), {"third"}).ok());
    const auto frame = spool->lane("prod")->Next(now_);
    spool->lane("prod")->Done(frame->token, 1);
    EXPECT_TRUE(Append(spool->lane("audit"), {"fourth"}).ok());
    replay_.paths = {options_.path};
    replay_.to = listener_.address();
    replay_.rate = 0;
  }

  SpoolDisk* disk() override { return PosixSpoolDisk(); }

  // The file of a backend.
  std::string PathOf(const std::string& backend) {
    const auto files = SpoolFilesAt(options_.path);
    EXPECT_TRUE(files.ok()) << files.status();
    for (const SpoolFileInfo& file : *files) {
      if (file.backend == backend) return file.path;
    }
    ADD_FAILURE() << "no file of " << backend;
    return "";
  }
  // Changes the byte at `offset` from the end.
  static void Damage(const std::string& path, size_t from_end) {
    std::string bytes = ReadFile(path);
    bytes[bytes.size() - from_end] ^= 1;
    WriteFile(path, bytes);
  }

  template <class Run>
  static Outcome Capture(Run run) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = run();
    std::fflush(stdout);
    return {status, ::testing::internal::GetCapturedStdout(),
            ::testing::internal::GetCapturedStderr()};
  }
  Outcome Verify(OutputForm form) {
    return Capture([&] { return SpoolVerifyCommand(options_.path, form); });
  }
  Outcome Replay(OutputForm form = OutputForm::kJson) {
    return Capture([&] { return SpoolReplayCommand(replay_, form); });
  }

  TemporaryDirectory folder_;
  Spool::Options options_;
  Listener listener_;
  SpoolReplayOptions replay_;
};

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(SpoolCommandTest, AnInstanceAndAFileAreListedAlone) {
  const std::string file = PathOf("audit");
  const std::string instance = std::filesystem::path(file).parent_path();
  EXPECT_EQ(SpoolFilesAt(options_.path)->size(), 2U);
  EXPECT_EQ(SpoolFilesAt(instance)->size(), 2U);
  const auto alone = SpoolFilesAt(file);
  ASSERT_EQ(alone->size(), 1U);
  EXPECT_EQ(alone->front().remaining, 1U);
  EXPECT_EQ(alone->front().instance, std::filesystem::path(instance).filename());
  EXPECT_FALSE(SpoolFilesAt(folder_.path() + "/none").ok());
  const Outcome outcome =
      Capture([&] { return SpoolListCommand(folder_.path() + "/none", OutputForm::kTable); });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(Holds(outcome.err, "mobula spool: ")) << outcome.err;
}

TEST_F(SpoolCommandTest, ListsWhatIsThere) {
  const Outcome table =
      Capture([&] { return SpoolListCommand(options_.path, OutputForm::kTable); });
  EXPECT_EQ(table.status, 0);
  EXPECT_TRUE(Holds(table.out, "prod     ready          2  ")) << table.out;
  std::filesystem::remove_all(options_.path);
  std::filesystem::create_directory(options_.path);
  EXPECT_EQ(Capture([&] { return SpoolListCommand(options_.path, OutputForm::kTable); }).out,
            "nothing waits in " + options_.path + "\n");
  EXPECT_EQ(Capture([&] { return SpoolListCommand(options_.path, OutputForm::kAuto); }).out,
            "{\"documents\":0,\"bytes\":0,\"groups\":[]}\n");
}

TEST_F(SpoolCommandTest, VerifyFindsNothingWrong) {
  const Outcome text = Verify(OutputForm::kTable);
  EXPECT_EQ(text.status, 0);
  EXPECT_TRUE(Holds(text.out, ": 3 documents to be sent, nothing damaged\n")) << text.out;
  EXPECT_TRUE(Holds(Verify(OutputForm::kAuto).out, "{\"ok\":true,\"files\":2,")) << text.out;
}

TEST_F(SpoolCommandTest, VerifySaysWhereAndWhatCanBeDone) {
  const std::string prod = PathOf("prod");
  const std::string audit = PathOf("audit");
  const size_t frames = ReadFile(prod).size() - kSpoolFileHeaderBytes;
  Damage(prod, frames);  // the first frame's magic
  Damage(audit, ReadFile(audit).size() - 20);
  const Outcome text = Verify(OutputForm::kTable);
  EXPECT_EQ(text.status, 1);
  EXPECT_TRUE(Holds(text.out, prod + "\n  at 128: ")) << text.out;
  EXPECT_TRUE(Holds(text.out,
                    " bytes are no frame\n  1 document still to be sent can be read\n"
                    "  -> an agent sends what can be read of it and then"))
      << text.out;
  EXPECT_TRUE(Holds(text.out, audit + "\n  the header is damaged\n  -> without its header"))
      << text.out;
  EXPECT_TRUE(Holds(text.out, "2 files, ")) << text.out;
  EXPECT_TRUE(Holds(text.out, "1 document to be sent, 2 files damaged or unreadable\n"))
      << text.out;
  const Outcome json = Verify(OutputForm::kJson);
  EXPECT_EQ(json.status, 1);
  EXPECT_TRUE(Holds(json.out, "{\"ok\":false,\"files\":2,")) << json.out;
  EXPECT_TRUE(Holds(json.out,
                    "\"state\":\"ready\",\"why\":null,\"readable\":1,\"places\":"
                    "[{\"offset\":128,\"bytes\":"))
      << json.out;
  EXPECT_TRUE(Holds(json.out,
                    "\"backend\":null,\"state\":\"damaged\",\"why\":\"the header is "
                    "damaged\",\"readable\":0,\"places\":[],\"more\":0}"))
      << json.out;
}

TEST_F(SpoolCommandTest, ReplaySendsWhatIsLeftAndKeepsTheFiles) {
  const std::string before = ReadFile(PathOf("prod"));
  const Outcome all = Replay();
  EXPECT_EQ(all.status, 0) << all.err;
  std::vector<std::string> got = listener_.Take();
  std::sort(got.begin(), got.end());
  EXPECT_EQ(got, (Strings{"fourth", "second", "third"}));
  EXPECT_TRUE(Holds(all.out,
                    "{\"files\":2,\"documents\":3,\"failed\":[],\"send\":{\"offered\":3,"
                    "\"sent\":3,"))
      << all.out;
  EXPECT_EQ(ReadFile(PathOf("prod")), before);

  replay_.backend = "audit";
  replay_.paths = {options_.path, PathOf("audit")};
  const Outcome one = Replay(OutputForm::kTable);
  EXPECT_EQ(listener_.Take(), (Strings{"fourth"}));
  EXPECT_TRUE(Holds(one.out, "1 file: sent 1 of 1 datagrams")) << one.out;
  EXPECT_TRUE(Holds(one.out, "The files stay as they are")) << one.out;
}

TEST_F(SpoolCommandTest, ReplayLeavesARunningAgentsFilesToIt) {
  const auto spool = OpenSpool(options_, {{"prod", "xray eu"}});  // audit becomes foreign
  const Outcome refused = Replay();
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(Holds(refused.err, "a running agent holds 1 file here")) << refused.err;
  EXPECT_TRUE(listener_.Take().empty());
  replay_.set_aside = true;
  EXPECT_EQ(Replay().status, 0);
  EXPECT_EQ(listener_.Take(), (Strings{"fourth"}));
  replay_.set_aside = false;
  replay_.in_use = true;
  EXPECT_EQ(Replay().status, 0);
  EXPECT_EQ(listener_.Take().size(), 3U);
}

TEST_F(SpoolCommandTest, ReplayGoesOnBehindDamage) {
  const std::string prod = PathOf("prod");
  Damage(prod, ReadFile(prod).size() - kSpoolFileHeaderBytes);
  WriteFile(PathOf("audit") + ".more.spool", std::string(200, 'x'));
  const Outcome json = Replay();
  EXPECT_EQ(json.status, 1);
  std::vector<std::string> got = listener_.Take();
  std::sort(got.begin(), got.end());
  EXPECT_EQ(got, (Strings{"fourth", "third"}));
  EXPECT_TRUE(Holds(json.out, prod + ": damaged in 1 place, the rest was read\"")) << json.out;
  EXPECT_TRUE(Holds(json.out, ".more.spool: not a spool file\"")) << json.out;
  const Outcome text = Replay(OutputForm::kTable);
  EXPECT_TRUE(Holds(text.out, "\nnot sent: " + prod + ": damaged in")) << text.out;
}

TEST_F(SpoolCommandTest, ReplayTellsAWrongAddress) {
  replay_.to = "nowhere";
  const Outcome outcome = Replay();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(Holds(outcome.err, "expected host:port or unix:/path")) << outcome.err;
}

}  // namespace
}  // namespace mobula
