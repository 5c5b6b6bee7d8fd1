"""TensorBoard tags of what guidance logs, and of T5X's numbers beside it."""

LOSS = "loss_per_nonpadding_target_token"
LEARNING_RATE = "learning_rate/current"  # T5X's schedule at a summary's last step
EFFECTIVE = "learning_rate/effective"  # times alpha; with groups EFFECTIVE/GROUP
HYPERPARAMS = "hyperparams/"  # NAME, and with groups NAME/GROUP
LOWEST, MEDIAN, HIGHEST = "lowest", "median", "highest"
MOST_LINES = 8  # of groups, in one chart; of more there is a range


def of_range(name: str, which: str) -> str:
    """The tag of a number of all groups.

    >>> of_range("hyperparams/alpha", LOWEST)
    'groups/alpha/lowest'

    Args:
        name: the metric's tag.
        which: LOWEST, MEDIAN or HIGHEST.
    """
    return f"groups/{name.removeprefix(HYPERPARAMS)}/{which}"
