"""Translation from gin: training, evaluation and inference."""

import json
import math
import os

import pytest

from gbt_t5x import tags
from gbt_t5x.studies import runs
import gin_runs

pytestmark = pytest.mark.usefixtures("offline_vocabularies")

TASK = "offline_lt_en"
DIRECTION = "DIRECTION = 'lt_en'"
STEPS = 120
NETWORK = [
    "network.T5Config.emb_dim = 64",
    "network.T5Config.num_heads = 4",
    "network.T5Config.head_dim = 16",
    "network.T5Config.mlp_dim = 128",
    "network.T5Config.num_encoder_layers = 1",
    "network.T5Config.num_decoder_layers = 1",
    "TASK_FEATURE_LENGTHS = {'inputs': 32, 'targets': 32}",
]


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# On every Python, by each JAX that is pinned, and by T5X.
SECOND_LOSSES = {
    ("baseline", "de_en"): {tags.LOSS: 8.269287},
    ("guided", "de_en"): {tags.LOSS: 8.269287, f"guidance/{tags.LOSS}": 8.481288},
    ("guided", "en_fi"): {tags.LOSS: 8.340756, f"guidance/{tags.LOSS}": 8.596505},
    ("guided", "en_lt"): {tags.LOSS: 8.191087, f"guidance/{tags.LOSS}": 8.572380},
}


@pytest.mark.parametrize(("kind", "direction"), SECOND_LOSSES)
def test_direction_runs_two_steps(kind, direction, tmp_path):
    step, state = gin_runs.train(
        f"gin/offline_translation_{kind}.gin",
        tmp_path,
        f"DIRECTION = {direction!r}",
        "EVALUATOR_NUM_EXAMPLES = 4",
    )
    assert step == int(state.step) == 2
    metrics = json_lines(tmp_path / f"inference_eval/offline_{direction}-metrics.jsonl")
    assert [line["step"] for line in metrics] == [2]
    assert 0 <= metrics[0]["bleu"] <= 100 and 0 <= metrics[0]["chrf"] <= 100
    examples = json_lines(tmp_path / f"inference_eval/offline_{direction}-000002.jsonl")
    assert len(examples) == 4
    assert all(isinstance(example["prediction"], str) for example in examples)
    losses = runs.read_curves(tmp_path / "train", f"(guidance/)?{tags.LOSS}")
    second = {tag: curve[2] for tag, curve in losses.items()}
    assert second == pytest.approx(SECOND_LOSSES[kind, direction], rel=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a model that has learned to say different things to different inputs."""
    model_dir = tmp_path_factory.mktemp("model")
    gin_runs.train(
        "gin/offline_translation_baseline.gin",
        model_dir,
        DIRECTION,
        *NETWORK,
        f"TRAIN_STEPS = {STEPS}",
        f"WARMUP_STEPS = {STEPS}",
        f"EVAL_PERIOD = {STEPS}",
        f"STATS_PERIOD = {STEPS}",
        f"CHECKPOINT_PERIOD = {STEPS}",
        "BATCH_SIZE = 32",
        "EVALUATOR_NUM_EXAMPLES = 1",
    )
    return model_dir / f"checkpoint_{STEPS}"


def bindings(checkpoint, output, output_dir):
    return [
        *NETWORK,
        DIRECTION,
        f"CHECKPOINT_PATH = {os.fspath(checkpoint)!r}",
        f"{output} = {os.fspath(output_dir)!r}",
        "SPLIT = 'validation'",
    ]


@pytest.fixture(scope="module")
def evaluation(checkpoint, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("eval")
    gin_runs.evaluate(
        "gin/offline_translation_eval.gin",
        *bindings(checkpoint, "EVAL_OUTPUT_DIR", output_dir),
    )
    return output_dir / "inference_eval"


def test_evaluation_scores_its_own_predictions(evaluation):
    from gbt_t5x.tasks import translation

    (metrics,) = json_lines(evaluation / f"{TASK}-metrics.jsonl")
    examples = json_lines(evaluation / f"{TASK}-{STEPS:06}.jsonl")
    texts = [[e[name] for e in examples] for name in ("target", "prediction")]
    assert len(set(texts[1])) > 5, "the predictions say nothing"
    assert metrics["step"] == STEPS
    assert metrics["bleu"] == pytest.approx(translation.bleu(*texts)["bleu"])
    assert metrics["chrf"] == pytest.approx(translation.chrf(*texts)["chrf"])


def test_inference_translates_as_evaluation_does(checkpoint, evaluation, tmp_path):
    gin_runs.infer(
        "gin/offline_translation_infer.gin",
        *bindings(checkpoint, "INFER_OUTPUT_DIR", tmp_path),
    )
    lines = json_lines(tmp_path / f"{TASK}-predict.jsonl-00000-of-00001")
    examples = json_lines(evaluation / f"{TASK}-{STEPS:06}.jsonl")
    sources = [line["inputs"]["inputs_pretokenized"] for line in lines]
    assert sources == [e["input"]["inputs_pretokenized"] for e in examples]
    assert [line["prediction"] for line in lines] == [e["prediction"] for e in examples]


def test_four_beams_are_searched(checkpoint, tmp_path):
    """The best of four beams is at least as likely as the greedy one."""
    scores = {}
    for beams in (1, 4):
        output_dir = tmp_path / str(beams)
        gin_runs.infer(
            "gin/offline_translation_infer.gin",
            *bindings(checkpoint, "INFER_OUTPUT_DIR", output_dir),
            f"NUM_BEAMS = {beams}",
            "infer_script.infer.mode = 'predict_with_aux'",
        )
        path = output_dir / f"{TASK}-predict_with_aux.jsonl-00000-of-00001"
        scores[beams] = [line["aux"]["scores"] for line in json_lines(path)]
        assert all(math.isfinite(score) for score in scores[beams])
    higher = [b > a + 1e-4 for a, b in zip(scores[1], scores[4], strict=True)]
    assert sum(higher) > len(higher) / 10
    assert sum(scores[4]) > sum(scores[1])
