"""WORKSPACE dependencies of Ferry. Every repository is skipped when the user already declared one of that name."""

load("//bazel/stubs:repositories.bzl", "coverage_tools_stub", "rules_cc_stub", "rules_java_stub", "rules_proto_stub", "rules_shell_stub")
load(
    "//bazel/system:repositories.bzl",
    "system_abseil",
    "system_benchmark",
    "system_cares",
    "system_curl",
    "system_googletest",
    "system_grpc",
    "system_openssl",
    "system_protobuf",
)

def _maybe(repo_rule, name, **kwargs):
    if not native.existing_rule(name):
        repo_rule(name = name, **kwargs)

def ferry_deps(offline_stubs = True):
    """Repositories needed to build Ferry and code that uses it.

    Args:
      offline_stubs: declare stand-ins for the repositories that Bazel 4 itself would download.
    """
    _maybe(system_abseil, "com_google_absl")
    _maybe(system_protobuf, "com_google_protobuf")
    _maybe(system_openssl, "openssl")
    _maybe(system_cares, "com_github_cares_cares")
    _maybe(system_curl, "curl")
    if offline_stubs:
        _maybe(rules_cc_stub, "rules_cc")
        _maybe(rules_java_stub, "rules_java")
        _maybe(rules_proto_stub, "rules_proto")
        _maybe(rules_shell_stub, "rules_shell")
        _maybe(coverage_tools_stub, "remote_coverage_tools")

def ferry_dev_deps():
    """Repositories needed only by Ferry's own tests and benchmarks."""
    _maybe(system_googletest, "com_google_googletest")
    _maybe(system_benchmark, "com_github_google_benchmark")
    _maybe(system_grpc, "com_github_grpc_grpc")
