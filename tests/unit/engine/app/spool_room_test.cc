#include "engine/app/spool_room.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace mobula {
namespace {

class SpoolIdentityTest : public ::testing::Test {
 protected:
  SpoolIdentityTest() {
    for (const char* const name :
         {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
          "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_XRAY", "AWS_CONFIG_FILE",
          "AWS_SHARED_CREDENTIALS_FILE"}) {
      ::unsetenv(name);
    }
    ::setenv("HOME", "/nonexistent", 1);
  }

  static std::string Text(const XrayBackendConfig& xray) {
    BackendConfig backend;
    backend.name = "prod";
    backend.settings = xray;
    return SpoolIdentityText(backend);
  }
};

TEST_F(SpoolIdentityTest, WhatLiesOnDisksIsStillOurs) {
  XrayBackendConfig xray;
  EXPECT_EQ(Text(xray), "xray||||");
  xray.endpoint = "https://xray.example";
  xray.region = "eu-west-1";
  xray.profile = "far";
  xray.role.role_arn = "arn:aws:iam::222222222222:role/writer";
  ::setenv("AWS_REGION", "us-east-1", 1);
  ::setenv("AWS_PROFILE", "near", 1);
  ::setenv("AWS_ENDPOINT_URL", "https://other.example", 1);
  EXPECT_EQ(Text(xray),
            "xray|https://xray.example|eu-west-1|far|arn:aws:iam::222222222222:role/writer");
  BackendConfig backend;
  FileBackendConfig file;
  file.path = "/var/x.jsonl";
  backend.settings = file;
  EXPECT_EQ(SpoolIdentityText(backend), "file|/var/x.jsonl");
  backend.settings = NullBackendConfig{};
  EXPECT_EQ(SpoolIdentityText(backend), "null");
}

TEST_F(SpoolIdentityTest, WhatTheEnvironmentSaysIsPartOfIt) {
  ::setenv("AWS_REGION", "eu-west-1", 1);
  ::setenv("AWS_PROFILE", "near", 1);
  ::setenv("AWS_ENDPOINT_URL_XRAY", "https://xray.example", 1);
  EXPECT_EQ(Text({}), "xray|https://xray.example|eu-west-1|near|");
}

}  // namespace
}  // namespace mobula
