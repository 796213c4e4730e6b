"""What rows under adapters of their own cost: one batch of 8, against a batch under one adapter.

    python -m benchmarks.adapters_at_once --repeats 5

Both models have the shape of 124M and random weights. The one is made with a LoRA of rank 8, the
other has four adapters of rank 8, of which each row has one; they generate in turns. Processor time
counts beside the clock, since the machine may be shared.
"""

import argparse
import statistics
import time

ROWS, ADAPTERS, RANK, PROMPT = 8, 4, 8, 16


def main() -> None:
    """Prints the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--new_tokens", type=int, default=32)
    options = parser.parse_args()

    import numpy as np

    from gpt2_tuning import GPT2Config, GPT2LanguageModel, generate_text

    config, lora = GPT2Config.from_size("124M"), {"rank": RANK}
    one, several = GPT2LanguageModel(config, lora=lora), GPT2LanguageModel(config)
    for model in (one, several):
        model.build()
    names = [f"adapter-{number}" for number in range(ADAPTERS)]
    for name in names:
        several.add_adapter(name, lora)
    rows = [names[number % ADAPTERS] for number in range(ROWS)]
    prompts = np.random.default_rng(0).integers(50256, size=(ROWS, PROMPT)).tolist()
    ways = {
        "one adapter": lambda: generate_text(one, prompts, options.new_tokens),
        "four adapters, one chosen": lambda: generate_text(several, prompts, options.new_tokens),
        "four adapters, one a row": lambda: generate_text(
            several, prompts, options.new_tokens, adapters=rows
        ),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for generate in ways.values():
        generate()  # traced and compiled
    for _ in range(options.repeats):
        for name, generate in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            generate()
            taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
    first = None
    for name, times in taken.items():
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        first = first or medians
        ratios = [found / base for found, base in zip(medians, first, strict=True)]
        print(
            f"{name:26} {medians[0]:7.2f} s ({ratios[0]:.2f}), "
            f"of processors {medians[1]:7.2f} s ({ratios[1]:.2f})"
        )


if __name__ == "__main__":
    main()
