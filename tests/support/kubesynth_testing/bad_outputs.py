"""Jobs whose stages say of their answers what cannot be."""

from __future__ import annotations

from kubesynth_testing.bad_manifest import BadManifest
from kubesynth_testing.manifests import FULL, REMOVE

_ANSWER = "spec.pipeline[1].answer"
_PROMPT = "spec.pipeline[2].prompt"
_JSON = "spec.pipeline[3].prompt"

OUTPUTS = (
    BadManifest(
        "json-without-schema",
        {f"{_JSON}.output.jsonSchema": REMOVE},
        f"{_JSON}.output.jsonSchema",
        "Required value",
        FULL,
    ),
    BadManifest(
        "schema-of-a-list",
        {f"{_JSON}.output.type": "List"},
        f"{_JSON}.output.type",
        'supported values: "JSON"',
        FULL,
    ),
    BadManifest(
        "count-of-a-text",
        {f"{_PROMPT}.output.type": "Text"},
        f"{_PROMPT}.output.count",
        "count is for type List",
        FULL,
    ),
    BadManifest(
        "item-form-of-a-text",
        {f"{_PROMPT}.output": {"itemForm": "Titles"}},
        f"{_PROMPT}.output.itemForm",
        "itemForm is for type List",
        FULL,
    ),
    BadManifest(
        "list-that-is-kept-cut-off",
        {f"{_PROMPT}.output.onCutOff": "Keep"},
        f"{_PROMPT}.output.onCutOff",
        "Keep is for type Text",
        FULL,
    ),
    BadManifest(
        "cut-off-column-of-whole-answers",
        {f"{_ANSWER}.cutOffColumn": "is_cut_off"},
        f"{_ANSWER}.cutOffColumn",
        "is for onCutOff: Keep",
        FULL,
    ),
    BadManifest(
        "cut-off-column-of-whole-texts",
        {f"{_PROMPT}.output": {"cutOffColumn": "is_cut_off"}},
        f"{_PROMPT}.output.cutOffColumn",
        "is for onCutOff: Keep",
        FULL,
    ),
    BadManifest(
        "cut-off-column-is-the-answer",
        {f"{_ANSWER}.cutOffColumn": "reply", f"{_ANSWER}.onCutOff": "Keep"},
        f"{_ANSWER}.cutOffColumn",
        "must be another column than answerColumn",
        FULL,
    ),
    BadManifest(
        "cut-off-column-is-the-output",
        {f"{_PROMPT}.output": {"onCutOff": "Keep", "cutOffColumn": "output"}},
        f"{_PROMPT}.output.cutOffColumn",
        "must be another column than column",
        FULL,
    ),
)
