"""--collection NAME, which stands for files of texts and judgements in several verbs."""

import argparse
from pathlib import Path

from exaranker.errors import InputError


def add_collection(parser: argparse.ArgumentParser) -> None:
    """Adds the flag."""
    text = "stands for the files that are not given: dl19, beir-scifact, nano-nq, ...; downloaded by ir_datasets once"
    parser.add_argument("--collection", metavar="NAME", help=text)


def ignores_identical_ids(args: argparse.Namespace) -> bool:
    """Whether the collection, if there is one, leaves out passages with the query's own id."""
    if args.collection is None:
        return False
    from exaranker.evaluate import collections

    return collections.collection(args.collection).ignore_identical_ids


def fill(args: argparse.Namespace, *names: str) -> None:
    """Puts the collection's files where `args` has none of these names (queries, passages, qrels).

    Raises:
        InputError: a file is neither given nor the collection's, there is no such collection, or it cannot be fetched.
    """
    missing = [name for name in names if getattr(args, name) is None]
    if missing and args.collection is None:
        raise InputError(f"--{missing[0]} is missing", hint=f"give --{' and --'.join(missing)}, or --collection NAME")
    if args.collection is None:
        return
    from exaranker.evaluate import collections

    of = collections.collection(args.collection)
    for name in missing:
        path: Path = getattr(collections, name)(of)
        setattr(args, name, path)
