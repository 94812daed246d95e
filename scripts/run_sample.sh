#!/usr/bin/env bash
# The stages of `make demo` one by one, as a user types them: 300 pairs of the sample, a small T5, its run and report.
#
#   scripts/run_sample.sh [OUTPUT]
set -euo pipefail
cd "$(dirname "$0")/.."
sample=examples/sample output=${1:-out/sample}

exaranker explain --pairs "$sample/pairs.tsv" --output_dir "$output/explanations" --limit 300
exaranker train --gin_file t5x_configs/sample_label_explanation.gin \
  --gin.MODEL_DIR="'$output/model'" --gin.DATASET_DIR="'$output/explanations'" \
  --gin.VOCABULARY_PATH="'$sample/spiece.model'"
scripts/run_collection.sh "$sample" "$output/model" "$output"
