"""The files of the paper's T5, on TFDS's mock data: from pre-training to evaluation."""

import os

import jax
import numpy as np
import pytest

import gin_runs
import mock_tfds
import text_runs

STEPS = 2  # as in gin_runs.TINY
# The position in mock data cannot be saved.
TRAINING = ("SAVE_DATA_POSITION = False",)
LENGTHS = "TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 32}"


@pytest.fixture(autouse=True)
def data(sizeless_tfds):
    with mock_tfds.mock_data():
        yield


@pytest.fixture
def vocabulary(tiny_t5_vocabulary):
    """Bindings that give the model the vocabulary of the tasks."""
    path = tiny_t5_vocabulary.sentencepiece_model_file
    return (
        LENGTHS,
        f"seqio.SentencePieceVocabulary.sentencepiece_model_file = {path!r}",
        "seqio.SentencePieceVocabulary.extra_ids = 100",
        "network.T5Config.vocab_size = 512",
    )


@pytest.fixture
def pretrained(vocabulary, tmp_path):
    model_dir = tmp_path / "pretrained"
    gin_runs.train("gin/t5_small_guided.gin", model_dir, *vocabulary, *TRAINING)
    return model_dir / f"checkpoint_{STEPS}"


def test_every_file_takes_two_steps(pretrained, vocabulary, tmp_path):
    """Tasks of each suite, and both that are mixtures of training and evaluation."""
    for kind, task, evaluated in (
        ("baseline", "guided_glue_mnli", "guided_glue_mnli_mismatched"),
        ("guided", "guided_super_glue_wsc", "guided_super_glue_wsc_eval"),
        ("frozen", "guided_squad", "guided_squad"),
    ):
        model_dir = tmp_path / kind
        step, state = gin_runs.train(
            f"gin/t5_small_finetune_{kind}.gin",
            model_dir,
            *vocabulary,
            *TRAINING,
            f"MIXTURE_OR_TASK_NAME = {task!r}",
            f"INITIAL_CHECKPOINT_PATH = {os.fspath(pretrained)!r}",
            f"TRAIN_STEPS = {STEPS + 2}",
            "EVALUATOR_NUM_EXAMPLES = 4",
        )
        assert step == int(state.step) == STEPS + 2, kind
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params)), kind
        gin_runs.evaluate(
            "gin/t5_small_eval.gin",
            *vocabulary[1:],
            *(line for line in gin_runs.TINY if line.startswith("network")),
            f"MIXTURE_OR_TASK_NAME = {task!r}",
            f"CHECKPOINT_PATH = {os.fspath(model_dir / f'checkpoint_{step}')!r}",
            f"EVAL_OUTPUT_DIR = {os.fspath(tmp_path / 'eval')!r}",
            "seqio.Evaluator.num_examples = 4",
        )
        in_training, again = (
            text_runs.read_json_lines(
                folder / f"inference_eval/{evaluated}-metrics.jsonl"
            )
            for folder in (model_dir, tmp_path / "eval")
        )
        assert in_training[-1] == again[-1], kind
