"""What a job that ranks leaves: a run, and the explanations beside it."""

from pathlib import Path

from exaranker.logs import warn

EXPLANATIONS = ".explanations.jsonl"


def explanations_of(run: Path) -> Path:
    """The file of a run's explanations, beside it: no two runs share it.

    >>> explanations_of(Path("out/dl19.trec")).name
    'dl19.trec.explanations.jsonl'
    """
    return run.with_name(run.name + EXPLANATIONS)


def say_what_is_there(run: Path, is_explained: bool) -> None:
    """Says which files of an earlier job will be replaced, and which one stays beside a run it is not of."""
    explanations = explanations_of(run)
    if run.exists():
        warn(f"{run} is there already and will be replaced")
    if explanations.exists():
        fate = "will be replaced" if is_explained else "stays: it explains an earlier run, not this one"
        warn(f"{explanations} is there already and {fate}")
