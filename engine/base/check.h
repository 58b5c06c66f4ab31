// Assertions about our own state. Foreign bytes are counted, never asserted (models: a bug stops us, a
// strange datagram does not).
#pragma once

namespace mobula {

// Writes "file:line: check failed: condition" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line) noexcept;

}  // namespace mobula

// CHECK is always on: one cheap condition each. DCHECK only without NDEBUG.
#define CHECK(condition)                               \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::mobula::CheckFailed(#condition, __FILE__, __LINE__))
#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
