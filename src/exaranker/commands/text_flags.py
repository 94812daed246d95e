"""--queries, --passages and how they are read: the same words in several verbs."""

import argparse

from exaranker.texts.rows import TITLES


def add_texts(parser: argparse.ArgumentParser) -> None:
    """Adds --queries, --passages and --title."""
    parser.add_argument(
        "--queries", metavar="FILE|DIR|ID", help="TSV or JSONL, a BEIR or TREC folder, or an ir_datasets id"
    )
    parser.add_argument(
        "--passages", metavar="FILE|DIR|ID", help="the same, or a Lucene index of pyserini; files may be gzipped"
    )
    parser.add_argument(
        "--title", choices=TITLES, default="first", help="where a passage's title is put (default: %(default)s)"
    )


def add_identical_ids(parser: argparse.ArgumentParser) -> None:
    """Adds --ignore_identical_ids."""
    parser.add_argument(
        "--ignore_identical_ids",
        action="store_true",
        help="leave out passages with the query's own id, as BEIR's ArguAna and Quora need",
    )
