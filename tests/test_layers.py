"""Who may import whom, and how large a file may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ser", "tests", "bench")
MODULES = sorted(
    path
    for pattern in ("*.py", *(f"{folder}/**/*.py" for folder in FOLDERS))
    for path in ROOT.glob(pattern)
)
CATCH_ALLS = {"utils", "util", "helpers", "helper", "common", "misc"}
MOST_LINES, MOST_FUNCTION_LINES = 300, 60


def length(function: ast.AST) -> int:
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_modules_import_only_from_the_layers_below() -> None:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports({}))"
    arguments = "no_cache=True, no_logo=True, config_filename='pyproject.toml'"
    done = subprocess.run(
        [sys.executable, "-c", program.format(arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_a_catch_all() -> None:
    named = [path for path in MODULES if CATCH_ALLS & {path.stem, *path.parent.parts[-2:]}]
    assert not named, f"name these after what they do: {named}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_one_idea(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MOST_LINES
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions) and length(node) > MOST_FUNCTION_LINES
    ]
    assert not long, f"over {MOST_FUNCTION_LINES} lines: {long}"


def test_listing_clips_needs_no_torch() -> None:
    program = (
        "import sys, ser.corpora, ser.labels, ser.manifest, ser.splits; "
        "heavy = {'torch', 'transformers', 'mlflow', 'matplotlib'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
