"""SeqIO vocabularies of the files that `exaranker.tokenization` reads, with the same ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from exaranker.tokenization import BYTES, BYTES_FILE, Tokenizer, load_tokenizer, tokenizer_file


def load_vocabulary(path: str | Path) -> seqio.Vocabulary:
    """The vocabulary of a `*.model` or `tokenizer.json` file, of a folder with one of them, or "byt5".

    Raises:
        InputError: there is no such file.
    """
    if str(path) == BYTES or (file := tokenizer_file(path)).name == BYTES_FILE:
        return seqio.ByteVocabulary(extra_ids=125)  # ByT5's 384 ids
    if file.suffix == ".model":
        return seqio.SentencePieceVocabulary(str(file))
    return HuggingFaceVocabulary(load_tokenizer(file))


class HuggingFaceVocabulary(seqio.Vocabulary):
    """A `tokenizer.json` as a vocabulary; TensorFlow calls back into Python for it."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(extra_ids=0)
        self._tokenizer = tokenizer

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    @property
    def bos_id(self) -> int | None:
        return self._tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        return self._tokenizer.eos_id

    @property
    def unk_id(self) -> int:
        return self._tokenizer.pad_id  # byte-level pieces know every text: only ids out of range become this

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        ids = tf.numpy_function(self._encode_bytes, [s], tf.int32, stateful=False)
        return tf.ensure_shape(ids, [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda ids: self._decode(ids).encode(), [ids], tf.string, stateful=False)

    def _encode_bytes(self, text: bytes) -> np.ndarray:
        return np.array(self._tokenizer.encode(text.decode()), np.int32)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, HuggingFaceVocabulary) and other._tokenizer.digest == self._tokenizer.digest

    def __hash__(self) -> int:
        return hash(self._tokenizer.digest)
