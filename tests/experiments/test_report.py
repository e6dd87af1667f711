"""The page of all records, read back with an HTML parser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import report
from jaxnn.record import Animation, Comparison, compare, save_figures, save_run

HOSTILE = "<script>alert('x')</script> & \"quotes\" </title><img src=http://example.org/x.png>"
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """The tags in order with their attributes, the text, and the tags that were never closed or closed out of order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def save(results: Path, experiment: str = "chain", stamp: str = "20260102T030405Z", claim: str = "A claim.", **about: object) -> Path:
    rows = [
        compare("accuracy at the end", np.linspace(0.90, 0.92, 20), 0.91),
        compare("a number of ours", [1.5, 2.5]),
        compare("some diverge", [3.0, 4.0, np.nan], 9.0),
    ]
    about = {"claim": claim, "command": f"python -m experiments.{experiment}", "seconds": {"compile": 1.25, "run": 0.5}, **about}
    config = {"learning_rate": 0.125, "digits": {"data": "auto"}}
    folder = save_run(
        results, experiment, config, {"loss": np.ones((2, 3))}, axes={"loss": ("seed", "step")}, comparisons=rows, about=about
    )
    return folder.rename(folder.with_name(f"{stamp}-0123abcd"))


def draw(folder: Path) -> None:
    figure = Figure(figsize=(2, 2))
    figure.suptitle("Loss & more")
    figure.subplots().set_xlabel("step")
    save_figures(folder, {"loss_curve": figure})


@pytest.fixture
def make(tmp_path, capsys):
    """Make the page of `tmp_path/results`; give it back as text."""

    def made() -> str:
        output = tmp_path / "site" / "index.html"
        code = report.main(
            ["--results", str(tmp_path / "results"), "--records", str(tmp_path / "docs" / "records"), "--output", str(output)]
        )
        assert code == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(output)
        return output.read_text(encoding="utf-8")

    return made


def test_a_record_is_there_with_all_that_it_hangs_on(tmp_path, make):
    source = {"name": "mnist_5k", "split": "train", "count": 5000, "sha256": "0123456789abcdef" * 4}
    folder = save(tmp_path / "results", data=source)
    draw(folder)
    text = make()
    page = Page(text)
    assert not page.open
    for part in ("A claim.", "python -m experiments.chain", "2026-01-02 03:04 UTC", "learning_rate", "0.125", "digits.data", "1.25"):
        assert part in page.text
    meta = json.loads((folder / "meta.json").read_text())
    for part in ("mnist_5k", "5000", "0123456789ab", meta["commit"], meta["versions"]["jax"], meta["device"], meta["matmul_precision"]):
        assert part in page.text
    assert "0123456789abc" not in page.text
    (image,) = page.all("img")
    assert image["src"].startswith("data:image/svg+xml;base64,")
    assert image["alt"].startswith("loss curve: Loss & more; ")


def test_the_table_holds_the_numbers_and_says_in_words_where_the_published_ones_lie(tmp_path, make):
    save(tmp_path / "results")
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", make())]
    assert rows == [
        "accuracy at the end 0.91 ✓ inside 0.91 0.901 … 0.919 20",
        "some diverge 9 ▲ above 3.5 3.05 … 3.95 3 1",
        "a number of ours 2 1.55 … 2.45 2",
    ]


@pytest.mark.parametrize(
    ("published", "seeds", "diverged", "expected"),
    [
        (0.5, 3, 0, "inside"),
        (0.4, 3, 0, "inside"),
        (0.3, 3, 0, "below"),
        (0.7, 3, 0, "above"),
        (0.5, 1, 0, ""),
        (0.5, 3, 2, ""),
        (None, 3, 0, ""),
    ],
)
def test_position(published, seeds, diverged, expected):
    assert report.position(Comparison("x", published, 0.5, 0.4, 0.6, 0.3, 0.7, seeds, diverged)) == expected


def test_what_a_record_says_is_escaped_and_nothing_is_fetched(tmp_path, make):
    draw(save(tmp_path / "results", claim=HOSTILE, note=HOSTILE))
    save(tmp_path / "results", "other")
    text = make()
    page = Page(text)
    assert HOSTILE in page.text
    assert not page.all("script")
    assert all(attributes["src"].startswith("data:image/") and attributes["alt"] for attributes in page.all("img"))
    links = [attributes["href"] for tag, attributes in page.tags if "href" in attributes]
    assert links == ["data:,", "#chain", "#other"]
    assert "url(" not in text
    assert "@import" not in text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids == ["chain", "other"]
    assert page.all("html") == [{"lang": "en"}]


def test_the_newest_record_is_open_and_comes_first(tmp_path, make):
    for day in (1, 3, 2):
        save(tmp_path / "results", stamp=f"2026020{day}T000000Z", claim=f"Claim of day {day}.")
    kept = save(tmp_path / "elsewhere", stamp="20250101T000000Z")
    (tmp_path / "docs" / "records" / "chain").mkdir(parents=True)
    meta = json.loads((kept / "meta.json").read_text()) | {"finished": "2025-01-01T00:00:00Z"}
    (kept / "meta.json").write_text(json.dumps(meta))
    kept.rename(tmp_path / "docs" / "records" / "chain" / "cpu")  # its folder no longer says when it was run
    page = Page(make())
    assert re.findall(r"202.-0.-0. 00:00 UTC|records/chain/cpu", page.text) == [
        *(f"2026-02-0{day} 00:00 UTC" for day in (3, 2, 1)),
        "2025-01-01 00:00 UTC",
        "records/chain/cpu",
    ]
    records = [page.tags[i + 1][1] for i, (tag, _) in enumerate(page.tags) if tag == "article"]
    assert ["open" in attributes for attributes in records] == [True, False, False, False]
    assert "Claim of day 3." in page.text
    assert "Claim of day 1." not in page.text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json"),
        ("meta.json", "{", "is not the whole record of a run"),
        ("meta.json", "[]", "not a record that this version can read"),
        ("meta.json", '{"comparisons": [{"what": "x", "median": "<b>"}]}', "not a record that this version can read"),
        ("history.npz", "", "history.npz"),
        ("history.npz", "not a zip file", "is not the whole record of a run"),
    ],
)
def test_a_broken_record_is_named_and_the_others_stay(tmp_path, make, file, content, message):
    save(tmp_path / "results", stamp="20260101T000000Z")
    broken = save(tmp_path / "results", stamp="20260202T000000Z") / file
    broken.write_text(content) if content is not None else broken.unlink()
    page = Page(make())
    assert re.search(message, page.text)
    assert "2 records, 1 of them broken" in page.text
    assert page.text.index("2026-01-01 00:00 UTC") < page.text.index("2026-02-02 00:00 UTC · broken record")
    assert str(tmp_path) not in page.text


def test_a_record_of_another_version_lacks_only_what_it_lacks(tmp_path, make):
    folder = save(tmp_path / "results")
    (folder / "meta.json").write_text(
        json.dumps({"comparisons": [{"what": "old", "median": 0.25, "of_tomorrow": [1]}], "new": [{"a": None}]})
    )
    page = Page(make())
    assert not [attributes for attributes in page.all("p") if attributes.get("class") == "broken"]
    for part in ("chain", "old", "0.25", "new.1.a", "none"):
        assert part in page.text


def test_a_large_svg_gives_way_to_its_png(tmp_path, make, monkeypatch):
    folder = save(tmp_path / "results")
    draw(folder)
    monkeypatch.setattr(report, "LARGEST_SVG", 100)
    (image,) = Page(make()).all("img")
    assert image["src"].startswith("data:image/png;base64,")
    (folder / "loss_curve.png").unlink()
    (image,) = Page(make()).all("img")
    assert image["src"].startswith("data:image/svg+xml;base64,")


def test_an_animation_stands_in_its_order_and_moves(tmp_path, make):
    folder = save(tmp_path / "results")
    figure = Figure(figsize=(2, 2))
    save_figures(folder, {"path_moving": Animation(np.zeros((2, 8, 8, 3), np.uint8)), "a_still": figure})
    moving, still = Page(make()).all("img")
    assert moving["src"].startswith("data:image/gif;base64,")
    assert moving["alt"] == "path moving"
    assert still["src"].startswith("data:image/svg+xml;base64,")


def test_the_same_records_give_the_same_bytes(tmp_path, make):
    draw(save(tmp_path / "results"))
    save(tmp_path / "results", "other")
    (tmp_path / "results" / "chain" / ".20260909T000000Z-0.partial-1").mkdir()
    (tmp_path / "results" / "chain" / ".20260909T000000Z-0.partial-1" / "meta.json").touch()
    first = make()
    assert "2 records." in first
    assert make() == first


def test_no_records_is_a_message_and_exit_code_2(tmp_path, capsys):
    output = tmp_path / "index.html"
    assert report.main(["--results", str(tmp_path), "--records", str(tmp_path / "none"), "--output", str(output)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: no records in ")
    assert message.endswith("run make reproduce first\n")
    assert not output.exists()


def test_an_output_that_cannot_be_written_is_a_message_and_exit_code_2(tmp_path, capsys):
    save(tmp_path / "results")
    assert report.main(["--results", str(tmp_path / "results"), "--output", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
