// The strict judge of JSON: RFC 8259's grammar and nothing else, so any number, any \u escape and
// any nesting up to the depth given pass. Asked where simdjson refuses, and for header lines.
//
// Room:    hot, but the cold branch of it. No allocation, no recursion; time linear in the text.
// Threads: any.
// Limits:  says nothing about UTF-8: bytes from 0x80 up pass inside strings (see utf8.h).
#pragma once

#include <cstddef>
#include <string_view>

namespace mobula {

inline constexpr size_t kJsonDepthMax = 65536;
inline constexpr std::string_view kJsonBlanks = " \t\r\n";

// Whether `text` is one JSON object with nothing but blanks around it, its containers nested at
// most `depth_max` deep, the object itself being depth 1. REQUIRES: depth_max <= kJsonDepthMax.
bool IsJsonObject(std::string_view text, size_t depth_max = kJsonDepthMax) noexcept;

}  // namespace mobula
