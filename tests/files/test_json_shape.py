import pytest

from exaranker.errors import InputError
from exaranker.files import parse_json, read_json, require_fields

FIELDS = {"file": str, "rows": int, "score": float, "note": (str, type(None)), "shards": list}
VALID = {"file": "a", "rows": 1, "score": 1, "note": None, "shards": []}


def test_an_object_of_the_shape_passes_with_what_else_it_has():
    assert require_fields(VALID | {"more": 1}, FIELDS, path="m.json") == VALID | {"more": 1}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [1],
            "m.json:3: expected an object with file (a text), rows (an integer), score (a number), "
            "note (a text or null), shards (a list), got [1] (explain again)",
        ),
        ({"file": "a", "rows": 1}, "m.json:3: the object lacks score, note, shards (explain again)"),
        (VALID | {"rows": True}, "m.json:3: rows is true, expected an integer (explain again)"),
        (VALID | {"rows": 1.5}, "m.json:3: rows is 1.5, expected an integer (explain again)"),
        (VALID | {"score": "1"}, 'm.json:3: score is "1", expected a number (explain again)'),
        (VALID | {"note": 1}, "m.json:3: note is 1, expected a text or null (explain again)"),
        (VALID | {"file": "\x1b" * 99}, "m.json:3: file is 1, expected"),
    ],
)
def test_another_shape_is_named(value, message):
    if value == VALID | {"file": "\x1b" * 99}:
        value |= {"rows": "\x1b" * 99}
        message = 'm.json:3: rows is "' + "\\u001b" * 9 + "\\u..., expected an integer (explain again)"
    with pytest.raises(InputError) as caught:
        require_fields(value, FIELDS, path="m.json", line=3, hint="explain again")
    assert str(caught.value) == message


def test_json_that_is_nested_too_deeply_is_one_line(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"deep\.json: this JSON is nested too deeply|not valid JSON"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(InputError, match=r"a\.jsonl:7: not valid JSON: Expecting value"):
        parse_json("", path="a.jsonl", line=7)


def test_a_field_that_comes_twice_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"rows": 1, "more": [{"file": "a", "file": "b"}]}')
    with pytest.raises(InputError, match=r"a\.json: the field 'file' comes twice in one object"):
        read_json(tmp_path / "a.json")
