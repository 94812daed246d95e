"""Measures by name: ir-measures' names in any case, trec_eval's names, and the nearest ones for those mistyped."""

import re
from collections.abc import Iterator, Sequence

import ir_measures
from ir_measures.measures import Measure, registry

from exaranker.errors import InputError, nearest

EXAMPLES = ("nDCG@10", "RR@10", "MAP", "R@100", "P@10", "Success@5")
TREC_EVAL_NAMES = (
    "map ndcg ndcg_cut_10 recip_rank P_10 recall_100 map_cut_100 success_5 Rprec bpref num_q num_ret num_rel "
    "num_rel_ret set_P set_recall set_map set_F infAP iprec_at_recall_0.10"
).split()
BY_LOWER_CASE = {name.lower(): name for name in registry} | {"mrr": "RR", "map": "AP", "recall": "R"}
USUAL = ("nDCG", "AP", "MRR", "R", "P", "Success", "Judged", "Recall")
MAX_PARAMETER = 1_000_000
RELEVANT_RETRIEVED = ("numrelret", "num_rel_ret")  # ir-measures fixes its level at 1
LEVELS_LEFT_ALONE = ("NumRet",)  # counts every passage unless it is given a level


def parse_measures(names: Sequence[str], min_relevance: int) -> list[Measure]:
    """Reads names of ir-measures and trec_eval, each once; binary measures without `rel` count grades >= min_relevance.

    >>> parse_measures(["nDCG@10", "MAP", "R(rel=3)@5"], min_relevance=2)
    [nDCG@10, AP(rel=2), R(rel=3)@5]
    >>> parse_measures(["ndcg_cut_10", "recip_rank", "P_10", "ndcg@20", "num_ret"], min_relevance=1)
    [nDCG@10, RR, P@10, nDCG@20, NumRet]

    Raises:
        InputError: there is no measure of that name, or nothing installed here computes it.
    """
    if min_relevance < 1:
        hint = "grade 0 means irrelevant; 1 for binary judgements, 2 for TREC-DL"
        raise InputError(f"the least relevant grade is {min_relevance}, expected at least 1", hint=hint)
    return list(dict.fromkeys(_parse(name, min_relevance) for name in names))


def _parse(name: str, min_relevance: int) -> Measure:
    try:
        measure = _with_level(_known(name), name, min_relevance)
        supported = ir_measures.DefaultPipeline.supports(measure)  # also checks the parameters
    except (NameError, ValueError, SyntaxError, AssertionError, KeyError, TypeError) as error:
        raise InputError(f"no measure {name!r}", hint=nearest(name, _near(name))) from error
    _refuse_parameters(name, measure)
    if not supported:
        hint = f"it needs another of ir-measures' providers; computed here: {', '.join(EXAMPLES)} and others"
        raise InputError(f"measure {name!r}, here {measure}, cannot be computed", hint=hint)
    return measure


def _with_level(measure: Measure, name: str, min_relevance: int) -> Measure:
    if name.lower() in RELEVANT_RETRIEVED:
        return measure(rel=min_relevance)
    takes = "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params and measure.NAME not in LEVELS_LEFT_ALONE
    return measure(rel=min_relevance) if takes and min_relevance != 1 else measure


def _known(name: str) -> Measure:
    """The measure of an ir-measures name, of one in another case, or of trec_eval's."""
    base, rest = _split(name)
    if base in registry:
        return ir_measures.parse_measure(name)
    if base.lower() in BY_LOWER_CASE:
        return ir_measures.parse_measure(BY_LOWER_CASE[base.lower()] + rest)
    if re.fullmatch(r"[A-Za-z_]+([._]\d+(\.\d+)?)?", name) is None or name in ("official", "all_trec"):
        raise ValueError(f"{name} is not one measure of trec_eval")
    (measure,) = ir_measures.parse_trec_measure(name)  # `P` alone is nine of them
    return measure


def _split(name: str) -> tuple[str, str]:
    """A name and what follows it.

    >>> _split("R(rel=2)@10")
    ('R', '(rel=2)@10')
    """
    base = re.match(r"[^(@]*", name).group()  # type: ignore[union-attr]
    return base, name[len(base) :]


def _refuse_parameters(name: str, measure: Measure) -> None:
    """Cutoffs and levels outside 1 ... 1,000,000: a provider in C aborts the interpreter on them."""
    for parameter, what in (("cutoff", "a cutoff"), ("rel", "a relevance level")):
        value = measure.params.get(parameter, 1)
        if isinstance(value, bool) or not 1 <= value <= MAX_PARAMETER:
            expected = f"expected 1 to {MAX_PARAMETER:,}"
            raise InputError(f"measure {name!r} has {what} of {value}, {expected}", hint=f"as in {EXAMPLES[0]}")


def _near(name: str) -> Iterator[str]:
    """What a mistyped name may have meant: the usual measures at its own cutoff, and trec_eval's names."""
    yield from TREC_EVAL_NAMES if "_" in name else ()
    yield from EXAMPLES
    if cutoff := re.search(r"@[1-9]\d*$", name):
        yield from (base + cutoff.group() for base in USUAL if f"{base}{cutoff.group()}" not in EXAMPLES)
