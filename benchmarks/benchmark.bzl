"""ferry_benchmark: a Google Benchmark program, and a test that runs each of its benchmarks once."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")
load("//bazel:cc.bzl", "WARNINGS")

def ferry_benchmark(name, srcs, deps):
    """A program of benchmarks, and <name>_smoke_test, which keeps it from rotting.

    Args:
      name: the program's name; it ends in _benchmark, by which ./dev bench finds it.
      srcs: its sources, without main.
      deps: what it measures.
    """
    if not name.endswith("_benchmark"):
        fail("//%s:%s: the name of a ferry_benchmark ends in _benchmark" % (native.package_name(), name))
    cc_library(
        name = name + "s",
        srcs = srcs,
        copts = WARNINGS,
        deps = deps + [
            "//benchmarks:count_allocations",
            "@com_github_google_benchmark//:benchmark",
        ],
        alwayslink = True,
    )
    main = [":" + name + "s", "@com_github_google_benchmark//:benchmark_main"]
    cc_binary(
        name = name,
        deps = main,
    )
    cc_test(
        name = name + "_smoke_test",
        size = "small",
        args = ["--benchmark_min_time=0.000000001"],
        deps = main,
    )
