// TLS for outgoing connections.
//
// Room:      warm.
// Threads:   one loop's thread.
// Errors:    those of TlsStream.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/http/tls_stream.h"

namespace mobula {

// What the connections to one host share: trust, and sessions to resume.
class TlsClientContext {
 public:
  // `ca_file`: PEM file of the only authorities to trust; empty: the system's. Fails when it cannot
  // be read.
  static absl::StatusOr<std::unique_ptr<TlsClientContext>> Create(std::string_view host,
                                                                  const std::string& ca_file,
                                                                  bool verify);
  ~TlsClientContext();

  // A stream on the connected socket `fd`, which must name `host` in its certificate. Null without
  // memory.
  std::unique_ptr<TlsStream> NewStream(int fd);

 private:
  class Impl;
  explicit TlsClientContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
