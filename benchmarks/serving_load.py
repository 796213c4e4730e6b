"""A server under load: N clients for some minutes, every answer held against the one alone.

    python -m benchmarks.serving_load --size mini --clients 64 --seconds 300

A base of random weights is served in a process of its own. Each of some requests, which differ in
prompt, length, seed and temperature, is answered by `generate` first, which also says how fast that
is in batches of as many rows. Then the clients ask for one of them after another. Counted are
answers, those that differ and where, what was refused or lost, tokens a second, and the server's
memory, a minute after the beginning and at the end.

With --plain PYTHON a server of FastAPI around transformers' `generate` (plain_server.py) is asked
instead, run by that interpreter; nothing is streamed then, and no answer compared.
"""

import argparse
import asyncio
import dataclasses
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import OURS
from benchmarks.processes import SIDES

POOL = 64
"""Different requests."""
WARM = 0.2
"""The share of the time after which memory is looked at first."""
SAMPLE_SECONDS = 2.0


@dataclasses.dataclass
class Tally:
    """What came of the requests."""

    answers: int = 0
    tokens: int = 0
    differing: int = 0
    mixed_up: int = 0
    """Answers that differ from the first token on, or are another request's."""
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)
    memory: list[tuple[float, int]] = dataclasses.field(default_factory=list)


def requests(count: int) -> list[dict[str, Any]]:
    """What is asked for."""
    draw = random.Random(0)
    return [
        {
            "prompt": [draw.randrange(50256) for _ in range(draw.randint(4, 48))],
            "max_tokens": draw.randint(16, 64),
            "temperature": draw.choice([0.0, 0.7, 1.0]),
            "top_p": draw.choice([1.0, 0.9]),
            "seed": number,
        }
        for number in range(count)
    ]


def known_answers(size: str, base: Path, asked: list[dict[str, Any]], rows: int) -> list[str]:
    """Writes the base, and gives what `generate` says; prints how fast it says it."""
    from gpt2_tuning.families.known import config_of_size
    from gpt2_tuning.inference.generation import generate
    from gpt2_tuning.inference.generation_settings import Generation
    from gpt2_tuning.models.language_model import LanguageModel

    model = LanguageModel(config_of_size(size)).built_now()
    model.save_pretrained(base)
    prompts = [one["prompt"] for one in asked]
    ways = [
        Generation(max_new_tokens=one["max_tokens"], **{
            name: one[name] for name in ("temperature", "top_p", "seed")
        })
        for one in asked
    ]  # fmt: skip
    # Each with the number 0, which a request's only answer has.
    for _ in range(2):  # the first time it is compiled
        begun, found = time.monotonic(), []
        for start in range(0, len(asked), rows):
            part = slice(start, start + rows)
            found += generate(model, prompts[part], generation=ways[part], batch_size=rows)
        tokens = sum(len(one.token_ids) for one in found)
        speed = tokens / (time.monotonic() - begun)
    print(f"generate, {rows} rows at once: {speed:.1f} tokens/s", flush=True)
    alone = [generate(model, [p], generation=w)[0].text for p, w in zip(prompts, ways, strict=True)]
    return alone


async def client(url: str, asked, wanted, until: float, tally: Tally, number: int) -> None:
    """Asks for one thing after another; where no answers are `wanted`, none is compared."""
    import openai

    draw = random.Random(number)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=600
    ) as server:
        while time.monotonic() < until:
            place = draw.randrange(len(asked))
            one, begun = asked[place], time.monotonic()
            fields = {"model": "base", **one}
            try:
                if wanted and draw.random() < 0.5:
                    text, made = await streamed(server, fields)
                else:
                    found = await server.completions.create(**fields)
                    text, made = found.choices[0].text, found.usage.completion_tokens
            except openai.APIError as error:
                name = type(error).__name__
                tally.errors[name] = tally.errors.get(name, 0) + 1
                await asyncio.sleep(1)
                continue
            tally.answers, tally.tokens = tally.answers + 1, tally.tokens + made
            tally.seconds.append(time.monotonic() - begun)
            if wanted and text != wanted[place]:
                tally.differing += 1
                others = [other for other in wanted if other != wanted[place]]
                tally.mixed_up += text[:3] != wanted[place][:3] or text in others


async def streamed(server, fields: dict[str, Any]) -> tuple[str, int]:
    """A streamed answer and the count of its tokens."""
    text, made = "", 0
    options = {"include_usage": True}
    async for part in await server.completions.create(
        stream=True, stream_options=options, **fields
    ):
        text += part.choices[0].text if part.choices else ""
        made = part.usage.completion_tokens if part.usage else made
    return text, made


async def watched(process: subprocess.Popen, until: float, tally: Tally) -> None:
    """Notes the server's memory, in KB, every few seconds."""
    begun = time.monotonic()
    while time.monotonic() < until:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        tally.memory.append((time.monotonic() - begun, int(found.group(1))))
        await asyncio.sleep(SAMPLE_SECONDS)


async def load(url: str, process, asked, wanted, options) -> Tally:
    """All clients at once."""
    tally, until = Tally(), time.monotonic() + options.seconds
    clients = [client(url, asked, wanted, until, tally, n) for n in range(options.clients)]
    begun = time.monotonic()
    await asyncio.gather(watched(process, until, tally), *clients)
    lasted = time.monotonic() - begun
    report(tally, lasted, options)
    return tally


def report(tally: Tally, lasted: float, options) -> None:
    """Prints the figures."""
    times = sorted(tally.seconds)
    print(f"{options.clients} clients, {lasted:.0f} s, {options.slots} slots")
    print(f"answers {tally.answers}, tokens/s {tally.tokens / lasted:.1f}")
    if times:
        middle, late = times[len(times) // 2], times[int(len(times) * 0.95)]
        print(f"seconds of an answer: median {middle:.2f}, 95 % below {late:.2f}")
    print(f"refused or lost: {tally.errors or 'none'}")
    print(f"differing from the answer alone: {tally.differing}; mixed up: {tally.mixed_up}")
    warm = [size for at, size in tally.memory if at >= WARM * options.seconds]
    if warm:
        print(
            f"memory: {warm[0] / 1024:.0f} MB warm, {warm[-1] / 1024:.0f} MB at the end "
            f"({100 * (warm[-1] / warm[0] - 1):+.1f} %), at most {max(warm) / 1024:.0f} MB"
        )
        course = [size // 1024 for _, size in tally.memory[:: max(len(tally.memory) // 10, 1)]]
        print(f"memory in tenths of the time, MB: {', '.join(map(str, course))}")


def main() -> int:
    """Serves, asks, and says what came of it; 1 where an answer was lost or mixed up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="mini")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--plain", metavar="PYTHON", help="ask the plain server, run by this one")
    options = parser.parse_args()
    asked = requests(POOL)
    with tempfile.TemporaryDirectory() as home:
        base = Path(home) / "base"
        wanted = known_answers(options.size, base, asked, options.slots)
        command = [sys.executable, "-m", "gpt2_tuning", "serve", str(base), "--port", "0"]
        command += ["--slots", str(options.slots)]
        if options.plain:
            command = [options.plain, str(Path(__file__).with_name("plain_server.py")), str(base)]
            wanted = []
        environment = {**os.environ, **SIDES["hf" if options.plain else OURS]}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                found = re.search(r"http://\S+", process.stdout.readline())
                assert found, "the server did not start"
                tally = asyncio.run(load(found.group(), process, asked, wanted, options))
            finally:
                process.terminate()
    return int(bool(tally.errors or tally.mixed_up or not tally.answers))


if __name__ == "__main__":
    sys.exit(main())
