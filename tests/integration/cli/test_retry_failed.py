"""The example of a replay, run over what failed in the example that it names."""

from __future__ import annotations

from pathlib import Path

from kubesynth_testing import runs
from kubesynth_testing.cli_process import kubesynth
from kubesynth_testing.cluster import paths
from kubesynth_testing.fake_llm import FakeLlm, Faults

EXAMPLES = paths.REPOSITORY / "examples"
MODEL = "llama-3.1-8b-instruct"


async def run_example(name: str, server: FakeLlm, folder: Path) -> str:
    """Run an example against a server and return what it says."""
    manifest = folder / f"{name}.yaml"
    text = (EXAMPLES / f"{name}.yaml").read_text()
    text = text.replace("https://inference.example.com/v1", server.url)
    # More than the example allows for fails here.
    policy = "  failurePolicy: {maxFailedRecordsPercent: 100}\n"
    manifest.write_text(text if "failurePolicy" in text else text + policy)
    (folder / "keys.env").write_text("api-key=k\n")
    code, said, problems = await kubesynth(
        *("run", manifest),
        *("--secret", f"inference={folder}/keys.env"),
        *("--volume", f"datasets={folder}/datasets"),
        *([] if name != "answer" else ["--config", f"questions={EXAMPLES}/data/questions.jsonl"]),
    )
    assert code == 0, problems
    return said


async def test_example_makes_the_rows_that_are_missing(tmp_path: Path) -> None:
    async with FakeLlm(model=MODEL) as server:
        server.set_faults(Faults(error_rate=0.4, error_status=400))
        await run_example("answer", server, tmp_path)
        datasets = tmp_path / "datasets"
        made = runs.read_rows(datasets / "answer")
        failed = runs.read_errors(datasets / "answer")
        assert made
        assert failed
        server.set_faults(Faults())
        before = server.statistics.answered.total()
        said = await run_example("retry-failed", server, tmp_path)
        again = runs.read_rows(datasets / "answer-retried")
        assert f"complete: {len(failed)} rows from {len(failed)} of {len(failed)}" in said
        assert {row["root_id"] for row in again} == {row["root_id"] for row in failed}
        assert not {row["id"] for row in again} & {row["id"] for row in made}
        probes = 2
        assert server.statistics.answered.total() - before <= len(failed) + probes
        report = (datasets / "answer-retried/report.md").read_text()
        assert "input: failed records of pvc://datasets/answer" in report
