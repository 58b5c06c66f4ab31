// Signs requests for sigv4_peers_test.py. Each request on standard input is lines of
//   region service key-id secret token(or -) epoch body-in-hex(or -)
//   method path query(or -) number-of-headers
//   name: value            (that many)
// and is answered by one line, the Authorization header.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <vector>

#include "engine/aws/sigv4.h"

namespace {

std::string OrEmpty(const std::string& text) { return text == "-" ? "" : text; }

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return out;
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::string region, service, id, secret, token, body, method, path, query;
    int64_t epoch = 0;
    size_t count = 0;
    std::istringstream(line) >> region >> service >> id >> secret >> token >> epoch >> body;
    std::getline(std::cin, line);
    std::istringstream(line) >> method >> path >> query >> count;
    std::vector<std::pair<std::string, std::string>> headers(count);
    for (auto& [name, value] : headers) {
      std::getline(std::cin, line);
      name = line.substr(0, line.find(": "));
      value = line.substr(line.find(": ") + 2);
    }
    query = OrEmpty(query);
    const std::vector<std::pair<std::string_view, std::string_view>> views(headers.begin(),
                                                                           headers.end());
    mobula::SigV4Signer signer(region, service);
    const mobula::SigV4Request request{method, path, query, views,
                                       mobula::Sha256().Update(FromHex(OrEmpty(body))).Finish()};
    const mobula::Credentials credentials{id, secret, OrEmpty(token), std::nullopt};
    std::cout << signer
                     .Sign(request, credentials,
                           std::chrono::system_clock::time_point(std::chrono::seconds(epoch)))
                     .authorization
              << std::endl;
  }
}
