"""The modules by which sentence-transformers' `CrossEncoder(DIR)` scores as we do: log-odds of the label."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exaranker.checkpoints.card import ModelCard
from exaranker.files import write_json
from exaranker.models import family_of

SHIPPED = Path(__file__).with_name("seq2seq_reranker.py")  # runs in the user's process, and only if that trusts it
# As sentence-transformers 6.2.0 writes them.
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
LOGITS = {"method": "forward", "method_output_name": "logits"}


def write_cross_encoder(directory: Path, card: ModelCard, ids: tuple[int, int], names: Sequence[str]) -> dict[str, Any]:
    """Writes modules.json and its modules' files; returns what config.json needs so that vLLM classifies alike."""
    model = {"model_type": "CrossEncoder", "prompts": {}, "activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(directory / "config_sentence_transformers.json", model)
    if family_of(card.config).is_decoder_only:
        _write_decoder_only(directory, ids)
        return {"classifier_from_token": list(names), "method": "from_2_way_softmax"}
    shutil.copyfile(SHIPPED, directory / SHIPPED.name)
    write_json(directory / "modules.json", [_module(0, "", f"{SHIPPED.stem}.Seq2SeqReranker")])
    return {}


def _write_decoder_only(directory: Path, ids: tuple[int, int]) -> None:
    irrelevant, relevant = ids
    score = {"true_token_id": relevant, "false_token_id": irrelevant, "module_input_name": "causal_logits"}
    transformer = {
        "transformer_task": "text-generation",
        "modality_config": {"text": LOGITS, "message": {**LOGITS, "format": "flat"}},
        "module_output_name": "causal_logits",
    }
    write_json(directory / "sentence_bert_config.json", transformer)
    (directory / "1_LogitScore").mkdir()
    write_json(directory / "1_LogitScore/config.json", score)
    write_json(directory / "modules.json", [_module(0, "", TRANSFORMER), _module(1, "1_LogitScore", LOGIT_SCORE)])


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": kind}
