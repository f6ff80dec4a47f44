"""Write the pages and figures that show results, from the results files.

Each page of the findings has a template beside the benchmarks. A field {NAME[table]} in it stands for a
benchmark's table, {NAME[fact]} for one of its facts. README.md is its own template: the part between two
comments is replaced, and the first comment names the field.
"""

import functools
import json
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import figures
from bench.record import RESULTS, ROOT

README = ROOT / "README.md"
TEMPLATES = {
    ROOT / "docs" / "findings.md": "bench/findings.md",
    ROOT / "docs" / "findings" / "story.md": "bench/story/findings.md",
    ROOT / "docs" / "findings" / "simulate.md": "bench/story/simulate.md",
    ROOT / "docs" / "findings" / "strength.md": "bench/story/strength.md",
    ROOT / "docs" / "findings" / "speed.md": "bench/speed/findings.md",
    ROOT / "docs" / "findings" / "faults.md": "bench/faults/findings.md",
}
_PART = re.compile(
    r"(<!-- (\w+)\[(\w+)\]: made by `python -m bench report` -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)
_COMMENT = "<!-- Made by `python -m bench report` from {} and bench/results/*.json: change those. -->\n\n"
_WIDTH = 120


def load(name: str) -> dict[str, Any]:
    """Read the results file of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def pages(benchmarks: dict[str, ModuleType]) -> dict[Path, str]:
    """Return the text that each page should have."""
    measured = {name: module for name, module in benchmarks.items() if (RESULTS / f"{name}.json").exists()}
    fields = {name: _fields(module, load(name)) for name, module in measured.items()}
    texts = {README: _PART.sub(lambda part: _filled(part, fields), README.read_text())}
    for page, template in TEMPLATES.items():
        text = _wrapped((ROOT / template).read_text().format(**fields))
        texts[page] = f"{_COMMENT.format(template)}{text.rstrip()}\n"
    return texts


def _fields(module: Any, content: dict[str, Any]) -> dict[str, str]:
    settings, results = content["settings"], content["results"]
    facts = module.facts(settings, results) if hasattr(module, "facts") else {}
    return facts | {"table": _wrapped(module.table(settings, results))}


def _filled(part: re.Match[str], fields: dict[str, dict[str, str]]) -> str:
    begin, name, field, end = part.groups()
    return f"{begin}\n{_wrapped(fields[name][field])}\n\n{end}"


def _wrapped(markdown: str) -> str:
    """Fill the paragraphs and list items to the width of a page."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = ["\n\n".join(map(_wrapped_block, part.split("\n\n"))) for part in parts[::2]]
    return "".join(parts)


def _wrapped_block(block: str) -> str:
    if re.match(r"\s|[|!#<]|$", block):  # code, a table, an image, a heading, a comment, nothing
        return block
    items = re.split(r"\n(?=- )", block)
    indents = ["  " if item.startswith("- ") else "" for item in items]
    fill = functools.partial(textwrap.fill, width=_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        fill(" ".join(item.split()), subsequent_indent=indent)
        for item, indent in zip(items, indents, strict=True)
    )


def draw(module: Any, name: str) -> list[Path]:
    """Draw the figure of a benchmark beside its results file; return the files written.

    Raises ImportError without matplotlib.
    """
    if not hasattr(module, "figure"):
        return []
    content = load(name)
    return figures.save(module.figure(content["settings"], content["results"]), RESULTS / name)


def write(benchmarks: dict[str, ModuleType]) -> list[Path]:
    """Write all figures and pages; return the files written."""
    made = [path for name, module in benchmarks.items() for path in draw(module, name)]
    for path, text in pages(benchmarks).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        made.append(path)
    return made
