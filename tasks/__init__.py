"""SeqIO tasks over explanation TFRecords, for this engine and for upstream T5X alike.

A dataset is a folder that `exaranker explain` completed. It is named in one of two ways:

* `EXARANKER_DATASETS="sample=DIR[,other=DIR]" EXARANKER_VOCABULARY=FILE [EXARANKER_TEMPLATE=exaranker]` in the
  environment. Importing this module then registers every task, so with upstream T5X one line in the gin file,
  `import exaranker.tasks`, is enough, and `MIXTURE_OR_TASK_NAME = 'exaranker_sample_label_explanation'` resolves.
* `register_dataset("sample", DIR, FILE, "exaranker")`, which is what `exaranker train` calls for its gin macros.

`EXARANKER_TASK_CACHE=DIR` says where tasks are that SeqIO's offline job cached.

Both refuse a folder whose manifest is incomplete or does not match its shards. `docs/tasks.md` shows every style.
"""

if __name__ != "exaranker.tasks":
    raise ImportError(f"import exaranker.tasks, not {__name__}: a second copy would register every task twice")

import os

from exaranker.tasks.registry import (
    dataset_numbered,
    dataset_of,
    get_task_or_mixture,
    has_soft_labels,
    import_tasks,
    register_dataset,
    register_dataset_of,
    register_from_environment,
    register_mixture,
    template_of,
    tokenizer_of,
    vocabulary_of,
)

__all__ = [
    "dataset_numbered",
    "dataset_of",
    "get_task_or_mixture",
    "has_soft_labels",
    "import_tasks",
    "register_dataset",
    "register_dataset_of",
    "register_mixture",
    "template_of",
    "tokenizer_of",
    "vocabulary_of",
]

register_from_environment(os.environ)
