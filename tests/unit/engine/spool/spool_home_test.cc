#include "engine/spool/spool_home.h"

#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

class SpoolHomeTest : public SpoolFixture {
 protected:
  std::unique_ptr<SpoolHome> OpenHome() {
    auto home = SpoolHome::Open("/spool", &disk_, &random_, log_.get());
    EXPECT_TRUE(home.ok()) << home.status();
    return *std::move(home);
  }

  std::mt19937_64 random_{1};
};

TEST_F(SpoolHomeTest, TakesWhatIsFreeElseMakesItsOwn) {
  auto first = OpenHome();
  const std::string path = first->dir()->path();
  const auto second = OpenHome();
  EXPECT_NE(second->dir()->path(), path);
  ASSERT_TRUE(first->dir()->Create("f.spool").ok());
  first.reset();
  EXPECT_EQ(OpenHome()->dir()->path(), path);
}

TEST_F(SpoolHomeTest, TwoThatStartAtOnceNeverShareADirectory) {
  const auto first = OpenHome();
  // The other one had made its directory and was not yet in: now it is not the first any more.
  disk_.Put("/spool/instance-0000000000000001/lock", "");
  const auto second = OpenHome();
  const auto third = OpenHome();
  EXPECT_EQ(second->dir()->path(), "/spool/instance-0000000000000001");
  EXPECT_NE(third->dir()->path(), second->dir()->path());
}

TEST_F(SpoolHomeTest, WhatItMadeAndCannotTakeIsRemoved) {
  disk_.fault = [](FakeSpoolDisk::Operation operation, const std::string& path) {
    return operation == FakeSpoolDisk::Operation::kOpen && path != "/spool"
               ? absl::PermissionDeniedError("belongs to somebody else")
               : absl::OkStatus();
  };
  EXPECT_FALSE(SpoolHome::Open("/spool", &disk_, &random_, log_.get()).ok());
  disk_.fault = nullptr;
  EXPECT_TRUE((*disk_.OpenRoot("/spool", SpoolAccess::kRead))->List()->empty());
}

TEST_F(SpoolHomeTest, AdoptsFilesAndRemovesTheDirectory) {
  const auto home = OpenHome();
  disk_.Put("/spool/instance-00000000000000aa/lock", "");
  disk_.Put("/spool/instance-00000000000000aa/one.spool", "1");
  disk_.Put("/spool/instance-00000000000000aa/two.spool.foreign", "22");
  const auto came = home->AdoptSiblings(true);
  ASSERT_TRUE(came.ok());
  EXPECT_EQ(came->size(), 2U);
  EXPECT_EQ(*disk_.Bytes(home->dir()->path() + "/one.spool"), "1");
  EXPECT_EQ(*disk_.Bytes(home->dir()->path() + "/two.spool.foreign"), "22");
  EXPECT_EQ(disk_.Paths().size(), 3U);  // and our lock
}

TEST_F(SpoolHomeTest, LeavesStrangersAlone) {
  const auto home = OpenHome();
  disk_.Put("/spool/instance-xyz/one.spool", "1");
  disk_.Put("/spool/lost+found/one.spool", "1");
  disk_.Put("/spool/one.spool", "1");
  EXPECT_TRUE(home->AdoptSiblings(false)->empty());
  EXPECT_EQ(disk_.Paths().size(), 4U);
}

TEST_F(SpoolHomeTest, NeverWritesOverAFileOfItsOwn) {
  const auto home = OpenHome();
  disk_.Put(home->dir()->path() + "/one.spool", "ours");
  disk_.Put("/spool/instance-00000000000000aa/one.spool", "theirs");
  EXPECT_TRUE(home->AdoptSiblings(false)->empty());
  EXPECT_EQ(*disk_.Bytes(home->dir()->path() + "/one.spool"), "ours");
  EXPECT_EQ(*disk_.Bytes("/spool/instance-00000000000000aa/one.spool"), "theirs");
}

TEST_F(SpoolHomeTest, AnAdoptionThatFailsIsTriedAgain) {
  const auto home = OpenHome();
  disk_.Put("/spool/instance-00000000000000aa/one.spool", "1");
  disk_.Put("/spool/instance-00000000000000aa/two.spool", "2");
  int renames = 0;
  disk_.fault = [&](FakeSpoolDisk::Operation operation, const std::string&) {
    return operation == FakeSpoolDisk::Operation::kRename && ++renames == 2
               ? absl::ResourceExhaustedError("no space")
               : absl::OkStatus();
  };
  EXPECT_EQ(home->AdoptSiblings(false)->size(), 1U);
  EXPECT_NE(lines_.find("spool_not_adopted"), std::string::npos);
  EXPECT_EQ(home->AdoptSiblings(false)->size(), 1U);
  EXPECT_TRUE(home->AdoptSiblings(false)->empty());
}

TEST_F(SpoolHomeTest, KnowsItsNames) {
  EXPECT_TRUE(SpoolHome::IsInstanceName("instance-0123456789abcdef"));
  for (const char* name : {"instance-", "instance-0123456789abcdeg", "instance-0123456789abcde",
                           "instance-0123456789abcdef0", "Instance-0123456789abcdef", ""}) {
    EXPECT_FALSE(SpoolHome::IsInstanceName(name)) << name;
  }
}

}  // namespace
}  // namespace mobula
