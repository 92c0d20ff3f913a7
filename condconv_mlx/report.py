"""Charts and tables as one HTML page that needs nothing beside itself, in light and dark."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

Chart = tuple[str, Any]  # a title and a Plotly figure

# Plotly writes colours into each element, so only !important makes its words follow the page.
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #212529; --soft: #5c636a; --line: #e3e6e9; --accent: #4263eb }
@media (prefers-color-scheme: dark) {
  :root { --page: #121417; --ink: #e9ecef; --soft: #9aa2aa; --line: #2b3036; --accent: #8199f8 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1200px; padding: 24px 20px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; margin: 0 0 12px }
h2 { font-size: 19px; margin: 44px 0 2px }
h3 { font-size: 14px; font-weight: 600; margin: 14px 0 6px }
p { margin: 0 0 8px; color: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 16px; margin: 0; font-size: 13px }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.charts { max-width: 760px }
.charts.two { max-width: none }
.charts > div { min-width: 0 }
@media (min-width: 900px) { .charts.two { display: grid; grid-template-columns: 1fr 1fr; gap: 32px } }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 8px 0 }
th, td { padding: 3px 0 3px 20px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { padding-left: 0; text-align: left }
th { font-weight: 500; color: var(--soft) }
.findings td:first-child { white-space: normal }
.findings .met { color: var(--accent) }
small { color: var(--soft); display: block }
summary { cursor: pointer; color: var(--soft); font-size: 13px }
.js-plotly-plot text { fill: var(--ink) !important; font-family: inherit !important }
.js-plotly-plot .hoverlayer path { fill: var(--page) !important; stroke: var(--soft) !important }
"""


def document(title: str, body: str) -> str:
    """The whole page."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{plain(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{plain(title)}</h1>{body}</body></html>\n"
    )


def described(rows: Iterable[Sequence[str]]) -> str:
    """Names and values as a list."""
    return f"<dl>{''.join(f'<dt>{plain(name)}</dt><dd>{plain(value)}</dd>' for name, value in rows)}</dl>"


def drawn(charts: Sequence[Chart], script: bool) -> str:
    """Charts with their titles, two of them side by side. `script`: Plotly itself comes along, once a page."""
    parts: list[str] = []
    for title, figure in charts:
        markup = figure.to_html(
            full_html=False,
            include_plotlyjs=script and not parts,
            config={"displayModeBar": False, "responsive": True},
            default_width="100%",
            default_height=f"{figure.layout.height}px",
        )
        parts.append(f"<div><h3>{plain(title)}</h3>{markup}</div>")
    return f"<div class='charts{' two' * (len(parts) == 2)}'>{''.join(parts)}</div>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row are the titles."""
    head, *body = ("".join(f"<td>{plain(cell)}</td>" for cell in row) for row in rows)
    titles = head.replace("td>", "th>")
    return f"<div class=wide><table><tr>{titles}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table></div>"


def plain(words: str) -> str:
    """Text as it is, where HTML would be acted on."""
    return html.escape(words, quote=False)
