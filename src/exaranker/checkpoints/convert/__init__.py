"""Weights, configurations and tokenizers of Hugging Face and T5X, read and written."""
