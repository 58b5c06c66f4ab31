#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "engine/spool/spool.h"
#include "tests/unit/engine/spool/spool_fixture.h"
#include "tests/unit/engine/spool/temporary_directory.h"

namespace mobula {
namespace {

class PosixSpoolDiskTest : public SpoolFixture {
 protected:
  std::unique_ptr<SpoolDir> Root(SpoolAccess access = SpoolAccess::kWrite) {
    auto root = PosixSpoolDisk()->OpenRoot(path_, access);
    EXPECT_TRUE(root.ok()) << root.status();
    return *std::move(root);
  }
  static mode_t Mode(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }
  SpoolDisk* disk() override { return PosixSpoolDisk(); }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/a/b";
};

TEST_F(PosixSpoolDiskTest, ReadsAndWritesAnywhere) {
  const auto root = Root();
  const auto file = *root->Create("f");
  ASSERT_TRUE(file->Write(0, "hello world").ok());
  ASSERT_TRUE(file->Write(6, "there").ok());
  ASSERT_TRUE(file->Truncate(9).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(root->Sync().ok());
  char bytes[20];
  EXPECT_EQ(*file->Read(0, bytes, sizeof(bytes)), 9U);
  EXPECT_EQ(std::string(bytes, 9), "hello the");
  EXPECT_EQ(*file->Read(100, bytes, sizeof(bytes)), 0U);
  EXPECT_TRUE(absl::IsAlreadyExists(root->Create("f").status()));
  EXPECT_TRUE(absl::IsNotFound(root->Open("g", SpoolAccess::kRead).status()));
  EXPECT_GT(*root->FreeBytes(), 0U);
}

TEST_F(PosixSpoolDiskTest, OnlyTheOwnerMayLook) {
  const mode_t before = ::umask(0);
  const auto root = Root();
  ASSERT_TRUE(root->MakeDir("d").ok());
  const auto dir = *root->OpenDir("d", SpoolAccess::kWrite);
  ASSERT_TRUE(dir->Create("f").ok());
  ASSERT_TRUE(*dir->TryLock());
  ::umask(before);
  EXPECT_EQ(Mode(path_), 0700U);
  EXPECT_EQ(Mode(path_ + "/d"), 0700U);
  EXPECT_EQ(Mode(path_ + "/d/f"), 0600U);
  EXPECT_EQ(Mode(path_ + "/d/lock"), 0600U);
}

TEST_F(PosixSpoolDiskTest, FollowsNoLinkAndOpensNoPipe) {
  const auto root = Root();
  std::ofstream(directory_.path() + "/target") << "precious";
  ASSERT_EQ(::symlink((directory_.path() + "/target").c_str(), (path_ + "/link").c_str()), 0);
  ASSERT_EQ(::symlink(directory_.path().c_str(), (path_ + "/dirlink").c_str()), 0);
  ASSERT_EQ(::mkfifo((path_ + "/pipe").c_str(), 0600), 0);
  for (const SpoolAccess access : {SpoolAccess::kRead, SpoolAccess::kWrite}) {
    EXPECT_FALSE(root->Open("link", access).ok());
    EXPECT_FALSE(root->Open("pipe", access).ok());
    EXPECT_FALSE(root->Open(".", access).ok());
  }
  EXPECT_FALSE(root->Create("link").ok());
  EXPECT_FALSE(root->OpenDir("dirlink", SpoolAccess::kWrite).ok());
  EXPECT_TRUE(root->List()->empty());
  ASSERT_EQ(::symlink((directory_.path() + "/target").c_str(), (path_ + "/lock").c_str()), 0);
  EXPECT_FALSE(root->TryLock().ok());
}

TEST_F(PosixSpoolDiskTest, WhatAnybodyMayWriteIsNotOurs) {
  const auto root = Root();
  ASSERT_TRUE(root->MakeDir("d").ok());
  ASSERT_EQ(::chmod((path_ + "/d").c_str(), 0777), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(root->OpenDir("d", SpoolAccess::kWrite).status()));
  ASSERT_EQ(::chmod((path_ + "/d").c_str(), 0770), 0);  // fsGroup
  EXPECT_TRUE(root->OpenDir("d", SpoolAccess::kWrite).ok());
}

// As root, who starts the agent in containers; another user cannot make such a directory.
TEST_F(PosixSpoolDiskTest, WhatAnotherUserPutThereIsNoHome) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  Spool::Options options = DefaultOptions();
  options.path = path_;
  const auto root = Root();
  const std::string planted = "instance-0000000000000000";
  ASSERT_TRUE(root->MakeDir(planted).ok());
  std::ofstream(path_ + "/" + planted + "/one.spool") << "MOBSPOOL";
  ASSERT_EQ(::chown((path_ + "/" + planted).c_str(), 65534, 65534), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(root->OpenDir(planted, SpoolAccess::kWrite).status()));
  EXPECT_TRUE(
      root->OpenDir(planted, SpoolAccess::kRead).ok());  // to look at a spool of the agent's user
  {
    const auto spool = OpenSpool(options);
    ASSERT_TRUE(spool->state().on) << spool->state().text;
    EXPECT_NE(spool->state().text, path_ + "/" + planted);
    EXPECT_TRUE(Append(spool->lane("prod"), {"a"}).ok());
    Pass(std::chrono::seconds(10));
    spool->Housekeep(now_);
  }
  EXPECT_EQ(::access((path_ + "/" + planted + "/one.spool").c_str(), F_OK), 0);
  EXPECT_NE(::access((path_ + "/" + planted + "/lock").c_str(), F_OK), 0);
  // Nor are there others than it and that of the run.
  EXPECT_EQ(root->List()->size(), 2U);
}

TEST_F(PosixSpoolDiskTest, ALockIsOneHoldersUntilItGoes) {
  const auto root = Root();
  ASSERT_TRUE(root->MakeDir("d").ok());
  auto first = *root->OpenDir("d", SpoolAccess::kWrite);
  const auto second = *root->OpenDir("d", SpoolAccess::kWrite);
  EXPECT_FALSE(second->Locked());
  EXPECT_TRUE(*first->TryLock());
  EXPECT_FALSE(*second->TryLock());
  EXPECT_TRUE(second->Locked());
  first.reset();
  EXPECT_FALSE(second->Locked());
  EXPECT_TRUE(*second->TryLock());
}

TEST_F(PosixSpoolDiskTest, MovesWithoutWritingOver) {
  const auto root = Root();
  ASSERT_TRUE(root->MakeDir("d").ok());
  const auto dir = *root->OpenDir("d", SpoolAccess::kWrite);
  ASSERT_TRUE(root->Create("f").ok());
  ASSERT_TRUE(root->Rename("f", dir.get(), "g").ok());
  ASSERT_TRUE(root->Create("f").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(root->Rename("f", dir.get(), "g")));
  EXPECT_FALSE(root->RemoveDir("d").ok());
  ASSERT_TRUE(dir->Remove("g").ok());
  ASSERT_TRUE(root->RemoveDir("d").ok());
  EXPECT_FALSE(dir->StillThere());
  EXPECT_TRUE(root->StillThere());
}

TEST_F(PosixSpoolDiskTest, AnotherInItsPlaceIsNotIt) {
  const auto root = Root();
  ASSERT_TRUE(root->MakeDir("d").ok());
  const auto dir = *root->OpenDir("d", SpoolAccess::kWrite);
  EXPECT_TRUE(dir->StillThere());
  ASSERT_EQ(::rename(path_.c_str(), (path_ + ".old").c_str()), 0);
  EXPECT_FALSE(dir->StillThere());
  const auto next = Root();
  ASSERT_TRUE(next->MakeDir("d").ok());
  EXPECT_FALSE(dir->StillThere());
  EXPECT_FALSE(root->StillThere());
  EXPECT_TRUE(next->StillThere());
}

TEST_F(PosixSpoolDiskTest, ReadingMakesNothing) {
  EXPECT_TRUE(absl::IsNotFound(PosixSpoolDisk()->OpenRoot(path_, SpoolAccess::kRead).status()));
  EXPECT_NE(::access(path_.c_str(), F_OK), 0);
}

// All of it, on a real file system.
TEST_F(PosixSpoolDiskTest, ASpoolLivesOnIt) {
  Spool::Options options = DefaultOptions();
  options.path = path_;
  options.fsync = Spool::Fsync::kBatch;
  {
    const auto spool = OpenSpool(options);
    ASSERT_TRUE(spool->state().on) << spool->state().text;
    ASSERT_TRUE(Append(spool->lane("prod"), {"a", "b"}).ok());
    options.seed = 77;
    const auto sibling = OpenSpool(options);
    ASSERT_TRUE(Append(sibling->lane("prod"), {"c"}).ok());
  }
  const auto spool = OpenSpool(options);
  Strings all = Drain(spool->lane("prod"));
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (Strings{"a", "b", "c"}));
}

TEST_F(PosixSpoolDiskTest, APathThatCannotBeMadeIsNoSpool) {
  std::ofstream(directory_.path() + "/file") << "x";
  Spool::Options options = DefaultOptions();
  for (const std::string& path : {directory_.path() + "/file", directory_.path() + "/file/below",
                                  std::string("/proc/spool")}) {
    options.path = path;
    const auto spool = OpenSpool(options);
    EXPECT_FALSE(spool->state().on);
    EXPECT_NE(spool->state().text.find(path), std::string::npos) << spool->state().text;
    EXPECT_FALSE(Append(spool->lane("prod"), {"a"}).ok());
  }
}

}  // namespace
}  // namespace mobula
