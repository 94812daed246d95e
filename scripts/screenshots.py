"""The pictures in docs/images, taken in Chromium: a report of a dozen queries of the sample, and the server's page.

    python scripts/screenshots.py [--checkpoint DIR]

Needs Debian's `chromium` and `chromium-driver`. The tests open their pages in the same browser.
"""

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from exaranker.cli import main as exaranker
from exaranker.files.shipped import shipped

IMAGES = Path(__file__).parents[1] / "docs/images"
SAMPLE = shipped("examples/sample")
QUERIES = 12
QUESTION = "how to avoid jet lag"
COLOURS = 64  # of a picture: letters and lines need no more


class Picture(NamedTuple):
    """What is seen of a page, at which size in CSS pixels."""

    name: str
    width: int
    height: int
    part: str = "body"
    scheme: str = "light"


REPORT = (
    Picture("report.png", 900, 1150),
    Picture("report_explanations.png", 900, 700, part="#explanations"),
    Picture("report_phone.png", 390, 780, part="#explanations", scheme="dark"),
)
SERVED = (
    Picture("serve.png", 1200, 760),
    Picture("serve_phone.png", 390, 760, part="#ours", scheme="dark"),
)


def find_browser() -> tuple[str, str] | None:
    """Chromium and its driver, if this machine has both."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def chromium() -> webdriver.Chrome:
    """Chromium without a screen.

    Raises:
        FileNotFoundError: there is none, or no driver for it.
    """
    if (found := find_browser()) is None:
        raise FileNotFoundError("no chromium or no chromedriver on PATH: apt-get install chromium chromium-driver")
    browser, driver = found
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def make_report(checkpoint: list[str], folder: Path) -> Path:
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
    exaranker(["rerank", *texts, *checkpoint, "--explain_top_k", "2", "--run", bm25, "--output", ours])
    qrels = ["--qrels", str(folder / "qrels.txt"), "--measures", "nDCG@10", "RR@10", "R@5"]
    exaranker(["evaluate", *qrels, "--run", bm25, f"BM25 without lengths={other}", ours, "--output", results])
    explained = ["--explanations", f"{ours}.explanations.jsonl"]
    exaranker(["report", results, *explained, *texts, "--title", "The sample, reranked", "--output", page])
    return Path(page)


def photograph_report(browser: webdriver.Chrome, checkpoint: list[str]) -> None:
    """Makes a report and takes its pictures."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # the page names its files
        page = make_report(checkpoint, Path()).absolute()
        for picture in REPORT:
            set_up(browser, picture)
            browser.get(f"file://{page}")
            take(browser, picture)


def photograph_server(browser: webdriver.Chrome, checkpoint: list[str]) -> None:
    """Asks the server's page, opens the best passage and waits until its explanation is whole."""
    command = [sys.executable, "-m", "exaranker.cli", "serve", "--port=0", *checkpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().split()[3]
            for picture in SERVED:
                set_up(browser, picture)
                browser.get(url)
                browser.find_element(By.ID, "query").send_keys(QUESTION + Keys.ENTER)
                until(browser, "#ours button").click()
                until(browser, "#ours .text span")
                until(browser, "#ours .why:not(:has(.writing)) p + p")
                take(browser, picture)
        finally:
            server.terminate()


def until(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The first such element, once it is there."""
    return WebDriverWait(browser, 300).until(lambda _: browser.find_element(By.CSS_SELECTOR, selector))


def set_up(browser: webdriver.Chrome, picture: Picture) -> None:
    """Gives the browser the picture's size and colours."""
    size = {"width": picture.width, "height": picture.height, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": picture.scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)


def take(browser: webdriver.Chrome, picture: Picture) -> None:
    """Writes a picture of the open page."""
    browser.execute_script("document.querySelector(arguments[0]).scrollIntoView()", picture.part)
    image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    image.quantize(COLOURS).save(IMAGES / picture.name, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="which ranker (default: the one in the box)")
    args = parser.parse_args()
    checkpoint = ["--checkpoint", str(args.checkpoint.absolute())] if args.checkpoint else []
    browser = chromium()
    try:
        photograph_report(browser, checkpoint)
        photograph_server(browser, checkpoint)
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
