"""Registers a dataset's tasks, `exaranker_{dataset}_{style}`, and mixtures of them."""

import importlib
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import seqio

from exaranker import schema
from exaranker.errors import InputError, nearest
from exaranker.logs import warn
from exaranker.tasks.metrics import explanation_metrics, label_metrics, postprocess
from exaranker.tasks.preprocessors import pipeline
from exaranker.tasks.sources import ExplanationSource
from exaranker.tasks.styles import PERCENTS, STYLES, Style, style_named
from exaranker.tasks.vocabularies import load_vocabulary
from exaranker.templates import Template, template_named
from exaranker.tokenization import Tokenizer, load_tokenizer

DATASETS = "EXARANKER_DATASETS"  # name=directory[,name=directory]
VOCABULARY = "EXARANKER_VOCABULARY"
TEMPLATE = "EXARANKER_TEMPLATE"
CACHE = "EXARANKER_TASK_CACHE"  # directory[,directory]: where SeqIO's caching job put tasks

_ASK = "make it: exaranker explain --gin.explainer.relevance_prompt=\"'relevance'\""
MIXTURE = "mixture"  # of label and label_explanation, one to one


class RegisteredDataset(NamedTuple):
    """A verified explanation dataset and the words it is to be trained with."""

    name: str
    directory: Path
    manifest: Mapping[str, Any]
    template: Template
    tokenizer: Tokenizer
    vocabulary: seqio.Vocabulary


class Lacking(NamedTuple):
    """Why a style cannot be had of a dataset."""

    what: str
    remedy: str


_datasets: dict[str, RegisteredDataset] = {}
_templates: dict[str, Template] = {}  # by task
_soft: set[str] = set()  # tasks with soft labels


def register_dataset(
    name: str, directory: str | Path, vocabulary_path: str | Path, template: str | Template = "exaranker"
) -> list[str]:
    """Registers a task per style, partial rates and a mixture; returns their names.

    `template` is a name, a YAML file or the template itself.

    A dataset of the same name is replaced. Styles that need what the dataset lacks are left out.

    >>> register_dataset("sample", "out/explanations", "spiece.model")[:2]
    ['exaranker_sample_label', 'exaranker_sample_label_explanation']

    Raises:
        InputError: the dataset is unfinished or is not what its manifest says, or no such vocabulary or template.
    """
    if not re.fullmatch(r"\w+", name):
        raise InputError(f"dataset name {name!r}", hint="use letters, digits and underscores")
    dataset = RegisteredDataset(
        name,
        Path(directory),
        schema.verify(directory),
        template_named(template),
        load_tokenizer(vocabulary_path),
        load_vocabulary(vocabulary_path),
    )
    _forget(name)
    _datasets[name] = dataset
    styles = (*STYLES, *(f"label_explanation_p{rate}" for rate in PERCENTS))
    names = [_add_task(dataset, style) for style in styles if not _lacking(dataset, style)]
    if _lacking(dataset, MIXTURE):
        return names
    both = {task_name(name, "label"): 1.0, task_name(name, "label_explanation"): 1.0}
    return [*names, register_mixture(task_name(name, MIXTURE), both)]


def register_dataset_of(
    task: str, directory: str | Path, vocabulary_path: str | Path, template: str | Template = "exaranker"
) -> list[str]:
    """Registers `directory` as the dataset that a task is named after; returns the names of its tasks.

    Raises:
        InputError: the task's name is not one of a dataset and a style (the nearest are offered), or as
            `register_dataset`.
    """
    name = dataset_of(task)
    if name is None:
        words = task.removeprefix("exaranker_").split("_")
        datasets = ("_".join(words[:count]) for count in range(1, len(words) + 1))
        possible = [task_name(dataset, style) for dataset in datasets for style in (*STYLES, MIXTURE)]
        raise InputError(
            f"MIXTURE_OR_TASK_NAME {task!r} does not name a dataset and a style, as exaranker_DATASET_STYLE",
            hint=nearest(task, possible),
        )
    return register_dataset(name, directory, vocabulary_path, template)


def register_mixture(name: str, rates: Mapping[str, float]) -> str:
    """Mixes tasks, of any styles and datasets, by rate; a mixture of that name is replaced.

    >>> _ = register_dataset("sample", "out/explanations", "spiece.model")
    >>> register_mixture("two_to_one", {"exaranker_sample_label_explanation": 2.0, "exaranker_sample_label": 1.0})
    'two_to_one'

    Raises:
        InputError: one of the tasks is unknown, or a rate is not a finite number above 0.
    """
    tasks = [(get_task_or_mixture(task).name, float(rate)) for task, rate in rates.items()]
    for task, rate in tasks:
        if not 0 < rate < math.inf:
            raise InputError(f"mixture {name!r}: the rate of {task} is {rate}, expected a finite number above 0")
    seqio.MixtureRegistry.remove(name)
    seqio.MixtureRegistry.add(name, tasks)
    return name


def register_from_environment(environment: Mapping[str, str]) -> list[str]:
    """Registers what $EXARANKER_DATASETS names; with several datasets also `exaranker_all_{style}`, mixed by size.

    Cached tasks are looked for in $EXARANKER_TASK_CACHE.

    Raises:
        InputError: a variable is missing or malformed, or as `register_dataset`.
    """
    seqio.add_global_cache_dirs([directory for directory in environment.get(CACHE, "").split(",") if directory])
    named = [item.partition("=") for item in environment.get(DATASETS, "").split(",") if item]
    for name, _, directory in named:
        if not (name and directory and environment.get(VOCABULARY)):
            raise InputError(
                f"{DATASETS}={environment[DATASETS]!r} with {VOCABULARY}={environment.get(VOCABULARY)!r}",
                hint=f"expected {DATASETS}=name=directory,name=directory and {VOCABULARY}=file",
            )
    template = environment.get(TEMPLATE, "exaranker")
    names = [
        task
        for name, _, directory in named
        for task in register_dataset(name, directory, environment[VOCABULARY], template)
    ]
    return names + (_mix_all([name for name, _, _ in named]) if len(named) > 1 else [])


def import_tasks(module: str | None) -> None:
    """Imports a module of the user's that registers tasks or mixtures, as T5X does for MIXTURE_OR_TASK_MODULE.

    Raises:
        InputError: it cannot be imported.
    """
    if module is None:
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"MIXTURE_OR_TASK_MODULE {module!r} cannot be imported: {error}", hint="add its folder to PYTHONPATH"
        ) from error


def get_task_or_mixture(name: str) -> seqio.Task | seqio.Mixture:
    """A registered task or mixture; `…_label_explanation_pN` is registered for any N when it is asked for.

    Raises:
        InputError: there is none of that name (the nearest names are offered), or its dataset lacks what it needs.
    """
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in known:
        dataset = _datasets.get(dataset_of(name) or "")
        style = name.removeprefix(task_name(dataset.name, "")) if dataset else ""
        if dataset is None or (style != MIXTURE and style_named(style) is None):
            raise InputError(f"unknown task or mixture {name!r}", hint=nearest(name, known))
        if lacking := _lacking(dataset, style):
            raise InputError(f"{name} cannot be made: {lacking.what}", path=dataset.directory, hint=lacking.remedy)
        _add_task(dataset, style)
    return seqio.get_mixture_or_task(name)


def dataset_of(name: str) -> str | None:
    """The dataset that a task is named after, or None.

    >>> dataset_of("exaranker_my_data_label_explanation")
    'my_data'
    """
    styles = sorted([*STYLES, r"label_explanation_p\d+", MIXTURE], key=len, reverse=True)
    matches = (re.fullmatch(rf"exaranker_(\w+)_{style}", name) for style in styles)
    return next((match[1] for match in matches if match), None)


def dataset_number(name: str) -> int:
    """The number that rows of a dataset carry through mixtures, caches and packing; below 2^30."""
    return zlib.crc32(name.encode()) % 2**30


def dataset_numbered(number: int) -> str:
    """The registered dataset whose rows carry this number; for rows that were cached under another name, the number."""
    return next((name for name in _datasets if dataset_number(name) == number), str(number))


def template_of(name: str) -> Template:
    """The template a task's inputs are written with; of a mixture, that of the task with the highest rate.

    Raises:
        InputError: as `get_task_or_mixture`, or the task is not one of ours.
    """
    provider = get_task_or_mixture(name)
    if isinstance(provider, seqio.Mixture):
        name = max(provider.tasks, key=provider.get_rate).name
    if name not in _templates:
        raise InputError(f"{name!r} is not a task over explanations, so it has no template")
    return _templates[name]


def has_soft_labels(name: str) -> bool:
    """Whether a task, or one in a mixture, shares out its label's loss between both labels."""
    return any(task.name in _soft for task in seqio.get_subtasks(get_task_or_mixture(name)))


def tokenizer_of(name: str) -> Tokenizer:
    """The tokenizer of one of our tasks.

    Raises:
        InputError: it is not a task over explanations.
    """
    dataset = _datasets.get(dataset_of(name) or "")
    if dataset is None:
        raise InputError(f"{name!r} is not a task over explanations, so it has no tokenizer")
    return dataset.tokenizer


def vocabulary_of(name: str) -> seqio.Vocabulary:
    """The vocabulary of a task or mixture, for models that ask for one."""
    return get_task_or_mixture(name).output_features["targets"].vocabulary


def task_name(dataset: str, style: str) -> str:
    """The SeqIO name of a dataset in a target style."""
    return f"exaranker_{dataset}_{style}"


def _add_task(dataset: RegisteredDataset, style_name: str) -> str:
    name, style = task_name(dataset.name, style_name), style_named(style_name)
    assert style is not None
    template = _template(dataset, style)
    feature = seqio.Feature(dataset.vocabulary, add_eos=True)
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=ExplanationSource(
            dataset.directory, dataset.manifest, dataset_number(dataset.name), mismatched=style.mismatched
        ),
        preprocessors=pipeline(style, template, dataset.vocabulary, dataset.tokenizer),
        output_features={"inputs": feature, "targets": feature},
        postprocess_fn=partial(postprocess, template=template, label_first=style.label_first),
        metric_fns=_metrics(style),
    )
    _templates[name] = template
    if style.soft:
        _soft.add(name)
    return name


def _forget(dataset: str) -> None:
    """Removes a dataset's tasks and its mixture, so that none of an earlier dataset of that name stays."""
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        for name in [name for name in registry.names() if dataset_of(name) == dataset]:
            registry.remove(name)


def _lacking(dataset: RegisteredDataset, style_name: str) -> Lacking | None:
    """What a style needs and the dataset does not have."""
    settings = dataset.manifest.get("settings", {})
    style = style_named("label_explanation" if style_name == MIXTURE else style_name)
    assert style is not None
    if style.explained and settings.get("engine", {}).get("name") == "none":
        return Lacking("the dataset has no explanations", "make them: exaranker explain, without --engine none")
    if style.soft and "relevance" not in settings:
        return Lacking("the dataset has no relevance by the LLM's own judgement", _ASK)
    return None


def _template(dataset: RegisteredDataset, style: Style) -> Template:
    """The style's own; where only labels are asked for, the words of the baseline; else the dataset's."""
    baseline = "" if style.explained else dataset.template.baseline
    name = style.template or baseline
    return template_named(name) if name else dataset.template


def _metrics(style: Style) -> list[Any]:
    return [label_metrics, explanation_metrics] if style.explained else [label_metrics]


def _mix_all(datasets: Iterable[str]) -> list[str]:
    rows = {name: float(sum(shard["rows"] for shard in _datasets[name].manifest["shards"])) for name in datasets}
    rates = {
        style: {task_name(name, style): rate for name, rate in rows.items() if not _lacking(_datasets[name], style)}
        for style in STYLES
    }
    incomplete: dict[str, list[str]] = {}
    for style, mixed in rates.items():
        if mixed and (lacking := sorted(rows.keys() - {dataset_of(task) for task in mixed})):
            without = f"{', '.join(lacking)}: {_why(lacking[0], style)}"
            incomplete.setdefault(without, []).append(task_name("all", style))
    for without, (first, *others) in incomplete.items():
        warn(f"{first} is without {without}" + (f"; so are {', '.join(others)}" if others else ""))
    return [register_mixture(task_name("all", style), mixed) for style, mixed in rates.items() if mixed]


def _why(dataset: str, style: str) -> str:
    lacking = _lacking(_datasets[dataset], style)
    return f"{lacking.what} ({lacking.remedy})" if lacking else ""
