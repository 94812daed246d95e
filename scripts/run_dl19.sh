#!/usr/bin/env bash
# TREC-DL 2019 passages, BM25's top 100 (nDCG@10 0.5058), reranked by a checkpoint.
#
#   scripts/run_dl19.sh DATA CHECKPOINT [OUTPUT]
#
# DATA holds queries.tsv, passages.tsv, run.bm25.txt and qrels.txt; scripts/download.md says how to make them.
set -euo pipefail
exec "$(dirname "$0")/run_collection.sh" "$1" "$2" "${3:-out/dl19}" 2
