// `mobula health`: asks a running agent's admin page how it is; an exec probe for images without a shell.
//
// Room:   cold; its own process.
// Limits: two seconds in all, one for an address of a name that has several; 64 KiB of answer.
#pragma once

#include <string>

namespace mobula {

struct HealthOptions {
  // host:port of the admin page; empty: MOBULA_ADMIN_ADDRESS, else 127.0.0.1:2010. An unspecified host
  // (0.0.0.0, [::], :port) is asked on loopback.
  std::string address;
  bool ready = false;  // /readyz in place of /healthz
  // Ask over TLS: also when MOBULA_ADMIN_TLS_CERT says that the page has a certificate.
  bool tls = false;
  // PEM file of the authorities to trust, and TLS. Without it on loopback, where nobody else can listen, any certificate
  // will do; elsewhere one of the system's authorities.
  std::string ca;
};

// Prints the answer. 0: it says 200. 1: it says something else, or nobody answers; stderr says what to do.
int HealthCommand(const HealthOptions& options);

}  // namespace mobula
