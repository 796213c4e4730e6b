"""Write the four synthetic sample data sets that are bundled with the package.

    python experiments/make_samples.py [directory]

The emotion sample is built from phrases (`sample_phrases.py`), the entailment sample from scenes
(`sample_scenes.py`), the instruction sample from questions (`sample_questions.py`) about facts
(`sample_facts.py`). Each has a random generator of its own with a fixed seed, so that running the
script again writes the same bytes.
"""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sample_phrases as phrases
import sample_scenes as scenes
from sample_questions import Row, capitalize, instruction_rows

ASSETS = Path(__file__).resolve().parents[1] / "src" / "gpt2_tuning" / "assets"
SEED = 7
EMOTION_MIX = {"named": 40, "reaction": 24, "topic": 14, "mixed": 22}  # texts per class
ENTAILMENT_ROWS_PER_LABEL = 200

T = TypeVar("T")


def deal(rng: random.Random, items: Sequence[T]) -> Iterator[T]:
    """Deal the items in random order, for ever: no item comes again before all have come."""
    while True:
        yield from rng.sample(items, len(items))


# -------------------------------------------------------------------------------- emotion


def emotion_texts(rng: random.Random, label: str) -> Iterator[str]:
    """Yield different texts of one class, as many as `EMOTION_MIX` says."""
    own = [feeling.replace("_", " ") for feeling in phrases.FEELINGS[label].split()]
    others = [
        feeling
        for name, listed in phrases.FEELINGS.items()
        for feeling in listed.split()[:4]
        if name != label
    ]
    feelings, events = deal(rng, own), deal(rng, phrases.EVENTS[label])
    reactions, topics = deal(rng, phrases.REACTIONS[label]), deal(rng, phrases.TOPICS)
    seen = set()
    for kind, count in EMOTION_MIX.items():
        frames = deal(rng, phrases.EMOTION_FRAMES[kind])
        wanted = len(seen) + count
        while len(seen) < wanted:
            other, another = rng.sample(others, 2)
            event = next(events).format(kin=rng.choice(phrases.KIN), peer=rng.choice(phrases.PEERS))
            text = next(frames).format(
                event=event,
                feeling=next(feelings),
                reaction=next(reactions),
                topic=next(topics),
                other=other,
                another=another,
                adverb=rng.choice(["", "", "so ", "really "]),
                time=rng.choice(phrases.TIMES),
                confidant=rng.choice(phrases.CONFIDANTS),
            )
            if text not in seen and 6 <= len(text.split()) <= 25:
                seen.add(text)
                yield text


def emotion_rows() -> list[Row]:
    """Return `{"text", "label"}` rows, the same number of each class, in random order."""
    rng = random.Random(SEED)
    rows = [
        {"text": text, "label": label}
        for label in phrases.FEELINGS
        for text in emotion_texts(rng, label)
    ]
    return rng.sample(rows, len(rows))


# ----------------------------------------------------------------------------- entailment


def scene_slots(rng: random.Random) -> dict[str, Any]:
    """Draw a filler for every slot of a scene; `name` and `name2` always differ."""
    slots: dict[str, Any] = dict(zip("abc", rng.sample(scenes.PEOPLE, 3), strict=True))
    for slot, fillers in scenes.FILLERS.items():
        slots[slot], slots[slot + "2"] = rng.sample(fillers, 2)
    slots["member"] = rng.choice(scenes.MEMBERS[slots["kind"]])
    slots["earlier"], slots["year"], slots["later"] = sorted(rng.sample(range(1950, 2020), 3))
    slots["year2"] = rng.choice([slots["earlier"], slots["later"]])
    return slots


def entailment_rows() -> list[Row]:
    """Return `{"premise", "hypothesis", "label"}` rows, half of each label, in random order."""
    rng = random.Random(SEED)
    rows, seen = [], set()
    for column, label in enumerate(["entailment", "not_entailment"]):
        candidates = [
            (wordings, pair[column])
            for wordings, *pairs in scenes.SCENES
            for pair in pairs
            if pair[column] is not None
        ]
        templates = deal(rng, candidates)
        wanted = len(rows) + ENTAILMENT_ROWS_PER_LABEL
        while len(rows) < wanted:
            slots = scene_slots(rng)
            wordings, hypothesis = next(templates)
            premise = capitalize(rng.choice(wordings).format(**slots))
            hypothesis = capitalize(hypothesis.format(**slots))
            if (premise, hypothesis) not in seen:
                seen.add((premise, hypothesis))
                rows.append({"premise": premise, "hypothesis": hypothesis, "label": label})
    return rng.sample(rows, len(rows))


# ------------------------------------------------------------------------- conversations


SYSTEMS = ("Answer in one short sentence.", "You are a careful assistant.")


def conversation_rows() -> list[dict[str, Any]]:
    """Return `{"messages"}` rows: one to three of the instruction sample's questions each."""
    rng = random.Random(SEED)
    asked = instruction_rows(SEED + 1)
    rows = []
    while asked:
        messages = [message("system", rng.choice(SYSTEMS))] if rng.random() < 0.5 else []
        for _ in range(rng.choice((1, 2, 2, 3))):
            if asked:
                found = asked.pop()
                question = "\n\n".join(filter(None, (found["context"], found["instruction"])))
                messages += [message("user", question), message("assistant", found["response"])]
        rows.append({"messages": messages})
    return rows


def message(role: str, content: str) -> dict[str, str]:
    """Return what one says."""
    return {"role": role, "content": content}


# --------------------------------------------------------------------------------- files


def build_samples() -> dict[str, str]:
    """Return the content of every sample file by its name: JSON lines."""
    samples = {
        "emotion_sample.jsonl": emotion_rows(),
        "entailment_sample.jsonl": entailment_rows(),
        "instruction_sample.jsonl": instruction_rows(SEED),
        "conversation_sample.jsonl": conversation_rows(),
    }
    return {
        name: "".join(json.dumps(made, ensure_ascii=False) + "\n" for made in rows)
        for name, rows in samples.items()
    }


def main(argv: Sequence[str]) -> None:
    """Write the files to the directory named first, or to the package's assets."""
    directory = Path(argv[0]) if argv else ASSETS
    for name, content in build_samples().items():
        (directory / name).write_bytes(content.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
