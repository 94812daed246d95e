"""Evaluation of runs against qrels: measures, tests, tables, plots, the report."""
