"""Tokenizers by file: SentencePiece models, Hugging Face tokenizer.json, and bytes.

Everything in this project pads with id 0 and keeps masks beside it; a tokenizer's own padding token is never used.
Texts are data: a passage that spells a control token, such as `</s>`, `<|im_end|>` or `<think>`, is encoded as its
characters. A folder's ids are those that transformers' AutoTokenizer gives, or it is refused.
"""

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from exaranker.errors import InputError, require
from exaranker.files import local_path, read_json, require_shape, sha256_file, write_json
from exaranker.files.numbers import integer

SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.model")
HUGGINGFACE_FILE = "tokenizer.json"
HUGGINGFACE_ROLES = "tokenizer_config.json"
BYTES = "byt5"
BYTES_FILE = "byte_tokenizer.json"
# Names of the end-of-text token when no tokenizer_config.json says which it is, most specific first.
COMMON_EOS = ("<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>")
PAD_ID = 0
# Added tokens that mark up a prompt, whether or not tokenizer.json calls them special; others are words of a language.
MARKUP = re.compile(r"<.+>|\[.+\]", re.DOTALL)
SENTINEL = re.compile(r"<extra_id_\d+>")  # T5's, behind its SentencePiece vocabulary
# What two files of one vocabulary are to encode alike: words, blanks, scripts that a vocabulary may lack (a
# tokenizer.json can have lost its fallback to bytes), marks, joiners, control characters. No control tokens: they are
# text here, and T5's tokenizer.json obeys them.
PROBES = (
    "Is it so? Yes, 1,234.5!",
    "true false",
    "  two  blanks \t tab\nline\u3000wide\xa0kept ",
    "天空为什么是蓝色的 ひら 한국어",
    "لماذا السماء زرقاء",
    "आकाश नीला क्यों है",
    "cafe\u0301 \ufb01ne ½ Ａ",
    "\U0001f30c \U0001f469\u200d\U0001f680",
    "bell\x07 nul\x00 soft\xad zero\u200b\ufeffwidth",
)
RESAVE = 'write a tokenizer.json: AutoTokenizer.from_pretrained("DIR").save_pretrained("DIR")'


class Tokenizer(Protocol):
    """What the rest of the project asks of a tokenizer; ids fit `vocab_size`, padding is 0."""

    vocab_size: int
    pad_id: int
    eos_id: int
    bos_id: int | None  # only if the tokenizer itself puts one before every text
    unk_id: int | None  # of what the vocabulary lacks, if it lacks anything
    control_ids: Mapping[str, int]  # of the tokens that mark up a prompt: text in texts, obeyed in a template's words
    digest: str  # sha256 of the file

    def __hash__(self) -> int:
        """By identity: what is made of a tokenizer is kept for it."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first end-of-text token."""

    def token_ends(self, text: str) -> list[int]:
        """The character offset in `text` at which each token of `encode(text)` ends."""

    def save(self, directory: str | Path) -> None:
        """Copies the file into a folder that `load_tokenizer` reads."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Loads a tokenizer from a `*.model` or `tokenizer.json` file, a folder with one of them, or "byt5".

    >>> load_tokenizer("byt5").encode("é")
    [198, 172]

    Raises:
        InputError: there is no such file, or it is not a tokenizer.
    """
    if str(path) == BYTES:
        return ByteTokenizer()
    file = tokenizer_file(path)
    if file.name == BYTES_FILE:
        return ByteTokenizer()
    return HuggingFaceTokenizer(file) if file.suffix == ".json" else SentencePieceTokenizer(file)


def tokenizer_file(path: str | Path) -> Path:
    """The file that defines a tokenizer, given itself or its folder.

    Where a folder has a SentencePiece model and a tokenizer.json, AutoTokenizer reads the latter; the former is taken
    if it gives the same ids, since tf.data encodes with it.

    Raises:
        InputError: nothing of that kind is there.
    """
    path = local_path(path)
    names = (*SENTENCEPIECE_FILES, HUGGINGFACE_FILE, BYTES_FILE)
    candidates = [path / name for name in names] if path.is_dir() else [path]
    found = [file for file in candidates if file.is_file() and file.suffix in (".model", ".json")]
    if not found:
        hint = f"expected a folder with {', '.join(names)}, one of these files, or byt5"
        raise InputError("no tokenizer here", path=path, hint=hint)
    file, other = found[0], path / HUGGINGFACE_FILE
    if other in found and file.suffix == ".model" and not _same_ids(file, other, _state_of(file), _state_of(other)):
        return other
    return file


@functools.lru_cache(maxsize=8)
def _same_ids(sentencepiece_file: Path, json_file: Path, *states: tuple[int, int]) -> bool:
    """Whether both encode every text to the same ids, as far as vocabularies, special tokens and probes tell."""
    try:
        ours = SentencePieceTokenizer(sentencepiece_file)
        theirs = HuggingFaceTokenizer(json_file)
    except InputError:  # Llama 3's tokenizer.model is tiktoken's; or the tokenizer.json says so itself when it is read
        return False
    if (ours.eos_id, ours.bos_id) != (theirs.eos_id, theirs.bos_id):
        return False
    vocabulary = theirs.vocabulary()
    added = vocabulary.keys() - ours.vocabulary().keys()
    if any(vocabulary.get(piece) != token_id for piece, token_id in ours.vocabulary().items()):
        return False
    return all(map(SENTINEL.fullmatch, added)) and all(ours.encode(text) == theirs.encode(text) for text in PROBES)


def _state_of(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


class SentencePieceTokenizer:
    """A SentencePiece model, as T5, mT5 and umT5 use it."""

    bos_id: int | None = None
    pad_id = PAD_ID
    control_ids: Mapping[str, int] = {}

    def __init__(self, file: Path):
        sentencepiece = require("sentencepiece", "rank")
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise InputError("not a SentencePiece model", path=file, hint="expected T5's spiece.model") from error
        self._file = file
        self.vocab_size: int = self._model.vocab_size()
        self.eos_id: int = self._model.eos_id()
        self.unk_id: int | None = self._model.unk_id()
        self._refuse_what_only_a_json_says()
        self.digest = sha256_file(file)

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        # A model's embedding is padded beyond the vocabulary (T5: 32,128 rows for 32,000 pieces).
        return self._model.decode([i for i in until(ids, self.eos_id) if i < self.vocab_size])

    def token_ends(self, text: str) -> list[int]:
        pieces = self._model.encode(text, return_type="proto").pieces
        return byte_to_character_offsets(text, [piece.end for piece in pieces])

    def vocabulary(self) -> dict[str, int]:
        """Every piece and its id."""
        return {self._model.id_to_piece(number): number for number in range(self.vocab_size)}

    def save(self, directory: str | Path) -> None:
        shutil.copyfile(self._file, Path(directory) / SENTENCEPIECE_FILES[0])

    def _refuse_what_only_a_json_says(self) -> None:
        """Llama's and its kind: AutoTokenizer adds to such a file what T5's does not have."""
        problem = None
        if (bos := self._model.bos_id()) >= 0:
            problem = f"has a begin-of-text piece, {self._model.id_to_piece(bos)!r}, which belongs before every text"
        elif self.eos_id < 0:
            problem = "has no end-of-text piece"
        elif (roles := self._file.with_name(HUGGINGFACE_ROLES)).is_file():
            problem = self._contradiction(_read_roles(roles), roles)
        if problem is not None:
            raise InputError(f"this SentencePiece model {problem}", path=self._file, hint=RESAVE)

    def _contradiction(self, roles: dict[str, Any], path: Path) -> str | None:
        eos, own = _token_name(roles.get("eos_token"), path), self._model.id_to_piece(self.eos_id)
        if eos is not None and eos != own:
            return f"ends texts with {own!r}, {HUGGINGFACE_ROLES} beside it with {eos!r}"
        added = {int(number): _token_name(token, path) for number, token in roles["added_tokens_decoder"].items()}
        own_size = self.vocab_size
        more = [name for number, name in added.items() if number >= own_size and not SENTINEL.fullmatch(str(name))]
        return (
            f"does not have {', '.join(map(repr, more[:3]))}, which {HUGGINGFACE_ROLES} beside it adds"
            if more
            else None
        )


class HuggingFaceTokenizer:
    """A `tokenizer.json`, as SmolLM2, Llama 3 and Qwen2 use it; `tokenizer_config.json` beside it names its roles."""

    pad_id = PAD_ID

    def __init__(self, file: Path):
        tokenizers = require("tokenizers", "rank")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust library raises a bare Exception
            raise InputError(f"not a tokenizer.json: {error}", path=file) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = {number for number, token in self._added() if token.special}
        # What is special is text in texts; a control token that is not called so would be obeyed.
        self._tokenizer.add_special_tokens([token for _, token in self._added() if MARKUP.fullmatch(token.content)])
        self._tokenizer.encode_special_tokens = True
        self.control_ids: Mapping[str, int] = {
            token.content: number for number, token in self._added() if token.special
        }
        self._file = file
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        self.eos_id = self._eos_id()
        self.unk_id = self._unk_id()
        self.bos_id: int | None = self._begin_of_text()
        self.digest = sha256_file(file)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        shown = [number for number in until(ids, self.eos_id) if number not in self._special]
        return self._tokenizer.decode(shown, skip_special_tokens=False)

    def token_ends(self, text: str) -> list[int]:
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def vocabulary(self) -> dict[str, int]:
        """Every token, added ones among them, and its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def save(self, directory: str | Path) -> None:
        for file in (self._file, self._file.with_name(HUGGINGFACE_ROLES)):
            if file.is_file():
                name = HUGGINGFACE_FILE if file == self._file else file.name
                shutil.copyfile(file, Path(directory) / name)

    def _unk_id(self) -> int | None:
        """Byte-level models have none; Unigram's is a number, the others' a name."""
        model = json.loads(self._tokenizer.to_str())["model"]
        named = model.get("unk_token")
        return model.get("unk_id") if named is None else self._tokenizer.token_to_id(named)

    def _begin_of_text(self) -> int | None:
        """What the tokenizer itself puts before a text."""
        whole, bare = (self._tokenizer.encode("a", add_special_tokens=given).ids for given in (True, False))
        return whole[0] if bare and whole[1 : 1 + len(bare)] == bare else None

    def _added(self) -> list[tuple[int, Any]]:
        return list(self._tokenizer.get_added_tokens_decoder().items())

    def _eos_id(self) -> int:
        roles = self._file.with_name(HUGGINGFACE_ROLES)
        named = [_token_name(_read_roles(roles).get("eos_token"), roles)] if roles.is_file() else []
        for name in filter(None, [*named, *COMMON_EOS]):
            if (token_id := self._tokenizer.token_to_id(name)) is not None:
                return token_id
        raise InputError("the end-of-text token is unknown", path=self._file, hint=f"put eos_token into {roles}")


class ByteTokenizer:
    """UTF-8 bytes, as ByT5: id = byte + 3 behind pad 0, end 1, unknown 2; 125 sentinels fill up to 384."""

    vocab_size = 384
    pad_id = PAD_ID
    eos_id = 1
    bos_id: int | None = None
    unk_id: int | None = None
    control_ids: Mapping[str, int] = {}
    digest = hashlib.sha256(BYTES.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return [byte + 3 for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i - 3 for i in until(ids, self.eos_id) if 3 <= i < 259).decode(errors="replace")

    def token_ends(self, text: str) -> list[int]:
        return byte_to_character_offsets(text, range(1, len(text.encode()) + 1))

    def save(self, directory: str | Path) -> None:
        write_json(Path(directory) / BYTES_FILE, {"tokenizer": BYTES})


def byte_to_character_offsets(text: str, offsets: Sequence[int]) -> list[int]:
    """Character offsets of UTF-8 byte offsets; one inside a character becomes its start.

    >>> byte_to_character_offsets("é!", [1, 2, 3])
    [0, 1, 2]
    """
    characters = [-1]
    for number, character in enumerate(text):
        characters += [number] * len(character.encode())
    characters.append(len(text))
    return [characters[offset + 1] if offset else 0 for offset in offsets]


def unknown_share(tokenizer: Tokenizer, text: str) -> float:
    """The share of a text's characters that the vocabulary lacks.

    >>> unknown_share(load_tokenizer("byt5"), "なぜ空は青い")
    0.0
    """
    if tokenizer.unk_id is None or tokenizer.unk_id not in (ids := tokenizer.encode(text)):
        return 0.0
    ends = tokenizer.token_ends(text)
    spans = zip(ids, [0, *ends], ends, strict=False)
    return sum(end - start for token, start, end in spans if token == tokenizer.unk_id) / len(text)


def until(ids: Sequence[int], end: int) -> list[int]:
    """The ids before the first `end`."""
    ids = [int(i) for i in ids]
    return ids[: ids.index(end)] if end in ids else ids


def _read_roles(path: Path) -> dict[str, Any]:
    """A tokenizer_config.json; its added tokens are an object of ids, empty if it names none."""
    roles = read_json(path)
    require_shape(roles, {}, path=path)
    roles["added_tokens_decoder"] = roles.get("added_tokens_decoder") or {}
    require_shape(roles["added_tokens_decoder"], {}, path=path, place="added_tokens_decoder")
    if strange := [name for name in roles["added_tokens_decoder"] if integer(name) is None]:
        raise InputError(f"added_tokens_decoder has {strange[0]!r}, expected ids", path=path)
    return dict(roles)


def _token_name(role: Any, path: Path) -> str | None:
    """A role of tokenizer_config.json is a string, or an object with it as `content`."""
    name = role.get("content") if isinstance(role, dict) else role
    if not isinstance(name, str | None):
        raise InputError(f"a token is {name!r}, expected a text", path=path)
    return name
