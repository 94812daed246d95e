"""Trains the sample's SentencePiece vocabulary, laid out as T5's: pad 0, eos 1, unk 2, the label words single pieces.

python scripts/build_vocabulary.py examples/sample --size 4000
"""

import argparse
from pathlib import Path

import sentencepiece

from exaranker.files import read_lines

# Pieces that must stay whole, as in T5's vocabulary; "▁" is SentencePiece's mark for a space.
LABEL_PIECES = ["▁true", "▁false"]


def texts(sample: Path) -> list[str]:
    """The words of every sample file, without ids and labels."""
    files = [sample / f"{name}.tsv" for name in ("queries", "passages", "pairs")]
    lines = [line.split("\t")[1:] for file in files for _, line in read_lines(file)]
    prompt = 'Is the question: "" answered by the document: ""? Give an explanation.'
    return [text for columns in lines for text in columns] + [prompt] * 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--size", type=int, default=4000)
    args = parser.parse_args()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts(args.sample)),
        model_prefix=str(args.sample / "spiece"),
        vocab_size=args.size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        byte_fallback=True,
        user_defined_symbols=LABEL_PIECES,
        num_threads=1,
    )
    (args.sample / "spiece.vocab").unlink()


if __name__ == "__main__":
    main()
