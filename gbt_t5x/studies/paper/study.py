"""The runs of the paper's experiments, and the numbers that are written of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import pathlib

from gbt_t5x.studies import commands, exports, launch, runs, scores, search, spaces
from gbt_t5x.studies.paper import experiments, measured

_PRETRAINED = {
    "base": experiments.Setup(),
    "alpha_beta1": experiments.Setup(("alpha", "beta1"), experiments.REACH["t5"]),
}
_ROWS = {False: "base", True: "guided"}  # of Table 2: whether it learns
_SORTS = ("hours ", "settings ")  # of what size.csv has beside the size
_SEPARATOR = "; "


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What is written at once.

    Attributes:
        part: one of `experiments.PARTS`.
        which: the columns that tell its rows, with their values.
        settings: gin files, bindings and spaces of its runs, each once.
        rows_of: trains, and gives file -> rows.
    """

    part: str
    which: Mapping[str, str]
    settings: Sequence[str]
    rows_of: Callable[[], Mapping[str, list[measured.Row]]]

    @property
    def name(self) -> str:
        return " ".join([self.part, *self.which.values()])


class Study:
    """The runs of a folder, and what is written of them.

    Attributes:
        results: the folder of the CSV files.
    """

    def __init__(self, folder: pathlib.Path, size: experiments.Size, jobs: int = 1):
        """Trains nothing yet.

        Args:
            folder: of the runs.
            size: how much is trained.
            jobs: runs at once.
        """
        self.results = folder / "results"
        self._folder, self._size, self._jobs = folder, size, jobs
        self._made: set[pathlib.Path] = set()  # of a piece

    def make(self, part: str, corpora: Sequence[str] = ("templates",)) -> None:
        """Trains what the results lack of a part, and writes its numbers.

        Table 1 is written direction by direction, and Table 2 column by column: what is
        there is not made again, on another machine neither.

        Args:
            part: one of `experiments.PARTS`.
            corpora: of Tables 1 and 2.

        Raises:
            ValueError: the results are of another size, of other runs or of other
                settings, or a run failed.
        """
        self._check_size()
        if part in experiments.FIGURES:
            self._check_runs(part)
        for piece in self._pieces(part, corpora):
            there = measured.read(self.results, part)
            if any(piece.which.items() <= row.items() for row in there):
                self._check_settings(piece)
                commands.say(f"{piece.name}: is in {self.results}, and is not made again")
                continue
            self._made.clear()
            found = piece.rows_of()
            self._write("size", [*self._sizes(piece)])
            # The part's own rows say that all is there: they come last.
            for name in sorted(found, key=lambda name: name == part):
                self._write(name, [*self._others(name, piece.which), *found[name]])

    def _pieces(self, part: str, corpora: Sequence[str]) -> Iterator[_Piece]:
        if part == "table_1":
            for corpus, direction in itertools.product(corpora, self._size.directions):
                yield _Piece(
                    part,
                    {"corpus": corpus, "direction": direction},
                    _settings(self._of_table_1(corpus, direction)),
                    functools.partial(self._table_1, corpus, direction),
                )
        elif part == "table_2":
            for column in itertools.chain.from_iterable(
                experiments.comparisons(corpus, self._size) for corpus in corpora
            ):
                of = [self._of_column(column, guided) for guided in (False, True)]
                searched = (True, bool(column.guided_trials))
                asked = itertools.compress(of, searched)
                questions = [experiments.question(*args) for args in asked]
                spaces_of = [f"{s.name} in {s}" for q in questions for s in q.space]
                yield _Piece(
                    part,
                    _which(column),
                    _settings([experiments.untuned(*args) for args in of], spaces_of),
                    functools.partial(self._table_2, column),
                )
        elif part == "table_3":
            variants = [*self._pretrained().values()]
            for name, task in itertools.product(_PRETRAINED, experiments.TASKS):
                variants.append(experiments.finetuning(name, task, "", self._size))
            rows_of = lambda: {part: [*self._table_3()]}
            yield _Piece(part, {}, _settings(variants), rows_of)
        else:
            rows_of = lambda: {part: [*self._figure(part)]}
            yield _Piece(part, {}, _settings(self._variants(part)), rows_of)

    def _others(self, name: str, which: measured.Row) -> list[measured.Row]:
        """The rows of a table that are of other pieces; a figure is one."""
        if name not in measured.COLUMNS:
            return []
        there = measured.read(self.results, name)
        return [row for row in there if not which.items() <= row.items()]

    def _check_size(self) -> None:
        there = measured.Results(self.results).sizes
        here = self._size.texts()
        others = [name for name in here if name in there and there[name] != here[name]]
        if others:
            sizes = [", ".join(f"{n} {of[n]}" for n in others) for of in (there, here)]
            raise ValueError(
                f"{self.results} has results of another size, {sizes[0]}, and this one "
                f"has {sizes[1]}: name another --folder"
            )

    def _check_settings(self, piece: _Piece) -> None:
        text = measured.Results(self.results).sizes.get(f"settings {piece.name}", "")
        there, here = text.split(_SEPARATOR), piece.settings
        if there != [*here]:
            one, other = (
                _SEPARATOR.join(x for x in some if x not in others) or "nothing else"
                for some, others in ((there, here), (here, there))
            )
            raise ValueError(
                f"{self.results} has {piece.name} of {one}, and this version makes it of "
                f"{other}: name another --folder"
            )

    def _check_runs(self, figure: str) -> None:
        there = [run.name for run in measured.Results(self.results).figure(figure)]
        here = [variant.name for variant in self._variants(figure)]
        if there and there != here:
            raise ValueError(
                f"{self.results / figure}.csv has the runs {', '.join(there)}, and this "
                f"version makes {', '.join(here)}: remove it, and make it again"
            )

    def _variants(self, figure: str) -> list[launch.Variant]:
        model, setups = experiments.FIGURES[figure]
        return [experiments.variant(model, setup, self._size) for setup in setups]

    def _write(self, name: str, rows: Sequence[measured.Row]) -> None:
        measured.write(self.results, name, rows)

    def _train(
        self,
        variants: Sequence[launch.Variant],
        folder: str,
        seeds: Sequence[int] | None = None,
    ) -> dict[str, list[pathlib.Path]]:
        seeds = seeds or self._size.seeds
        trained = launch.train(
            variants, self._folder / folder, seeds=seeds, jobs=self._jobs
        )
        self._made.update(*trained.values())
        return trained

    def _figure(self, name: str) -> Iterator[measured.Row]:
        model, setups = experiments.FIGURES[name]
        folder = "t5" if model == "t5" else "translation/templates/de_en"
        variants = self._variants(name)
        trained = self._train(variants, folder)
        steps = experiments.steps(model, self._size)
        for setup, variant in zip(setups, variants, strict=True):
            row = {
                "run": variant.name,
                "learned": "+".join(setup.learned),
                "eta": setup.eta(steps) if setup.learned else None,
                "beta1": setup.beta1,
            }
            yield from _curves(row, self._size.seeds, trained[variant.name])

    def _of_table_1(self, corpus: str, direction: str) -> list[launch.Variant]:
        return [
            experiments.variant("translation", setup, self._size, direction, corpus)
            for setup in experiments.TABLE_1
        ]

    def _table_1(self, corpus: str, direction: str) -> Mapping[str, list[measured.Row]]:
        variants = self._of_table_1(corpus, direction)
        trained = self._train(variants, f"translation/{corpus}/{direction}")
        of_setups = [
            (
                {
                    "corpus": corpus,
                    "direction": direction,
                    "learned": "+".join(setup.learned),
                },
                trained[variant.name],
            )
            for setup, variant in zip(experiments.TABLE_1, variants, strict=True)
        ]
        return {"table_1": [*self._scored(of_setups, direction, corpus)]}

    def _scored(
        self,
        of_rows: Sequence[tuple[measured.Row, Sequence[pathlib.Path]]],
        direction: str,
        corpus: str,
        metrics: Sequence[str] = ("bleu", "chrf"),
    ) -> Iterator[measured.Row]:
        """Of the seeds' runs of each row, rows with their scores on the test split."""
        files, bindings = experiments.evaluation(direction, corpus)
        seeded = [
            ({**row, "seed": seed}, model_dir)
            for row, model_dirs in of_rows
            for seed, model_dir in zip(self._size.seeds, model_dirs, strict=True)
        ]
        all_dirs = [model_dir for _, model_dir in seeded]
        tests = launch.evaluate(all_dirs, files, bindings, jobs=self._jobs)
        self._made.update(tests)
        for (row, model_dir), test in zip(seeded, tests, strict=True):
            found = scores.read_model(str(test)).values
            of_metric = {key: values[-1] for (_, key), values in found.items()}
            loss = runs.last_value(runs.read_finished_run(model_dir).loss)
            yield {
                **row,
                "loss": loss,
                **{metric: of_metric[metric] for metric in metrics},
            }

    def _table_2(
        self, column: experiments.Comparison
    ) -> Mapping[str, list[measured.Row]]:
        """A column of Table 2, the trials of its searches, and of beta1 Figure E.1."""
        of_trials: list[measured.Row] = []
        of_rows: list[tuple[measured.Row, Sequence[pathlib.Path]]] = []
        figure: list[measured.Row] = []
        has_figure = (column.corpus, column.learned) == ("templates", "beta1")
        for guided in (False, True):
            trials, trained = self._searched(column, guided)
            for trial in trials:
                of_trial = {
                    **_which(column),
                    "row": _ROWS[guided],
                    "trial": trial.number,
                    "settings": _text(trial.values),
                    "loss": None if trial.problem else trial.loss,
                    "problem": trial.problem,
                    "seconds": trial.seconds,
                }
                of_trials.append(of_trial)
            for row, model_dirs in trained if has_figure else ():
                of_run = {"run": row["row"], "learned": column.learned if guided else ""}
                figure += _curves(of_run, self._size.seeds, model_dirs)
            of_rows += trained
        table = [*self._scored(of_rows, column.direction, column.corpus, ["bleu"])]
        found = {"trials": of_trials, "table_2": table}
        return found | {"figure_E1": figure} if has_figure else found

    def _searched(
        self, column: experiments.Comparison, guided: bool
    ) -> tuple[list[search.Trial], list[tuple[measured.Row, Sequence[pathlib.Path]]]]:
        """A search's trials, and the untuned and the tuned row with their runs.

        Without a search it is the untuned row alone.
        """
        row, of_column = _ROWS[guided], self._of_column(column, guided)
        name = f"{column.learned.replace('+', '_')}_{row}"
        folder = f"table_2/{column.corpus}/{column.direction}"
        untuned = experiments.untuned(*of_column)
        variants, trials = [untuned], []
        best: spaces.Values = {}
        if number := column.guided_trials if guided else column.trials:
            trials = search.search(
                experiments.question(*of_column),
                self._folder / folder / "searches" / name,
                trials=number,
                jobs=self._jobs,
            )
            self._made.update(trial.model_dir for trial in trials)
            best = search.best(trials).values
            bindings = [*untuned.bindings, *spaces.bindings(best)]
            variants.append(launch.Variant(f"{name}_tuned", untuned.gin_files, bindings))
        trained = self._train(variants, f"{folder}/runs")
        of_untuned = {
            **_which(column),
            "row": row,
            "runs": 1,
            "seconds": launch.seconds(trained[untuned.name][0]),
            "settings": "",
        }
        of_tuned = of_untuned | {
            "row": f"{row}_tuned",
            "runs": len(trials),
            "seconds": sum(trial.seconds for trial in trials),
            "settings": _text(best),
        }
        rows = [of_untuned, of_tuned][: len(variants)]
        return trials, [
            (of_row, trained[variant.name])
            for of_row, variant in zip(rows, variants, strict=True)
        ]

    def _of_column(self, column: experiments.Comparison, guided: bool) -> tuple:
        """What `experiments.untuned` and `experiments.question` take."""
        learned = column.learned.split("+")
        return learned, guided, self._size, column.corpus, column.direction

    def _pretrained(self) -> dict[str, launch.Variant]:
        return {
            name: experiments.variant("t5", setup, self._size)
            for name, setup in _PRETRAINED.items()
        }

    def _table_3(self) -> Iterator[measured.Row]:
        variants = self._pretrained()
        trained = self._train([*variants.values()], "t5")
        for number, seed in enumerate(self._size.seeds):
            of_runs = {}  # of a seed at once: each starts from a checkpoint of its own
            for name, task in itertools.product(variants, experiments.TASKS):
                model_dir = trained[variants[name].name][number]
                checkpoint = model_dir / f"checkpoint_{self._size.pretraining}"
                of_runs[name, task] = experiments.finetuning(
                    name, task, str(checkpoint), self._size
                )
            finetuned = self._train([*of_runs.values()], "finetuned", [seed])
            for (name, task), variant in of_runs.items():
                (folder,) = finetuned[variant.name]
                for (_, metric), values in scores.read_model(str(folder)).values.items():
                    yield {
                        "pretrained": name,
                        "task": task,
                        "metric": metric,
                        "seed": seed,
                        "value": values[-1],
                    }

    def _sizes(self, piece: _Piece) -> Iterator[measured.Row]:
        """How much is trained, and of all so far the hours and the settings.

        Args:
            piece: what was made now.
        """
        hours = sum(map(launch.seconds, self._made)) / 3600
        now = {
            f"hours {piece.name}": f"{hours:.2f}",
            f"settings {piece.name}": _SEPARATOR.join(piece.settings),
        }
        known = measured.Results(self.results).sizes | now
        of_pieces = {n: v for n, v in known.items() if n.startswith(_SORTS)}
        for name, value in [*self._size.texts().items(), *sorted(of_pieces.items())]:
            yield {"name": name, "value": value}


def _which(column: experiments.Comparison) -> Mapping[str, str]:
    """The values that tell a column of Table 2 from the others."""
    names = ("corpus", "learned", "direction")
    return {name: getattr(column, name) for name in names}


def _settings(
    variants: Sequence[launch.Variant], others: Sequence[str] = ()
) -> Sequence[str]:
    """What is in gin files and bindings of some runs, and beside them, each once."""
    of_runs = [text for v in variants for text in (*v.gin_files, *v.bindings)]
    return [*dict.fromkeys([*of_runs, *others])]


def _curves(
    row: measured.Row, seeds: Sequence[int], model_dirs: Sequence[pathlib.Path]
) -> Iterator[measured.Row]:
    """The rows of a figure's run."""
    for seed, model_dir in zip(seeds, model_dirs, strict=True):
        run = runs.read_run(model_dir)
        curves = {"loss": run.loss}
        if run.hyperparams:  # with the values of the first update
            learned = exports.read(model_dir)
            steps = [*map(int, learned.steps)]
            for name, values in learned.table.items():
                curves[name] = dict(zip(steps, map(float, values[:, 0]), strict=True))
        for quantity, curve in curves.items():
            for step, value in curve.items():
                yield {
                    **row,
                    "seed": seed,
                    "quantity": quantity,
                    "step": step,
                    "value": f"{value:.6g}",
                }


def _text(values: spaces.Values) -> str:
    """Settings as text: `NAME = VALUE, ...`."""
    return ", ".join(spaces.bindings(values))
