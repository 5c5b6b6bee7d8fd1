"""What λ did, on one page of TensorBoard: its tab Custom Scalars.

The page has the losses, the learning rate with and without α, and every hyper-parameter
that is learned, of all runs that are shown. Of up to `tags.MOST_LINES` groups each has a
line; of more, the median and the range from the lowest to the highest, which
`summaries.GuidedMetricsManager` writes as `groups/NAME/...`.
"""

from collections.abc import Sequence
import re

from clu import metric_writers
import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from gbt_t5x import tags

_PAGE = "Learned hyper-parameters"


def write(
    writer: metric_writers.MetricWriter, names: Sequence[str], groups: Sequence[str]
) -> None:
    """Writes the page of a run, whose scalars the same writer writes.

    A resumed run writes it again, into its next file; TensorBoard shows it once.

    Args:
        writer: writes nothing on all processes but the first.
        names: of the hyper-parameters.
        groups: of parameters, if there are any.
    """
    content = page(names, groups).SerializeToString()
    tag = metadata.CONFIG_SUMMARY_TAG
    # NumPy's own strings end where their last zeros begin.
    values = {tag: np.array(content, dtype=object)}
    writer.write_summaries(0, values, {tag: metadata.create_summary_metadata()})


def page(names: Sequence[str], groups: Sequence[str]) -> layout_pb2.Layout:
    """The page; a line of a chart is a tag that its regular expression matches."""
    per_group = "(/.*)?" if groups else ""
    charts = [_lines("loss per target token", f"(guidance/)?{tags.LOSS}")]
    if len(groups) <= tags.MOST_LINES:
        charts.append(
            _lines("learning rate", f"{tags.LEARNING_RATE}|{tags.EFFECTIVE}{per_group}")
        )
        charts += [
            _lines(n, f"{tags.HYPERPARAMS}{re.escape(n)}{per_group}") for n in names
        ]
    else:
        of_all = f"{len(groups)} groups"
        charts.append(_lines("learning rate of the schedule", tags.LEARNING_RATE))
        if "alpha" in names:
            charts.append(_range(f"effective learning rate, {of_all}", tags.EFFECTIVE))
        charts += [_range(f"{name}, {of_all}", name) for name in names]
    return layout_pb2.Layout(category=[layout_pb2.Category(title=_PAGE, chart=charts)])


def _lines(title: str, pattern: str) -> layout_pb2.Chart:
    content = layout_pb2.MultilineChartContent(tag=[f"^({pattern})$"])
    return layout_pb2.Chart(title=title, multiline=content)


def _range(title: str, name: str) -> layout_pb2.Chart:
    series = layout_pb2.MarginChartContent.Series(
        value=tags.of_range(name, tags.MEDIAN),
        lower=tags.of_range(name, tags.LOWEST),
        upper=tags.of_range(name, tags.HIGHEST),
    )
    content = layout_pb2.MarginChartContent(series=[series])
    return layout_pb2.Chart(title=title, margin=content)
