"""The page in a real browser: typing, both rankings, explanations as they are written, errors, hostile passages."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from exaranker import Reranker
from exaranker.files.shipped import shipped
from exaranker.rank.bm25 import Bm25Index, Bm25Params
from exaranker.texts.rows import iter_texts

EVIL = "<img src=x onerror=document.title='run'> </span><script>document.title='run'</script> honey bees."
QUESTION = "how do bees make honey"


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def texts_of(browser, selector):
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def ask(browser, url, question=QUESTION):
    browser.get(url)
    browser.find_element(By.ID, "query").send_keys(question + Keys.ENTER)
    wait_for(browser, lambda: texts_of(browser, "#status") not in ([""], ["Ranking …"]))


def wait_for(browser, condition):
    WebDriverWait(browser, 60).until(lambda _: condition())


@pytest.fixture
def clean(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A browser that has nothing to complain of: no script refused, no file missing."""
    browser.get_log("browser")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_both_rankings_are_those_of_the_verbs(url: str, reranker: Reranker, same_score: float) -> None:
    passages = dict(iter_texts(shipped("examples/sample") / "passages.tsv"))
    found = Bm25Index.build(passages.items(), Bm25Params()).search("", QUESTION, 10)
    expected = reranker.rank(QUESTION, [passages[doc.doc_id] for doc in found])
    results = post(f"{url}/search", {"query": QUESTION, "count": 10})["results"]
    assert [result["rank"] for result in results] == list(range(1, 11))
    assert [result["bm25_rank"] for result in results] == [ranked.position + 1 for ranked in expected]
    assert [result["doc_id"] for result in results] == [found[ranked.position].doc_id for ranked in expected]
    scores = [ranked.score for ranked in expected]
    assert [result["score"] for result in results] == pytest.approx(scores, abs=same_score)


def test_sentences_add_what_the_verb_says(url: str, reranker: Reranker, same_score: float) -> None:
    passage = "Bees visit flowers. They carry nectar home! Wax is built into combs."
    why = reranker.why(QUESTION, passage)
    answer = post(f"{url}/why", {"query": QUESTION, "document": passage})
    assert answer["score"] == pytest.approx(why.score, abs=same_score)
    assert [item["text"] for item in answer["sentences"]] == [sentence.text for sentence in why.sentences]
    found = [item["contribution"] for item in answer["sentences"]]
    assert found == pytest.approx([sentence.contribution for sentence in why.sentences], abs=2 * same_score)


def test_a_question_is_ranked_and_explained_by_keyboard(url: str, clean: webdriver.Chrome) -> None:
    ask(clean, url)
    assert texts_of(clean, "#status") == ["20 passages, the best by BM25"]
    first, ours = texts_of(clean, "#first .id"), texts_of(clean, "#ours .id")
    assert len(first) == 20
    assert sorted(first) == sorted(ours)
    best = clean.find_element(By.CSS_SELECTOR, "#ours button")
    whole = best.find_element(By.CSS_SELECTOR, ".text").text
    best.send_keys(Keys.ENTER)
    wait_for(clean, lambda: texts_of(clean, "#ours .why p:not(.writing)")[1:] not in ([], [""]))
    assert best.get_attribute("aria-expanded") == "true"
    assert texts_of(clean, "#ours .label")[0] in ("true", "false")
    wait_for(clean, lambda: texts_of(clean, "#ours .text span"))
    assert best.find_element(By.CSS_SELECTOR, ".text").text == whole
    best.send_keys(Keys.ENTER)
    assert best.get_attribute("aria-expanded") == "false"


def test_what_cannot_be_answered_is_said(url: str, clean: webdriver.Chrome) -> None:
    ask(clean, url, "zzzz qqqq")
    assert texts_of(clean, "#status") == ["No passage shares a word with this question."]
    assert not clean.find_element(By.TAG_NAME, "main").is_displayed()


def test_hostile_passages_are_shown_and_never_run(start, browser: webdriver.Chrome, tmp_path: Path) -> None:
    passages = tmp_path / "passages.tsv"
    passages.write_text(f"<b>1</b>\t{EVIL}\n2\tBees make honey.\n")
    with start(f"--passages={passages}") as (address, _):
        ask(browser, address)
        assert sorted(texts_of(browser, "#ours .id")) == ["2", "<b>1</b>"]
        for button in browser.find_elements(By.CSS_SELECTOR, "#ours button"):
            button.click()
        wait_for(browser, lambda: len(texts_of(browser, "#ours .why p:not(.writing)")) == 4)
        assert EVIL in texts_of(browser, "#ours .text")
        assert browser.title == "ExaRanker"
        assert not browser.find_elements(By.CSS_SELECTOR, "main img, main script")


def test_a_key_is_asked_for(start, browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("open-sesame\n")
    with start(f"--api_key_file={tmp_path / 'key'}") as (address, _):
        ask(browser, address)
        assert texts_of(browser, "#status") == ["a key is needed: send `Authorization: Bearer KEY`"]
        browser.find_element(By.ID, "key").send_keys("open-sesame" + Keys.ENTER)
        wait_for(browser, lambda: texts_of(browser, "#status") == ["20 passages, the best by BM25"])


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_never_wider_than_the_screen(url: str, clean: webdriver.Chrome, width: int) -> None:
    clean.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    ask(clean, url)
    assert clean.execute_script("return document.documentElement.scrollWidth") <= width
    clean.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
