"""One self-contained HTML page of all records: each claim with its figures, the published numbers beside ours, and what they hang on.

The page needs neither network nor script, and the same records give the same bytes. The newest record of an experiment is
open, the older ones are folded in. A record that cannot be read is named with its error, and the page goes on.

Command: python -m experiments.report        (or `make report`)
"""

import base64
import html
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from experiments.command import number
from jaxnn.record import Comparison, Record, check_writable, load_run, write_bytes
from jaxnn.types import InputError

LARGEST_SVG = 400_000
"""Bytes above which a figure goes in as PNG, where there is one."""
ENVIRONMENT = ("commit", "versions", "backend", "device", "matmul_precision")
SHOWN = {*ENVIRONMENT, "claim", "command", "data", "seconds", "experiment", "axes", "comparisons", "figures", "finished"}
"""The parts of `meta.json` that have a place of their own on the page."""
MARKS = {"inside": "✓", "above": "▲", "below": "▼"}


@dataclass(frozen=True)
class Config:
    results: Path = Path("results")
    """Folder of the records."""
    records: Path = Path("docs/records")
    """Folder of the records that are kept; it may be missing."""
    output: Path = Path("results/index.html")
    """The page."""


class Entry(NamedTuple):
    """A record as the page has it."""

    experiment: str
    where: str
    stamp: str
    """When it was run, as 20261122T044400Z; empty where the folder's name does not say."""
    body: str = ""
    claim: str = ""
    backend: str = ""
    tally: str = ""
    whole: bool = True


def main(args: Sequence[str]) -> int:
    """Write the page and print its path; the exit code is 0, or 2 for a caller's mistake."""
    config = tyro.cli(Config, args=args, description=__doc__, prog="python -m experiments.report")
    try:
        content = page(find(config.results, config.records)).encode()
        check_writable(config.output.parent)
        write_bytes(config.output, content)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(config.output)
    return 0


def find(*roots: Path) -> list[Entry]:
    """The records below the folders by experiment, the newest first and the broken last. Raises `InputError` where there is none."""
    found = {path.resolve(): (root, path.parent) for root in roots for path in sorted(root.rglob("meta.json"))}
    visible = [(root, folder) for root, folder in found.values() if not any(p.startswith(".") for p in folder.relative_to(root).parts)]
    if not visible:
        raise InputError(f"no records in {' or '.join(map(str, roots))}; run make reproduce first")
    entries = sorted((read(root, folder) for root, folder in visible), key=lambda entry: entry.where)
    entries.sort(key=lambda entry: entry.stamp, reverse=True)
    return sorted(entries, key=lambda entry: (entry.experiment, not entry.whole))


def read(root: Path, folder: Path) -> Entry:
    """One record, drawn. Whatever is wrong with it must not keep the others from the page: its error becomes its body."""
    where = Path(root.name, folder.relative_to(root)).as_posix()
    blank = Entry((*folder.relative_to(root).parts, root.name)[0], where, "".join(re.findall(r"^\d{8}T\d{6}Z", folder.name)))
    try:
        record = load_run(folder)
        meta, rows = record.meta, [_comparison(fields) for fields in record.meta.get("comparisons") or ()]
        return blank._replace(
            experiment=str(meta.get("experiment") or blank.experiment),
            claim=str(meta.get("claim") or ""),
            backend=str(meta.get("backend") or ""),
            stamp=blank.stamp or re.sub(r"[-:]", "", str(meta.get("finished") or "")),
            tally=tally(rows),
            body=draw(record, rows),
        )
    except Exception as error:
        odd = "" if isinstance(error, InputError) else f"not a record that this version can read: {type(error).__name__}: "
        return blank._replace(
            tally="broken record", body=f'<p class="broken">{_text(odd + str(error).replace(str(folder), where))}</p>', whole=False
        )


def _comparison(fields: Mapping[str, Any]) -> Comparison:
    """A row of another version may lack fields, or have more of them."""
    known = {name: fields.get(name) for name in Comparison._fields}
    return Comparison(**known | {"seeds": known["seeds"] or 1, "diverged": known["diverged"] or 0})


def position(row: Comparison) -> str:
    """Where the published value lies, seen from our 5–95 % band; empty where there is no such value or no band."""
    if row.published is None or row.seeds - row.diverged < 2 or None in (row.p05, row.p95):
        return ""
    return "below" if row.published < row.p05 else "above" if row.published > row.p95 else "inside"


def tally(rows: Sequence[Comparison]) -> str:
    counts = Counter(filter(None, map(position, rows)))
    return f"published: {', '.join(f'{counts[mark]} {mark}' for mark in MARKS if counts[mark])} our band" if counts else ""


def page(entries: Sequence[Entry]) -> str:
    groups = [(name, list(group)) for name, group in groupby(entries, key=lambda entry: entry.experiment)]
    counts = [_count(len(groups), "experiment"), _count(len(entries), "record")]
    broken = sum(not entry.whole for entry in entries)
    contents = "\n".join(
        f'<li><a href="#{_text(name)}">{_text(name)}</a> {_text(newest.claim)} <small>{_text(newest.tally)}</small></li>'
        for name, (newest, *_) in groups
    )
    marks = ", ".join(f'<span class="{name}">{mark}&nbsp;{name}</span>' for name, mark in MARKS.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>jaxnn: all records</title>
<style>
{Path(__file__).with_suffix(".css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>jaxnn: all records</h1>
<p>{", ".join(counts + [f"{broken} of them broken"] * (broken > 0))}. Ours is the median over seeds, beside it the band that
holds 5–95 % of them. A published value lies {marks} that band; one that is a bound may well lie
outside. A figure that is clicked grows.</p>
</header>
<nav aria-label="Experiments"><ol>
{contents}
</ol></nav>
<main>
{"".join(section(name, group) for name, group in groups)}</main>
</body>
</html>
"""


def section(name: str, group: Sequence[Entry]) -> str:
    articles = "".join(article(entry, opened=entry is group[0] or not entry.whole) for entry in group)
    return f"""<section id="{_text(name)}">
<h2>{_text(name)}</h2>
<p class="claim">{_text(group[0].claim)}</p>
{articles}</section>
"""


def article(entry: Entry, opened: bool) -> str:
    when = re.sub(r"(....)(..)(..)T(..)(..)(..)Z", r"\1-\2-\3 \4:\5 UTC", entry.stamp)
    head = " · ".join(filter(None, [when or "undated", entry.backend, entry.tally]))
    return f"""<article><details{" open" if opened else ""}>
<summary><h3>{_text(head)}</h3><code>{_text(entry.where)}</code></summary>
{entry.body}
</details></article>
"""


def draw(record: Record, rows: Sequence[Comparison]) -> str:
    """The body of a whole record: command, figures, numbers, circumstances."""
    meta = record.meta
    drawn = "".join(figure(*drawn) for drawn in figures(record.folder, meta.get("figures") or ()))
    published, ours = ([row for row in rows if (row.published is not None) is there] for there in (True, False))
    parts = [f'<pre class="command"><code>{_text(meta["command"])}</code></pre>' if meta.get("command") else ""]
    parts += [f'<div class="figures">{drawn}</div>' if drawn else ""]
    parts += [table("Published numbers beside ours", published) if published else ""]
    more = f"{_count(len(ours), 'number')} of ours without a published one"
    parts += [f"<details><summary>{more}</summary>{table('Ours alone', ours)}</details>" if ours else ""]
    environment = {name: meta[name] for name in ENVIRONMENT if name in meta}
    if isinstance(meta.get("versions"), dict):
        environment["versions"] = [f"{name} {version}" for name, version in meta["versions"].items()]
    rest = {name: value for name, value in meta.items() if name not in SHOWN}
    groups = {"Config": record.config, "Data": meta.get("data"), "Seconds": meta.get("seconds"), "Environment": environment}
    rows_of_facts = [facts(title, values or {}) for title, values in (groups | {"Also recorded": rest}).items()]
    return "\n".join(filter(None, [*parts, '<div class="facts">', *rows_of_facts, "</div>"]))


def figures(folder: Path, order: Sequence[str]) -> Iterator[tuple[str, Path, str]]:
    """Name, file and words of each figure, in the order of its experiment: its GIF, its SVG, or its PNG where the SVG is too large."""
    there = {path.stem for path in folder.iterdir() if path.suffix in (".svg", ".png", ".gif")}
    for name in [*(name for name in order if name in there), *sorted(there - set(order))]:
        svg, png, gif = (folder / f"{name}.{suffix}" for suffix in ("svg", "png", "gif"))
        small = svg.exists() and (svg.stat().st_size <= LARGEST_SVG or not png.exists())
        yield name.replace("_", " "), gif if gif.exists() else svg if small else png, _words(svg) if svg.exists() else ""


def _words(svg: Path) -> str:
    """Matplotlib draws text as paths, with the words in a comment beside each; numbers are ticks, the title is last."""
    comments = dict.fromkeys(re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"), re.DOTALL))
    return html.unescape("; ".join(text for text in reversed(comments) if "mathdefault" not in text and re.search(r"[^\W\d]", text)))


def figure(name: str, path: Path, words: str) -> str:
    """An image, as large as its box, or larger in a box that scrolls where the reader ticks it: no script needed."""
    kind = "svg+xml" if path.suffix == ".svg" else path.suffix.removeprefix(".")
    alt = textwrap.shorten(f"{name}: {words}" if words else name, 600)
    source = f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    tick = f'<input type="checkbox" aria-label="enlarge {_text(name)}">'
    return f'<figure><label>{tick}<img alt="{_text(alt)}" src="{source}"></label><figcaption>{_text(name)}</figcaption></figure>\n'


def table(caption: str, rows: Sequence[Comparison]) -> str:
    """In a box that scrolls, by the keyboard too; the columns of published values stand only where there are any."""
    judged = any(row.published is not None for row in rows)
    head = ("ours", "5–95 %", "seeds", "diverged")
    cells = '<th scope="colgroup" colspan="2">published</th>' * judged + "".join(f'<th scope="col">{word}</th>' for word in head)
    body = "\n".join(_row(row, judged) for row in rows)
    return f"""<div class="scroll" role="region" aria-label="{_text(caption)}" tabindex="0"><table>
<caption>{_text(caption)}</caption>
<thead><tr><td></td>{cells}</tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _row(row: Comparison, judged: bool) -> str:
    where = position(row)
    mark = f'<td class="{where}">{MARKS[where]} {where}</td>' if where else "<td></td>"
    band = f"{number(row.p05)} … {number(row.p95)}" if row.seeds - row.diverged > 1 else ""
    cells = f"<td>{number(row.published)}</td>{mark}" * judged
    cells += "".join(f"<td>{text}</td>" for text in (number(row.median), band, row.seeds, row.diverged or ""))
    return f'<tr><th scope="row">{_text(row.what)}</th>{cells}</tr>'


def facts(title: str, values: Any) -> str:
    """A dict as a list of names and values, whatever lies in it; nothing for an empty one."""
    items = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in _flat(values, ""))
    return f"<section><h4>{_text(title)}</h4><dl>{items}</dl></section>" if items else ""


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Names joined by dots; hashes to 12 digits."""
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        value = dict(enumerate(value, 1))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
        return
    text = ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    yield name, text[:12] if name.endswith("sha256") else textwrap.shorten(text, 300)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _text(value: Any) -> str:
    return html.escape(str(value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
