// One place that credentials come from, asked again for each renewal. Private to this folder.
//
// Room:      cold.
// Threads:   the loop's thread; `done` is called there once, never from inside Fetch.
// Ownership: a source must not be destroyed while a Fetch is under way unless its loop has stopped.
// Errors:    FailedPrecondition: nothing but a change by somebody mends it; Unavailable or DeadlineExceeded: may
//            work later. The message names the variable, file, address or role, never a secret.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/base/time.h"

namespace mobula {

class CredentialsSource {
 public:
  using Done = std::function<void(absl::StatusOr<Credentials>)>;

  virtual ~CredentialsSource() = default;

  // Looks at files and tokens anew each time. Ends not much later than `deadline`.
  virtual void Fetch(Time deadline, Done done) = 0;
};

}  // namespace mobula
