"""ferry_component: a cc_library whose headers are included as "ferry/<package>/<header>"."""

load("@rules_cc//cc:defs.bzl", "cc_library")

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
]

def ferry_component(name, copts = [], **kwargs):
    """A cc_library of Ferry's own.

    A header rpc/server.h is included as "ferry/rpc/server.h", here and in projects that use Ferry, so that a user's
    own folder rpc/ can never stand in its place.

    Args:
      name: the library's name.
      copts: flags beside Ferry's warnings.
      **kwargs: passed on to cc_library.
    """
    cc_library(
        name = name,
        copts = WARNINGS + copts,
        include_prefix = "ferry",
        strip_include_prefix = "/",
        **kwargs
    )
