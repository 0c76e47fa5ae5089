"""Write down the options of `vllm serve`, as vLLM's own command line parser has them.

    pip download --no-deps vllm==0.24.0
    python -m kubesynth_testing.engines.vllm_options vllm-0.24.0-*.whl >vllm-0.24.0.json

The output belongs into tests/data/engines. The argument is vLLM's wheel, of which only the Python
is looked at. Its parser is made by vLLM's own code, out of its own configuration classes; that
needs neither a GPU nor PyTorch. All that these modules import besides is not there, and stands in
for itself: it has whatever it is asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import re
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What has to be vLLM's own; the rest of the package stands in for itself like other packages.
# (The module for quantization makes things out of what is absent.)
_OWN = re.compile(
    r"vllm(\.config(\.(?!quantization$).+)?|\.utils|\.utils\.argparse_utils"
    r"|\.envs|\.engine|\.engine\.arg_utils|\.entrypoints|\.entrypoints\.openai|\.entrypoints\.openai\.cli_args"
    r"|\.entrypoints\.constants)?"
)


class _Absent(type):
    """A class of something that is not there: has any attribute, takes any argument."""

    _made: dict[str, Any]

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = cls.__dict__.get("_made")
        if made is None:
            made = {}
            type.__setattr__(cls, "_made", made)
        return made.setdefault(name, absent(name))

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if "_is_absent" in cls.__dict__ and len(arguments) == 1 and callable(arguments[0]):
            return arguments[0]  # a decorator
        return super().__call__(*arguments, **options)

    def __getitem__(cls, item: Any) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __or__(cls, other: Any) -> Any:
        return cls

    def __ror__(cls, other: Any) -> Any:
        return cls


def absent(name: str) -> Any:
    """Return a class that stands in for something of another package."""

    def initialise(self: Any, *arguments: Any, **options: Any) -> None:
        """Take anything."""

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if arguments else None

    def schema(cls: Any, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()

    members = {
        "_is_absent": True,
        "__module__": "absent",
        "__init__": initialise,
        "__call__": call,
        "__iter__": lambda self: iter(()),
        "__enter__": lambda self: self,
        "__exit__": lambda self, *failure: None,
        "__getattr__": lambda self, attribute: absent(attribute),
        "__get_pydantic_core_schema__": classmethod(schema),
    }
    return _Absent(name, (), members)


class _AbsentModule(types.ModuleType):
    """A module of which everything is absent."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = absent(name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is not there. Once before all others, for vLLM; once after them, for the rest."""

    def __init__(self, wants: Callable[[str], bool]) -> None:
        self._wants = wants

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a specification of an absent module."""
        if not self._wants(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return the module."""
        module = _AbsentModule(spec.name)
        module.__dict__["__version__"] = "2.8.0"
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing."""


def parser_of(source: Path) -> argparse.ArgumentParser:
    """Return the parser of `vllm serve`, from an unpacked wheel.

    This interpreter is good for nothing else afterwards.
    """
    sys.meta_path.insert(
        0, _Finder(lambda name: name.startswith("vllm.") and not _OWN.fullmatch(name))
    )
    sys.meta_path.append(
        _Finder(lambda name: name.partition(".")[0] not in {"vllm", *sys.stdlib_module_names})
    )
    sys.modules["regex"] = re
    package = types.ModuleType("vllm")
    package.__path__ = [str(source / "vllm")]
    package.__dict__["version"] = absent("version")
    sys.modules["vllm"] = package
    arguments = importlib.import_module("vllm.entrypoints.openai.cli_args")
    utilities = importlib.import_module("vllm.utils.argparse_utils")
    parser: argparse.ArgumentParser = arguments.make_arg_parser(utilities.FlexibleArgumentParser())
    return parser


def describe(action: argparse.Action) -> dict[str, Any]:
    """Return what decides whether an argument is taken: its names, how many values, which."""
    found: dict[str, Any] = {"names": list(action.option_strings) or [action.dest]}
    if isinstance(action, argparse.BooleanOptionalAction | argparse._StoreTrueAction):
        found["values"] = 0
    elif action.nargs is not None:
        found["values"] = action.nargs
    if action.choices is not None:
        found["choices"] = [str(choice) for choice in action.choices]
    kind = _kind(action.type)
    if kind:
        found["type"] = kind
    return found


def _kind(parse: Any) -> str:
    """Return which texts a parser takes: integer, number, or anything ("")."""
    if parse is None:
        return ""

    def takes(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            return False
        return True

    # Any text, JSON, or a number with a unit; or nothing that is known here.
    if any(map(takes, ("text", "[]", "8k"))) or not takes("1"):
        return ""
    return "number" if takes("1.5") else "integer"


def main() -> None:
    """Print the options as JSON."""
    archive = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as packed:
        packed.extractall(folder, [name for name in packed.namelist() if name.endswith(".py")])
        parser = parser_of(Path(folder))
    described = {
        "from": archive.name,
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "options": [
            describe(action)
            for action in parser._actions
            if not isinstance(action, argparse._HelpAction)
        ],
    }
    text = json.dumps(described, indent=1)
    # One option a line.
    print(re.sub(r"\n {3,}|\n  (?=\})", " ", text))


if __name__ == "__main__":
    main()
