"""What is installed: each import is declared, and a source archive is a whole checkout."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> set[str]:
    given = list(PROJECT["dependencies"])
    for extra in extras:
        given += PROJECT["optional-dependencies"][extra]
    return {re.split(r"[<>=\[]", name)[0].lower() for name in given}


def imported(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"ser", "bench"}


def test_each_import_of_the_package_is_a_declared_dependency():
    packages = importlib.metadata.packages_distributions()
    missing = {
        name
        for name in imported(ROOT / "ser")
        if not {each.lower().replace("_", "-") for each in packages[name]} & declared()
    }
    assert not missing


def test_a_source_archive_holds_what_training_and_the_tests_take():
    single = ("*.py", "*.md", "*.lock", "Makefile")
    wanted = {path.name for pattern in single for path in ROOT.glob(pattern)}
    wanted |= {"bench", "conf", "docs", "tests"}
    rules = [
        line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line[0] != "#"
    ]
    taken = {name for rule in rules if rule[0] in ("graft", "include") for name in rule[1:]}
    assert wanted - taken == {"README.md"}  # which setuptools takes by itself
