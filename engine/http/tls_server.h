// TLS 1.2 and 1.3 for incoming connections: our certificate, and whose certificates clients may show.
//
// Room:      cold.
// Threads:   one loop's thread.
// Errors:    of the files: InvalidArgument, NotFound or FailedPrecondition naming the file, never its contents. Of a
//            connection: those of TlsStream; a client whose certificate is not accepted gets no connection.
// Limits:    1 MiB a file. A stream takes up to 50 KiB while its connection is busy. No sessions are resumed, so that a
//            client is judged anew each time, and nothing is renegotiated.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/http/tls_stream.h"

namespace mobula {

class TlsServerContext {
 public:
  struct Files {
    std::string certificate;  // PEM, with the chain behind it
    std::string key;          // PEM, without a passphrase
    std::string client_ca;    // PEM: who signs clients' certificates; empty: none is asked for
  };

  static absl::StatusOr<std::unique_ptr<TlsServerContext>> Create(Files files);
  ~TlsServerContext();

  // Reads the files again unless they are as when they were last taken into use, and answers whether they were now;
  // streams that are there keep what they have. After an error what was in use stays so, and each call tries again; the
  // same error of the same files is answered once.
  absl::StatusOr<bool> Refresh();

  // When our certificate expires: "2026-11-23T10:00:00Z".
  [[nodiscard]] std::string expires() const;

  // A stream on the accepted non-blocking socket `fd`, before its handshake. A client that shows no certificate is
  // served too: TlsStream::peer_verified tells. Null without memory.
  std::unique_ptr<TlsStream> NewStream(int fd);

 private:
  class Impl;
  explicit TlsServerContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
