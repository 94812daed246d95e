"""Scores (query, passage) pairs with an encoder-decoder reranker, as a module of sentence-transformers.

`CrossEncoder(DIR, trust_remote_code=True)` loads this file from the folder of the model. exaranker.json beside it has
the words around a pair, the ids of the two labels' first tokens, and the most tokens of an input. A score is the
log-odds of the labels at the first decoder step. Too long a passage is cut at the end of one of its tokens; nothing
else is ever cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.base.modules import InputModule
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer


class Seq2SeqReranker(InputModule):
    """The only module of the model: it fills the template, cuts the passage, and compares two logits."""

    config_file_name = "exaranker.json"
    config_keys = ["template", "label_ids", "max_length"]  # noqa: RUF012 - as the library's own modules declare them

    def __init__(
        self, model: Any, tokenizer: Any, template: dict[str, str], label_ids: dict[str, int], max_length: int
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.template, self.label_ids, self.max_length = template, label_ids, max_length

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Seq2SeqReranker:
        hub = {name: kwargs[name] for name in ("token", "revision", "local_files_only") if kwargs.get(name) is not None}
        config = cls.load_config(model_name_or_path, cache_folder=kwargs.get("cache_folder"), **hub)
        hub["cache_dir"] = kwargs.get("cache_folder")
        kind = AutoConfig.from_pretrained(model_name_or_path, **hub).model_type
        # torch's fused attention leaves T5Gemma's soft caps out.
        chosen = {"attn_implementation": "eager"} if kind == "t5gemma" else {}
        model = AutoModelForSeq2SeqLM.from_pretrained(model_name_or_path, **hub, **chosen, **(model_kwargs or {}))
        tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, **hub, **(processor_kwargs or {}))
        return cls(model, tokenizer, **{name: config[name] for name in cls.config_keys})

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Token ids and masks [pairs, length], padded on the right."""
        ids = [self.encode(query, passage) for query, passage in inputs]
        return dict(self.tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt"))

    def forward(self, features: dict[str, torch.Tensor], **kwargs: Any) -> dict[str, torch.Tensor]:
        """Adds the log-odds as `scores` [pairs, 1]."""
        tokens = features["input_ids"]
        start = tokens.new_full((len(tokens), 1), self.model.config.decoder_start_token_id)
        mask = features["attention_mask"]
        logits = self.model(input_ids=tokens, attention_mask=mask, decoder_input_ids=start).logits[:, 0].float()
        relevant, irrelevant = (logits[:, self.label_ids[name]] for name in ("relevant", "irrelevant"))
        return features | {"scores": (relevant - irrelevant).unsqueeze(1)}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.model.save_pretrained(output_path)
        self.tokenizer.save_pretrained(output_path)
        self.save_config(output_path)

    def encode(self, query: str, passage: str) -> list[int]:
        """The ids of an input, at most `max_length`, unless the question alone needs more."""
        ids = self._ids(query, passage)
        while len(ids) > self.max_length and passage:
            passage = self._shortened(query, passage, len(ids) - self.max_length)
            ids = self._ids(query, passage)
        return ids

    def _filled(self, query: str, passage: str) -> str:
        return self.template["input"].format(query=query, passage=passage, **{"|": ""})

    def _ids(self, query: str, passage: str) -> list[int]:
        return self.tokenizer(self._filled(query, passage)).input_ids

    def _shortened(self, query: str, passage: str, excess: int) -> str:
        """The passage without its last `excess` tokens; always shorter than before."""
        if not self.tokenizer.is_fast:  # ByT5's tokens are bytes
            return passage.encode()[:-excess].decode(errors="ignore").rstrip()
        start = len(self.template["input"].partition("{passage}")[0].format(query=query, **{"|": ""}))
        offsets = self.tokenizer(self._filled(query, passage), return_offsets_mapping=True).offset_mapping
        ends = [end for _, end in offsets if start < end < start + len(passage)]
        return passage[: ends[-excess] - start].rstrip() if excess <= len(ends) else ""
