"""The experiment's mixtures (MIXTURE_OR_TASK_MODULE): `experiment_DATASET_STYLE` has explained pairs and labelled ones.

The datasets come from $EXARANKER_DATASETS; those that are not in `LABELLED` are explained.
"""

import os

import exaranker.tasks as tasks
from exaranker.tasks.registry import DATASETS
from exaranker.tasks.styles import STYLES

EXPLAINED_SHARE = 0.35
# Of the rest. `pool` has the training queries with easy negatives, the others have other kinds of question.
LABELLED = {"pool": 0.4, "dl23": 0.37, "wikiqa": 0.15, "trecqa": 0.08}
UNEXPLAINED = ("soft_label", "monot5")

names = [item.partition("=")[0] for item in os.environ[DATASETS].split(",")]
styles = [style for style in (*STYLES, "label_explanation_p50") if style not in UNEXPLAINED]
for name in (name for name in names if name not in LABELLED):
    for style in styles:
        rates = {f"exaranker_{other}_label": (1 - EXPLAINED_SHARE) * share for other, share in LABELLED.items()}
        explained = {f"exaranker_{name}_{style}": EXPLAINED_SHARE}
        tasks.register_mixture(f"experiment_{name}_{style}", rates | explained)
