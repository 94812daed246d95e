"""Pairs -> prompts: worked examples, then the pair with its gold label, cut to fit by shortening the passage only."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, nearest
from exaranker.files import read_yaml, require_shape
from exaranker.preprocess.prompts.neutralise import Neutraliser
from exaranker.schema import Pair

FOLDER = Path(__file__).parent
VERDICTS = ("not_relevant", "relevant")
OPENING = dict.fromkeys(VERDICTS, str)
EXAMPLE = {"query": str, "passage": str, "relevant": bool, "explanation": str}
SHAPE = {"instruction": str, "item": str, "verdict": OPENING, "stop": [str], "examples": [EXAMPLE]}  # of the YAML file

# Values for templates that would otherwise put today's date into every prompt (Llama 3) or think aloud (Qwen 3).
CHAT_TEMPLATE_VALUES = {"date_string": "26 Jul 2024", "enable_thinking": False}


_THOUGHT = re.compile(r"(?:<\|?|\[)(?:think|thinking|thought|reasoning)\|?[>\]]$", re.IGNORECASE)


class Message(NamedTuple):
    """One turn of a chat, as chat templates and OpenAI-compatible servers take it."""

    role: str
    content: str


class Prompt(NamedTuple):
    """What an engine gets: the token ids, and for servers that only take messages, those."""

    token_ids: tuple[int, ...]
    messages: tuple[Message, ...]  # empty for a completion prompt
    opening: str  # the first words of the answer, given to the LLM at the prompt's end


@dataclass(frozen=True)
class WorkedExample:
    """A solved pair that the prompt shows before the one that is asked about."""

    query: str
    passage: str
    relevant: bool
    explanation: str


@dataclass(frozen=True)
class PromptStyle:
    """The content of one prompt file."""

    name: str
    instruction: str
    item: str  # with {query}, {passage}, {verdict}
    verdict: dict[str, str]
    opening: dict[str, str]
    stop: tuple[str, ...]
    examples: tuple[WorkedExample, ...]

    @property
    def sections(self) -> list[str]:
        """The words before a colon at the start of the item's lines: `Question`, `Passage`, ..."""
        return [line.partition(":")[0] for line in self.item.splitlines() if ":" in line]

    @property
    def texts(self) -> tuple[str, ...]:
        """What an answer must not repeat: the instruction, and each worked example's passage and explanation."""
        return (self.instruction, *(f"{one.passage}\n{one.explanation}" for one in self.examples))

    def render_item(self, query: str, passage: str, relevant: bool) -> str:
        return self.item.format(query=query, passage=passage, verdict=self.verdict[VERDICTS[relevant]])

    def opening_for(self, relevant: bool) -> str:
        return self.opening[VERDICTS[relevant]] if self.opening else ""


def load_style(name: str) -> PromptStyle:
    """Reads a prompt that ships with the project, by name, or a YAML file of your own, by path.

    Raises:
        InputError: there is no such prompt, or the file lacks a field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        raise InputError(f"no prompt named {name!r}", hint=nearest(name, known_styles()))
    hint = f"see {FOLDER / 'exaranker.yaml'} for the fields"
    value = read_yaml(path)
    require_shape(value, SHAPE, path=path, hint=hint)
    if "opening" in value:
        require_shape(value["opening"], OPENING, path=path, hint=hint, place="opening")
    try:
        return _style_of(path.stem, value)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:  # unknown {braces}, further fields
        problem = f"not a prompt: {type(error).__name__} {' '.join(str(error).split())}"
        raise InputError(problem, path=path, hint=hint) from error


def known_styles() -> list[str]:
    """The names of the prompts that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _style_of(name: str, value: dict[str, Any]) -> PromptStyle:
    style = PromptStyle(
        name=name,
        instruction=value["instruction"].strip(),
        item=value["item"].strip(),
        verdict={key: value["verdict"][key] for key in VERDICTS},
        opening={key: value["opening"][key] for key in VERDICTS} if "opening" in value else {},
        stop=tuple(value["stop"]),
        examples=tuple(WorkedExample(**example) for example in value["examples"]),
    )
    style.render_item("", "", True)  # a field in {braces} that does not exist raises here
    return style


class Prompter:
    """Builds prompts of one style for one LLM.

    Args:
        tokenizer: a `transformers` tokenizer with offsets.
        chat: worked examples as turns of the LLM's chat template; otherwise one text to complete.
        max_prompt_tokens: what the context leaves when the answer's tokens are taken off.
    """

    def __init__(
        self, style: PromptStyle, tokenizer: Any, *, chat: bool, max_passage_tokens: int, max_prompt_tokens: int
    ):
        if chat and not tokenizer.chat_template:
            raise InputError("this LLM has no chat template", hint="use --gin.explainer.chat=False")
        self.style, self.chat, self._tokenizer = style, chat, tokenizer
        self._max_passage_tokens, self._max_prompt_tokens = max_passage_tokens, max_prompt_tokens
        # Not only the special ones: `<think>` is an ordinary added token, and matched in any text like the others.
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        # `Explanation:` announces the answer to any LLM, in every prompt.
        self._neutralise = Neutraliser(added, [*style.sections, "Explanation"])

    def check(self) -> None:
        """Refuses what no prompt could be right with, before anything is generated.

        Raises:
            InputError: the chat template begins the answer within a thought, or the prompt alone fills the context.
        """
        prompt = self.prefix()
        ending = self._apply_template(self._turns("")).rstrip() if self.chat else ""
        if _THOUGHT.search(ending):
            problem = f"the chat template of this LLM begins the answer within a thought: it ends in {ending[-20:]!r}"
            raise InputError(
                problem, hint="use --gin.explainer.chat=False, or an LLM whose thinking can be switched off"
            )
        if (length := len(prompt.token_ids)) >= self._max_prompt_tokens:
            problem = f"the prompt {self.style.name!r} has {length} tokens without any pair, and the context leaves "
            hint = "raise explainer.context_tokens, or use a shorter prompt: --gin.explainer.prompt=\"'small'\""
            raise InputError(f"{problem}{self._max_prompt_tokens} for prompts", hint=hint)

    def build(self, pairs: Sequence[Pair], positive_grade: int) -> list[Prompt | None]:
        """One prompt a pair; None where the question alone leaves no room for the passage."""
        queries = [self._neutralise(pair.query) for pair in pairs]
        passages = [self._neutralise(pair.passage) for pair in pairs]
        relevant = [pair.label >= positive_grade for pair in pairs]
        cuts = [self._max_passage_tokens] * len(pairs)
        ends = self._token_ends(passages)
        prompts = self._render(queries, _shortened(passages, ends, cuts), relevant)
        late = [i for i, prompt in enumerate(prompts) if len(prompt.token_ids) > self._max_prompt_tokens]
        result: list[Prompt | None] = list(prompts)
        for i in late:
            result[i] = self._fit(queries[i], passages[i], relevant[i], ends[i], len(prompts[i].token_ids))
        return result

    def prefix(self) -> Prompt:
        """What all prompts begin with, as one short prompt: generating from it fills the prefix cache."""
        return self._render([""], [""], [True])[0]

    def digest(self) -> str:
        """sha256 of the token ids that two made-up pairs become, and of what ends the answer.

        It changes with the file, the template, the tokenizer, the code.
        """
        prompts = self._render(["question"] * 2, ["passage"] * 2, [False, True])
        return hashlib.sha256(repr([prompt.token_ids for prompt in prompts] + [self.style.stop]).encode()).hexdigest()

    def _fit(self, query: str, passage: str, relevant: bool, ends: list[int], length: int) -> Prompt | None:
        keep = min(len(ends), self._max_passage_tokens)
        while length > self._max_prompt_tokens:
            keep -= length - self._max_prompt_tokens
            if keep <= 0:
                return None
            prompt = self._render([query], _shortened([passage], [ends], [keep]), [relevant])[0]
            length = len(prompt.token_ids)
        return prompt

    def _token_ends(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [[end for _, end in offsets] for offsets in encoded["offset_mapping"]]

    def _render(self, queries: Sequence[str], passages: Sequence[str], relevant: Sequence[bool]) -> list[Prompt]:
        items = [self.style.render_item(*row) for row in zip(queries, passages, relevant, strict=True)]
        openings = [self.style.opening_for(value) for value in relevant]
        messages: list[tuple[Message, ...]] = [self._turns(item) if self.chat else () for item in items]
        if self.chat:
            texts = [self._apply_template(turns) + opening for turns, opening in zip(messages, openings, strict=True)]
        else:
            texts = [self._completion(item, opening) for item, opening in zip(items, openings, strict=True)]
        encoded = self._tokenizer(texts, add_special_tokens=not self.chat, verbose=False)["input_ids"]
        if not self.chat:  # some tokenizers end every text with EOS, after which there is nothing to continue
            encoded = [ids[:-1] if ids[-1:] == [self._tokenizer.eos_token_id] else ids for ids in encoded]
        return [
            Prompt(tuple(ids), *rest) for ids, rest in zip(encoded, zip(messages, openings, strict=True), strict=True)
        ]

    def _turns(self, item: str) -> tuple[Message, ...]:
        """The instruction opens the first user turn: not every template knows a system role."""
        turns = []
        for example in self.style.examples:
            turns.append(Message("user", self.style.render_item(example.query, example.passage, example.relevant)))
            turns.append(Message("assistant", self._answer(example)))
        turns.append(Message("user", item))
        turns[0] = Message("user", f"{self.style.instruction}\n\n{turns[0].content}")
        return tuple(turns)

    def _apply_template(self, turns: tuple[Message, ...]) -> str:
        messages = [turn._asdict() for turn in turns]
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **CHAT_TEMPLATE_VALUES
        )

    def _completion(self, item: str, opening: str) -> str:
        between = " " if self.style.item.endswith(":") else "\n"
        blocks = [self.style.instruction]
        for example in self.style.examples:
            shown = self.style.render_item(example.query, example.passage, example.relevant)
            blocks.append(f"{shown}{between}{self._answer(example)}")
        blocks.append(f"{item}{between}{opening}".rstrip())  # a trailing blank would be a token of its own
        return "\n\n".join(blocks)

    def _answer(self, example: WorkedExample) -> str:
        return f"{self.style.opening_for(example.relevant)} {example.explanation}".strip()


def _shortened(texts: Sequence[str], ends: Sequence[list[int]], cuts: Sequence[int]) -> list[str]:
    """Each text up to the end of its `cut`-th token."""
    return [
        text[: _cut_at(end, cut)] if len(end) > cut else text for text, end, cut in zip(texts, ends, cuts, strict=True)
    ]


def _cut_at(ends: Sequence[int], cut: int) -> int:
    """Where in the text its first `cut` tokens end; tokens of a character that is cut through are left out.

    >>> _cut_at([1, 2, 2, 2, 3], 3)
    1
    """
    while cut and ends[cut - 1] == ends[cut]:
        cut -= 1
    return ends[cut - 1] if cut else 0
