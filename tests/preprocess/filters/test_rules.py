import pytest

from exaranker.preprocess.filters.languages import language_of, script
from exaranker.preprocess.filters.rules import FILTERS, Candidate, copied_share, reason_to_reject
from exaranker.preprocess.prompts.prompter import load_style

PASSAGE = "Penguins live in the south. They feed on krill and fish, and they swim far better than they walk on ice."


def reason(text, relevant=True, finish="stop", names=tuple(FILTERS), query="where do penguins live", passage=PASSAGE):
    return reason_to_reject(Candidate(query, passage, relevant, text, finish), names)


def test_the_seven_filters():
    assert list(FILTERS) == ["empty", "cut_off", "leak", "contradiction", "repetition", "copy", "language"]


@pytest.mark.parametrize(
    ("text", "relevant"),
    [
        ("The passage says that penguins live in the south, which answers the question.", True),
        ("The passage is relevant because it names the place where penguins live.", True),
        ("The passage is not relevant because it only tells what penguins eat.", False),
        ("It mentions the ice but does not answer where penguins live.", False),
        ("The passage is not relevant because it addresses the question of what they eat.", False),
        ("It tells what they eat and does not mention where they live.", False),
        ("The passage is not directly relevant, as no place is named.", False),
        ("It answers the question: penguins live in the south.", True),
        ("It is not irrelevant to the question that penguins live in the south.", True),
        ("Although it speaks of unrelated matters, the passage names the south.", True),
        ("While it does not directly answer why, the passage is relevant because it names the south.", True),
        ("The passage is relevant to penguins, but it does not answer where they live.", False),
        ("It is not only relevant but names the very place, the south.", True),
    ],
)
def test_good_reasons_pass(text, relevant):
    assert reason(text, relevant) is None


@pytest.mark.parametrize(
    ("name", "text", "relevant", "finish"),
    [
        ("empty", "", True, "stop"),
        ("empty", " . ", True, "stop"),
        ("empty", "1234 -- 5", True, "stop"),
        ("cut_off", "The passage says that penguins live in the", True, "length"),
        ("leak", "It names the place. Question: where do whales live", True, "stop"),
        ("leak", "Passage: penguins live in the south", True, "stop"),
        ("leak", "It names the place.<|im_end|>", True, "stop"),
        ("leak", "[INST] It names the place [/INST]", True, "stop"),
        ("leak", "<think>It names the place", True, "stop"),
        ("leak", "It names the place.<end_of_turn>", True, "stop"),
        ("leak", "It names the place. <tool_call>", True, "stop"),
        ("leak", "As an AI I cannot tell.", True, "stop"),
        ("leak", "Following the instructions, it names the place.", True, "stop"),
        ("leak", "The final answer says so.", True, "stop"),
        ("contradiction", "The passage is not relevant to the question.", True, "stop"),
        ("contradiction", "It isn't about where penguins live.", True, "stop"),
        ("contradiction", "The passage is relevant because it does not answer where they live.", True, "stop"),
        ("contradiction", "Its facts are irrelevant to the question.", True, "stop"),
        ("contradiction", "The passage is relevant because it names the place.", False, "stop"),
        (
            "contradiction",
            "The passage is relevant because it names a bird and does not mention its home.",
            True,
            "stop",
        ),
        ("contradiction", "The passage provides no information about where they live.", True, "stop"),
        ("contradiction", "The passage directly answers the question.", False, "stop"),
        ("contradiction", "This passage answers the question.", False, "stop"),
        ("repetition", "it names the place and it names the place and it names the place", True, "stop"),
        ("copy", "They feed on krill and fish, and they swim far better than they walk on ice.", True, "stop"),
        ("copy", f"The passage is relevant because {PASSAGE.partition('. ')[2]}", True, "stop"),
        ("language", "Пингвины живут на юге, так говорит отрывок.", True, "stop"),
        ("language", "企鹅生活在南方", True, "stop"),
        (
            "language",
            "Der Text sagt, dass Pinguine im Süden leben, und das ist die Antwort auf die Frage.",
            True,
            "stop",
        ),
        ("language", "Le passage dit que les manchots vivent dans le sud, et c'est la réponse.", True, "stop"),
    ],
)
def test_each_filter_objects(name, text, relevant, finish):
    assert reason(text, relevant, finish) == name
    others = [other for other in FILTERS if other != name]
    assert reason(text, relevant, finish, others) is None  # switched off, nothing else objects


def test_what_the_prompt_says_itself_is_a_leak():
    style = load_style("small")
    for example in style.examples:
        text = f"The passage is relevant because {example.explanation}"
        answer = Candidate("where do penguins live", PASSAGE, True, text, "stop")
        assert reason_to_reject(answer, ["leak"]) is None
        assert reason_to_reject(answer._replace(prompts=style.texts), ["leak"]) == "leak"
    assert reason_to_reject(answer._replace(text=style.instruction, prompts=style.texts), ["leak"]) == "leak"
    own = "it says that penguins live in the south, and it names the place that the question asks for."
    assert reason_to_reject(answer._replace(text=own, prompts=style.texts), tuple(FILTERS)) is None


def test_copies_and_repetitions_without_blanks_between_words():
    passage = "企鹅生活在南方，以磷虾和鱼为食，它们游泳比在冰上行走好得多。"
    assert reason("它们游泳比在冰上行走好得多", query="企鹅住在哪里", passage=passage) == "copy"
    assert reason("因为文中写明企鹅的家在南方", query="企鹅住在哪里", passage=passage) is None
    assert reason("文中写明了，文中写明了，文中写明了", query="企鹅住在哪里", passage=passage) == "repetition"


def test_the_pairs_own_script_and_language_are_not_foreign():
    assert reason("Пингвины живут на юге.", query="где живут пингвины") is None
    german = "Die Pinguine leben im Süden und sie essen Fisch, den sie in der See auch fangen."
    text = "Der Text sagt, dass sie im Süden leben, und das ist die Antwort auf die Frage."
    assert reason(text, query="wo leben die pinguine", passage=german) is None
    assert reason("It says that they live in the south.", query="wo leben die pinguine", passage=german) is None


def test_a_few_foreign_letters_are_no_foreign_script():
    assert reason("It gives the Greek word πιγκουίνος and names the south.") == "language"  # 10 of 46 letters
    assert reason("It gives the Greek word for it, πιγκουίνος, and names the south as the place to live.") is None


def test_phrases_of_the_task_are_fine_where_the_pair_speaks_of_them():
    text = "Following the instructions takes an hour, so it answers how long it takes."
    assert reason(text, query="how long does it take", passage="Mix and bake following the instructions.") is None
    assert reason(text, query="how long does it take", passage="An hour.") == "leak"


@pytest.mark.parametrize(("own_words", "expected"), [(3, None), (0, "copy")])
def test_copies_by_their_share_of_5_grams(own_words, expected):
    """16 words of the passage make 12 5-grams; three words more make 15, so that 0.8 are copied, which is allowed."""
    text = "they feed on krill and fish and they swim far better than they walk on ice" + " so very well" * (
        own_words > 0
    )
    assert copied_share(text, PASSAGE) == (0.8 if own_words else 1.0)
    assert reason(text) == expected


@pytest.mark.parametrize(("times", "expected"), [(9, None), (10, "repetition")])
def test_repetition_by_its_share_of_4_grams(times, expected):
    """23 different words give 20 4-grams; each further "w22" gives one, of which the first three are new."""
    text = " ".join([*(f"w{i}" for i in range(23)), *["w22"] * (times + 3)])
    grams, different = 20 + times + 3, 20 + 3
    assert (1 - different / grams > 0.3) == (expected is not None)
    assert reason(text, names=["repetition"]) == expected


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The passage is about penguins and says where they live.", "en"),
        ("Der Text ist nicht relevant, weil er die Frage mit keinem Wort beantwortet.", "de"),
        ("El pasaje dice que los pingüinos viven en el sur, y esa es la respuesta.", "es"),
        ("Il brano dice che i pinguini vivono nel sud e che questa è la risposta che si cerca.", "it"),
        ("De tekst zegt dat de pinguïns in het zuiden wonen, en dat is het antwoord van de vraag.", "nl"),
        ("O texto diz que os pinguins vivem no sul e que essa é a resposta da pergunta.", "pt"),
        ("Los Angeles, El Paso, San Diego, La Jolla, Las Vegas and Santa Fe are cities of the west.", ""),
        ("Nein", ""),
        ("", ""),
    ],
)
def test_languages(text, language):
    assert language_of(text) == language


def test_scripts():
    assert [script(char) for char in "aя企1 "] == ["LATIN", "CYRILLIC", "CJK", "", ""]
