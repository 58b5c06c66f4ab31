// The other end of a backend, seen from outside: what has arrived there, and whether it works, fails or hangs.
//
// Room: test.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/delivery/exporter.h"

namespace mobula::testing {

class FarSide {
 public:
  virtual ~FarSide() = default;

  // An exporter to it. Called once.
  virtual std::unique_ptr<Exporter> Make(const ExporterContext& context) = 0;
  // Every document that is there whole, and nothing else: anything that is no document fails the test.
  virtual std::vector<std::string> Arrived() = 0;
  // As what `document` is to arrive.
  virtual std::string Expected(std::string_view document) { return std::string(document); }

  // From now on every call fails, some of them half-way.
  virtual void Fail() = 0;
  // From now on nothing is answered or taken.
  virtual void Hang() = 0;
  virtual void Work() = 0;
};

struct Backend {
  const char* name;
  std::function<std::unique_ptr<FarSide>()> far_side;
  bool keeps = true;      // what arrives can be looked at
  bool can_fail = true;   // Fail works
  bool can_hang = false;  // Hang works
};

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

// Every backend of this build, in each of its formats.
std::vector<Backend> AllBackends();

}  // namespace mobula::testing
