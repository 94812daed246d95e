"""What a MODEL_DIR holds, told from names and small files alone: nothing is written, no array is read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from exaranker.checkpoints.card import ModelCard
from exaranker.errors import InputError
from exaranker.files import fetch, local_path

PREFIX = "checkpoint"
TOKENIZER = "tokenizer"
DAMAGED = "damaged_"
STEP_DIRECTORY = re.compile(rf"{PREFIX}_(\d+)")


class DamagedError(InputError):
    """A checkpoint is known not to be what was saved."""


def find_checkpoint(directory: str | Path) -> tuple[Path, int]:
    """(MODEL_DIR, step) of a directory that is MODEL_DIR or one of its checkpoints.

    Raises:
        InputError: there is no complete checkpoint; the message says what was found instead.
    """
    directory = local_path(directory).absolute()
    if not directory.is_dir():
        raise InputError("no such directory", path=directory, hint="expected MODEL_DIR or MODEL_DIR/checkpoint_N")
    if match := STEP_DIRECTORY.fullmatch(directory.name):
        if _is_complete(directory):
            fetch(directory.parent / TOKENIZER)  # from a store only what is asked for has come
            return directory.parent, int(match[1])
        _refuse_t5x(directory)
    elif steps := [step for step, checkpoint in _numbered(directory) if _is_complete(checkpoint)]:
        return directory, max(steps)
    for _, checkpoint in _numbered(directory):
        _refuse_t5x(checkpoint)
    found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:8]) or "nothing"
    raise InputError(
        f"no complete checkpoint here, found: {found}",
        path=directory,
        hint="expected MODEL_DIR with checkpoint_N/{card,params} in it; wait for the training's next save, or import",
    )


def load_card(directory: str | Path) -> ModelCard:
    """Reads only the card of a checkpoint: of MODEL_DIR's newest complete one, or of MODEL_DIR/checkpoint_N.

    Raises:
        InputError: there is no complete checkpoint, or its card cannot be read.
    """
    model_dir, step = find_checkpoint(directory)
    return read_card(model_dir / f"{PREFIX}_{step}")


def read_card(checkpoint: Path) -> ModelCard:
    """The card in `checkpoint_N`.

    Raises:
        InputError: it is of no model that there is.
        DamagedError: it is missing or is not JSON.
    """
    path = checkpoint / "card" / "metadata"
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise DamagedError(f"the card cannot be read: {error}", path=path) from error
    return ModelCard.from_json(values, path)


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a complete checkpoint to continue from."""
    return directory.is_dir() and any(_is_complete(checkpoint) for _, checkpoint in _numbered(directory))


def steps_to_resume(directory: Path) -> list[int]:
    """The steps that a training run saved in its MODEL_DIR, newest first, damaged or not.

    Raises:
        InputError: a checkpoint_N there is none of a training run, or all have been set aside as damaged.
    """
    if not directory.exists():
        return []
    if not directory.is_dir():
        raise InputError("is a file, expected MODEL_DIR", path=directory, hint="name another MODEL_DIR")
    checkpoints = dict(_numbered(directory))
    for checkpoint in checkpoints.values():
        _refuse_foreign(checkpoint)
    aside = sorted(entry.name for entry in directory.iterdir() if entry.name.startswith(f"{DAMAGED}{PREFIX}_"))
    if aside and not checkpoints:
        raise InputError(
            f"nothing but damaged checkpoints here: {', '.join(aside)}",
            path=directory,
            hint="name another MODEL_DIR to start anew, or put back a copy of a checkpoint",
        )
    return sorted(checkpoints, reverse=True)


def saved_items(checkpoint: Path) -> set[str]:
    """What Orbax notes that it saved in `checkpoint_N`; nothing if its note is missing.

    Raises:
        DamagedError: the note is not what Orbax writes.
    """
    path = checkpoint / "_CHECKPOINT_METADATA"
    try:
        return set(json.loads(path.read_bytes())["item_handlers"])
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"cannot be read: {error}", path=path) from error


def _refuse_foreign(checkpoint: Path) -> None:
    _refuse_t5x(checkpoint)
    try:
        items = saved_items(checkpoint)
    except DamagedError:
        return
    if items >= {"card", "params"} and "optimizer" not in items:
        raise InputError(
            "a model without training state",
            path=checkpoint,
            hint="give it as INITIAL_CHECKPOINT_PATH, and name another MODEL_DIR",
        )
    if not items and not (checkpoint / "card").exists():
        raise InputError("not a checkpoint of a training run", path=checkpoint, hint="name another MODEL_DIR")


def _refuse_t5x(checkpoint: Path) -> None:
    if (checkpoint / "checkpoint").is_file() or (checkpoint / "state").is_dir():
        hint = f"import it: exaranker import --format t5x --checkpoint {checkpoint} --tokenizer FILE --output DIR"
        raise InputError("a T5X checkpoint", path=checkpoint, hint=hint)


def _numbered(directory: Path) -> Iterator[tuple[int, Path]]:
    for entry in directory.iterdir():
        if match := STEP_DIRECTORY.fullmatch(entry.name):
            yield int(match[1]), entry


def _is_complete(checkpoint: Path) -> bool:
    return all((checkpoint / name).exists() for name in ("_CHECKPOINT_METADATA", "card/metadata", "params/_METADATA"))
