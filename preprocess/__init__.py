"""Labelled pairs in, explanation TFRecords out."""

if __name__ != "exaranker.preprocess":
    raise ImportError(f"import exaranker.preprocess, not {__name__}: it is one part of the installed package")
