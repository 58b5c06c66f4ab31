// The simulation's dice: all that happens in a run comes from one seed, and is the same with every compiler.
//
// Room: test.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/time.h"

namespace mobula::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // From `low` to `high`, both included.
  uint64_t Between(uint64_t low, uint64_t high) { return low + Next() % (high - low + 1); }
  Duration Between(Duration low, Duration high) {
    return low +
           Duration(static_cast<int64_t>(Next() % static_cast<uint64_t>((high - low).count() + 1)));
  }
  // From 0 up to but not 1.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double p) { return Unit() < p; }
  template <typename T>
  const T& Pick(const std::vector<T>& from) {
    return from[Next() % from.size()];
  }
  // Dice of their own for a part of the run: what it throws changes nothing elsewhere.
  Random Fork() { return Random(Next()); }

 private:
  uint64_t state_;
};

}  // namespace mobula::sim
