// Makes a recorded document look as if it had been sent now: other ids, times moved by whole seconds.
//
// Works on the bytes, so that everything else stays as it was recorded: every string value of 16 lower-case hex
// digits is an id (also in `cause`, `precursor_ids` and links), string values shaped like an X-Ray trace id are
// one, and the numbers of `start_time` and `end_time` are times. The same Shift keeps references between
// documents. T1S bodies stay as they are.
//
// Room:   cold.
// Errors: none; foreign bytes that are no JSON come back with whatever looked like an id changed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mobula {

struct FreshShift {
  int64_t seconds = 0;      // added to times and to the epoch in trace ids
  uint64_t id_mask = 0;     // XORed into ids: different ids stay different
  uint64_t trace_mask = 0;  // XORed into the last 64 of a trace id's 96 random bits
};

std::string Refresh(std::string_view document, const FreshShift& shift);

// The largest `start_time` or `end_time` in it, in epoch seconds; 0 without any.
double LatestTime(std::string_view document);

}  // namespace mobula
