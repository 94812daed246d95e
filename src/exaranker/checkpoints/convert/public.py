"""Rankers that others published, used as they are: known by a table, converted once, kept in a cache.

The cache is $EXARANKER_CACHE, or ~/.cache/exaranker; a conversion is named by the digest of the model's files and of
the template, so that another of either is another one. A killed conversion leaves none, and a second process waits.
"""

import re
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import yaml

from exaranker import __version__
from exaranker.checkpoints.convert.embedded import embedded_ranker
from exaranker.checkpoints.convert.peft import CONFIG
from exaranker.checkpoints.convert.ranker import RANKER
from exaranker.checkpoints.convert.transfer import import_checkpoint
from exaranker.checkpoints.folder import has_checkpoint
from exaranker.errors import InputError
from exaranker.files import cache_dir, fetch_model, hold, local_path, model_digest, sha256_json
from exaranker.logs import say
from exaranker.templates import Template, build_template, template_named

TABLE = "rankers.yaml"
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


class PublicRanker(NamedTuple):
    """A row of rankers.yaml."""

    models: tuple[str, ...]  # hub ids, or patterns of them
    template: Template
    max_length: int  # tokens of an input
    source: str  # where its form was read


@cache
def public_rankers() -> list[PublicRanker]:
    """The rankers that are known by name."""
    rows = yaml.safe_load((files("exaranker.checkpoints.convert") / TABLE).read_text())
    return [
        PublicRanker(tuple(row["models"]), _template(row["template"]), row["max_length"], row["source"]) for row in rows
    ]


def public_ranker(name: str) -> PublicRanker | None:
    """The row of a hub id, if there is one.

    >>> public_ranker("castorini/monot5-base-msmarco").template.name
    'monot5'
    """
    rows = (row for row in public_rankers() if any(fnmatchcase(name, pattern) for pattern in row.models))
    return next(rows, None)


def usable_checkpoint(source: str | Path | None, template: str | None = None) -> str | Path:
    """A checkpoint of ours as it is; of a Hugging Face directory or hub id, the one it was converted to.

    None is the ranker in the box. `template` is a name or file, for models that the table does not know; what is chosen
    is said.

    Raises:
        InputError: the model cannot be had or converted, its template is not known, or a checkpoint of ours, which has
            its own, is given another.
    """
    if source is None:
        if template is not None:
            raise InputError("--template is of a Hugging Face model", hint="name it: --checkpoint DIR or ID")
        return embedded_ranker()
    if (local_path(source).expanduser() / CONFIG).is_file():
        hint = "make a checkpoint of it: exaranker import --format peft --base DIR|ID"
        raise InputError("PEFT's directory of an adapter", path=source, hint=hint)
    if _is_ours(source):
        if template is not None:
            raise InputError("a checkpoint of ours has its own template", path=source, hint="leave --template out")
        return source
    folder = local_path(source).expanduser()
    ranker = public_ranker(hub_id(folder) if folder.is_dir() else str(source))
    chosen = template_named(template) if template else ranker and ranker.template
    folder = _fetched(source, folder, "" if chosen else _known())
    if template is None and (folder / RANKER).is_file():
        chosen = None
    elif chosen is None:
        raise InputError("which words this model was trained to read is not known", path=source, hint=_known())
    return _converted(folder, str(source), ranker, chosen, _words(chosen, ranker))


def usable_base(source: str | Path) -> str | Path:
    """The same for what an adapter is of, of which nothing but weights and tokenizer counts.

    Raises:
        InputError: the model cannot be had or converted.
    """
    if _is_ours(source):
        return source
    folder = _fetched(source, local_path(source).expanduser())
    return _converted(folder, str(source), None, None, "the base of an adapter")


def hub_id(folder: Path) -> str:
    """The id that a folder has on the hub, if it is the cache's snapshot of one or lies below its owner's name.

    >>> hub_id(Path("hub/models--castorini--monot5-base-msmarco/snapshots/d3ab"))
    'castorini/monot5-base-msmarco'
    """
    parts = folder.absolute().parts
    cached = [part for part in parts if part.startswith("models--")]
    return "/".join(cached[-1].split("--")[1:]) if cached else "/".join(parts[-2:])


def _is_ours(source: str | Path) -> bool:
    folder = local_path(source).expanduser()
    return folder.is_dir() and not (folder / "config.json").is_file()


def _fetched(source: str | Path, folder: Path, lacks: str = "") -> Path:
    """The folder, or that of a hub id; one that `lacks` something is not fetched in vain."""
    if folder.is_dir():
        return folder
    expected = "expected MODEL_DIR, MODEL_DIR/checkpoint_N or a Hugging Face model"
    if folder.exists():
        raise InputError("this is a file", path=source, hint=expected)
    if lacks or not HUB_ID.fullmatch(str(source)):
        raise InputError("no such directory", path=source, hint=f"{expected}{lacks and ': '}{lacks}")
    return fetch_model(str(source))


def _converted(folder: Path, name: str, ranker: PublicRanker | None, chosen: Template | None, words: str) -> Path:
    """The conversion in the cache; `words` say what the model is taken for."""
    max_length = ranker.max_length if ranker else None
    known = [__version__, model_digest(folder), chosen and chosen.to_json(), max_length]
    target = cache_dir() / f"{hub_id(folder).replace('/', '--')}-{sha256_json(known)[:16]}"
    say(f"{name}: {words}; {'converted' if has_checkpoint(target) else 'is converted'} to {target}")
    if not has_checkpoint(target):
        with hold(target.with_name(f".{target.name}.converting"), target, wait=True):
            if not has_checkpoint(target):
                import_checkpoint(folder, "hf", target, None, chosen, max_length)
    return target


def _words(template: Template | None, ranker: PublicRanker | None) -> str:
    if template is None:
        return "its own template"
    words = f"template {template.name}, labels {template.relevant}/{template.irrelevant}"
    if ranker is not None and template == ranker.template:
        words += f", at most {ranker.max_length} tokens (as {ranker.source})"
    return words


def _known() -> str:
    names = ", ".join(model for row in public_rankers() for model in row.models)
    return f"give --template NAME or FILE (docs/tasks.md); it is known of {names}"


def _template(given: object) -> Template:
    return template_named(given) if isinstance(given, str) else build_template(given, "ranker")
