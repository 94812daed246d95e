import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import seqio
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, T5Tokenizer

from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.tokenization import byte_to_character_offsets, load_tokenizer, tokenizer_file

SPIECE = Path(seqio.__file__).parent / "test_data/sentencepiece/sentencepiece.model"
TEXT = "The “é” 日本 x dog. true\n"


@pytest.fixture
def bpe(tmp_path):
    """A folder with a byte-level BPE as SmolLM2's: end-of-text is named by tokenizer_config.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<start>", "<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" true false"] * 9, trainer)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    return tmp_path


@pytest.fixture(params=["sentencepiece", "bpe", "bytes"])
def tokenizer(request, bpe):
    return load_tokenizer({"sentencepiece": SPIECE, "bpe": bpe, "bytes": "byt5"}[request.param])


def test_ids_are_in_range_and_without_specials(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.eos_id not in ids


def test_token_ends_rise_to_the_end_of_the_text(tokenizer):
    text = TEXT.strip()
    ends = tokenizer.token_ends(text)
    assert len(ends) == len(tokenizer.encode(text))
    assert ends == sorted(ends)
    assert ends[-1] == len(text)


def test_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    target = tmp_path / "saved"
    target.mkdir()
    tokenizer.save(target)
    again = load_tokenizer(target)
    assert (again.digest, again.eos_id, again.encode(TEXT)) == (
        tokenizer.digest,
        tokenizer.eos_id,
        tokenizer.encode(TEXT),
    )


def test_decoding_stops_at_the_end_of_the_text(tokenizer):
    ids = tokenizer.encode("that is")
    assert tokenizer.decode([*ids, tokenizer.eos_id, *ids]) == "that is"


def test_spelled_out_control_tokens_are_text(tokenizer):
    ids = tokenizer.encode("a <end> </s> b")
    assert tokenizer.eos_id not in ids
    assert len(ids) > 5


def test_sentencepiece_ids():
    tokenizer = load_tokenizer(SPIECE)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (26, 0, 1, None)
    assert tokenizer.digest == hashlib.sha256(SPIECE.read_bytes()).hexdigest()
    assert tokenizer.decode([*tokenizer.encode("that is"), 25, 26, 999]) == tokenizer.decode(
        [*tokenizer.encode("that is"), 25]
    )


def test_bpe_roles(bpe):
    tokenizer = load_tokenizer(bpe / "tokenizer.json")
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id) == (2, None, 0)
    assert len(tokenizer.encode(" true")) == 1


def test_begin_of_text_is_used_when_the_tokenizer_adds_it(bpe):
    file = bpe / "tokenizer.json"
    inner = Tokenizer.from_file(str(file))
    inner.post_processor = processors.TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 1)])
    inner.save(str(file))
    tokenizer = load_tokenizer(file)
    assert tokenizer.bos_id == 1
    assert 1 not in tokenizer.encode("a")


def test_unknown_end_of_text_is_reported(bpe):
    (bpe / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: the end-of-text token is unknown \(put eos_token into"):
        load_tokenizer(bpe)


def test_byte_ids_are_those_of_byt5():
    assert load_tokenizer("byt5").encode("Life") == [79, 108, 105, 104]


def test_offsets_inside_a_character_round_down():
    assert byte_to_character_offsets("aé日!", [0, 1, 2, 3, 4, 5, 6, 7]) == [0, 1, 1, 2, 2, 2, 3, 4]


def test_what_is_no_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing: no tokenizer here \(expected a folder with spiece\.model"):
        load_tokenizer(tmp_path / "nothing")
    (tmp_path / "spiece.model").write_text("text")
    with pytest.raises(InputError, match=r"spiece\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer\.json: "):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_control_tokens_are_text_whether_or_not_they_are_called_special(bpe):
    file = bpe / "tokenizer.json"
    inner = Tokenizer.from_file(str(file))
    inner.add_tokens([AddedToken("<think>", normalized=False), AddedToken("[DOC]", normalized=False), "covid"])
    inner.save(str(file))
    tokenizer = load_tokenizer(file)
    think, document, word = (inner.token_to_id(name) for name in ("<think>", "[DOC]", "covid"))
    ids = tokenizer.encode("a <think> [DOC] covid")
    assert think not in ids
    assert document not in ids
    assert word in ids  # a word of the language is what it was trained as
    assert tokenizer.decode(ids) == "a <think> [DOC] covid"
    assert tokenizer.decode([think, *tokenizer.encode("so"), 1]) == "<think>so"  # 1 is special: <start>


@pytest.fixture(scope="module")
def t5_model():
    """A vocabulary as T5's, which has no bytes to fall back to."""
    stored = io.BytesIO()
    lines = (shipped("examples/sample") / "passages.tsv").read_text().splitlines()[:200]
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=stored, vocab_size=500, minloglevel=2, **ids
    )
    return stored.getvalue()


def with_what_transformers_makes_of_it(folder, model):
    """T5's two files as its users find them: the SentencePiece model, and the tokenizer.json of save_pretrained."""
    folder.mkdir()
    (folder / "spiece.model").write_bytes(model)
    T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture
def t5_folder(tmp_path, t5_model):
    return with_what_transformers_makes_of_it(tmp_path / "t5", t5_model)


PROBED = [
    *("a  b", " a", "a ", "   ", "", "a\tb", "a\r\nb", "a\xa0b", "a\u3000b", "a\u2028b"),
    *(
        "天空为什么是蓝色的",
        "لماذا السماء زرقاء",
        "आकाश नीला क्यों है",
        "한국어 ひら",
        "sky \U0001f469\u200d\U0001f680 blue",
    ),
    *(
        "cafe\u0301 é",
        "\ufb01ne ① ½ Ａ",
        "a\x00b",
        "a\x07b\x1b[0m",
        "a\u200bb",
        "a\xadb",
        "\ufeffa",
        "a\u202eb",
        "▁a ▁",
    ),
]


def test_a_t5_folder_has_the_ids_of_autotokenizer(t5_folder):
    tokenizer, auto = load_tokenizer(t5_folder), AutoTokenizer.from_pretrained(t5_folder)
    expected = {text: auto(text, add_special_tokens=False).input_ids for text in PROBED}
    assert {text: tokenizer.encode(text) for text in PROBED} == expected
    assert tokenizer_file(t5_folder).name == "spiece.model"


def test_a_tokenizer_json_that_lost_the_bytes_is_what_autotokenizer_reads(tmp_path):
    """The sample's vocabulary falls back to bytes; transformers' copy of it has <unk> for what the pieces lack."""
    model = (shipped("examples/sample") / "spiece.model").read_bytes()
    folder = with_what_transformers_makes_of_it(tmp_path / "t5", model)
    tokenizer = load_tokenizer(folder)
    assert tokenizer_file(folder).name == "tokenizer.json"
    assert tokenizer.encode("天空 sky") == [274, 2, 1138]
    assert load_tokenizer(folder / "spiece.model").encode("天 sky") == [274, 234, 169, 174, 1138]


def test_a_control_token_that_a_t5_folder_adds_is_text_in_a_passage(t5_folder):
    inner = Tokenizer.from_file(str(t5_folder / "tokenizer.json"))
    inner.add_tokens([AddedToken("<think>", normalized=False)])
    inner.save(str(t5_folder / "tokenizer.json"))
    tokenizer = load_tokenizer(t5_folder)
    assert tokenizer_file(t5_folder).name == "tokenizer.json"
    assert inner.token_to_id("<think>") not in tokenizer.encode("a <think> b")
    assert tokenizer.encode("a think b") == load_tokenizer(t5_folder / "spiece.model").encode("a think b")


@pytest.mark.parametrize("change", ["an added token", "begin of text", "end of text", "not SentencePiece"])
def test_of_two_files_that_differ_it_is_the_one_that_autotokenizer_reads(t5_folder, change):
    file = t5_folder / "tokenizer.json"
    inner = Tokenizer.from_file(str(file))
    if change == "an added token":
        inner.add_tokens(["biology"])
    elif change == "begin of text":
        start = inner.token_to_id("▁a")
        inner.post_processor = processors.TemplateProcessing(single="▁a $A", special_tokens=[("▁a", start)])
    elif change == "end of text":
        (t5_folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "▁a"}))
    else:  # Llama 3's tokenizer.model is tiktoken's
        (t5_folder / "spiece.model").unlink()
        (t5_folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    inner.save(str(file))
    assert tokenizer_file(t5_folder) == file
    tokenizer = load_tokenizer(t5_folder)
    assert (tokenizer.eos_id, tokenizer.bos_id) == {
        "begin of text": (1, inner.token_to_id("▁a")),
        "end of text": (inner.token_to_id("▁a"), None),
    }.get(change, (1, None))


def test_a_vocabulary_with_begin_of_text_needs_its_tokenizer_json(tmp_path):
    stored = io.BytesIO()
    texts = iter(["the quick brown fox jumps over the lazy dog"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=stored, vocab_size=40, model_type="bpe", minloglevel=2
    )
    (tmp_path / "tokenizer.model").write_bytes(stored.getvalue())
    message = r"tokenizer.model: this SentencePiece model has a begin-of-text piece, '<s>', .* \(write a tokenizer.json"
    with pytest.raises(InputError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"eos_token": "<|im_end|>"}, "ends texts with '</s>', tokenizer_config.json beside it with '<|im_end|>'"),
        ({"added_tokens_decoder": {"4000": {"content": "<q>"}}}, "does not have '<q>', which tokenizer_config.json"),
    ],
)
def test_a_sentencepiece_model_that_its_roles_contradict_is_refused(tmp_path, roles, message):
    shutil.copyfile(shipped("examples/sample") / "spiece.model", tmp_path / "spiece.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"4001": "<extra_id_0>"}}))
    assert load_tokenizer(tmp_path).eos_id == 1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(roles))
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        load_tokenizer(tmp_path)
