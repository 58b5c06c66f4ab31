// A counter with one writer: no locked instruction on the hot side, any thread may read.
//
// Room:    hot.
// Threads: Add is called by the owning thread only (plain relaxed load and store); value by anyone. Use
//          SharedCounter where several threads add.
#pragma once

#include <atomic>
#include <cstdint>

namespace mobula {

inline constexpr size_t kCacheLineBytes = 64;

class Counter {
 public:
  void Add(uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void Set(uint64_t v) noexcept { value_.store(v, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class SharedCounter {
 public:
  void Add(uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  void Sub(uint64_t n) noexcept { value_.fetch_sub(n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace mobula
