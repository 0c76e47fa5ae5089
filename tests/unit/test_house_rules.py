"""The rules of the house that no linter knows, checked on the syntax tree of every module.

A rule that needs an exception has a list here. Each entry says why it is there, and an entry that
is no longer needed fails too.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE_ROOTS = ("crds", "operator", "runner", "benchmarks", "tests")
SOURCES = sorted(
    path.relative_to(REPOSITORY)
    for root in SOURCE_ROOTS
    for path in (REPOSITORY / root).rglob("*.py")
)
TEXT_SUFFIXES = {"", ".cfg", ".go", ".in", ".json", ".md", ".mod", ".py", ".sh", ".toml", ".txt"}
TEXT_SUFFIXES |= {".tpl", ".yaml", ".yml"}
NOT_OURS = {".git", ".venv", "__pycache__", "build", "demo-output"}

MAX_FUNCTION_LINES = 60
WANTED_FILE_LINES = 400
MAX_FILE_LINES = 500
MAX_CATCH_ALL_SITES = 4

LONG_FILES: dict[str, str] = {}
"""Files between the wanted and the greatest length, and why they are not split."""

CATCH_ALL_SITES: dict[str, str] = {
    "operator/kubesynth_operator/workers.py": "a bug that one job meets must not stop the others",
    "runner/kubesynth_runner/engine/stage_calls.py": "a bug that one answer meets ends no run",
    "runner/kubesynth_runner/pipelines/plugin.py": "it runs code of the user's own",
}
"""Modules that may catch every exception, and why nothing narrower would do."""

DRAWER_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("static", "crates", "io"),
        ("repo", "maven", "apache", "org"),
    )
]
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:work|root|farm)/")
SKIPS = {"skip", "skipif", "xfail", "importorskip"}


@cache
def parsed(source: Path) -> ast.Module:
    return ast.parse((REPOSITORY / source).read_text(), filename=str(source))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def line_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def file_lines(source: Path) -> int:
    return len((REPOSITORY / source).read_text().splitlines())


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches all there is, other than to tidy up and raise it again."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def catch_all_count(tree: ast.AST) -> int:
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    return sum(swallows_everything(handler) for handler in handlers)


def text_files() -> Iterator[Path]:
    for folder, subfolders, names in os.walk(REPOSITORY):
        subfolders[:] = sorted(name for name in subfolders if not is_not_ours(name))
        yield from (
            Path(folder, name)
            for name in sorted(names)
            # In a linked work tree .git is a file, and names the place of the repository.
            if Path(name).suffix in TEXT_SUFFIXES and name != ".git"
        )


def is_not_ours(folder_name: str) -> bool:
    return folder_name in NOT_OURS or folder_name.endswith(("_cache", ".egg-info"))


def test_functions_fit_on_a_screen() -> None:
    too_long = {
        f"{source}:{function.lineno} {function.name}": line_count(function)
        for source in SOURCES
        for function in functions(parsed(source))
        if line_count(function) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"longer than {MAX_FUNCTION_LINES} lines: {too_long}"


def test_files_stay_short() -> None:
    too_long = {
        str(source): lines
        for source in SOURCES
        if (lines := file_lines(source))
        > (MAX_FILE_LINES if str(source) in LONG_FILES else WANTED_FILE_LINES)
    }
    assert not too_long, f"split by concern: {too_long}"


def test_listed_long_files_are_still_long() -> None:
    short = [name for name in LONG_FILES if file_lines(Path(name)) <= WANTED_FILE_LINES]
    assert not short, f"take out of LONG_FILES: {short}"


def test_catch_all_handlers_are_few_and_listed() -> None:
    found = {str(source): catch_all_count(parsed(source)) for source in SOURCES}
    sites = {name: count for name, count in found.items() if count}
    assert set(sites) == set(CATCH_ALL_SITES), "catch what you expect, or list the module here"
    assert sum(sites.values()) <= MAX_CATCH_ALL_SITES


def test_no_module_is_a_junk_drawer() -> None:
    drawers = [str(source) for source in SOURCES if DRAWER_NAMES & {source.stem, *source.parts}]
    assert not drawers, f"name these after what they hold: {drawers}"


def test_every_skip_gives_its_reason() -> None:
    silent = {
        f"{source}: {ast.unparse(node)}"
        for source in SOURCES
        for node in ast.walk(parsed(source))
        if is_silent_skip(node)
    }
    assert not silent


def is_silent_skip(node: ast.AST) -> bool:
    """Tell whether a node is a use of a pytest skip that gives no reason."""
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in SKIPS):
            return False
        if not is_pytest(node.func.value):
            return False
        reason = any(keyword.arg == "reason" for keyword in node.keywords)
        spoken = node.func.attr == "skip" and bool(node.args)
        return not (reason or spoken)
    decorators = getattr(node, "decorator_list", [])
    return any(
        isinstance(bare, ast.Attribute) and bare.attr in SKIPS and is_pytest(bare.value)
        for bare in decorators
    )


def is_pytest(node: ast.expr) -> bool:
    """Tell whether an expression is `pytest` or `pytest.mark`."""
    return ast.unparse(node) in {"pytest", "pytest.mark"}


@pytest.mark.parametrize(
    ("code", "silent"),
    [
        pytest.param("pytest.skip()", True, id="bare-call"),
        pytest.param("pytest.skip('needs a GPU')", False, id="call-with-words"),
        pytest.param("@pytest.mark.skip\ndef f(): ...", True, id="bare-mark"),
        pytest.param("@pytest.mark.skipif(x)\ndef f(): ...", True, id="condition-alone"),
        pytest.param("@pytest.mark.skipif(x, reason='y')\ndef f(): ...", False, id="reason"),
        pytest.param("words.skip()", False, id="not-pytest"),
    ],
)
def test_silent_skips_are_recognised(code: str, silent: bool) -> None:
    assert any(is_silent_skip(node) for node in ast.walk(ast.parse(code))) is silent


def test_types_are_handed_to_msgspec_at_import() -> None:
    """It looks at a type when it is first used; in two threads at once that is a crash."""
    late = [
        f"{source}:{node.lineno}"
        for source in SOURCES
        if source.parts[0] == "runner"
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("msgspec.json.decode", "msgspec.msgpack.decode")
        and any(keyword.arg == "type" for keyword in node.keywords)
    ]
    assert not late, f"make a Decoder of the module's own: {late}"


def test_no_file_names_a_package_registry() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {host}"
        for path in text_files()
        for host in REGISTRY_HOSTS
        if host in path.read_text(errors="replace").lower()
    ]
    assert not found


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {match[0]}"
        for path in text_files()
        if (match := MACHINE_PATHS.search(path.read_text(errors="replace")))
    ]
    assert not found
