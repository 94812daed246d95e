#!/bin/sh
# The ranker in the box, made anew: scripts/train_ranker.sh DATA OUTPUT
# Trains the explained arm of docs/experiments/001-explanations.md on DATA and writes PEFT's directory OUTPUT/ranker.
# Killed, the same command goes on.
set -eu
cd "$(dirname "$0")/.."
data=$1 output=$2
python scripts/experiments/run.py "$data" "$output" --arms explained --seeds 0 --collections dl19
[ -d "$output/ranker" ] || exaranker export --checkpoint "$output/models/explained.0" --format peft --dtype bfloat16 \
  --output "$output/ranker"
