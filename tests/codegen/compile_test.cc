// Whatever is generated compiles, without warnings, beside everything else that is, and can be served.
#include <gtest/gtest.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "acme/prefixed-name.ferry.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "tests/codegen/protos/comments.ferry.h"
#include "tests/codegen/protos/common/all.ferry.h"
#include "tests/codegen/protos/common/types.ferry.h"
#include "tests/codegen/protos/deprecated.ferry.h"
#include "tests/codegen/protos/everyday.ferry.h"
#include "tests/codegen/protos/everyday.pb.h"
#include "tests/codegen/protos/imports_prefixed.ferry.h"
#include "tests/codegen/protos/legacy.ferry.h"
#include "tests/codegen/protos/lite.ferry.h"
#include "tests/codegen/protos/long_names.ferry.h"
#include "tests/codegen/protos/messages_only.ferry.h"
#include "tests/codegen/protos/names.ferry.h"
#include "tests/codegen/protos/nested_namespaces.ferry.h"
#include "tests/codegen/protos/no_package.ferry.h"
#include "tests/codegen/protos/services_only.ferry.h"

namespace {

// A server of `service` and a channel to it.
template <typename Service>
struct Served {
  Service service;
  ferry::Server server{{.threads = 1}};
  std::unique_ptr<ferry::Channel> channel;

  Served() {
    server.Register(service);
    channel = *ferry::CreateInProcessChannel(server);
  }
};

TEST(GeneratedCodeTest, HeadersOfFilesWithoutServicesBringTheMessages) {
  tests::codegen::messages_only::Pair pair;
  tests::codegen::common::Request request;
  EXPECT_EQ(pair.ByteSizeLong() + request.ByteSizeLong(), 0u);
}

TEST(GeneratedCodeTest, ServesMethodsWhoseNamesClash) {
  Served<tests::codegen::names::GreeterService_> served;
  tests::codegen::names::GreeterStub__ stub(*served.channel);
  EXPECT_TRUE(absl::IsUnimplemented(stub.class__(tests::codegen::names::class_()).status()));
  EXPECT_TRUE(absl::IsUnimplemented(stub.StartRun(tests::codegen::names::Twin()).status()));
  EXPECT_TRUE(absl::IsUnimplemented(stub.std(tests::codegen::names::Twin()).status()));
}

TEST(GeneratedCodeTest, ServesFilesWithoutAPackage) {
  Served<CodegenTestEchoService> served;
  EXPECT_TRUE(absl::IsUnimplemented(CodegenTestEchoStub(*served.channel).Echo({}).status()));
}

TEST(GeneratedCodeTest, ServesMessagesOfTheLiteRuntime) {
  class Handlers final : public tests::codegen::lite::LiteService {
    absl::Status Echo(ferry::ServerContext&, const tests::codegen::lite::Text& request,
                      tests::codegen::lite::Text& reply) override {
      reply = request;
      return absl::OkStatus();
    }
  };
  Served<Handlers> served;
  tests::codegen::lite::Text request;
  request.set_text("lite");
  absl::StatusOr<tests::codegen::lite::Text> reply =
      tests::codegen::lite::LiteStub(*served.channel).Echo(request);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->text(), "lite");
}

TEST(GeneratedCodeTest, ServesMessagesImportedUnderAPrefixOrPublicly) {
  Served<tests::codegen::imports_prefixed::ImportsPrefixedService> prefixed;
  EXPECT_TRUE(absl::IsUnimplemented(
      tests::codegen::imports_prefixed::ImportsPrefixedStub(*prefixed.channel).Echo({}).status()));
  Served<tests::codegen::services_only::LookupService> publicly;
  EXPECT_TRUE(
      absl::IsUnimplemented(tests::codegen::services_only::LookupStub(*publicly.channel).Find({}).status()));
}

}  // namespace
