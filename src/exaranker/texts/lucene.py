"""Passages that a Lucene index of pyserini or Anserini keeps, read by pyserini in a child process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exaranker.errors import InputError
from exaranker.texts import pyserini_java
from exaranker.texts.rows import Title, json_text

_CHILD = """
import json, sys
from pyserini.pyclass import autoclass
utils = autoclass("io.anserini.index.IndexReaderUtils")
reader = utils.getReader(sys.argv[1])
wanted = json.load(sys.stdin)
fields = reader.storedFields()
every = (fields.document(number) for number in range(reader.maxDoc()))
for doc in every if wanted is None else (utils.document(reader, name) for name in wanted):
    if doc is not None:
        print(json.dumps([doc.get("id"), doc.get("raw"), doc.get("contents")]))
"""


@dataclass(frozen=True)
class LuceneIndex:
    """The stored passages of an index, as `TextSource`: pyserini's `--storeRaw` or `--storeContents`."""

    folder: Path
    title: Title = "first"

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def paths(self) -> Sequence[Path]:
        return tuple(sorted(self.folder.iterdir()))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._read(None)

    def select(self, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
        return self._read(sorted(wanted))

    def _read(self, wanted: Sequence[str] | None) -> Iterator[tuple[str, str]]:
        if reason := pyserini_java.unavailable():
            raise InputError("this is a Lucene index", path=self.folder, hint=reason)
        with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as told:
            json.dump(wanted, asked)
            asked.seek(0)
            command = [sys.executable, "-P", "-c", _CHILD, str(self.folder.resolve())]
            environment = pyserini_java.environment()
            with subprocess.Popen(
                command, env=environment, text=True, stdin=asked, stdout=subprocess.PIPE, stderr=told
            ) as child:
                yield from (self._text(json.loads(line)) for line in child.stdout or ())
            if child.returncode:
                told.seek(0)
                raise InputError(
                    f"pyserini cannot read this Lucene index: {told.read().strip()[-200:]}", path=self.folder
                )

    def _text(self, stored: Sequence[str | None]) -> tuple[str, str]:
        """Of a document's raw form as JSON its text; else the contents that were indexed, or the raw form itself."""
        identifier, raw, contents = stored
        if raw is None and contents is None:
            hint = "index with --storeRaw, or give the passages themselves"
            raise InputError("this Lucene index keeps no texts", path=self.folder, hint=hint)
        row = json_text(raw or "", self.title)
        return str(identifier), row[1] if row else str(contents or raw)


def is_index(folder: Path) -> bool:
    """Whether a folder is a Lucene index."""
    return any(folder.glob("segments_*"))
