from exaranker.redact import redacted, redacted_options


def test_what_is_no_secret_stays():
    text = "status 404: no model at http://host:8000/v1, see a@b"
    assert redacted(text, [None, "", " "]) == text
    assert redacted_options({"top_k": 5, "max_tokens": 8, "model": "x"}) == {"top_k": 5, "max_tokens": 8, "model": "x"}


def test_secrets_are_hidden():
    assert redacted("wrong Bearer abc.def", []) == "wrong Bearer [hidden]"
    assert redacted("'sk-1' is wrong", ["sk-1\n"]) == "'[hidden]' is wrong"
    assert redacted_options({"extra_headers": {"Authorization": "Bearer x"}}) == {
        "extra_headers": {"Authorization": "[hidden]"}
    }
