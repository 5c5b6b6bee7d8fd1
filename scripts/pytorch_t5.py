"""A T5 of Hugging Face's transformers, whose training steps compare_pytorch.py times.

Command: python scripts/pytorch_t5.py BATCHES CONFIG
Requires: torch and transformers, which .venv does not have.

Args:
    BATCHES: an .npz file: inputs, (batches, rows, length), decoder_inputs and targets.
    CONFIG: the fields of transformers.T5Config, as JSON.

Writes the number of parameters; then, for each FIRST STOP that it reads, trains on the
batches from the first to the one before the last, and writes the seconds.
"""

import json
import sys
import time

import numpy as np
import torch
import transformers


def main() -> None:
    torch.manual_seed(0)
    config = transformers.T5Config(**json.loads(sys.argv[2]), use_cache=False)
    model = transformers.T5ForConditionalGeneration(config).train()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)
    arrays = {k: torch.from_numpy(x).long() for k, x in np.load(sys.argv[1]).items()}

    def train(first: int, stop: int) -> float:
        """Seconds of a step on each of these batches."""
        started = time.perf_counter()
        for i in range(first, stop):
            inputs, targets = arrays["inputs"][i], arrays["targets"][i]
            loss = model(
                input_ids=inputs,
                attention_mask=(inputs > 0).float(),
                decoder_input_ids=arrays["decoder_inputs"][i],
                labels=targets.masked_fill(targets == 0, -100),
            ).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if not torch.isfinite(loss):
            sys.exit(f"the loss is {loss.item()}")
        return time.perf_counter() - started

    train(0, 1)
    print(sum(p.numel() for p in model.parameters()), flush=True)
    for line in sys.stdin:
        print(train(*map(int, line.split())), flush=True)


if __name__ == "__main__":
    main()
