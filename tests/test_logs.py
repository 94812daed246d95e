import json

import pytest

from exaranker import logs


@pytest.fixture(autouse=True)
def usual_style():
    yield
    logs.configure(logs.LogStyle())


def test_quiet_leaves_answers_warnings_and_errors(capsys):
    logs.configure(logs.LogStyle("rerank", quiet=True))
    logs.show("answer")
    logs.say("step 1")
    logs.warn("a warning")
    logs.fail("exaranker rerank", "an error")
    with logs.progress(desc="score", total=2, unit="passage") as bar:
        bar.update(2)
    assert tuple(capsys.readouterr()) == ("answer\n", "a warning\nexaranker rerank: error: an error\n")


def test_json_lines_carry_figures(capsys):
    logs.configure(logs.LogStyle("train", json=True))
    logs.say("step 10  loss 0.5", step=10, loss=0.5)
    record = json.loads(capsys.readouterr().err)
    assert {**record, "time": ""} == {
        "time": "",
        "level": "info",
        "verb": "train",
        "message": "step 10  loss 0.5",
        "step": 10,
        "loss": 0.5,
    }


def test_progress_in_json_is_lines_not_a_bar(capsys):
    logs.configure(logs.LogStyle("rerank", json=True))
    with logs.progress(desc="score", total=2, unit="passage") as bar:
        bar.update(2)
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (records[-1]["message"], records[-1]["done"], records[-1]["total"]) == ("score", 2, 2)


def test_the_words_for_another_process():
    logs.configure(logs.LogStyle("demo", quiet=True, json=True))
    assert logs.flags() == ["--quiet", "--log_format=json"]


def test_a_terminal_gets_no_control_characters(capsys):
    logs.show("id\x1b[31m\u202e\tnext\nline\x9b")
    assert capsys.readouterr().out == "id [31m \tnext\nline \n"
