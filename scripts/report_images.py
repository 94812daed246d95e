"""The pictures of a report in docs/images: a dozen queries of the sample, reranked by a checkpoint, in Chromium.

    python scripts/report_images.py CHECKPOINT

Needs Debian's `chromium` and `chromium-driver`. The tests open their pages in the same browser.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from selenium import webdriver

from exaranker.cli import main as exaranker
from exaranker.shipped import shipped

IMAGES = Path(__file__).parents[1] / "docs/images"
SAMPLE = shipped("examples/sample")
QUERIES = 12
COLOURS = 64  # of a picture: letters and lines need no more


class Picture(NamedTuple):
    """What is seen of the report, at which size in CSS pixels."""

    name: str
    width: int
    height: int
    part: str = "body"
    scheme: str = "light"


PICTURES = (
    Picture("report.png", 900, 1150),
    Picture("report_explanations.png", 900, 700, part="#explanations"),
    Picture("report_phone.png", 390, 780, part="#explanations", scheme="dark"),
)


def chromium() -> webdriver.Chrome:
    """Debian's Chromium without a screen."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))


def make_report(checkpoint: Path, folder: Path) -> Path:
    """BM25, BM25 that looks at no length, and the checkpoint on the first queries of the sample, with explanations."""
    queries = (SAMPLE / "queries.tsv").read_text().splitlines()[:QUERIES]
    chosen = {line.partition("\t")[0] for line in queries}
    judged = [line for line in (SAMPLE / "qrels.txt").read_text().splitlines() if line.split()[0] in chosen]
    (folder / "queries.tsv").write_text("\n".join(queries) + "\n")
    (folder / "qrels.txt").write_text("\n".join(judged) + "\n")
    bm25, other, ours, results, page = (
        str(folder / name) for name in ("bm25.trec", "bm25_b0.trec", "reranked.trec", "results.json", "report.html")
    )
    texts = ["--queries", str(folder / "queries.tsv"), "--passages", str(SAMPLE / "passages.tsv")]
    exaranker(["retrieve", *texts, "--k", "10", "--output", bm25])
    exaranker(["retrieve", *texts, "--k", "10", "--b", "0", "--output", other])
    ranker = ["--checkpoint", str(checkpoint), "--explain_top_k", "2"]
    exaranker(["rerank", *texts, *ranker, "--run", bm25, "--output", ours])
    qrels = ["--qrels", str(folder / "qrels.txt"), "--measures", "nDCG@10", "RR@10", "R@5"]
    exaranker(["evaluate", *qrels, "--run", bm25, f"BM25 without lengths={other}", ours, "--output", results])
    explained = ["--explanations", f"{ours}.explanations.jsonl"]
    exaranker(["report", results, *explained, *texts, "--title", "The sample, reranked", "--output", page])
    return Path(page)


def take(browser: webdriver.Chrome, page: Path, picture: Picture) -> bytes:
    """The PNG of a picture."""
    size = {"width": picture.width, "height": picture.height, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": picture.scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(f"file://{page}")
    browser.execute_script("document.querySelector(arguments[0]).scrollIntoView()", picture.part)
    stream = io.BytesIO()
    Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB").quantize(COLOURS).save(
        stream, "png", optimize=True
    )
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of which ranker")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint.absolute()
        with contextlib.chdir(folder):  # the page names its files
            page = make_report(checkpoint, Path()).absolute()
        browser = chromium()
        try:
            for picture in PICTURES:
                (IMAGES / picture.name).write_bytes(take(browser, page, picture))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
