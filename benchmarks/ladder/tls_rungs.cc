#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "ferry/benchmarks/floor_wire.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/benchmarks/now.h"
#include "ferry/transport/check.h"

namespace ferry::bench {
namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;
using Side = std::unique_ptr<SSL, Free<SSL_free>>;
using Session = std::unique_ptr<SSL_SESSION, Free<SSL_SESSION_free>>;

void Check(bool good) { FERRY_CHECK(good, "OpenSSL refuses"); }

// Signed by its own key, good for an hour.
Certificate NewCertificate(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* const name = X509_get_subject_name(certificate.get());
  const auto* const text = reinterpret_cast<const unsigned char*>("ladder");
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  Check(X509_sign(certificate.get(), key, EVP_sha256()) > 0);
  return certificate;
}

Context NewContext(const SSL_METHOD* method) {
  Context context(SSL_CTX_new(method));
  Check(SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) == 1);
  return context;
}

// A Pair is a client and a server that have shaken hands over a pair of sockets. Both are driven by the
// calling thread in turn, so that a handshake takes the work of both sides and no waking.
class Pair {
 public:
  // `session` is one to resume, or null.
  Pair(SSL_CTX* client, SSL_CTX* server, SSL_SESSION* session)
      : client_(SSL_new(client)), server_(SSL_new(server)) {
    OrDie(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets_), "socketpair");
    Check(SSL_set_fd(client_.get(), sockets_[0]) == 1 && SSL_set_fd(server_.get(), sockets_[1]) == 1);
    SSL_set_connect_state(client_.get());
    SSL_set_accept_state(server_.get());
    if (session != nullptr) Check(SSL_set_session(client_.get(), session) == 1);
    const int64_t start = NowNanos();
    while (!Done(client_.get()) || !Done(server_.get())) {
      Advance(client_.get());
      Advance(server_.get());
    }
    took_ = NowNanos() - start;
    Check((SSL_session_reused(client_.get()) == 1) == (session != nullptr));
  }
  ~Pair() {
    client_.reset();
    server_.reset();
    close(sockets_[0]);
    close(sockets_[1]);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  int64_t took() const { return took_; }

  // What resumes this connection: the server has sent it after the handshake, and the client must read.
  Session TakeSession() {
    char byte;
    SSL_read(client_.get(), &byte, 1);
    // Only a connection that was shut down leaves a session that may be used.
    SSL_shutdown(client_.get());
    return Session(SSL_get1_session(client_.get()));
  }

 private:
  static bool Done(SSL* side) { return SSL_is_init_finished(side) == 1; }
  static void Advance(SSL* side) {
    const int result = SSL_do_handshake(side);
    const int error = SSL_get_error(side, result);
    Check(result == 1 || error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE);
  }

  int sockets_[2];
  Side client_;
  Side server_;
  int64_t took_ = 0;
};

}  // namespace

Rungs TlsRungs(const LadderOptions& options) {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = NewCertificate(key.get());
  const Context server = NewContext(TLS_server_method());
  Check(SSL_CTX_use_certificate(server.get(), certificate.get()) == 1);
  Check(SSL_CTX_use_PrivateKey(server.get(), key.get()) == 1);
  const Context client = NewContext(TLS_client_method());
  Check(X509_STORE_add_cert(SSL_CTX_get_cert_store(client.get()), certificate.get()) == 1);
  SSL_CTX_set_verify(client.get(), SSL_VERIFY_PEER, nullptr);
  return {
      MeasureTimed("TLS 1.3 handshake, full", "P-256 certificate, checked; both sides' work on one thread",
                   options, [&] { return Pair(client.get(), server.get(), nullptr).took(); }),
      MeasureTimed("TLS 1.3 handshake, resumed", "from a ticket", options,
                   [&] {
                     // A ticket is good for one connection.
                     const Session session = Pair(client.get(), server.get(), nullptr).TakeSession();
                     return Pair(client.get(), server.get(), session.get()).took();
                   }),
  };
}

}  // namespace ferry::bench
