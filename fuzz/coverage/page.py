"""Coverage as one HTML page that needs no other file: tables that sort when their heads are clicked."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from graphopt.fuzz.coverage.behaviour import SECTIONS, Behaviour
from graphopt.fuzz.coverage.universe import Universe

_ABOUT = {
    "operators": "Operators by dtype and rank of their first tensor.",
    "attributes": "Values of operators' attributes, in bins of powers of two; [] marks items of lists.",
    "edges": "Which operator read the result of which.",
    "passes": "Passes, the parts of composites alone, and whether they changed the program.",
    "pass_pairs": "Two passes of one pipeline that both changed the program, in their order.",
    "rules": "Rewrite rules that fired, and the reasons for which they did not.",
    "expectations": "Templates of rules: those that have to fire, and near misses that have to be refused.",
    "origins": "Where the graphs came from.",
    "oracles": "Properties that were checked.",
}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0; }
nav a { margin-right: 1rem; }
.tiles { display: grid; gap: .75rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.tile { border: 1px solid #8886; border-radius: .4rem; padding: .5rem .75rem; }
.tile b { display: block; font-size: 1.35rem; }
.scroll { border: 1px solid #8886; border-radius: .4rem; margin-top: .5rem;
  max-height: 28rem; overflow: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: top; }
th { background: Canvas; cursor: pointer; position: sticky; top: 0; user-select: none; }
th[aria-sort="ascending"]::after { content: " \\25b4"; }
th[aria-sort="descending"]::after { content: " \\25be"; }
tr:nth-child(even) td { background: #8881; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
.idle { color: #c62828; } input { font: inherit; margin-top: .4rem; padding: .15rem .4rem; width: 18rem; }
code { font-size: .92em; }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = row => row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => text(a).localeCompare(text(b), undefined, {numeric: true}));
    body.append(...(up ? rows : rows.reverse()));
  }));
}
for (const field of document.querySelectorAll("input[data-table]")) {
  const body = document.getElementById(field.dataset.table).tBodies[0];
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
"""


def page(behaviour: Behaviour, universe: Universe, facts: Mapping[str, str]) -> str:
    """The page.

    Args:
        facts: about the campaign, shown at the top.
    """
    idle_passes, idle_rules = universe.idle_passes(behaviour), universe.idle_rules(behaviour)
    tiles = {
        "operators": len(behaviour.values("operators", "operator")),
        "operators × dtypes × ranks": behaviour.distinct("operators"),
        "attribute bins": behaviour.distinct("attributes"),
        "edges between operators": behaviour.distinct("edges"),
        "passes that fired": f"{len(universe.passes) - len(idle_passes)} / {len(universe.passes)}",
        "rules that fired": f"{len(universe.rules) - len(idle_rules)} / {len(universe.rules)}",
        "pairs of passes": behaviour.distinct("pass_pairs"),
    }
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Coverage of a fuzzing campaign</title><style>{_STYLE}</style></head><body>",
        "<h1>Coverage of a fuzzing campaign</h1>",
        f"<p>{', '.join(f'{_text(k)} {_text(v)}' for k, v in facts.items())}</p>",
        "<nav>" + "".join(f'<a href="#{s}">{_title(s)}</a>' for s in ("idle", *SECTIONS)) + "</nav>",
        '<div class="tiles">',
        *(f'<div class="tile"><b>{value}</b>{_text(name)}</div>' for name, value in tiles.items()),
        "</div>",
        '<h2 id="idle">Idle</h2><p>Passes and rules that never fired.</p>',
        _idle("passes", idle_passes),
        _idle("rules", idle_rules),
    ]
    for section, columns in SECTIONS.items():
        rows = sorted(behaviour.counts[section].items(), key=lambda item: (-item[1], item[0]))
        parts.append(f'<h2 id="{section}">{_title(section)}</h2><p>{_ABOUT[section]}</p>')
        parts.append(_table(section, columns, ((*key, count) for key, count in rows)))
    parts.append(f"<script>{_SCRIPT}</script></body></html>\n")
    return "\n".join(parts)


def _table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    heads = "".join(f"<th>{_text(c)}</th>" for c in (*columns, "cases"))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return (
        f'<input data-table="table-{name}" placeholder="filter" aria-label="filter {_title(name)}">'
        f'<div class="scroll"><table id="table-{name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _cell(value: str | int) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{_text(value)}</td>"


def _idle(what: str, names: Sequence[str]) -> str:
    if not names:
        return f"<p>{what}: none</p>"
    return f'<p class="idle">{what}: {", ".join(f"<code>{_text(n)}</code>" for n in names)}</p>'


def _title(section: str) -> str:
    return section.replace("_", " ").capitalize()


def _text(value: str) -> str:
    return html.escape(value)
