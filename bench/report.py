"""The pages and figures that show results, made from the results files: no figure in them is typed.

`bench/README.md` is `bench/story.md` with its fields filled in: {NAME[table]} is a benchmark's tables, and
{NAME[fact]} one of its facts. In `README.md` they stand between two comments, the first of which names them.
"""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import figures
from bench.record import RESULTS, ROOT

README, STORY, BENCH_README = ROOT / "README.md", ROOT / "bench" / "story.md", ROOT / "bench" / "README.md"
_PART = re.compile(
    r"(<!-- (\w+)\[(\w+)\]: made by `python -m bench report` -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)
_COMMENT = "<!-- Made by `python -m bench report` from story.md and results/*.json: change those. -->\n\n"


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def pages(benchmarks: dict[str, ModuleType]) -> dict[Path, str]:
    """What the two pages should say."""
    shown = {name: module for name, module in benchmarks.items() if (RESULTS / f"{name}.json").exists()}
    filled = {name: _facts(module, load(name)) for name, module in shown.items()}
    readme = _PART.sub(
        lambda found: f"{found[1]}\n{filled[found[2]][found[3]]}\n\n{found[4]}", README.read_text()
    )
    return {README: readme, BENCH_README: _COMMENT + STORY.read_text().format(**filled)}


def _facts(module: Any, content: dict[str, Any]) -> dict[str, str]:
    settings, results = content["settings"], content["results"]
    facts = module.facts(settings, results) if hasattr(module, "facts") else {}
    return facts | {"table": module.table(settings, results)}


def draw(module: Any, name: str) -> list[Path]:
    """The figure of one benchmark beside its results file; nothing if it has none.

    Raises ImportError where matplotlib is missing.
    """
    if not hasattr(module, "figure"):
        return []
    content = load(name)
    return figures.save(module.figure(content["settings"], content["results"]), RESULTS / name)


def write(benchmarks: dict[str, ModuleType]) -> list[Path]:
    """Make everything anew; returns what was written."""
    made = [path for name, module in benchmarks.items() for path in draw(module, name)]
    for path, text in pages(benchmarks).items():
        path.write_text(text)
        made.append(path)
    return made
