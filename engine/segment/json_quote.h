// A text as a JSON string: for bodies and pages of our own. Documents are never rewritten.
//
// Room:    cold.
// Threads: any.
// Errors:  none: what is no UTF-8 becomes U+FFFD.
#pragma once

#include <string>
#include <string_view>

namespace mobula {

// With the quotes around it.
std::string JsonQuote(std::string_view text);

}  // namespace mobula
