"""How the page looks: its style, and what of it is HTML of our own. Texts in it are escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from gpt2_tuning.chat.opened import OpenRun
from gpt2_tuning.data.conversations import Messages
from gpt2_tuning.inference.attribution import Share

FOR, AGAINST = "37, 99, 235", "217, 119, 6"
"""Red, green and blue of what speaks for a class and against it: apart for the colour-blind too."""
DEEPEST = 0.65
"""The opacity of the token that counts most."""
MOST_SHOWN = 160
"""Characters of a cell."""
STYLE = """
.gradio-container > main { width: 100%; max-width: 1180px; margin: 0 auto; }
input[type="range"]::-webkit-slider-thumb { border: 1px solid var(--slider-color) !important; }
input[type="range"]::-moz-range-thumb { border: 1px solid var(--slider-color) !important; }
.heading { font-weight: 600; margin: 0; }
.about h1 { font-size: 1.35rem; font-weight: 650; margin: 0.2rem 0 0; overflow-wrap: anywhere; }
.about p, .quiet p { color: var(--body-text-color-subdued); margin: 0.15rem 0 0; }
.about p { font-size: 0.9rem; overflow-wrap: anywhere; }
.bars { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr 3.6rem;
  gap: 0.45rem 0.75rem; align-items: center; padding: 0.25rem 0; }
.bars .name { overflow-wrap: anywhere; }
.bars .track { background: var(--border-color-primary); border-radius: 0.3rem; height: 0.85rem; }
.bars { margin-top: 0.4rem; }
.bars .bar { background: rgba(37, 99, 235, 0.55); border-radius: 0.3rem; height: 100%; }
.bars .first { font-weight: 650; }
.bars .first .bar, .bars .bar.first { background: rgb(37, 99, 235); }
.bars .number { text-align: right; font-variant-numeric: tabular-nums; }
.tokens { margin-top: 0.4rem; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2;
  font-size: 1.05rem; }
.tokens span { border-radius: 0.2rem; padding: 0.15rem 0; }
.tokens .against { text-decoration: underline dotted; text-underline-offset: 0.3em; }
.rows { overflow-x: auto; }
.rows table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
.rows th, .rows td { border: 1px solid var(--border-color-primary); padding: 0.35rem 0.6rem;
  text-align: left; vertical-align: top; min-width: 7rem; overflow-wrap: anywhere; }
.legend { color: var(--body-text-color-subdued); font-size: 0.85rem; margin-top: 0.5rem; }
.legend b { white-space: nowrap; border-radius: 0.2rem; padding: 0.1rem 0.4rem; font-weight: 500; }
"""


def about(run: OpenRun) -> str:
    """What a run is, in a heading and a line."""
    metadata = run.metadata
    facts = [f"{metadata.task} on {metadata.dataset['name']}", f"tuned from {shown_base(run)}"]
    facts.append("with LoRA" if run.own.model.lora else "as a whole")
    lines = [", ".join(facts), *run.notes]
    said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<div class="about"><h1>{html.escape(run.name)}</h1>{said}</div>'


def shown_base(run: OpenRun) -> str:
    """What a run began from, in words."""
    return "random weights" if run.base == "none" else run.base


def bars(probabilities: Mapping[str, float]) -> str:
    """Every class with a bar as long as it is probable, the likeliest first."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    cells = []
    for place, (name, share) in enumerate(ranked):
        first = " first" if place == 0 else ""
        cells.append(
            f'<div class="name{first}">{html.escape(name)}</div>'
            f'<div class="track"><div class="bar{first}" style="width: {share:.2%}"></div></div>'
            f'<div class="number{first}">{share:.1%}</div>'
        )
    return heading("Probabilities") + f'<div class="bars">{"".join(cells)}</div>'


def tokens(shares: Sequence[Share], label: str) -> str:
    """A text with each token as deeply coloured as it counts for a class, or against it."""
    most = max((abs(share.value) for share in shares), default=0.0) or 1.0
    spans = []
    for share in shares:
        colour, name = (FOR, "for") if share.value >= 0 else (AGAINST, "against")
        depth = DEEPEST * abs(share.value) / most
        spans.append(
            f'<span class="{name}" title="{share.value:+.4f}"'
            f' style="background: rgba({colour}, {depth:.3f})">{html.escape(share.text)}</span>'
        )
    legend = (
        f"how each token speaks for or against {html.escape(label)}, to first order: "
        f'<b style="background: rgba({FOR}, 0.5)">for it</b> '
        f'<b style="background: rgba({AGAINST}, 0.5)">against it</b>'
    )
    body = f'<div class="tokens">{"".join(spans)}</div><div class="legend">{legend}</div>'
    return heading("Gradient &times; input") + body


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as a table."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{html.escape(cell(one))}</td>" for one in row.values()) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="rows"><table><tr>{head}</tr>{body}</table></div>'


def cell(value: Any) -> str:
    """A value as a cell has room for it."""
    if isinstance(value, Mapping):
        value = ", ".join(
            f"{name} {part:.3f}" if isinstance(part, float) else f"{name} {part}"
            for name, part in value.items()
        )
    text = "" if value is None else str(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + " ..."


def heading(text: str) -> str:
    """A heading in the page's style, of text that is HTML."""
    return f'<p class="heading">{text}</p>'


def as_it_stands(talk: Messages) -> Messages:
    """A talk for a box that takes what it shows for HTML."""
    return [{**one, "content": html.escape(one["content"], quote=False)} for one in talk]
