from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_api.version import VERSION
from kubesynth_runner.cli.__main__ import build_parser, main


def test_version_is_printed_in_both_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert main(["version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"kubesynth {VERSION}"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no-command"),
        pytest.param(["frobnicate"], id="unknown-command"),
        pytest.param(["run"], id="no-manifest"),
        pytest.param(["local"], id="no-local-command"),
        pytest.param(["show", "x", "--rows", "-1"], id="negative-rows"),
        pytest.param(["local", "serve", "--slots", "0"], id="no-slots"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: kubesynth" in capsys.readouterr().err


def test_a_wrong_number_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", "x", "--rows", "x"])
    assert "--rows: must be a whole number, 0 or more, not 'x'" in capsys.readouterr().err


def test_mapping_flags_may_be_repeated() -> None:
    parsed = build_parser().parse_args(
        ["run", "job.yaml", "--secret", "a=x", "--secret", "b=y", "--volume", "c=z"]
    )
    assert (parsed.secret, parsed.config, parsed.volume) == (["a=x", "b=y"], [], ["c=z"])


def test_local_options_are_parsed() -> None:
    parsed = build_parser().parse_args(["local", "serve", "--gguf", "m.gguf", "--port", "0"])
    assert (parsed.gguf, parsed.port, parsed.host) == (Path("m.gguf"), 0, "127.0.0.1")


def test_missing_file_is_named_with_exit_code_64(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "/nowhere/job.yaml"]) == 64
    assert capsys.readouterr().err == "/nowhere/job.yaml: No such file or directory\n"
