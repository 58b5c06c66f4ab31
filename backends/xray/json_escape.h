// Escaping of documents into a JSON string: what a request body mostly consists of.
//
// Room:   warm, but over every byte that leaves: 16 bytes a step with SSSE3 or NEON, the same
//         result everywhere.
// Limits: text must be valid UTF-8 for the result to be valid JSON.
#pragma once

#include <cstddef>
#include <string_view>

namespace mobula {

// Bytes behind the result that JsonEscape may overwrite.
inline constexpr size_t kJsonEscapeSlack = 32;

// How long JsonEscape's result is.
size_t JsonEscapedSize(std::string_view text) noexcept;

// Writes `text` with '"', '\' and control characters escaped, without quotes around it; answers the end.
// REQUIRES: JsonEscapedSize(text) + kJsonEscapeSlack bytes at `out`, not overlapping `text`.
char* JsonEscape(std::string_view text, char* out) noexcept;

// The same, one byte at a time: the rule that the fast ones are tested against.
size_t JsonEscapedSizeScalar(std::string_view text) noexcept;
char* JsonEscapeScalar(std::string_view text, char* out) noexcept;

}  // namespace mobula
