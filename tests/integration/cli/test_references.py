"""What stands in for Secrets, ConfigMaps and volume claims on a machine without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_api.runner_contract import ExitCode
from kubesynth_runner.cli import job_run
from kubesynth_runner.cli.__main__ import main
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.mappings import Flags

JOB = """\
apiVersion: kubesynth.io/v1alpha1
kind: SyntheticDataJob
metadata:
  name: qa
spec:
  models:
    - name: generator
      external:
        url: https://host/v1
        model: m
        apiKey:
          secretKeyRef: {name: openai, key: api-key}
        caBundle:
          configMapKeyRef: {name: trust, key: ca.crt}
  input:
    uri: pvc://corpus/docs/*.jsonl
  pipeline:
    - closedQA: {}
  output:
    uri: pvc://datasets/qa
"""
CONFIG_MAP = """\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: trust}
data:
  ca.crt: from the manifest
"""
SECRET = """\
---
apiVersion: v1
kind: Secret
metadata: {name: openai}
data: {api-key: b2xk}
stringData: {api-key: in-the-manifest}
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def flags(tmp_path: Path) -> Flags:
    """Flags that map everything the job refers to."""
    (tmp_path / "keys.env").write_text('# a comment\n\nexport api-key = "s3cret"\n')
    (tmp_path / "ca.crt").write_text("PEM")
    (tmp_path / "corpus").mkdir()
    return Flags(
        config=[f"trust={tmp_path / 'ca.crt'}"],
        secret=[f"openai={tmp_path / 'keys.env'}"],
        volume=[f"corpus={tmp_path / 'corpus'}", f"datasets={tmp_path / 'out'}"],
    )


def _refusal(path: Path, flags: Flags, scratch: Path) -> str:
    with pytest.raises(CommandError) as caught:
        job_run.prepare(str(path), flags, scratch)
    return str(caught.value)


def test_everything_that_is_missing_is_named_at_once_with_its_flag(
    write_manifest: Callable[[str], Path], scratch: Path
) -> None:
    path = write_manifest(JOB)
    lines = _refusal(path, Flags(), scratch).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{n}" for n in (12, 14, 16, 20)]
    for line, flag in zip(
        lines,
        ("--secret openai=", "--config trust=", "--volume corpus=", "--volume datasets="),
        strict=True,
    ):
        assert flag in line


def test_flags_map_files_and_folders(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path, tmp_path: Path
) -> None:
    run = job_run.prepare(str(write_manifest(JOB)), flags, scratch)
    assert run.environment.api_keys == {"generator": "s3cret"}
    assert run.output == tmp_path / "out" / "qa"
    external = run.spec.spec.models[0].external
    assert external is not None
    assert external.ca_bundle is not None
    assert run.environment.text_file(external.ca_bundle).read_text() == "PEM"


def test_folder_of_keys_is_a_secret(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "api-key").write_text("from-a-folder\n")
    in_folder = Flags(flags.config, [f"openai={tmp_path / 'keys'}"], flags.volume)
    run = job_run.prepare(str(write_manifest(JOB)), in_folder, scratch)
    assert run.environment.api_keys == {"generator": "from-a-folder"}


def test_documents_of_the_manifest_serve_as_objects(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path
) -> None:
    path = write_manifest(JOB + CONFIG_MAP + SECRET)
    run = job_run.prepare(str(path), Flags(volume=flags.volume), scratch)
    assert run.environment.api_keys == {"generator": "in-the-manifest"}
    ca = run.environment.mounts.config_map("trust") / "ca.crt"
    assert (ca.read_text(), ca.stat().st_mode & 0o777) == ("from the manifest", 0o600)


def test_prompt_in_a_mapped_config_map_is_checked(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "ask").write_text("Ask about {{ documnt }}")
    prompts = "closedQA: {prompts: {user: {configMapKeyRef: {name: prompts, key: ask}}}}"
    mapped = Flags([*flags.config, f"prompts={tmp_path / 'ask'}"], flags.secret, flags.volume)
    text = JOB.replace("closedQA: {}", prompts)
    assert "must use {{ document }}" in _refusal(write_manifest(text), mapped, scratch)


def test_flag_wins_over_a_document(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path
) -> None:
    run = job_run.prepare(str(write_manifest(JOB + CONFIG_MAP + SECRET)), flags, scratch)
    assert run.environment.api_keys == {"generator": "s3cret"}


def test_missing_key_shows_the_keys_there_are(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path
) -> None:
    message = _refusal(write_manifest(JOB.replace("key: api-key", "key: token")), flags, scratch)
    assert "the Secret 'openai' has no key 'token'; it has api-key" in message


def test_input_claim_must_exist(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus").rmdir()
    assert "is not a folder" in _refusal(write_manifest(JOB), flags, scratch)


def test_unused_flag_is_warned_of(
    write_manifest: Callable[[str], Path],
    flags: Flags,
    scratch: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mistyped = Flags([*flags.config, f"tr0st={scratch}"], flags.secret, flags.volume)
    job_run.prepare(str(write_manifest(JOB)), mistyped, scratch)
    assert "does not refer to it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(Flags(config=["trust"]), "expected --config NAME=DIR_OR_FILE", id="no-value"),
        pytest.param(Flags(config=["trust=/nowhere"]), "no such file or folder", id="no-file"),
        pytest.param(Flags(secret=["openai=/nowhere"]), "No such file", id="no-secret"),
    ],
)
def test_flag_that_leads_nowhere_is_refused(
    write_manifest: Callable[[str], Path], scratch: Path, flags: Flags, message: str
) -> None:
    assert message in _refusal(write_manifest(JOB), flags, scratch)


def test_environment_file_must_hold_assignments(
    write_manifest: Callable[[str], Path], scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.env").write_text("A=1\nnonsense\n")
    flags = Flags(secret=[f"openai={tmp_path / 'keys.env'}"])
    assert "keys.env:2: expected KEY=VALUE" in _refusal(write_manifest(JOB), flags, scratch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "kind: ConfigMap\nmetadata: {name: a}",
            "no document of kind SyntheticDataJob",
            id="none",
        ),
        pytest.param(f"{JOB}---\n{JOB}", "2 jobs (qa, qa)", id="two"),
        pytest.param(
            JOB + SECRET.replace("b2xk", "a%b"), "data.api-key is not base64", id="bad-base64"
        ),
        pytest.param(
            JOB + CONFIG_MAP.replace("from the manifest", "5"), "must be text", id="number"
        ),
    ],
)
def test_manifest_must_hold_one_job_and_sound_objects(
    write_manifest: Callable[[str], Path], scratch: Path, text: str, message: str
) -> None:
    assert message in _refusal(write_manifest(text), Flags(), scratch)


def test_identity_follows_output_and_pipeline(
    write_manifest: Callable[[str], Path], flags: Flags, scratch: Path
) -> None:
    def identity(text: str, name: str) -> str:
        folder = scratch / name
        folder.mkdir()
        return job_run.prepare(str(write_manifest(text)), flags, folder).spec.uid

    first = identity(JOB, "a")
    assert identity(JOB, "b") == first
    assert identity(JOB.replace("datasets/qa", "datasets/qa2"), "c") != first
    assert identity(JOB.replace("closedQA: {}", "closedQA: {questions: 2}"), "d") != first


def test_a_ca_bundle_that_is_none_is_told_by_its_model(
    tmp_path: Path, flags: Flags, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ca.crt` holds no certificate: nothing was sent, and trying again is no use."""
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "corpus/docs").mkdir()
    (tmp_path / "corpus/docs/a.jsonl").write_text('{"text": "A mill."}\n')
    given = [
        f"--{name}={value}"
        for name in ("config", "secret", "volume")
        for value in getattr(flags, name)
    ]
    assert main(["run", *given, str(tmp_path / "job.yaml")]) == ExitCode.CONFIGURATION
    told = capsys.readouterr().err
    assert "models[generator].external: caBundle" in told
    assert "holds no certificate authority in PEM" in told
    assert "Traceback" not in told
