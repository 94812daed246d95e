"""The one place that opens, checks and replaces files and folders."""

from exaranker.files.hub import cache_dir, fetch_model, model_digest
from exaranker.files.json_shape import parse_json, require_fields, require_shape
from exaranker.files.locks import hold, holder
from exaranker.files.mirror import fetch, is_mirror, local_path, localised, named, push, remove
from exaranker.files.reading import (
    blank_line_hint,
    open_input,
    read_json,
    read_lines,
    read_yaml,
    sha256_file,
    whole_file,
)
from exaranker.files.system import system_error, system_errors_named
from exaranker.files.writing import (
    atomic_folder,
    atomic_path,
    claim_folder,
    claim_outputs,
    open_output,
    prepare_folder,
    prepare_output,
    real_path,
    sha256_json,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    "atomic_folder",
    "atomic_path",
    "blank_line_hint",
    "cache_dir",
    "claim_folder",
    "claim_outputs",
    "fetch",
    "fetch_model",
    "hold",
    "holder",
    "is_mirror",
    "local_path",
    "localised",
    "model_digest",
    "named",
    "open_input",
    "open_output",
    "parse_json",
    "prepare_folder",
    "prepare_output",
    "push",
    "read_json",
    "read_lines",
    "read_yaml",
    "real_path",
    "remove",
    "require_fields",
    "require_shape",
    "sha256_file",
    "sha256_json",
    "system_error",
    "system_errors_named",
    "whole_file",
    "write_bytes",
    "write_json",
    "write_text",
]
