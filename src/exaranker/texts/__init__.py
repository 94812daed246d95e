"""Queries and passages, wherever they are: files, folders, ir_datasets ids, Lucene indexes."""
