// Which of the planted bugs (canaries.py) is awake in this process. Only sim_canaries is built with them.
//
// Room: test.
#pragma once

namespace mobula::sim {

extern int canary;  // 0: none

inline bool IsAwake(int number) { return canary == number; }

}  // namespace mobula::sim
