"""A PyTerrier transformer (pyterrier): `bm25 >> pt.text.get_text(index) >> ExaRanker(reranker)`."""

import pandas as pd
import pyterrier as pt

from exaranker.rank.reranker import Reranker


class ExaRanker(pt.Transformer):
    """Rescores a frame of results by the log-odds of relevance; the best of each query can be explained.

    The text is read from `text_field`. With `explain`, each query's best that many have a text in a new column
    `explanation`, the others an empty one.

    Raises:
        pt.validate.InputValidationError: qid, query, docno or the text is missing.
    """

    schematic = {"label": "ExaRanker"}  # noqa: RUF012 (PyTerrier reads it from the class)

    def __init__(self, reranker: Reranker, *, text_field: str = "text", explain: int = 0):
        self.reranker = reranker
        self.text_field = text_field
        self.explain = explain

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        pt.validate.result_frame(inp, extra_columns=["query", self.text_field])
        pairs = list(zip(inp["query"], inp[self.text_field], strict=True))
        scores = pd.Series(list(self.reranker.score(pairs)), index=inp.index, dtype=float)
        found = pt.model.add_ranks(inp.drop(columns=["score", "rank"], errors="ignore").assign(score=scores))
        return self._with_explanations(found) if self.explain else found

    def _with_explanations(self, found: pd.DataFrame) -> pd.DataFrame:
        best = found[found["rank"] < pt.model.FIRST_RANK + self.explain]
        texts = self.reranker.explain(zip(best["query"], best[self.text_field], strict=True), best["score"])
        explanations = pd.Series([text.explanation for text in texts], index=best.index, dtype=object)
        return found.assign(explanation=explanations.reindex(found.index, fill_value=""))
