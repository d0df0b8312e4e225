"""marked_repository: another repository's files, and //consumer:marker to know it by."""

def _marked_repository_impl(ctx):
    for entry in ctx.path(ctx.attr.original).dirname.readdir():
        if entry.basename != "WORKSPACE":
            ctx.symlink(entry, entry.basename)
    ctx.file("consumer/marker", "the consumer's own\n")
    ctx.file("consumer/BUILD.bazel", "exports_files([\"marker\"])\n")

marked_repository = repository_rule(
    implementation = _marked_repository_impl,
    attrs = {"original": attr.label(mandatory = True)},
)
