#include "ferry/rpc/names/etcd_http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/posix.h"

namespace ferry {
namespace {

constexpr absl::string_view kUnix = "unix:";

void InitialiseCurl() {
  // For the whole process and all its threads; never undone, for nothing of ours runs at exit.
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  FERRY_CHECK(initialised == CURLE_OK, "libcurl cannot be initialised");
}

uint32_t EpollEvents(int what) {
  return ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) | ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U);
}

int CurlEvents(uint32_t events) {
  return ((events & (EPOLLIN | EPOLLHUP)) != 0 ? CURL_CSELECT_IN : 0) |
         ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
         ((events & EPOLLERR) != 0 ? CURL_CSELECT_ERR : 0);
}

}  // namespace

struct EtcdHttp::Curl {
  static int OnSocket(CURL* /*easy*/, curl_socket_t socket, int what, void* http, void* /*of_socket*/) {
    static_cast<EtcdHttp*>(http)->WatchSocket(socket, what);
    return 0;
  }
  static int OnTimer(CURLM* /*multi*/, long millis, void* http) {
    EtcdHttp& self = *static_cast<EtcdHttp*>(http);
    if (millis < 0) {
      self.loop_.timers().Cancel(self.curl_timer_);
    } else {
      self.loop_.timers().Arm(self.curl_timer_, self.loop_.now() + absl::Milliseconds(millis));
    }
    return 0;
  }
  static size_t OnBytes(char* bytes, size_t size, size_t count, void* call);

  CURLM* multi = curl_multi_init();
};

// A Socket is one of libcurl's, as the loop watches it: by a descriptor of its own, for libcurl closes its.
struct EtcdHttp::Socket final : transport::EventLoop::Handler {
  Socket(EtcdHttp* owner, int curl_socket)
      : http(owner), socket(curl_socket), fd(fcntl(curl_socket, F_DUPFD_CLOEXEC, 0)) {}
  // Destroys this, if libcurl wants it so.
  void OnEvents(uint32_t events) override { http->Act(socket, CurlEvents(events)); }

  EtcdHttp* const http;
  const int socket;
  transport::FileDescriptor fd;
};

class EtcdHttp::Call {
 public:
  Call(EtcdHttp* http, const Request& request, Callback callback);
  ~Call();

  EtcdHttp* const http;
  const size_t max_bytes;
  const bool streams;
  const std::string body;
  // Shared with itself while it runs, for it may destroy the call.
  const std::shared_ptr<Callback> callback;
  CURL* const easy;
  curl_slist* headers = nullptr;
  char error[CURL_ERROR_SIZE] = {};
  Answer answer;
  bool too_long = false;
  bool ready = false;  // among http->ready_
  transport::Timer timer;

 private:
  void Prepare(const Request& request);
};

size_t EtcdHttp::Curl::OnBytes(char* bytes, size_t size, size_t count, void* user) {
  Call& call = *static_cast<Call*>(user);
  if (call.answer.bytes.size() + size * count > call.max_bytes) {
    call.too_long = true;
    return 0;
  }
  call.answer.bytes.append(bytes, size * count);
  if (call.streams) call.http->Ready(call);
  return size * count;
}

EtcdHttp::Call::Call(EtcdHttp* owner, const Request& request, Callback done)
    : http(owner),
      max_bytes(request.max_bytes),
      streams(request.streams),
      body(request.body),
      callback(std::make_shared<Callback>(std::move(done))),
      easy(curl_easy_init()),
      timer([this] {
        curl_multi_remove_handle(http->curl_->multi, easy);
        answer.ended = true;
        answer.status = absl::DeadlineExceededError("no answer in time");
        http->Ready(*this);
      }) {
  FERRY_CHECK(easy != nullptr, "libcurl has no memory");
  Prepare(request);
  if (request.timeout != absl::InfiniteDuration()) {
    http->loop_.timers().Arm(timer, http->loop_.now() + request.timeout);
  }
  const CURLMcode added = curl_multi_add_handle(http->curl_->multi, easy);
  FERRY_CHECK(added == CURLM_OK, "libcurl does not take a request");
}

// None of these options can fail but for lack of memory.
void EtcdHttp::Call::Prepare(const Request& request) {
  const bool is_unix = absl::StartsWith(request.endpoint, std::string(kUnix));
  const std::string url = absl::StrCat("http://", is_unix ? "localhost" : request.endpoint, request.path);
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  if (is_unix) {
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request.endpoint.substr(kUnix.size()).c_str());
  }
  // An answer to `Expect: 100-continue` would be waited for.
  headers = curl_slist_append(headers, "Content-Type: application/json");
  headers = curl_slist_append(headers, "Expect:");
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_POST, 1L);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Curl::OnBytes);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, this);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
  // Nothing of the environment's, of other protocols or other hosts.
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
}

EtcdHttp::Call::~Call() {
  curl_multi_remove_handle(http->curl_->multi, easy);
  curl_easy_cleanup(easy);
  curl_slist_free_all(headers);
  if (ready) http->ready_.erase(std::find(http->ready_.begin(), http->ready_.end(), this));
}

void EtcdHttp::EndCall::operator()(Call* call) const { delete call; }

EtcdHttp::EtcdHttp(transport::EventLoop& loop)
    : loop_(loop),
      curl_((InitialiseCurl(), std::make_unique<Curl>())),
      curl_timer_([this] { Act(CURL_SOCKET_TIMEOUT, 0); }),
      deliver_timer_([this] { Deliver(); }) {
  FERRY_CHECK(curl_->multi != nullptr, "libcurl has no memory");
  curl_multi_setopt(curl_->multi, CURLMOPT_SOCKETFUNCTION, &Curl::OnSocket);
  curl_multi_setopt(curl_->multi, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(curl_->multi, CURLMOPT_TIMERFUNCTION, &Curl::OnTimer);
  curl_multi_setopt(curl_->multi, CURLMOPT_TIMERDATA, this);
}

EtcdHttp::~EtcdHttp() {
  loop_.AssertInLoop();
  curl_multi_cleanup(curl_->multi);
  for (const auto& [number, socket] : sockets_) loop_.Unwatch(socket->fd, *socket);
}

EtcdHttp::CallHandle EtcdHttp::Post(const Request& request, Callback callback) {
  loop_.AssertInLoop();
  return CallHandle(std::make_unique<Call>(this, request, std::move(callback)).release());
}

void EtcdHttp::WatchSocket(int socket, int what) {
  const auto found = sockets_.find(socket);
  if (what == CURL_POLL_REMOVE) {
    if (found == sockets_.end()) return;
    loop_.Unwatch(found->second->fd, *found->second);
    sockets_.erase(found);
    return;
  }
  if (found != sockets_.end()) {
    return loop_.ChangeWatch(found->second->fd, EpollEvents(what), *found->second);
  }
  auto added = std::make_unique<Socket>(this, socket);
  // Without descriptors or memory for it the call ends by its timeout.
  if (!added->fd.open() || !loop_.Watch(added->fd, EpollEvents(what), *added).ok()) return;
  sockets_.emplace(socket, std::move(added));
}

void EtcdHttp::Act(int socket, int events) {
  int running = 0;
  curl_multi_socket_action(curl_->multi, socket, events, &running);
  CollectEnded();
}

void EtcdHttp::CollectEnded() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(curl_->multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Call* call = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
    Answer& answer = call->answer;
    answer.ended = true;
    if (call->too_long) {
      answer.status =
          absl::ResourceExhaustedError(absl::StrCat("the answer is longer than ", call->max_bytes, " bytes"));
    } else if (message->data.result != CURLE_OK) {
      answer.status = absl::UnavailableError(
          call->error[0] != '\0' ? call->error : curl_easy_strerror(message->data.result));
    }
    loop_.timers().Cancel(call->timer);
    Ready(*call);
  }
}

// Tells in the next batch: libcurl, which this may be called by, is not to be called back into.
void EtcdHttp::Ready(Call& call) {
  if (!std::exchange(call.ready, true)) ready_.push_back(&call);
  if (!deliver_timer_.armed()) loop_.timers().Arm(deliver_timer_, loop_.now());
}

void EtcdHttp::Deliver() {
  if (ready_.empty()) return;
  Call& call = *ready_.front();
  ready_.pop_front();
  call.ready = false;
  if (!ready_.empty()) loop_.timers().Arm(deliver_timer_, loop_.now());
  Answer answer = std::exchange(call.answer, {});
  long code = 0;
  curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &code);
  answer.http_code = static_cast<int>(code);
  const std::shared_ptr<Callback> callback = call.callback;
  // May destroy this.
  (*callback)(std::move(answer));
}

}  // namespace ferry
