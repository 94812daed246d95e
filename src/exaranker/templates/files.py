"""Templates by name or by file: YAML with the fields of `Template`, or with chat messages for its input."""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from exaranker.errors import InputError, nearest
from exaranker.files import read_yaml, require_fields
from exaranker.templates.template import Template

CHAT = ("messages", "turn")


def template_named(name: str | Template) -> Template:
    """The template of a name or of a file called `*.yaml` or `*.yml`; a template is returned as it is.

    Raises:
        InputError: there is none of that name (the nearest are offered), or as `read_template`.
    """
    if isinstance(name, Template):
        return name
    if name.endswith((".yaml", ".yml")):
        return read_template(name)
    if name not in TEMPLATES:
        hint = f"{nearest(name, TEMPLATES)}; a file of your own is called *.yaml"
        raise InputError(f"unknown template {name!r}", hint=hint)
    return TEMPLATES[name]


def read_template(path: str | Path) -> Template:
    """Reads a template from a YAML file.

    Raises:
        InputError: it is no YAML, a field is unknown, missing or no text, or its words do not make a template.
    """
    values = read_yaml(path, "texts")
    try:
        return build_template(values, Path(path).stem)
    except InputError as error:
        raise InputError(str(error), path=path) from error


def build_template(values: Any, name: str) -> Template:
    """The template of a YAML mapping; `name` is what it is called if it does not say so.

    An `instruction` fills the field `{instruction}`. Chat `messages`, marked up as `turn` says, take the place of
    `input`; the last is the beginning of the assistant's answer.

    >>> turn = "[{role}]{content}[end]"
    >>> messages = [{"role": "user", "content": "{query} {passage}"}, {"role": "assistant", "content": ""}]
    >>> build_template({"messages": messages, "turn": turn}, "chat").input
    '[user]{query} {passage}[end][assistant]'

    Raises:
        InputError: as `Template.from_json`, or the messages are no such list.
    """
    if not isinstance(values, dict):
        raise InputError("expected a mapping with name, input, relevant, irrelevant, ...")
    given = {"name": name, **values}
    if any(field in given for field in CHAT):
        given["input"] = _marked_up(given.pop("messages", None), given.pop("turn", None))
    instruction = given.pop("instruction", None)
    if instruction is not None:
        given["input"] = _instructed(given.get("input"), instruction)
    return Template.from_json(given)


def _marked_up(messages: Any, turn: Any) -> str:
    if not isinstance(turn, str) or turn.count("{role}") != 1 or turn.count("{content}") != 1:
        hint = 'such as "<|im_start|>{role}\\n{content}<|im_end|>\\n"'
        raise InputError(f"turn is {turn!r}, expected a text with {{role}} and {{content}}", hint=hint)
    if not isinstance(messages, list) or not messages:
        raise InputError("messages are no list of turns", hint="each has role and content")
    turns = [require_fields(message, {"role": str, "content": str}, path="messages") for message in messages]
    if turns[-1]["role"] != "assistant":
        hint = 'end with {role: assistant, content: ""}: the label follows it'
        raise InputError(f"the last message is of {turns[-1]['role']!r}, expected 'assistant'", hint=hint)
    texts = [turn.replace("{role}", one["role"]).replace("{content}", one["content"]) for one in turns[:-1]]
    opening = turn.partition("{content}")[0].replace("{role}", "assistant")
    return "".join(texts) + opening + turns[-1]["content"]


def _instructed(text: Any, instruction: Any) -> str:
    if not isinstance(instruction, str) or not isinstance(text, str):
        raise InputError("instruction and input are not both texts")
    if "{instruction}" not in text:
        raise InputError("there is an instruction, but no field {instruction} in the words")
    return text.replace("{instruction}", instruction.replace("{", "{{").replace("}", "}}"))


def _builtin() -> Mapping[str, Template]:
    with as_file(files("exaranker.templates") / "builtin.yaml") as path:
        table = read_yaml(path, "texts")
    return {name: build_template(values, name) for name, values in table.items()}


TEMPLATES = _builtin()
EXARANKER = TEMPLATES["exaranker"]
