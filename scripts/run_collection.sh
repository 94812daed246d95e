#!/usr/bin/env bash
# Reranks a collection and evaluates it, for any folder that holds queries.tsv, passages.tsv and qrels.txt.
#
#   scripts/run_collection.sh DATA CHECKPOINT OUTPUT [MIN_RELEVANCE]
#
# DATA/run.bm25.txt is taken as the first stage if it is there, else BM25 is run over DATA/passages.tsv.
# MIN_RELEVANCE is the grade from which binary measures count a passage as relevant: 2 for TREC-DL (default: 1).
set -euo pipefail
data=$1 checkpoint=$2 output=$3 min_relevance=${4:-1}
texts=(--queries "$data/queries.tsv" --passages "$data/passages.tsv")

first_stage=$data/run.bm25.txt
if [[ ! -f $first_stage ]]; then
  first_stage=$output/bm25.trec
  exaranker retrieve "${texts[@]}" --output "$first_stage" --k 100
fi
exaranker rerank --checkpoint "$checkpoint" "${texts[@]}" --run "$first_stage" --depth 100 \
  --output "$output/reranked.trec" --explain_top_k 3
exaranker evaluate --qrels "$data/qrels.txt" --run bm25="$first_stage" reranked="$output/reranked.trec" \
  --min_relevance "$min_relevance" --output "$output/results.json" --plot "$output/means.png"
exaranker report "$output/results.json" --explanations "$output/reranked.trec.explanations.jsonl" "${texts[@]}" \
  --output "$output/report.html"
