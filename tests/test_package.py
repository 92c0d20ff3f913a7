"""The package as others import it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import condconv_mlx

ROOT = Path(__file__).parent.parent


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_every_public_name_is_there():
    for name in condconv_mlx.__all__:
        assert getattr(condconv_mlx, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        condconv_mlx.nothing  # noqa: B018


def test_importing_loads_no_mlx_and_changes_no_process():
    # With those that are run by `python -m`, and call tune_process first.
    modules = "condconv_mlx, condconv_mlx.cli, condconv_mlx.routing_reference, condconv_mlx.bench.alone"
    done = run(f"import sys, {modules}; assert 'mlx.core' not in sys.modules; print('fine')")
    assert done.stdout == "fine\n", done.stderr


def test_without_a_backend_the_import_names_the_extra():
    done = run("import sys; sys.modules['mlx.core'] = None; from condconv_mlx import CondConv2d")
    assert done.returncode == 1
    assert "[cpu]" in done.stderr.splitlines()[-1] or "pip install mlx" in done.stderr.splitlines()[-1]


def test_only_the_app_knows_streamlit_and_only_charts_plotly():
    for folder in ("condconv_mlx", "app"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            if folder != "app" and path.parent.name != "cli":
                assert "streamlit" not in text, path
            if path.parent.name not in ("charts", "pages", "app"):
                assert "import plotly" not in text and "from plotly" not in text, path


def test_the_functions_know_mlx_and_numpy_alone():
    # files.py, where the measurements of strategies are kept, and cpu.py know the standard library alone.
    package = ROOT / "condconv_mlx"
    allowed = ("mlx", "numpy", "condconv_mlx.functional", "condconv_mlx.files", "condconv_mlx.cpu")
    plain = (package / "files.py", package / "cpu.py")
    for path in (*(package / "functional").glob("*.py"), *plain):
        for line in path.read_text().splitlines():
            if line.startswith(("import ", "from ")):
                module = line.split()[1]
                standard = module.split(".")[0] in sys.stdlib_module_names
                assert standard or (path not in plain and module.startswith(allowed)), f"{path}: {line}"


def test_every_package_is_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"condconv_mlx.weights"}
    for folder, name in (("condconv_mlx", "condconv_mlx"), ("app", "condconv_mlx.app")):
        for path in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([name, *path.parent.relative_to(ROOT / folder).parts]))
    assert listed == found
