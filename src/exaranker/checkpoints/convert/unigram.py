"""A SentencePiece model as the tokenizer.json that says the same: AutoTokenizer insists on one for umT5."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exaranker.errors import require
from exaranker.tokenization import HUGGINGFACE_FILE, SENTENCEPIECE_FILES

CONTROL = (2, 3)  # ModelProto.SentencePiece.Type: UNKNOWN, CONTROL; no text is ever encoded as one of these


def write_unigram(directory: Path, after: Sequence[int]) -> dict[str, Any]:
    """Writes tokenizer.json beside spiece.model; returns what tokenizer_config.json says of it.

    `after` are the ids that end an input.
    """
    model = require("sentencepiece.sentencepiece_model_pb2", "rank").ModelProto()
    model.ParseFromString((directory / SENTENCEPIECE_FILES[0]).read_bytes())
    tokenizer = _segmentation(model)
    tokenizer.add_special_tokens([piece.piece for piece in model.pieces if piece.type in CONTROL])
    names = [model.pieces[number].piece for number in after]
    if names:
        one, two = " ".join(["$A", *names]), " ".join(["$A", *names, "$B", *names])
        ends = list(zip(names, after, strict=True))
        processors = require("tokenizers", "rank").processors
        tokenizer.post_processor = processors.TemplateProcessing(single=one, pair=two, special_tokens=ends)
    tokenizer.save(str(directory / HUGGINGFACE_FILE))
    roles = {"eos_token": model.trainer_spec.eos_id, "unk_token": model.trainer_spec.unk_id, "pad_token": 0}
    named = {role: model.pieces[number].piece for role, number in roles.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}


def _segmentation(model: Any) -> Any:
    """The same pieces of every text, by the library `tokenizers`."""
    library = require("tokenizers", "rank")
    trained, normalised = model.trainer_spec, model.normalizer_spec
    scores = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = library.Tokenizer(library.models.Unigram(scores, trained.unk_id, trained.byte_fallback))
    tokenizer.normalizer = library.normalizers.Sequence(_normalizers(library, normalised))
    blanks = {"replacement": "▁", "prepend_scheme": "always" if normalised.add_dummy_prefix else "never"}
    words = library.pre_tokenizers.Metaspace(**blanks)
    apart = library.pre_tokenizers.Split(library.Regex(_control_beginnings(model)), "isolated")
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([words, apart])
    letters = library.decoders.Metaspace(**blanks)
    tokenizer.decoder = library.decoders.Sequence([library.decoders.ByteFallback(), letters])
    return tokenizer


def _normalizers(library: Any, normalised: Any) -> list[Any]:
    table = normalised.precompiled_charsmap
    steps = [library.normalizers.Precompiled(table)] if table else []
    if normalised.remove_extra_whitespaces:
        steps += [library.normalizers.Strip(), library.normalizers.Replace(library.Regex(" {2,}"), " ")]
    return steps


def _control_beginnings(model: Any) -> str:
    """Matches the first letter of a control piece that a text spells, so that Unigram never sees it whole."""
    names = [piece.piece for piece in model.pieces if piece.type in CONTROL]
    return "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in names)
