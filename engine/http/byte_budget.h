// How many bytes several holders may have in memory together.
//
// Room:    warm and cold.
// Threads: one, for a budget and all of its shares.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mobula {

class ByteBudget {
 public:
  explicit ByteBudget(size_t max) : max_(max) {}

  [[nodiscard]] size_t used() const noexcept { return used_; }
  // The most since the last call.
  [[nodiscard]] size_t TakePeak() noexcept { return std::exchange(peak_, used_); }

 private:
  friend class ByteShare;

  const size_t max_;
  size_t used_ = 0;
  size_t peak_ = 0;
};

// One holder's part; its end gives it back.
class ByteShare {
 public:
  explicit ByteShare(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  ~ByteShare() { budget_->used_ -= bytes_; }
  ByteShare(const ByteShare&) = delete;
  ByteShare& operator=(const ByteShare&) = delete;

  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }

  // False, and as before, when the budget has not that much; never for less than before.
  [[nodiscard]] bool Resize(size_t bytes) {
    const size_t others = budget_->used_ - bytes_;
    if (bytes > bytes_ && (others > budget_->max_ || bytes > budget_->max_ - others)) return false;
    budget_->used_ = others + bytes;
    budget_->peak_ = std::max(budget_->peak_, budget_->used_);
    bytes_ = bytes;
    return true;
  }
  void Clear() { static_cast<void>(Resize(0)); }

  // Appends to a text that this share counts together with `beside` other bytes; false, and as before, when the
  // budget has no room.
  [[nodiscard]] bool Append(std::string_view data, size_t beside, std::string* text) {
    const size_t size = text->size() + data.size();
    if (size > text->capacity()) {
      constexpr size_t kStepMax = 256 * 1024;
      const size_t step = std::min(text->capacity() / 2, kStepMax);
      const size_t room = std::max(size, text->capacity() + step);
      // It is there twice while it moves, but only one text moves at a time.
      if (!Resize(beside + room)) return false;
      std::string grown;
      grown.reserve(room);
      grown.append(*text);
      text->swap(grown);
    }
    text->append(data);
    return Resize(beside + text->capacity());
  }

 private:
  const std::shared_ptr<ByteBudget> budget_;
  size_t bytes_ = 0;
};

}  // namespace mobula
