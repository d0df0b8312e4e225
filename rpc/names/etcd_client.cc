#include "ferry/rpc/names/etcd_client.h"

#include <google/protobuf/util/json_util.h>

#include <utility>

#include "absl/random/random.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry {
namespace {

using google::protobuf::Message;

std::string ToJson(const Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Messages of ours always have a JSON form.
  static_cast<void>(google::protobuf::util::MessageToJsonString(message, &json, options));
  return json;
}

bool FromJson(absl::string_view json, Message& message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  return google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, &message, options).ok();
}

// What a server that is none of etcd's has said, for people to read.
std::string Excerpt(absl::string_view bytes) {
  constexpr size_t kMost = 100;
  return absl::StrCat("'", absl::CHexEscape(bytes.substr(0, kMost)), bytes.size() > kMost ? "'..." : "'");
}

// The numbers are the same; what is none of them, or OK, is no error's code.
absl::StatusCode CodeOf(int code) {
  constexpr int kLast = static_cast<int>(absl::StatusCode::kUnauthenticated);
  return code > 0 && code <= kLast ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

// What etcd answers with instead of 200.
absl::Status ErrorOf(const EtcdHttp::Answer& answer) {
  etcd::ErrorResponse error;
  if (!FromJson(answer.bytes, error) || error.message().empty()) {
    return absl::InternalError(
        absl::StrCat("answered HTTP ", answer.http_code, ", not as etcd does: ", Excerpt(answer.bytes)));
  }
  return {CodeOf(error.code()), error.message()};
}

// Whole lines of a watch.
class WatchLines {
 public:
  explicit WatchLines(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Appends what is in `bytes`, with what was left of those before, to `responses`. An error ends the watch.
  absl::Status Take(absl::string_view bytes, std::vector<etcd::WatchResponse>& responses) {
    size_t end = rest_.size();
    absl::StrAppend(&rest_, bytes);
    size_t begin = 0;
    for (; (end = rest_.find('\n', end)) != std::string::npos; begin = ++end) {
      absl::Status taken = TakeLine(absl::string_view(rest_).substr(begin, end - begin), responses);
      if (!taken.ok()) return taken;
    }
    rest_.erase(0, begin);
    if (rest_.size() <= max_bytes_) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("a message of the watch is longer than ", max_bytes_, " bytes"));
  }

 private:
  static absl::Status TakeLine(absl::string_view line, std::vector<etcd::WatchResponse>& responses) {
    etcd::WatchLine parsed;
    if (!FromJson(line, parsed) || (!parsed.has_result() && !parsed.has_error())) {
      return absl::InternalError(absl::StrCat("sent what is no watch of etcd's: ", Excerpt(line)));
    }
    if (parsed.has_error()) {
      return {CodeOf(parsed.error().grpc_code()),
              absl::StrCat("the watch failed: ", parsed.error().message())};
    }
    responses.push_back(std::move(*parsed.mutable_result()));
    return absl::OkStatus();
  }

  const size_t max_bytes_;
  std::string rest_;
};

}  // namespace

EtcdClient::EtcdClient(transport::EventLoop& loop, const EtcdOptions& options, std::string_view purpose)
    : options_(options),
      purpose_(purpose),
      endpoint_(absl::Uniform<size_t>(absl::BitGen(), 0, options.endpoints.size())),
      http_(loop) {}

absl::Status EtcdClient::Error(absl::StatusCode code, std::string_view problem) const {
  return {code, absl::StrCat("etcd ", endpoint(), ", ", purpose_, ": ", std::string(problem))};
}

EtcdClient::Call EtcdClient::Post(std::string_view path, const Message& request, Message& response,
                                  absl::AnyInvocable<void(absl::Status)> done) {
  const EtcdHttp::Request post = {.endpoint = endpoint(),
                                  .path = std::string(path),
                                  .body = ToJson(request),
                                  .timeout = options_.request_timeout,
                                  .max_bytes = options_.max_answer_bytes};
  return http_.Post(post, [this, &response, done = std::move(done)](const EtcdHttp::Answer& answer) mutable {
    absl::Status status = answer.status;
    if (status.ok() && answer.http_code != 200) status = ErrorOf(answer);
    if (status.ok() && !FromJson(answer.bytes, response)) {
      status = absl::InternalError(absl::StrCat("sent no answer of etcd's: ", Excerpt(answer.bytes)));
    }
    done(status.ok() ? status : Error(status.code(), std::string(status.message())));
  });
}

EtcdClient::Call EtcdClient::Watch(const etcd::WatchCreateRequest& request,
                                   absl::AnyInvocable<void(WatchNews)> on_news) {
  etcd::WatchRequest watch;
  *watch.mutable_create_request() = request;
  const EtcdHttp::Request post = {.endpoint = endpoint(),
                                  .path = "/v3/watch",
                                  .body = ToJson(watch),
                                  .max_bytes = options_.max_answer_bytes,
                                  .streams = true};
  return http_.Post(post, [this, lines = WatchLines(options_.max_answer_bytes), failed = false,
                           on_news = std::move(on_news)](const EtcdHttp::Answer& answer) mutable {
    if (failed) return;
    WatchNews news;
    absl::Status status = answer.status;
    if (answer.http_code == 200) {
      // What came before the end counts.
      const absl::Status taken = lines.Take(answer.bytes, news.responses);
      if (!taken.ok()) status = taken;
    } else if (status.ok()) {
      status = ErrorOf(answer);
    }
    if (status.ok() && answer.ended) status = absl::UnavailableError("the watch ended");
    failed = !status.ok();
    if (failed) news.end = Error(status.code(), std::string(status.message()));
    on_news(std::move(news));
  });
}

}  // namespace ferry
