// Two macros for absl::Status: the Abseil of Debian 12 has none in its public headers.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MOBULA_CONCAT_INNER(a, b) a##b
#define MOBULA_CONCAT(a, b) MOBULA_CONCAT_INNER(a, b)

// Returns from the function when `expr`, an absl::Status, is not OK.
#define RETURN_IF_ERROR(expr)                                                           \
  do {                                                                                  \
    if (absl::Status mobula_status = (expr); !mobula_status.ok()) return mobula_status; \
  } while (false)

// Assigns the value of `expr`, an absl::StatusOr, to `lhs`, or returns its status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(MOBULA_CONCAT(mobula_statusor_, __LINE__), lhs, expr)
// `lhs` may be a declaration, which no parentheses may surround.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define ASSIGN_OR_RETURN_IMPL(statusor, lhs, expr) \
  auto statusor = (expr);                          \
  if (!statusor.ok()) return statusor.status();    \
  lhs = *std::move(statusor)
// NOLINTEND(bugprone-macro-parentheses)
