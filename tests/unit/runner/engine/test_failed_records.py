"""Records that fail, as rows of errors/."""

from __future__ import annotations

import json

import msgspec

from kubesynth_runner import records
from kubesynth_runner.engine.calls import StagePlace
from kubesynth_runner.engine.failed_records import failed_stage
from kubesynth_runner.io import schema
from kubesynth_runner.pipelines.base import StageFailure


def test_what_is_no_text_can_be_told_all_the_same() -> None:
    record = records.Record("r", None, "r", (), {}, records.Source("u", 1))
    failure = StageFailure("PluginError", "no file bad\udcffname", "raw \ud800")
    row = schema.error_row(failed_stage(StagePlace(0, "s"), record, failure))
    told = json.loads(msgspec.json.encode(row))
    assert (told["message"], told["raw"]) == ("no file bad?name", "raw ?")
