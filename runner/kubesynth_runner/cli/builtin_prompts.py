"""`kubesynth prompts`: the built-in prompts, what each asks for, and why.

What a prompt is for stands in the comment at its head, beside the text that it is about.
"""

from __future__ import annotations

import dataclasses
import re
from importlib import resources

from kubesynth_api import templates
from kubesynth_api.v1alpha1.pipeline import STAGE_KINDS, Stage
from kubesynth_runner.cli.errors import CommandError

_FILE = re.compile(r"^(?P<name>.+)\.v(?P<version>\d+)\.(?P<role>system|user)\.jinja$")
_HEAD = re.compile(r"^\s*\{#(?P<head>.*?)#\}\n?", re.DOTALL)
# Prompts that belong to several stages, by the beginning of their names.
_SHARED = {
    "answer": ("answer", "preferencePairs"),
    "dialogue": ("dialogue", "twoTurnPrompt", "preferencePairs"),
    "score": ("score", "preferencePairs"),
}
# Those of no stage: what follows an answer that cannot be used.
EVERY_STAGE = "every stage"


@dataclasses.dataclass(frozen=True, slots=True)
class BuiltInPrompt:
    """A prompt of the package. `about` is its head, `text` what is sent, as a template."""

    name: str
    version: int
    role: str
    stages: tuple[str, ...]
    about: str
    text: str

    @property
    def placeholders(self) -> list[str]:
        """What the template takes from the record and the stage."""
        return sorted(templates.parse(self.text).mentioned)


def load() -> list[BuiltInPrompt]:
    """Return all built-in prompts, by name; the system prompt of each first."""
    folder = resources.files("kubesynth_runner.pipelines") / "prompts"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        match = _FILE.match(file.name)
        if match is None:
            continue
        text = file.read_text(encoding="utf-8")
        head = _HEAD.match(text)
        about = " ".join(head["head"].split()) if head else ""
        name = match["name"]
        body = (text[head.end() :] if head else text).strip()
        found.append(
            BuiltInPrompt(name, int(match["version"]), match["role"], _stages(name), about, body)
        )
    return found


def _stages(name: str) -> tuple[str, ...]:
    """Return the stages of a prompt: its name begins with theirs, in snake case."""
    fields = Stage.model_fields.items()
    kinds = {field: info.alias or field for field, info in fields}
    candidates = [
        field
        for field, kind in kinds.items()
        if kind in STAGE_KINDS and (name == field or name.startswith(f"{field}_"))
    ]
    if not candidates:
        return (EVERY_STAGE,)
    field = max(candidates, key=len)
    return _SHARED.get(field, (kinds[field],))


def list_prompts() -> int:
    """Print one line for each built-in prompt."""
    prompts = load()
    width = max(len(prompt.name) for prompt in prompts)
    for name in dict.fromkeys(prompt.name for prompt in prompts):
        both = [prompt for prompt in prompts if prompt.name == name]
        stages = ", ".join(both[0].stages)
        placeholders = sorted({item for prompt in both for item in prompt.placeholders})
        print(f"{name:{width}}  v{both[0].version}  {stages}: {', '.join(placeholders) or '-'}")
    return 0


def show(stage: str) -> int:
    """Print the prompts of a stage.

    Raises:
        CommandError: there is no such stage, or it has none.
    """
    prompts = [prompt for prompt in load() if stage in (*prompt.stages, prompt.name)]
    if not prompts:
        known = sorted({name for prompt in load() for name in prompt.stages} - {EVERY_STAGE})
        what = "has no built-in prompts" if stage in STAGE_KINDS else "is no stage"
        raise CommandError(f"{stage!r} {what}; these have some: {', '.join(known)}")
    for prompt in prompts:
        print(f"# {prompt.name}.v{prompt.version}, {prompt.role} prompt")
        for line in re.split(r" (?=Why:)", prompt.about):
            print(f"# {line}")
        print(f"# Placeholders: {', '.join(prompt.placeholders) or 'none'}")
        print(f"\n{prompt.text}\n")
    return 0
