"""A page of HTML that needs nothing else: no script, no network. It is light or dark as the reader's are."""

from collections.abc import Iterable, Sequence
from html import escape

from shmps.version import __version__

_STYLE = """
:root { --page: #ffffff; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de; --shade: #f3f5f7;
  --compute: #0b62b8; --pull: #0f7b6c; --push: #b45309; --sleep: #8250df; --wait: #868e96; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1419; --text: #e6edf3; --quiet: #9da7b1; --line: #343d48; --shade: #1a212a;
    --compute: #6cb6ff; --pull: #4fd1b5; --push: #f0a34a; --sleep: #c297ff; --wait: #7d8590;
    --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0.5rem 0; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 0.75rem; border-bottom: 1px solid var(--line); }
a { color: var(--compute); } nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; }
:focus-visible { outline: 3px solid var(--compute); outline-offset: 2px; }
.lead { font-size: 1.125rem; } .quiet { color: var(--quiet); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1.5rem; }
figure { margin: 0; max-width: 32rem; } figcaption { font-weight: 600; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font: 13px system-ui, sans-serif; fill: var(--quiet); }
.grid { stroke: var(--line); } .level { stroke: var(--quiet); stroke-dasharray: 4 4; }
.curve { fill: none; stroke: var(--compute); stroke-width: 2; stroke-linejoin: round; }
.dot, .bar { fill: var(--compute); }
.compute { --own: var(--compute); } .pull { --own: var(--pull); } .push { --own: var(--push); }
.sleep { --own: var(--sleep); } .wait { --own: var(--wait); }
.strip path { fill: var(--own); } .legend span { background: var(--own); }
.lost, .legend .lost {
  background: repeating-linear-gradient(45deg, var(--shade) 0 5px, var(--line) 5px 7px); }
.node { display: grid; grid-template-columns: 5.5rem 1fr; align-items: center; margin: 0.4rem 0; }
.track { position: relative; height: 2.25rem; } .strip { display: block; width: 100%; height: 100%; }
.mark { position: absolute; top: 0; bottom: 0; border-left: 2px solid var(--bad); color: var(--bad);
  font: bold 0.8rem/1 system-ui, sans-serif; padding-left: 2px; }
.mark b { background: var(--page); border-radius: 2px; padding: 0 2px; }
.axis { position: relative; height: 1.5rem; margin-left: 5.5rem; color: var(--quiet); font-size: 0.8rem; }
.axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.axis span:first-child { transform: none; } .axis span:last-child { transform: translateX(-100%); }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0; list-style: none; }
.legend span { display: inline-block; width: 1.25rem; height: 0.9rem; margin-right: 0.4rem;
  vertical-align: -0.1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; } tbody th { font-weight: 400; color: var(--quiet); }
.numbers td, .numbers thead th + th { text-align: right; }
thead th { position: sticky; top: 0; background: var(--page); }
.numbers th { min-width: 4rem; white-space: nowrap; }
.wide { overflow-x: auto; max-height: 30rem; } .facts td { overflow-wrap: anywhere; }
summary { cursor: pointer; padding: 0.4rem 0; }
@media (max-width: 34rem) { .node { grid-template-columns: 1fr; } .axis { margin-left: 0; } }
"""


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, lead: str, sections: dict[str, str]) -> str:
    """The page: `sections` are HTML by heading."""
    links = "".join(f'<a href="#part-{n}">{escape(name)}</a>' for n, name in enumerate(sections))
    body = "".join(
        f'<section aria-labelledby="part-{n}"><h2 id="part-{n}">{escape(name)}</h2>{content}</section>'
        for n, (name, content) in enumerate(sections.items())
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><header>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<nav aria-label="Sections">{links}</nav></header><main>{body}</main>'
        f'<footer><p class="quiet">Made by shmps {__version__}.</p></footer></body></html>\n'
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in pairs)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def table(what: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The table behind a chart; the first column names the row."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(each)}</td>" for each in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<details><summary>{escape(what)}, as a table</summary>"
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(what)}"><table class="numbers">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def figures(charts_by_title: dict[str, str]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>"
        for title, chart in charts_by_title.items()
    )
    return f'<div class="charts">{drawn}</div>'
