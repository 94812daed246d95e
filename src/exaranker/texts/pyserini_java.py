"""pyserini in a child process: it starts `java` from PATH, and builds an OpenAI client on import."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

MIN_JAVA = 21  # pyserini 1.x is compiled for it


def unavailable() -> str | None:
    """Why pyserini cannot be run here, and what to install; None if it can."""
    if find_spec("pyserini") is None:
        return "pyserini is not installed: pip install 'exaranker[evaluate]'"
    if find_jdk() is None:
        return f"no JDK >= {MIN_JAVA} in JAVA_HOME or /usr/lib/jvm: install one, for example temurin-21-jdk"
    return None


def find_jdk(min_version: int = MIN_JAVA) -> Path | None:
    """The first JDK that is new enough, from JAVA_HOME, then /usr/lib/jvm/*."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    return next((home for home in homes if _java_version(home) >= min_version), None)


def environment() -> dict[str, str]:
    """The environment of a child process that imports pyserini."""
    home = find_jdk()
    path = f"{home}/bin{os.pathsep}{os.environ.get('PATH', '')}"
    ours = {"JAVA_HOME": str(home), "PATH": path, "PYTHONIOENCODING": "utf-8"}
    return {"OPENAI_API_KEY": "unused", **os.environ, **ours}


def _java_version(home: Path) -> int:
    """The major version in a JDK's `release` file; 0 if it has none or no compiler (a JRE) or program."""
    release = home / "release"
    if not release.is_file() or not (home / "bin" / "java").is_file():
        return 0
    found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0
