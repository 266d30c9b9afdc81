"""The report page's style: the figures' palette, its twin for dark rooms, and rules for any screen and for paper."""

from collections.abc import Mapping

from fastmlp.report.style import PALETTE

LIGHT = {**PALETTE, "tint": "#f4f6f8", "holds": "#00705a", "fails": "#a3243b", "notice": "#8a6100"}
DARK = {
    "surface": "#14181e",
    "ink": "#e7eaef",
    "muted": "#9aa5b4",
    "rule": "#333b47",
    "original": "#f39a5c",
    "augmented": "#74b8f5",
    "heat": "#3d8ad6",
    "on-heat": "#fefefe",
    "tint": "#1c222a",
    "holds": "#4cc9a6",
    "fails": "#ff8b9c",
    "notice": "#e3b341",
}

RULES = """\
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1, h2, h3, p, dl, dd, figure { margin: 0; }
h1 { font-size: clamp(1.8rem, 5vw, 2.6rem); line-height: 1.15; letter-spacing: -0.02em; text-wrap: balance; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; margin: 3.5rem 0 1rem; padding-top: 0.75rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; line-height: 1.4; }
h1, h2, h3, p, td, th, dt { overflow-wrap: break-word; }
.overline { color: var(--muted); font-size: 0.8rem; font-weight: 600; letter-spacing: 0.06em; margin-bottom: 0.6rem; }
.lead { font-size: 1.15rem; margin-top: 1rem; max-width: 46rem; text-wrap: pretty; }
p.plain { color: var(--muted); margin: 0.75rem 0; max-width: 46rem; text-wrap: pretty; }
.notice { margin-top: 1.25rem; padding: 0.8rem 1rem; max-width: 46rem; background: var(--tint);
  border-left: 4px solid var(--notice); border-radius: 0 0.4rem 0.4rem 0; }

.highlights { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 1rem;
  margin-top: 2rem; }
.highlights div { padding: 0.9rem 1rem; background: var(--tint); border-radius: 0.5rem;
  border-top: 4px solid var(--muted); }
.highlights .original { border-color: var(--original); }
.highlights .augmented { border-color: var(--augmented); }
.highlights dt { color: var(--muted); font-size: 0.85rem; line-height: 1.35; }
.highlights dd { font-size: clamp(1.4rem, 4vw, 1.9rem); white-space: nowrap; font-weight: 700;
  letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.highlights .original dd { color: var(--original); }
.highlights .augmented dd { color: var(--augmented); }

.wide { overflow-x: auto; background: linear-gradient(to left, var(--surface) 60%, transparent) right / 2rem 100% local,
  linear-gradient(to left, var(--rule), transparent) right / 0.8rem 100% scroll; background-repeat: no-repeat; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.45rem 0.75rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:first-child { padding-left: 0; }
thead th { color: var(--muted); font-size: 0.85rem; font-weight: 600; }
tbody th { font-weight: 400; }
.numbers { min-width: 33rem; }
.numbers td, .numbers th + th { text-align: right; }
.numbers td { white-space: nowrap; }
.numbers .original th, .numbers .augmented th { white-space: nowrap; }
.numbers .original > *, .numbers .augmented > * { font-weight: 650; border-bottom: 0; padding-bottom: 0.1rem; }
.numbers .original th { color: var(--original); }
.numbers .augmented th { color: var(--augmented); }
.numbers .paper > * { color: var(--muted); padding-top: 0; }
.facts { table-layout: fixed; }
.facts th:first-child { width: 15rem; }
.facts tbody th { color: var(--muted); }
.facts .departs td { font-weight: 600; }
.facts .departs td + td { color: var(--notice); }

.verdict { display: grid; grid-template-columns: 9.5rem 1fr; column-gap: 1rem; padding: 0.9rem 0;
  border-bottom: 1px solid var(--rule); }
.verdict:last-child { border-bottom: 0; }
.verdict .badge { grid-row: span 2; font-weight: 650; }
.verdict p:last-child { color: var(--muted); font-variant-numeric: tabular-nums; }
.holds .badge { color: var(--holds); }
.fails .badge { color: var(--fails); }
.untested .badge { color: var(--muted); }

figure { margin-top: 1.5rem; }
section > figure + figure { margin-top: 3rem; }
svg { display: block; width: 100%; min-width: 38rem; height: auto; stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; }
figcaption { margin-top: 0.75rem; max-width: 46rem; color: var(--muted); font-size: 0.95rem; text-wrap: pretty; }
figcaption strong { color: var(--ink); }

@media (max-width: 40rem) {
  main { padding-top: 1.75rem; }
  .verdict { grid-template-columns: 1fr; row-gap: 0.2rem; }
  .facts th:first-child { width: 42%; }
  .numbers { min-width: 0; font-size: 0.85rem; }
  th, td { padding-inline: 0.3rem; }
}
@media print {
  @page { margin: 16mm; }
  html { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; }
  svg, .numbers { min-width: 0; }
  figure, tr, .verdict, .highlights { break-inside: avoid; }
  h2 { break-after: avoid; margin-top: 2rem; }
  .highlights div, .notice { print-color-adjust: exact; }
}
"""


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


# Paper is light whatever the room.
STYLESHEET = f"""\
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
{RULES}"""
