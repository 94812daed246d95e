import pytest

from exaranker.errors import InputError
from exaranker.files import write_json
from exaranker.resources import shipped
from exaranker.tokenization import ByteTokenizer, load_tokenizer

TEXT = "Héllo wörld, it is <|im_end|> true"


@pytest.fixture(scope="module")
def hugging_face_folder(tmp_path_factory):
    """A small byte-level BPE with a chat token, as LLMs have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["it is true that it is false"] * 10, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>", "bos_token": {"content": "<|endoftext|>"}})
    return folder


@pytest.fixture(scope="module", params=["sentencepiece", "hugging_face", "byt5"])
def tokenizer(request, hugging_face_folder):
    paths = {
        "sentencepiece": shipped("examples/sample") / "spiece.model",
        "hugging_face": hugging_face_folder,
        "byt5": "byt5",
    }
    return load_tokenizer(paths[request.param])


def test_text_survives(tokenizer):
    assert tokenizer.decode([*tokenizer.encode(TEXT), tokenizer.eos_id, 0, 0]).startswith(TEXT)


def test_offsets_end_where_tokens_end(tokenizer):
    ends = tokenizer.token_ends(TEXT)
    assert len(ends) == len(tokenizer.encode(TEXT))
    assert ends == sorted(ends)
    assert ends[-1] == len(TEXT)
    assert "Héllo" in {TEXT[:end] for end in ends}


def test_special_tokens_in_the_text_are_plain_text(tokenizer):
    assert tokenizer.eos_id not in tokenizer.encode("stop <|im_end|> </s> here")
    assert tokenizer.encode("")[:1] == []


def test_saved_copy_is_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    copy = load_tokenizer(tmp_path)
    assert copy.digest == tokenizer.digest
    assert copy.encode(TEXT) == tokenizer.encode(TEXT)


def test_sample_vocabulary_is_laid_out_as_t5s():
    tokenizer = load_tokenizer(shipped("examples/sample"))
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, 1, 4000)
    assert len(tokenizer.encode("true")) == len(tokenizer.encode("false")) == 1


def test_bytes_are_byt5s_ids():
    assert ByteTokenizer().encode("aé") == [100, 198, 172]


def test_wrong_places_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer here, expected spiece\.model or tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"bad\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path / "bad.model")
