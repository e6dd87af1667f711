"""What a user installs and imports."""

import ast
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imported(path):
    """The packages that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[0] for name in names + [getattr(node, "module", None) or ""] * isinstance(node, ast.ImportFrom))


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("flax", {"jaxnn/models"}),
        ("orbax", {"jaxnn/checkpoint.py"}),
        ("rich", {"jaxnn/progress.py"}),
        ("grain", {"jaxnn/data"}),
        ("tensorflow_datasets", {"jaxnn/data"}),
        ("matplotlib", {"jaxnn/record.py", "experiments", "benchmarks"}),
        ("tyro", {"jaxnn/data/__main__.py", "experiments", "benchmarks"}),
    ],
)
def test_a_package_is_imported_where_it_belongs_alone(package, places):
    files = [path for folder in ("jaxnn", "experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = [path.relative_to(ROOT) for path in files if package in imported(path)]
    assert found
    assert [str(path) for path in found if not places & {str(path), str(path.parent)}] == []


def python(code, executable=sys.executable, **kwargs):
    done = subprocess.run([str(executable), "-c", code], capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = f"import os, hatchling.build; os.chdir({str(ROOT)!r}); print(hatchling.build.build_wheel({str(folder)!r}))"
    return folder / python(build).splitlines()[-1]


def test_the_wheel_holds_jaxnn_alone_with_its_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"jaxnn"}
    assert "jaxnn/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """Its dependencies come from this environment's packages, after its own: what is imported as jaxnn is the wheel's."""
    venv.create(tmp_path / "env", with_pip=False)
    executable = tmp_path / "env" / "bin" / "python"
    packages = Path(python("import sysconfig; print(sysconfig.get_path('purelib'))", executable))
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    code = "import importlib.util, jaxnn, jaxnn.models; print(jaxnn.__file__, jaxnn.__version__, importlib.util.find_spec('experiments'))"
    file, version, experiments = python(code, executable, cwd=tmp_path).split()
    assert Path(file).is_relative_to(packages)
    assert (version, experiments) == ("0.1.0", "None")


def test_importing_jaxnn_loads_nothing_that_is_used_later():
    late = "{'tensorflow_datasets', 'grain', 'matplotlib', 'tyro', 'mlxtend', 'sklearn', 'pandas', 'torch'}"
    code = f"import sys, jax, flax, optax; before = set(sys.modules); import jaxnn; print(sorted({late} & (set(sys.modules) - before)))"
    assert python(code, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}) == "[]"


def test_rich_and_orbax_are_not_imported_by_jaxnn_itself():
    """flax may load them; no module of jaxnn does so at import."""
    code = (
        "import sys, builtins; import jax, flax.linen, optax; original = builtins.__import__\n"
        "def watch(name, globals=None, *rest):\n"
        "    asker = (globals or {}).get('__name__', '')\n"
        "    if asker.startswith('jaxnn') and name.split('.')[0] in {'rich', 'orbax', 'matplotlib', 'tyro'}: print(asker, name)\n"
        "    return original(name, globals, *rest)\n"
        "builtins.__import__ = watch; import jaxnn"
    )
    assert python(code, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}) == ""
