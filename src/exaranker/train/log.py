"""What a run reports: a JSONL and TensorBoard in MODEL_DIR, and a line of progress with rate and time left."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from clu import metric_writers

from exaranker.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Writes one row per logged step; a resumed run first drops the rows after the step it resumes from."""

    def __init__(self, directory: Path, resumed_step: int, *, active: bool = True):
        self.path = directory / METRICS_FILE
        self._active = active
        if active:
            directory.mkdir(parents=True, exist_ok=True)
            _keep_rows_up_to(self.path, resumed_step)
            self._writer = metric_writers.SummaryWriter(str(directory / "tensorboard"))

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        if not self._active:
            return
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._writer.write_scalars(step, {f"{split}/{name}": value for name, value in values.items()})

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._writer.close()


def progress_line(step: int, last: int, figures: Mapping[str, float]) -> str:
    """One line for people.

    >>> progress_line(50, 200, {"loss": 1.5, "label_accuracy": 0.75, "steps_per_second": 2.0})
    'step 50/200  loss 1.5  label_accuracy 0.75  steps_per_second 2  ETA 1m15s'
    """
    return f"step {step}/{last}  {shown(figures)}  ETA {duration((last - step) / figures['steps_per_second'])}"


def shown(figures: Mapping[str, float]) -> str:
    """The figures that fit on a line."""
    return "  ".join(f"{name} {figures[name]:.4g}" for name in _SHOWN if name in figures)


_SHOWN = ("loss", "label_loss", "label_accuracy", "gradient_norm", "tokens_per_second", "mfu", "steps_per_second")


def duration(seconds: float) -> str:
    """A time a person reads.

    >>> duration(3725), duration(61), duration(9.4)
    ('1h02m', '1m01s', '9s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def read_metrics(directory: str | Path, split: str = "train") -> list[dict[str, float]]:
    """The rows of one split, by step."""
    lines = (Path(directory) / METRICS_FILE).read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def _keep_rows_up_to(path: Path, step: int) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a killed run
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
