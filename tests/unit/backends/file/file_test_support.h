// A folder that is gone afterwards, files in one line, batches from strings, and a size limit that makes writes
// fail half-way.
//
// Room: test.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/batch/batch_builder.h"
#include "engine/memory/block_pool.h"
#include "gtest/gtest.h"

namespace mobula::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mobula-test-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string operator/(std::string_view name) const {
    return (path_ / name).string();
  }
  // The names in it, sorted.
  [[nodiscard]] std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  EXPECT_TRUE(out.flush().good()) << path;
}

inline std::unique_ptr<BlockPool> TestPool() {
  auto pool = BlockPool::Create(4U << 20);
  EXPECT_TRUE(pool.ok());
  return *std::move(pool);
}

inline BatchRef TestBatch(BlockPool* pool, const std::vector<std::string>& documents) {
  BatchBuilder builder(pool, {.documents = Batch::kDocumentsMax});
  for (const std::string& document : documents) {
    EXPECT_TRUE(builder.Add(document, DocumentKind::kJson, RejectReason::kNone, Time()));
  }
  return builder.Close();
}

// While it lives, no file of this process grows beyond `bytes`: a write up to there is short, the next one fails.
// Works for root too, unlike permissions, and needs no file system of its own.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(size_t bytes) {
    // The signal that comes with EFBIG.
    std::signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit{bytes, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() { EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace mobula::testing
