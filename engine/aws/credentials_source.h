// One place that credentials come from, asked again for each renewal. Private to this folder.
//
// Room:      cold.
// Threads:   the loop's thread; `done` is called there once, never from inside Fetch.
// Ownership: a source must not be destroyed while a Fetch is under way unless its loop has stopped.
// Errors:    FailedPrecondition: nothing but a change by somebody mends it; NotFound: nothing is configured at all;
//            Unavailable or DeadlineExceeded: may work later. The message begins with the source ("container: ")
//            and names the variable, file, address or role, never a secret.
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

  // Whether Fetch would look at something else than the last time, so that there is no need to wait for the next
  // renewal: a file was written. Asked every few seconds, so it must be cheap; not while a Fetch is under way.
  virtual bool Changed() { return false; }
};

}  // namespace mobula
