import pytest

from exaranker.preprocess.filters import FILTERS, Candidate, reason_to_reject

PASSAGE = "Penguins live in the south. They feed on krill and fish, and they swim far better than they walk on ice."


def reason(text, relevant=True, finish="stop", names=tuple(FILTERS), query="where do penguins live"):
    return reason_to_reject(Candidate(query, PASSAGE, relevant, text, finish), names)


@pytest.mark.parametrize(
    ("text", "relevant"),
    [
        ("The passage says that penguins live in the south, which answers the question.", True),
        ("The passage is relevant because it names the place where penguins live.", True),
        ("The passage is not relevant because it only tells what penguins eat.", False),
        ("It mentions the ice but does not answer where penguins live.", False),
        ("The passage is not directly relevant, as no place is named.", False),
    ],
)
def test_good_reasons_pass(text, relevant):
    assert reason(text, relevant) is None


@pytest.mark.parametrize(
    ("name", "text", "relevant", "finish"),
    [
        ("empty", " . ", True, "stop"),
        ("cut_off", "The passage says that penguins live in the", True, "length"),
        ("leak", "It names the place. Question: where do whales live", True, "stop"),
        ("leak", "It names the place.<|im_end|>", True, "stop"),
        ("leak", "As an AI I cannot tell.", True, "stop"),
        ("contradiction", "The passage is not relevant to the question.", True, "stop"),
        ("contradiction", "It isn't about where penguins live.", True, "stop"),
        ("contradiction", "The passage is relevant because it names the place.", False, "stop"),
        ("contradiction", "The passage directly answers the question.", False, "stop"),
        ("repetition", "it names the place and it names the place and it names the place", True, "stop"),
        ("copy", "They feed on krill and fish, and they swim far better than they walk on ice.", True, "stop"),
        ("language", "Пингвины живут на юге, так говорит отрывок.", True, "stop"),
    ],
)
def test_each_filter_objects(name, text, relevant, finish):
    assert reason(text, relevant, finish) == name
    others = [other for other in FILTERS if other != name]
    assert reason(text, relevant, finish, others) is None  # switched off, nothing else objects


def test_the_pairs_own_script_is_no_foreign_one():
    assert reason("Пингвины живут на юге.", query="где живут пингвины") is None
