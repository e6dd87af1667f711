"""The code in the documents runs, each document from top to bottom in a namespace of its own."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in path.read_text()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_code_of_a_document_runs(path, tmp_path, monkeypatch, optimised):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXNN_DATA", raising=False)
    namespace = {}
    for code in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        exec(compile(code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_the_links_of_a_document_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target
