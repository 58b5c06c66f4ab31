// What may stand where AWS wants a region: judged alike when a configuration is read and when a region is found
// elsewhere.
//
// Room: cold.
#pragma once

#include <algorithm>
#include <string_view>

namespace mobula {

// A region becomes part of a host name and of the signature's scope; which ones exist is AWS's to know.
inline bool IsAwsRegion(std::string_view text) noexcept {
  return !text.empty() && text.size() <= 63 && text.front() != '-' && text.back() != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

}  // namespace mobula
