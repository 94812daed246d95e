from pathlib import Path

import pytest
import seqio
import tensorflow as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from exaranker.errors import InputError
from exaranker.tasks.preprocessors import pipeline
from exaranker.tasks.styles import STYLES
from exaranker.tasks.vocabularies import load_vocabulary
from exaranker.templates import encode_input, label_ids, parts, read_template, template_named
from exaranker.tokenization import load_tokenizer

CHAT = r"""
name: chat
family: decoder_only
instruction: Which passages answer {the} query?
turn: "<|im_start|>{role}\n{content}<|im_end|>\n"
messages:
  - {role: system, content: Answer yes or no.}
  - {role: user, content: "<Instruct>: {instruction}{|}\n{|}<Query>: {query}\n<Document>: {passage}"}
  - {role: assistant, content: "<think>\n\n</think>\n\n"}
relevant: yes
irrelevant: no
"""
BEFORE = (
    "<|im_start|>system\nAnswer yes or no.<|im_end|>\n<|im_start|>user\n<Instruct>: Which passages answer {the} query?"
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mine.yaml"
    path.write_text(CHAT)
    return path


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory) -> Path:
    """A BPE tokenizer with Qwen's control tokens, in which "?\n" is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=controls, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["?\n", "yes", "no"] * 9, trainer)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_a_file_has_the_fields_of_a_template(tmp_path):
    path = tmp_path / "my_words.yaml"
    path.write_text("input: 'Frage: {query} Text: {passage}'\nrelevant: ja\nirrelevant: nein\n")
    template = template_named(str(path))
    assert (template.name, template.fill("Was?", "Das.")) == ("my_words", "Frage: Was? Text: Das.")
    assert (template.target(True, "So."), template.label(False)) == ("ja. Explanation: So.", "nein")


def test_chat_messages_are_marked_up_and_the_instruction_is_data(chat):
    template = read_template(chat)
    assert template.fill("Q?", "D.") == f"{BEFORE}\n<Query>: Q?\n<Document>: D.{AFTER}"
    assert (template.relevant, template.irrelevant) == ("yes", "no")  # not YAML's true and false


def test_control_tokens_are_obeyed_in_the_template_and_text_elsewhere(chat, byte_level):
    tokenizer, template = load_tokenizer(byte_level), read_template(chat)
    ids = encode_input(tokenizer, template, "what <|im_end|> is", "a </think> tag", 999)
    assert [ids.count(number) for number in range(5)] == [0, 3, 2, 1, 1]
    written = template.fill("what <|im_end|> is", "a </think> tag")
    assert ids[:3] == [1, *tokenizer.encode("sy")]
    assert tokenizer.decode([number for number in ids if number > 4]) == (
        written.replace("<|im_start|>", "").replace("<|im_end|>\n", "\n").replace("<think>\n\n</think>", "\n\n")
    )


def test_a_template_encodes_as_its_parts_do_with_the_tokenizers_library(chat, byte_level):
    ids = encode_input(load_tokenizer(byte_level), read_template(chat), "why?", "so", 999)
    theirs = Tokenizer.from_file(str(byte_level))
    apart = [BEFORE, "\n", f"<Query>: why?\n<Document>: so{AFTER}"]
    assert ids == [number for text in apart for number in theirs.encode(text).ids]
    assert theirs.encode(f"{BEFORE}\n").ids != theirs.encode(BEFORE).ids + theirs.encode("\n").ids


def test_tasks_encode_the_parts_alike(chat, byte_level):
    tokenizer, template = load_tokenizer(byte_level), read_template(chat)
    row = {"query": "what? <|im_end|>?", "passage": "that\n", "explanation": "", "relevant": 1, "llm_relevance": -1.0}
    dataset = tf.data.Dataset.from_tensors({name: tf.constant(value) for name, value in row.items()})
    for step in pipeline(STYLES["label"], template, load_vocabulary(byte_level), tokenizer):
        if not isinstance(step, seqio.CacheDatasetPlaceholder):
            dataset = step(dataset)
    [example] = dataset.as_numpy_iterator()
    assert example["inputs"].tolist() == encode_input(tokenizer, template, row["query"], row["passage"], 999)
    assert example["targets"].tolist() == [label_ids(tokenizer, template)[1], tokenizer.eos_id]


def test_only_the_passage_of_a_chat_is_cut(chat, byte_level):
    tokenizer, template = load_tokenizer(byte_level), read_template(chat)
    whole = encode_input(tokenizer, template, "q", "abcdefghij", 999)
    cut = encode_input(tokenizer, template, "q", "abcdefghij", len(whole) - 3)
    assert cut == encode_input(tokenizer, template, "q", "abcdefg", 999)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("input: x", r"t.yaml: template 't': 'x' must have each of \['passage', 'query'\] once"),
        ("input: '{query} {passage} {'", "t.yaml: template 't': .*: Single '{' encountered .*write a brace that is"),
        ("inputs: x", r"t.yaml: unknown field 'inputs' \(did you mean input\?\)"),
        ("relevant: ja", "t.yaml: template: the object lacks input"),
        ("input: '{query} {passage}'\nlead: [1]", r't.yaml: template: lead is \["1"\], expected a text'),
        ("input: '{query} {passage}'\nrelevant:", "t.yaml: template 't': a label is empty"),
        ("- x", "t.yaml: expected a mapping with name, input"),
        ("input: 'a", r"t.yaml:\d: not valid YAML"),
        ("relevant: a\nlead: x\nrelevant: b", "t.yaml:3: not valid YAML: the key 'relevant' comes twice"),
        ("[" * 9999, "t.yaml: this YAML is nested too deeply"),
        ("messages: []\nturn: x", "t.yaml: turn is 'x', expected a text with {role} and {content}"),
        (CHAT.replace("assistant", "user"), "t.yaml: the last message is of 'user', expected 'assistant'"),
        (CHAT.replace("{instruction}", ""), "t.yaml: there is an instruction, but no field"),
    ],
)
def test_what_makes_no_template_is_refused(tmp_path, text, problem):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_template(tmp_path / "t.yaml")


def test_markup_that_the_tokenizer_lacks_is_refused(chat):
    with pytest.raises(InputError, match=r"template 'chat' has <\|im_start\|>, which is no token of this tokenizer"):
        parts(load_tokenizer("byt5"), read_template(chat))
