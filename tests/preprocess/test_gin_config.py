"""Every explainer fragment binds what exists, and its memory line is the arithmetic of its model's shape."""

import re
from typing import NamedTuple

import pytest

from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.gin_config import build, parse_gin
from exaranker.preprocess.gin_config import NAMES, RUN_FILE, ExplainConfig
from exaranker.preprocess.prompts.prompter import load_style

EXPLAINERS = {path.stem: path for path in sorted((shipped("gin") / "explainers").glob("*.gin"))}
PAIRS = {path.stem: path for path in sorted((shipped("gin") / "pairs").glob("*.gin"))}


class Shape(NamedTuple):
    """From the model's config.json on the hub."""

    embed: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False
    norms: int = 2  # per layer
    extra: int = 0  # parameters per layer: biases of q, k, v, or norms of q and k


SHAPES = {
    "llama2_7b_chat": Shape(4096, 11008, 32, 32, 32, 128, 32000),
    "llama2_70b_chat": Shape(8192, 28672, 80, 64, 8, 128, 32000),
    "llama3_8b_instruct": Shape(4096, 14336, 32, 32, 8, 128, 128256),
    "llama3_70b_instruct": Shape(8192, 28672, 80, 64, 8, 128, 128256),
    "qwen2_5_7b_instruct": Shape(3584, 18944, 28, 28, 4, 128, 152064, extra=3584 + 2 * 512),
    "qwen3_8b": Shape(4096, 12288, 36, 32, 8, 128, 151936, extra=2 * 128),
    "mistral_7b_instruct": Shape(4096, 14336, 32, 32, 8, 128, 32768),
    "gemma2_9b_it": Shape(3584, 14336, 42, 16, 8, 256, 256000, tied=True, norms=4),
    "smollm2_1_7b_instruct": Shape(2048, 8192, 24, 32, 32, 64, 49152, tied=True),
    "smollm2": Shape(576, 1536, 30, 9, 3, 64, 49152, tied=True),
}

# The counts that the models' cards state, so that the formula below is held to something.
PUBLISHED = {
    "llama2_7b_chat": 6_738_415_616,
    "llama3_8b_instruct": 8_030_261_248,
    "llama3_70b_instruct": 70_553_706_496,
    "qwen2_5_7b_instruct": 7_615_616_512,
    "gemma2_9b_it": 9_241_705_984,
    "smollm2": 134_515_008,
}

HEADER = re.compile(
    r"# Memory: (?P<weights>[\d.]+) GB weights \((?P<parameters>[\d.]+)e9 parameters x (?P<bytes>[12]) bytes?"
    r"(?:, (?P<embeddings>[\d.]+)e9 of the embeddings x 2 bytes)?\)\n"
    r"#   \+ (?P<cache>[\d.]+) GB KV cache \(2 x (?P<layers>\d+) layers x (?P<heads>\d+) heads x (?P<dim>\d+) x 2 bytes"
    r" = (?P<token>[\d,]+) bytes a token, x (?P<context>[\d,]+) tokens x (?P<sequences>\d+) sequences\)\n"
    r"#   = (?P<total>[\d.]+) GB: (?P<devices>\d+) [CG]PUs? of (?P<size>\d+) GB\."
)


def embeddings(shape):
    return shape.vocab * shape.embed * (1 if shape.tied else 2)


def other_parameters(shape):
    attention = 2 * shape.embed * shape.head_dim * (shape.heads + shape.kv_heads)
    layer = attention + 3 * shape.embed * shape.mlp + shape.norms * shape.embed + shape.extra
    return shape.layers * layer + shape.embed


def parsed(path):
    """(explainer, vllm, pairs) as the fragment binds them."""
    config = build(ExplainConfig, parse_gin([RUN_FILE, str(path)], names=NAMES)).config
    return config.explainer, config.vllm, config.pairs


def number(header, name):
    return float(header[name].replace(",", ""))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formula_gives_the_published_counts(name):
    assert embeddings(SHAPES[name]) + other_parameters(SHAPES[name]) == PUBLISHED[name]


def test_every_fragment_is_checked():
    assert set(EXPLAINERS) == set(SHAPES)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_bindings(name):
    explainer, vllm, _ = parsed(EXPLAINERS[name])
    load_style(explainer.prompt)
    assert explainer.temperature == 0.0
    assert explainer.filters
    assert vllm.dtype in ("auto", "float16", "bfloat16")
    assert explainer.max_tokens + explainer.max_passage_tokens < explainer.context_tokens


@pytest.mark.parametrize("name", ["llama2_7b_chat", "llama2_70b_chat"])
def test_the_papers_explainers_are_as_in_the_paper(name):
    explainer, _, _ = parsed(EXPLAINERS[name])
    assert (explainer.prompt, explainer.chat, explainer.max_tokens) == ("exaranker", False, 256)
    style = load_style(explainer.prompt)
    assert [example.relevant for example in style.examples].count(True) == 4
    assert len(style.examples) == 7
    assert all(17 <= len(example.explanation.split()) <= 29 for example in style.examples)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_the_memory_line_is_the_shapes_arithmetic(name):
    text, shape = EXPLAINERS[name].read_text(), SHAPES[name]
    explainer, vllm, _ = parsed(EXPLAINERS[name])
    header = HEADER.search(text)
    assert header, text
    quantised = vllm.quantization is not None
    assert (number(header, "bytes") == 1) == quantised == (header["embeddings"] is not None)
    body, ends = other_parameters(shape), embeddings(shape)
    weights = (body + 2 * ends if quantised else 2 * (body + ends)) / 1e9
    last_digit = 10.0 ** -len(header["parameters"].partition(".")[2])
    parameters = (body if quantised else body + ends) / 1e9
    assert number(header, "parameters") == pytest.approx(parameters, abs=last_digit / 2)
    assert number(header, "weights") == pytest.approx(weights, abs=0.05)
    assert [number(header, key) for key in ("layers", "heads", "dim")] == [shape.layers, shape.kv_heads, shape.head_dim]
    assert number(header, "token") == 2 * shape.layers * shape.kv_heads * shape.head_dim * 2
    assert number(header, "context") == explainer.context_tokens
    cache = number(header, "token") * explainer.context_tokens * number(header, "sequences") / 1e9
    assert number(header, "cache") == pytest.approx(cache, abs=0.05)
    assert number(header, "total") == pytest.approx(weights + cache, abs=0.1)
    assert number(header, "devices") == vllm.tensor_parallel_size * vllm.pipeline_parallel_size
    assert weights + cache <= vllm.gpu_memory_utilization * number(header, "devices") * number(header, "size")


@pytest.mark.parametrize(
    ("name", "positives"), [("15k", 15_000), ("50k", 50_000), ("150k", 150_000), ("300k", 300_000)]
)
def test_presets_of_pairs(name, positives):
    _, _, pairs = parsed(PAIRS[f"msmarco_{name}"])
    assert (pairs.triples, pairs.positives, pairs.seed, pairs.positive_grade) == ("sampled", positives, 2, 1)


@pytest.mark.parametrize("path", [*EXPLAINERS.values(), *PAIRS.values()], ids=lambda path: path.stem)
def test_the_headers_command_names_this_file(path):
    commands = re.findall(r"--gin_file (\S+)", path.read_text())
    assert f"{path.parent.name}/{path.name}" in commands
    for command in commands:
        assert (shipped("gin") / command).is_file()


def test_a_binding_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text('explainer.llm = "smollm2"\nvllm.tensor_parallel = 2\n')
    with pytest.raises(InputError, match="tensor_parallel"):
        parsed(path)


def test_another_verb_s_configuration_in_the_same_process_is_no_obstacle():
    parse_gin(["explainers/smollm2.gin"], ["pairs.seed = 3"], names=NAMES)
    assert parsed(PAIRS["msmarco_15k"])[2].seed == 2


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("explainer.max_tokens = 0", "explainer.max_tokens is 0, expected at least 1"),
        ("explainer.temperature = -0.5", "explainer.temperature is -0.5, expected at least 0"),
        ("explainer.top_p = 0.0", "explainer.top_p is 0.0, expected more than 0"),
        ("explainer.llm = ''", "explainer.llm is '', expected a text that is not empty"),
        ("explainer.chat = 'False'", r"explainer.chat is 'False', expected True or False \(write it without quotes"),
        ("explainer.seed = -1", "explainer.seed is -1, expected 0 to 4294967295"),
        ("explainer.filters = 'leak'", r"explainer.filters is 'leak', expected \('text', 'text', ...\) or"),
        ("pairs.triples = 'some'", r"pairs.triples is 'some', expected one of sampled, full"),
        ("pairs.positives = '5'", "pairs.positives is '5', expected a whole number"),
        ("vllm.dtype = 'fp16'", "vllm.dtype is 'fp16', expected one of auto, half, float16, bfloat16, float, float32"),
        ("vllm.gpu_memory_utilization = 90", "vllm.gpu_memory_utilization is 90, expected at most 1"),
        ("vllm.tensor_parallel_size = 0", "vllm.tensor_parallel_size is 0, expected at least 1"),
        ("server.base_url = 'localhost:8000'", "server.base_url is 'localhost:8000', expected an address that begins"),
        ("server.timeout_seconds = 0", "server.timeout_seconds is 0, expected more than 0"),
        ("server.extra_body = 'x'", "server.extra_body is 'x', expected {'text': value, ...}"),
        ("ray.workers = 0", "ray.workers is 0, expected at least 1"),
        ("ray.gpus_per_worker = -1", "ray.gpus_per_worker is -1, expected at least 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name(binding, message):
    with pytest.raises(InputError, match=f"^{message}"):
        build(ExplainConfig, parse_gin([RUN_FILE], [binding], names=NAMES))
