"""Inference and evaluation over SeqIO tasks, as T5X has them."""

from exaranker.infer.config import DatasetConfig, EvaluationConfig, InferConfig

__all__ = ["DatasetConfig", "EvaluationConfig", "InferConfig"]
