"""The folders are what the pages say: a module's test is found by its name, or in the table of CONTRIBUTING.md."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = {"src/exaranker": "tests", "preprocess": "tests/preprocess", "tasks": "tests/tasks"}


def modules() -> list[tuple[str, Path]]:
    """Every module and the test file of its name; `train_` of the verb `train` has `test_train`."""
    return [
        (
            str(file.relative_to(ROOT)),
            ROOT / tests / file.parent.relative_to(ROOT / code) / f"test_{file.stem.rstrip('_')}.py",
        )
        for code, tests in CODE.items()
        for file in sorted((ROOT / code).rglob("*.py"))
        if file.name != "__init__.py"
    ]


def table() -> dict[str, list[str]]:
    """The tests by pattern of modules, as CONTRIBUTING.md has them."""
    rows = re.findall(r"^\| (`.+?) \| (`tests.+?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {pattern: re.findall(r"`(.+?)`", tests) for code, tests in rows for pattern in re.findall(r"`(.+?)`", code)}


def is_under(module: str, pattern: str) -> bool:
    return Path(module).parent == Path(pattern).parent and fnmatch(module, pattern)


def test_every_module_has_a_test_that_is_found_without_searching() -> None:
    nameless = [module for module, test in modules() if not test.exists()]
    assert [module for module in nameless if not any(is_under(module, pattern) for pattern in table())] == []


def test_the_table_of_tests_is_true() -> None:
    nameless = [module for module, test in modules() if not test.exists()]
    assert [pattern for pattern in table() if not any(is_under(module, pattern) for module in nameless)] == []
    assert [test for tests in table().values() for test in tests if not (ROOT / test).exists()] == []


def test_at_most_a_dozen_modules_are_flat() -> None:
    flat = [module for module, _ in modules() if Path(module).parent == Path("src/exaranker")]
    assert 0 < len(flat) <= 12
