"""A small model's schedules on a larger one: what is trained, and what is printed."""

from gbt_t5x.studies import launch, macros, transfer
import gin_runs
from written_runs import write_run

REPLAYS = {"guided": "guided.gin", "recipe": "recipe.gin"}
NAMES = [
    *("baseline", "guided", "guided_replayed"),
    *("linear", "recipe", "recipe_replayed"),
]
LOSSES = {20: 4.0, 40: 3.0}


def larger(*bindings):
    return {v.name: v for v in transfer.larger(REPLAYS, bindings)}


def bindings_of(variant):
    first, *others = (f for f in variant.gin_files if f not in REPLAYS.values())
    includes = [f"include {file!r}" for file in others]
    return gin_runs.bindings_of(first, *includes, *variant.bindings)


def test_the_larger_runs_differ_from_the_small_ones_by_the_model_alone():
    small = {v.name: v for v in transfer.small(["TRAIN_STEPS = 9"])}
    grown = dict(binding.split(" = ") for binding in transfer.LARGER)
    for name, variant in small.items():
        found = bindings_of(variant)
        changed = bindings_of(larger("TRAIN_STEPS = 9")[name])
        assert dict(changed.items() - found.items()) == grown, name
        assert all(int(changed[k]) > int(found[k]) for k in grown)


def test_a_replay_follows_the_files_of_its_own_schedule_without_guidance():
    variants = larger()
    assert list(variants) == NAMES
    for name, of in (("guided_replayed", "baseline"), ("recipe_replayed", "linear")):
        files = variants[name].gin_files
        assert files == [*variants[of].gin_files, REPLAYS[name.removesuffix("_replayed")]]
        assert variants[name].bindings == variants[of].bindings


def test_what_has_no_guidance_gets_none_of_its_macros_and_the_recipes_rate():
    given = ["META_LEARNING_RATE = 0.5", "LEARNING_RATE = 0.03", "TRAIN_STEPS = 9"]
    variants = larger(*given)
    assert set(given) <= {*variants["recipe"].bindings}
    assert variants["baseline"].bindings == [*transfer.LARGER, "TRAIN_STEPS = 9"]
    of_guided = ["META_LEARNING_RATE = 0.5", "TRAIN_STEPS = 9"]
    assert variants["guided"].bindings == [*transfer.LARGER, *of_guided]
    small = {variant.name: variant.bindings for variant in transfer.small(given)}
    assert small == {"guided": of_guided, "recipe": [transfer.GROUPS, *given]}
    assert "PEAK_RATE = 0.03" in variants["linear"].bindings
    rate = macros.read(["gbt_t5x/gin/quickstart_recipe.gin"])["LEARNING_RATE"]
    assert f"PEAK_RATE = {rate}" in larger()["recipe_replayed"].bindings


def test_layers_share_their_groups():
    """So those that one layer learned are those of two."""
    with gin_runs.arguments("gin/quickstart_recipe.gin", transfer.GROUPS) as kwargs:
        definition = kwargs["model"].optimizer_def
    layer = {"attention": {"key": {"kernel": 0}}}
    params = {
        "encoder": {"layers_0": layer, "layers_1": layer},
        "token_embedder": {"embedding": 0},
    }
    assert definition.group_names(params) == [
        "encoder.attention.key.kernel",
        "token_embedder.embedding",
    ]


def test_every_seed_replays_what_was_learned_from_it(tmp_path, monkeypatch, capsys):
    replayed = {}

    def train(variants, folder, *, seeds, jobs):
        assert jobs == 2
        trained = {}
        for variant in variants:
            assert "TRAIN_STEPS = 40" in variant.bindings
            trained[variant.name] = [folder / variant.name / str(seed) for seed in seeds]
            replayed.setdefault(variant.name, []).append(variant.gin_files[-1])
            for model_dir in trained[variant.name]:
                in_groups = variant.name == "recipe"
                value = [float(model_dir.name)] * 2
                learned = {"alpha/a" if in_groups else "alpha": value}
                of_small = folder.name == "small"
                write_run(model_dir, LOSSES, [1.0, 1.0], learned if of_small else {})
                config = transfer.GROUPS if in_groups else "GROUPS = None"
                (model_dir / "config.gin").write_text(f"{config}\n")
        return trained

    monkeypatch.setattr(launch, "train", train)
    command = f"--folder {tmp_path} --gin.TRAIN_STEPS=40 --seeds 4 5 --jobs 2"
    transfer.main(command.split())
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-6:]]
    assert rows == NAMES
    assert (tmp_path / "report.png").exists()
    folder = tmp_path / "schedules"
    for name in REPLAYS:
        files = [folder / f"{name}_{seed}.csv" for seed in (4, 5)]
        gin_files = [csv.with_suffix(".gin") for csv in files]
        assert replayed[f"{name}_replayed"] == [*map(str, gin_files)]
        for seed, csv, gin_file in zip((4, 5), files, gin_files, strict=True):
            assert csv.read_text().splitlines()[-1].split(",")[1] == f"{seed}.0"
            assert f"SCHEDULE = {str(csv)!r}" in gin_file.read_text()
