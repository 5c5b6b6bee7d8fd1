"""The comparison of two evaluations, on small JSON lines made here."""

import json

import pytest

import translations


def write(output_dir, predictions, bleu, chrf, task="de_en", step=20):
    """Writes what t5x.eval writes."""
    folder = output_dir / "inference_eval"
    folder.mkdir(parents=True)
    older = {"step": 10, "bleu": 1.0, "chrf": 2.0}
    metrics = [older, {"step": step, "bleu": bleu, "chrf": chrf}]
    examples = [
        {
            "input": {"inputs_pretokenized": f"source {i}"},
            "target": f"target {i}",
            "prediction": text,
        }
        for i, text in enumerate(predictions)
    ]
    for name, lines in (
        (f"{task}-metrics.jsonl", metrics),
        (f"{task}-{step:06}.jsonl", examples),
    ):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / name).write_text(text)
    return output_dir


def run(baseline, guided, *options):
    translations.main(["--baseline", str(baseline), "--guided", str(guided), *options])


def test_table_and_translations(tmp_path, capsys):
    baseline = write(tmp_path / "baseline", ["a", "b", "c", "d", "e"], 10.125, 20.5)
    guided = write(tmp_path / "guided", ["A", "B", "C", "D", "E"], 30.0, 40.0)
    run(baseline, guided, "--examples", "2")
    assert capsys.readouterr().out.splitlines() == [
        "Task de_en, 5 examples by beam search",
        "                                        baseline      guided",
        "step                                          20          20",
        "BLEU                                       10.12       30.00",
        "chrF                                       20.50       40.00",
        "",
        "source     source 0",
        "reference  target 0",
        "baseline   a",
        "guided     A",
        "",
        "source     source 2",
        "reference  target 2",
        "baseline   c",
        "guided     C",
    ]


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_no_examples_are_an_error(number, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, tmp_path, "--examples", number)
    assert (
        f"--examples: {number} is not a whole number above 0" in capsys.readouterr().err
    )


def test_different_examples_are_an_error(tmp_path):
    baseline = write(tmp_path / "baseline", ["a", "b"], 1.0, 1.0)
    guided = write(tmp_path / "guided", ["a"], 1.0, 1.0)
    with pytest.raises(SystemExit, match="different examples"):
        run(baseline, guided)


def test_a_folder_without_evaluation_is_an_error(tmp_path):
    baseline = write(tmp_path / "baseline", ["a"], 1.0, 1.0)
    with pytest.raises(SystemExit, match="must hold one evaluated task: none"):
        run(baseline, tmp_path / "nowhere")
