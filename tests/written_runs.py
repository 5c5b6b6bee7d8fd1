"""Folders of runs, as T5X writes them, with the numbers of a test."""

from clu import metric_writers

from gbt_t5x import tags


def write(folder, scalars):
    """Writes one TensorBoard file. `scalars`: step -> tag -> value."""
    writer = metric_writers.SummaryWriter(str(folder))
    for step, values in scalars.items():
        writer.write_scalars(step, values)
    writer.close()


def write_run(
    model_dir,
    losses,
    steps_per_second,
    hyperparams=None,
    task="docs",
    beta1=None,
    learning_rate=None,
):
    """Writes what a run writes, summarized every 20 steps.

    Args:
        model_dir: is made.
        losses: step -> development loss.
        steps_per_second: of each summary.
        hyperparams: name -> a value for each summary.
        task: the evaluated one.
        beta1: BETA1 of config.gin.
        learning_rate: of T5X, the same at all steps; summarized if there is one.
    """
    train = {
        20 * (i + 1): {"timing/steps_per_second": speed}
        for i, speed in enumerate(steps_per_second)
    }
    for name, values in (hyperparams or {}).items():
        for step, value in zip(train, values, strict=True):
            train[step][f"hyperparams/{name}"] = value
            kind, *group = name.split("/")
            if learning_rate and kind == "alpha":
                tag = "/".join([tags.EFFECTIVE, *group])
                train[step][tag] = learning_rate * value
    for scalars in train.values() if learning_rate else ():
        scalars[tags.LEARNING_RATE] = learning_rate
    write(model_dir / "train", train)
    (model_dir / "config.gin").write_text(f"# Macros:\nBATCH_SIZE = 4\nBETA1 = {beta1}\n")
    write(
        model_dir / "training_eval" / task,
        {step: {tags.LOSS: loss, "accuracy": 0.5} for step, loss in losses.items()},
    )
    return model_dir
