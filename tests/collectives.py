"""Prints what the compiled steps of a mesh of all devices exchange, as JSON.

Source -> [numbers in arrays, scalars], of one step.
"""

import json
import math
import re

import tiny

_COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_LINE = re.compile(rf" = (.*?) (?:{_COLLECTIVES})(?:-start)?\(")
_SHAPE = re.compile(r"\b\w+\[([\d,]*)\]")


def exchanged(trainer) -> tuple[int, int]:
    """Numbers in arrays, and scalars, that the collectives of the step give."""
    programs = []
    compile_step = trainer._partitioner.compile

    def record(*args):
        programs.append(compile_step(*args))
        return programs[-1]

    trainer._partitioner.compile = record
    trainer.compile_train(next(tiny.batches(trainer)))
    shapes = [
        [int(n) for n in dims.split(",") if n]
        for line in _LINE.findall(programs[0].as_text())
        for dims in _SHAPE.findall(line)
    ]
    sizes = [math.prod(shape) for shape in shapes]
    return sum(n for n in sizes if n > 1), sizes.count(1)


def main():
    from t5x import adafactor, trainer as t5x_trainer

    from gbt_t5x import optimizers

    base = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    next_batch = optimizers.GuidedOptimizer(base, ["alpha", "beta1"], 0.01, discount=0.0)
    makers = {
        "unguided": lambda: tiny.make_t5_trainer(base, t5x_trainer.Trainer),
        "held_out": lambda: tiny.make_t5_trainer(tiny.guided()),
        "next_batch": lambda: tiny.make_t5_trainer(next_batch, guidance_dataset_cfg=None),
    }
    found = {}
    for name, make in makers.items():
        with make() as trainer:
            found[name] = exchanged(trainer)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
