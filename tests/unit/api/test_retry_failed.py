"""What a job that replays failed records may say."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api import validation
from kubesynth_api.run_spec import RunSpec, prefix_hashes
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import REMOVE, SMALL, edited

STORE = {"credentials": {"secretRef": {"name": "store"}}}


def spec(
    retry: dict[str, Any],
    output: str = "pvc://datasets/again",
    more: dict[str, Any] | None = None,
) -> SyntheticDataJobSpec:
    edits = {"spec.retryFailed": retry, "spec.output.uri": output, "spec.input": REMOVE}
    edits |= more or {}
    return SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])


def test_input_may_be_left_out() -> None:
    assert validation.check(spec({"fromOutput": "pvc://datasets/first"}), "job") == []


@pytest.mark.parametrize(
    ("retry", "output", "path", "problem"),
    [
        pytest.param(
            {"fromOutput": "pvc://datasets/a"},
            "pvc://datasets/a/",
            "spec.output.uri",
            "must be another folder",
            id="same-folder",
        ),
        pytest.param(
            {"fromOutput": "pvc://datasets/a"},
            "pvc://datasets/a/again",
            "spec.output.uri",
            "must be another folder",
            id="inside",
        ),
        pytest.param(
            {"fromOutput": "s3://bucket/runs/a"},
            "s3://bucket/runs",
            "spec.output.uri",
            "must be another folder",
            id="around",
        ),
        pytest.param(
            {"fromOutput": "file://~/datasets/a"},
            "pvc://datasets/b",
            "spec.retryFailed.fromOutput",
            "~ is not expanded",
            id="home",
        ),
        pytest.param(
            {"fromOutput": "~/datasets/a"},
            "pvc://datasets/b",
            "spec.retryFailed.fromOutput",
            "~ is not expanded",
            id="home-without-scheme",
        ),
        pytest.param(
            {"fromOutput": "pvc://datasets/*"},
            "pvc://datasets/b",
            "spec.retryFailed.fromOutput",
            "not a pattern",
            id="pattern",
        ),
        pytest.param(
            {"fromOutput": "pvc://datasets"},
            "pvc://datasets/b",
            "spec.retryFailed.fromOutput",
            "pvc://CLAIM/PATH",
            id="no-path",
        ),
        pytest.param(
            {"fromOutput": "https://host/a"},
            "pvc://datasets/b",
            "spec.retryFailed.fromOutput",
            "must start with",
            id="no-output",
        ),
        pytest.param(
            {"fromOutput": "pvc://datasets/a", "storage": STORE},
            "pvc://datasets/b",
            "spec.retryFailed.storage",
            "no such options",
            id="storage-of-a-claim",
        ),
    ],
)
def test_unusable_earlier_output_is_refused(
    retry: dict[str, Any], output: str, path: str, problem: str
) -> None:
    found = validation.check(spec(retry, output), "job")
    assert path in {item.path for item in found}
    assert problem in next(item.message for item in found if item.path == path)


def test_credentials_do_not_make_another_run() -> None:
    first = spec({"fromOutput": "s3://bucket/a"})
    second = spec({"fromOutput": "s3://bucket/a", "storage": STORE})
    other = spec({"fromOutput": "s3://bucket/b"})
    hashes = [
        RunSpec(name="j", uid="u", spec=item).pipeline_hash() for item in (first, second, other)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_hashes_of_a_pipelines_beginnings_leave_names_out() -> None:
    def stages(*pipeline: dict[str, Any]) -> list[str]:
        made = spec({"fromOutput": "/a"}, more={"spec.pipeline": pipeline})
        return prefix_hashes(made.pipeline, {})

    plain = stages({"closedQA": {}}, {"answer": {}})
    named = stages({"closedQA": {}, "id": "ask"}, {"answer": {}})
    changed = stages({"closedQA": {}}, {"answer": {"sampling": {"maxTokens": 9}}})
    assert len(plain) == 3
    assert plain == named
    assert plain[:2] == changed[:2]
    assert plain[2] != changed[2]


def test_texts_behind_references_are_part_of_their_stage() -> None:
    pipeline: list[dict[str, Any]] = [{"closedQA": {}}, {"answer": {}}]
    made = spec({"fromOutput": "/a"}, more={"spec.pipeline": pipeline}).pipeline

    def hashes(text: str) -> list[str]:
        other = {"spec.tokenizer.uri": text, "spec.pipeline[1].answer.prompts.user": "same"}
        return prefix_hashes(made, {"spec.pipeline[0].closedQA.prompts.user": text, **other})

    assert hashes("one") == hashes("one")
    assert [a == b for a, b in zip(hashes("one"), hashes("two"), strict=True)] == [
        True,
        False,
        False,
    ]
    assert hashes("one")[0] == prefix_hashes(made, {})[0]


@pytest.mark.parametrize("name", ["input", "output"])
def test_no_stage_is_called_as_errors_call_what_is_no_stage(name: str) -> None:
    """Whether a failure can be tried again, and where, is told by the name of its stage."""
    made = SyntheticDataJobSpec.model_validate(edited(SMALL, {"spec.pipeline[0].id": name})["spec"])
    (found,) = validation.check(made, "job")
    assert found.path == "spec.pipeline[0].id"
    assert f"{name!r} is what errors/ calls what is no stage" in found.message
