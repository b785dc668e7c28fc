"""Programs as C: a folder of source that any C compiler for any CPU builds, without TVM."""
