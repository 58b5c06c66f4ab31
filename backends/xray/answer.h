// What an answer of the X-Ray API means for the batch that was sent.
//
// Room:   warm.
// Errors: every sequence of bytes has a meaning; none is an error here.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "engine/delivery/exporter.h"
#include "engine/http/http_client.h"

namespace mobula {

struct XrayAnswer {
  // An entry of UnprocessedTraceSegments. Members that are absent or no strings are empty.
  struct Unprocessed {
    std::string id;
    std::string code;
    std::string message;
    Verdict verdict;  // kThrottled, kRetry or kRefused
  };

  // For the whole call. With kDelivered and a code, a 200 that is no answer of X-Ray as we know it.
  ExportResult result;
  std::vector<Unprocessed> unprocessed;
  // The credentials are not, or no longer, accepted: get new ones, then try again.
  bool refresh_credentials = false;
  // How far the far side's clock is ahead of the one the call was signed by, if that is why it was refused.
  std::optional<std::chrono::seconds> clock_error;
};

// `signed_at` is the time in the call's signature.
XrayAnswer JudgeAnswer(const HttpResponse& response,
                       std::chrono::system_clock::time_point signed_at);

}  // namespace mobula
