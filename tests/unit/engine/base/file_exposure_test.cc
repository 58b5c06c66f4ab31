#include "engine/base/file_exposure.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

class FileExposureTest : public ::testing::Test {
 protected:
  FileExposureTest() : fd_(mkstemp(name_)) {}
  ~FileExposureTest() override { unlink(name_); }

  FileExposure Of(mode_t mode) {
    EXPECT_EQ(fchmod(fd_.get(), mode), 0);
    return ExposureOf(fd_.get());
  }

  char name_[32] = "/tmp/file_exposure_test.XXXXXX";
  const UniqueFd fd_;
};

TEST_F(FileExposureTest, ModesSayWhat) {
  const FileExposure none = Of(0660);
  EXPECT_EQ(none.mode, 0660U);
  EXPECT_FALSE(none.anybody_reads || none.anybody_writes || none.group_reads || none.stranger);
  EXPECT_TRUE(Of(0604).anybody_reads);
  EXPECT_FALSE(Of(0604).anybody_writes);
  EXPECT_TRUE(Of(0602).anybody_writes);
}

TEST_F(FileExposureTest, OwnersThatAreNotUs) {
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_EQ(fchown(fd_.get(), 54321, 54321), 0);
  EXPECT_EQ(Of(0600).stranger, uid_t{54321});
  EXPECT_FALSE(Of(0600).group_reads);
  EXPECT_TRUE(Of(0640).group_reads);
  // As a user namespace shows owners from outside of it.
  ASSERT_EQ(fchown(fd_.get(), 65534, 65534), 0);
  EXPECT_EQ(Of(0600).stranger, std::nullopt);
}

TEST(FileExposure, OfAPipeIsNone) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd in(ends[0]);
  const UniqueFd out(ends[1]);
  EXPECT_EQ(ExposureOf(in.get()).mode, 0U);
  EXPECT_EQ(ExposureOf(-1).mode, 0U);
}

}  // namespace
}  // namespace mobula
