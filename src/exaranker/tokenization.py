"""The three tokenizers a ranker may come with: SentencePiece (T5), Hugging Face's `tokenizers` (LLMs), bytes (ByT5).

None of them adds special tokens, and text that spells one ("<|im_end|>", "</s>") is encoded as ordinary text: passages
are untrusted. Id 0 pads.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from exaranker.errors import InputError, require
from exaranker.files import open_input, read_json, sha256_file

SENTENCEPIECE_FILE = "spiece.model"
HF_FILE = "tokenizer.json"
HF_CONFIG = "tokenizer_config.json"
BYT5 = "byt5"
BYT5_OFFSET = 3  # pad, eos, unk come before the bytes; 125 sentinels after them (ByT5, arXiv 2105.13626, section 3)
BYT5_SIZE = 256 + BYT5_OFFSET + 125


class Tokenizer(Protocol):
    """What the project asks of a tokenizer."""

    vocab_size: int
    pad_id: int
    eos_id: int
    bos_id: int | None
    digest: str  # sha256 of the file it was read from

    def encode(self, text: str) -> list[int]:
        """Token ids, without any special token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; special tokens and padding are left out."""

    def token_ends(self, text: str) -> list[int]:
        """For each token of `text`, the character offset in `text` where it ends."""

    def save(self, directory: Path) -> None:
        """Copies its file into a folder, from which `load_tokenizer` reads it."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Reads a tokenizer: a SentencePiece `*.model`, a folder with spiece.model or tokenizer.json, or "byt5".

    Raises:
        InputError: nothing of the kind is there.
    """
    path = Path(path)
    if path.name == BYT5 or (path / BYT5).is_file():
        return ByteTokenizer()
    for name in (SENTENCEPIECE_FILE, HF_FILE):
        if (path / name).is_file():
            return load_tokenizer(path / name)
    if path.is_dir():
        raise InputError(f"no tokenizer here, expected {SENTENCEPIECE_FILE} or {HF_FILE}", path=path)
    return HuggingFaceTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path)


class SentencePieceTokenizer:
    """A SentencePiece model laid out as T5's: pad 0, eos 1, unk 2."""

    bos_id: int | None = None

    def __init__(self, path: Path):
        open_input(path).close()
        sentencepiece = require("sentencepiece", "train")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except RuntimeError as error:
            raise InputError("not a SentencePiece model", path=path, hint="expected a *.model file") from error
        self._path = path
        self.vocab_size: int = self._processor.vocab_size()
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.digest = sha256_file(path)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        # Ids past the model are T5's sentinels and the padding of the embedding table.
        text: str = self._processor.decode([int(i) for i in ids if self.eos_id < i < self.vocab_size])
        return text

    def token_ends(self, text: str) -> list[int]:
        return [end for _, end in self._processor.encode_as_offset_mapping(text)["offsets"]]

    def save(self, directory: Path) -> None:
        _copy(self._path, directory / SENTENCEPIECE_FILE)


class HuggingFaceTokenizer:
    """A `tokenizer.json`, with the names of its special tokens from the tokenizer_config.json beside it."""

    pad_id = 0

    def __init__(self, path: Path):
        open_input(path).close()
        tokenizers = require("tokenizers", "train")
        self._path = path
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        config = read_json(path.with_name(HF_CONFIG))
        eos_id = self._special(config.get("eos_token"))
        if eos_id is None:
            raise InputError("eos_token is not set to a known token", path=path.with_name(HF_CONFIG))
        self.eos_id: int = eos_id
        self.bos_id: int | None = self._special(config.get("bos_token")) if config.get("add_bos_token") else None
        self.digest = sha256_file(path)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode([int(i) for i in ids if i != self.pad_id])
        return text

    def token_ends(self, text: str) -> list[int]:
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def save(self, directory: Path) -> None:
        _copy(self._path, directory / HF_FILE)
        _copy(self._path.with_name(HF_CONFIG), directory / HF_CONFIG)

    def _special(self, token: Any) -> int | None:
        content = token["content"] if isinstance(token, dict) else token
        identifier: int | None = None if content is None else self._tokenizer.token_to_id(content)
        return identifier


class ByteTokenizer:
    """ByT5: a token per UTF-8 byte."""

    vocab_size = BYT5_SIZE
    pad_id = 0
    eos_id = 1
    bos_id: int | None = None
    digest = hashlib.sha256(BYT5.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return [byte + BYT5_OFFSET for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(int(i) - BYT5_OFFSET for i in ids if BYT5_OFFSET <= i < BYT5_OFFSET + 256).decode(errors="ignore")

    def token_ends(self, text: str) -> list[int]:
        return [end for end, character in enumerate(text, start=1) for _ in character.encode()]

    def save(self, directory: Path) -> None:
        (directory / BYT5).write_text(json.dumps({"vocab_size": BYT5_SIZE}) + "\n")


def _copy(source: Path, target: Path) -> None:
    if source.absolute() != target.absolute():
        shutil.copyfile(source, target)
