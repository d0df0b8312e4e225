"""ferry_cc_library: C++ messages and services of proto_library targets."""

load("@com_google_protobuf//bazel:cc_proto_library.bzl", "cc_proto_library")
load("@com_google_protobuf//bazel/common:proto_info.bzl", "ProtoInfo")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

_PROTO = ".proto"
_HEADER = ".ferry.h"
_SOURCE = ".ferry.cc"

# What generated code includes.
_RUNTIME = [
    "//rpc:call_options",
    "//rpc:callback",
    "//rpc:client_method",
    "//rpc:client_stream",
    "//rpc:service",
    "//rpc:spawn",
    "//rpc:stream_io",
    "//rpc:streaming_call",
    "//rpc:task",
    "@com_google_absl//absl/status",
    "@com_google_absl//absl/status:statusor",
    "@com_google_absl//absl/types:span",
]

def _import_path(src, proto_info):
    """The path by which other .proto files import src."""
    root = proto_info.proto_source_root
    if root and root != "." and src.path.startswith(root + "/"):
        return src.path[len(root) + 1:]
    path = src.path
    if path.startswith(src.root.path + "/"):
        path = path[len(src.root.path) + 1:]
    if path.startswith("external/"):
        path = path.split("/", 2)[2]
    return path

def _generate(ctx, proto_info):
    """Generates the services of one proto_library.

    Args:
      ctx: the rule's context.
      proto_info: of the proto_library.

    Returns:
      (headers, sources, the include directory): ([], [], None) if it has no sources of its own.
    """

    # Every output lies under one directory of this target's own, at the path by which the .proto is imported:
    # import_prefix, strip_import_prefix, subpackages and external repositories then need no further care.
    out_dir = "_ferry/" + ctx.label.name + "/"
    imports = [_import_path(src, proto_info) for src in proto_info.direct_sources]
    if not imports:
        return [], [], None
    stems = [path[:-len(_PROTO)] for path in imports]
    headers = [ctx.actions.declare_file(out_dir + stem + _HEADER) for stem in stems]
    sources = [ctx.actions.declare_file(out_dir + stem + _SOURCE) for stem in stems]
    include_dir = headers[0].path[:-len("/" + stems[0] + _HEADER)]

    args = ctx.actions.args()
    args.add(ctx.executable._plugin, format = "--plugin=protoc-gen-ferry=%s")
    args.add(include_dir, format = "--ferry_out=%s")
    args.add_all(proto_info.transitive_proto_path, format_each = "--proto_path=%s")
    args.add_all(imports)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [args],
        inputs = proto_info.transitive_sources,
        tools = [ctx.executable._plugin],
        outputs = headers + sources,
        mnemonic = "FerryProtoc",
        # Bazel puts this in front of what the generator has to say of bad options.
        progress_message = "Generating Ferry services of %s" % ctx.label,
    )
    return headers, sources, include_dir

def _compile(ctx, headers, sources, include_dirs):
    """Compiles the generated files into a library; returns its CcInfo and its files."""
    cc_toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = cc_toolchain,
        requested_features = ctx.features,
        # What generated code includes is known; it is the users' includes that are worth checking.
        unsupported_features = ctx.disabled_features + ["layering_check"],
    )
    dep_infos = [dep[CcInfo] for dep in ctx.attr.deps]
    compilation, outputs = cc_common.compile(
        name = ctx.label.name,
        actions = ctx.actions,
        feature_configuration = features,
        cc_toolchain = cc_toolchain,
        srcs = sources,
        # Whoever depends on this library may include the messages' headers too: layering_check sees them as its own.
        public_hdrs = headers + [
            header
            for messages in ctx.attr.messages
            for header in messages[CcInfo].compilation_context.direct_public_headers
        ],
        system_includes = include_dirs,
        compilation_contexts = [info.compilation_context for info in dep_infos],
        user_compile_flags = ctx.attr.copts,
    )
    linking, linking_outputs = cc_common.create_linking_context_from_compilation_outputs(
        name = ctx.label.name,
        actions = ctx.actions,
        feature_configuration = features,
        cc_toolchain = cc_toolchain,
        compilation_outputs = outputs,
        linking_contexts = [info.linking_context for info in dep_infos],
        alwayslink = False,
        # As cc_library has it.
        disallow_dynamic_library = not cc_common.is_enabled(
            feature_configuration = features,
            feature_name = "supports_dynamic_linker",
        ),
    )

    library = linking_outputs.library_to_link
    files = [library.static_library, library.pic_static_library, library.dynamic_library] if library else []
    return (
        CcInfo(compilation_context = compilation, linking_context = linking),
        [file for file in files if file],
    )

def _ferry_cc_services_impl(ctx):
    headers, sources, include_dirs = [], [], []
    for proto in ctx.attr.protos:
        more_headers, more_sources, include_dir = _generate(ctx, proto[ProtoInfo])
        headers += more_headers
        sources += more_sources
        if include_dir and include_dir not in include_dirs:
            include_dirs.append(include_dir)
    cc_info, files = _compile(ctx, headers, sources, include_dirs)
    return [
        DefaultInfo(files = depset(files)),
        OutputGroupInfo(ferry_sources = depset(headers + sources)),
        cc_info,
    ]

_ferry_cc_services = rule(
    implementation = _ferry_cc_services_impl,
    attrs = {
        "protos": attr.label_list(
            doc = "The proto_library targets whose services are generated.",
            providers = [ProtoInfo],
        ),
        "deps": attr.label_list(
            doc = "What the generated code includes: the messages and the runtime.",
            providers = [CcInfo],
        ),
        "messages": attr.label_list(
            doc = "Those of the deps that hold the messages of `protos`.",
            providers = [CcInfo],
        ),
        "copts": attr.string_list(),
        "_plugin": attr.label(
            default = Label("//codegen:protoc_gen_ferry"),
            executable = True,
            cfg = "exec",
        ),
        "_protoc": attr.label(
            default = Label("@com_google_protobuf//:protoc"),
            executable = True,
            allow_single_file = True,
            cfg = "exec",
        ),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
    },
    fragments = ["cpp"],
    toolchains = use_cc_toolchain(),
    provides = [CcInfo],
)

def ferry_cc_library(name, deps, copts = [], visibility = None, testonly = None, tags = None):
    """C++ messages (NAME.pb.h) and services (NAME.ferry.h) of the given proto_library targets.

    A header is included by the path by which its .proto is imported. The files that these import are not covered:
    their messages come with them, their services need a ferry_cc_library of their own.

    Args:
      name: the C++ library's name; depend on it from cc_library, cc_binary and cc_test.
      deps: proto_library targets whose own .proto files hold the services; at least one.
      copts: extra flags for the compilation of the generated services.
      visibility: as everywhere.
      testonly: as everywhere.
      tags: as everywhere.
    """
    if not deps:
        fail("ferry_cc_library //%s:%s: deps is empty; name the proto_library with the services" %
             (native.package_name(), name))
    messages = []
    for i, dep in enumerate(deps):
        messages.append("%s_messages_%d" % (name, i))
        cc_proto_library(
            name = messages[-1],
            testonly = testonly,
            tags = tags,
            visibility = ["//visibility:private"],
            deps = [dep],
        )
    _ferry_cc_services(
        name = name,
        testonly = testonly,
        copts = copts,
        protos = deps,
        tags = tags,
        visibility = visibility,
        messages = [":" + message for message in messages],
        deps = [":" + message for message in messages] + [Label(label) for label in _RUNTIME],
    )
