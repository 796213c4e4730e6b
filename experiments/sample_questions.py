"""The instruction sample of `make_samples.py`: one function for each kind of question.

Each takes a random generator and returns a row. What can be computed is computed, never typed.
"""

import random
from collections.abc import Callable
from typing import Any

import sample_facts as facts
import sample_scenes as scenes

Row = dict[str, str]
Make = Callable[[random.Random], Row]


def capitalize(text: str) -> str:
    """Return the text with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """Return the noun after "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def row(instruction: str, response: str, category: str, context: str = "") -> Row:
    """Return one instruction row, its columns in the order of databricks-dolly-15k."""
    return {
        "instruction": instruction,
        "context": context,
        "response": response,
        "category": category,
    }


def arithmetic(rng: random.Random) -> Row:
    """Ask for a sum, a difference, a product or a quotient of whole numbers."""
    x, y, z = rng.randint(11, 89), rng.randint(11, 89), rng.randint(3, 12)
    low, high = sorted([x, y])
    question, answer = rng.choice(
        [
            (f"What is {x} + {y}?", x + y),
            (f"What is {high} - {low}?", high - low),
            (f"What is {x} times {z}?", x * z),
            (f"What is {x * z} divided by {z}?", x),
            (f"Add {x} and {y}.", x + y),
            (f"Subtract {low} from {high}.", high - low),
        ]
    )
    return row(question, str(answer), "open_qa")


def word_problem(rng: random.Random) -> Row:
    """Wrap a small calculation in a story."""
    name, n, m, good = (
        rng.choice(scenes.PEOPLE),
        rng.randint(13, 40),
        rng.randint(3, 12),
        rng.choice(["pencils", "apples", "stickers", "eggs", "marbles"]),
    )
    question, answer = rng.choice(
        [
            (f"One box holds {n} {good}. How many {good} do {m} boxes hold?", n * m),
            (f"{name} has {n} {good} and gives away {m}. How many {good} are left?", n - m),
            (f"{name} has {n} {good} and buys {m} more. How many {good} is that?", n + m),
        ]
    )
    return row(question, f"{answer} {good}.", "open_qa")


def spelling(rng: random.Random) -> Row:
    """Ask for the letters of a word: backwards, counted, or only one of them."""
    word = rng.choice(facts.WORDS)
    question, answer = rng.choice(
        [
            (f'Spell the word "{word}" backwards.', word[::-1]),
            (f'How many letters are in the word "{word}"?', f"{len(word)} letters."),
            (f'What is the first letter of the word "{word}"?', word[0]),
            (f'Write the word "{word}" in capital letters.', word.upper()),
        ]
    )
    return row(question, answer, "open_qa")


def sorting(rng: random.Random) -> Row:
    """Ask for words in alphabetical order or numbers in order of size."""
    words = rng.sample(facts.WORDS, rng.randint(3, 5))
    numbers = rng.sample(range(10, 99), 4)
    question, answer = rng.choice(
        [
            (f"Sort these words alphabetically: {', '.join(words)}.", ", ".join(sorted(words))),
            (
                f"Put these numbers in order, smallest first: {', '.join(map(str, numbers))}.",
                ", ".join(map(str, sorted(numbers))),
            ),
        ]
    )
    return row(question, answer, "open_qa")


def sentence_words(rng: random.Random) -> Row:
    """Ask for the number of words in a sentence, or for its first or last word."""
    sentence = rng.choice(facts.SENTENCES)
    words = sentence.removesuffix(".").split()
    question, answer = rng.choice(
        [
            ("How many words are in this sentence?", f"{len(words)} words."),
            ("What is the first word of this sentence?", words[0]),
            ("What is the last word of this sentence?", words[-1]),
        ]
    )
    return row(f"{question} {sentence}", answer, "open_qa")


def vocabulary(rng: random.Random) -> Row:
    """Ask for an opposite or for a plural."""
    if rng.random() < 0.5:
        word, answer = rng.choice(facts.OPPOSITES)
        return row(f'What is the opposite of "{word}"?', answer, "open_qa")
    word, answer = rng.choice(facts.PLURALS)
    return row(f'What is the plural of "{word}"?', answer, "open_qa")


def capital(rng: random.Random) -> Row:
    """Ask for the capital of a country, or for the country of a capital."""
    country, city = rng.choice(sorted(facts.CAPITALS.items()))
    if rng.random() < 0.6:
        return row(f"What is the capital of {country}?", f"The capital is {city}.", "open_qa")
    return row(
        f"Of which country is {city} the capital?",
        f"{city} is the capital of {country}.",
        "open_qa",
    )


def conversion(rng: random.Random) -> Row:
    """Ask for a quantity in a smaller unit."""
    unit, smaller, factor = rng.choice(facts.UNITS)
    n = rng.randint(2, 9)
    question = rng.choice(
        [f"How many {smaller} are in {n} {unit}?", f"Convert {n} {unit} to {smaller}."]
    )
    return row(question, f"{n * factor} {smaller}.", "open_qa")


def kind_of_thing(rng: random.Random) -> Row:
    """Ask which of two classes a thing, or a number, belongs to."""
    if rng.random() < 0.25:
        n = rng.randint(10, 999)
        answer = f"{n} is {'odd' if n % 2 else 'even'}."
        return row(f"Is {n} odd or even?", answer, "classification")
    rivals = rng.choice(facts.RIVALS)
    group = rng.choice(rivals)
    member = rng.choice(facts.GROUPS[group])
    thing = member if group == "metal" else with_article(member)
    first, second = map(with_article, rng.sample(rivals, 2))
    answer = f"{capitalize(thing)} is {with_article(group)}."
    return row(f"Is {thing} {first} or {second}?", answer, "classification")


def examples_of_kind(rng: random.Random) -> Row:
    """Ask for a few members of a class."""
    group, members = rng.choice(sorted(facts.GROUPS.items()))
    number, n = rng.choice([("two", 2), ("three", 3), ("four", 4)])
    answer = capitalize(", ".join(rng.sample(members, n)) + ".")
    return row(f"Name {number} kinds of {group}.", answer, "brainstorming")


def review(rng: random.Random) -> Row:
    """Ask for the sentiment of a review."""
    label = rng.choice(sorted(facts.REVIEWS))
    instruction = rng.choice(
        [
            "Is this review positive or negative?",
            "Classify the review as positive or negative.",
            "Was the customer satisfied? Answer with positive or negative.",
        ]
    )
    return row(instruction, label, "classification", rng.choice(facts.REVIEWS[label]))


def report(rng: random.Random) -> Row:
    """Ask for the topic of a sentence."""
    label = rng.choice(sorted(facts.REPORTS))
    topics = rng.sample(sorted(facts.REPORTS), len(facts.REPORTS))
    instruction = f"What is the text about: {', '.join(topics[:-1])} or {topics[-1]}?"
    return row(instruction, label, "classification", rng.choice(facts.REPORTS[label]))


def paragraph_slots(rng: random.Random) -> dict[str, Any]:
    """Draw a filler for every slot of a paragraph, and compute the slots that follow from them."""
    slots: dict[str, Any] = {
        "surname": rng.choice(["Baker", "Lopez", "Novak", "Singh", "Larsen", "Okafor", "Moreau"]),
        "month": rng.choice(scenes.MONTHS),
        "street": rng.choice(scenes.STREETS),
        "date": rng.randint(1, 28),
        "year": rng.randint(1955, 2001),
        "job": rng.choice(facts.JOBS),
        "event": rng.choice(facts.EVENTS),
        "place": rng.choice(facts.PLACES),
        "hour": rng.randint(5, 8),
        "price": rng.randint(3, 15),
        "code": f"{rng.choice('ABCDEFGH')}{rng.randint(1000, 9999)}",
        "days": rng.randint(2, 9),
        "children": rng.randint(3, 6),
        "miles": rng.randint(60, 400),
    }
    slots["n"], slots["m"], slots["k"] = n, m, k = rng.sample(range(3, 15), 3)
    fillers = [("name", scenes.PEOPLE), ("town", scenes.TOWNS), ("day", scenes.DAYS)]
    for slot, words in [*fillers, ("lang", facts.LANGUAGES), ("good", facts.GOODS)]:
        slots[slot], slots[slot + "2"], slots[slot + "3"] = rng.sample(words, 3)
    slots["siblings"] = slots["children"] - 1
    slots["total"], slots["animals"] = n + m, n + m + k
    slots["total_price"] = k * slots["price"]
    comparison = f"there are {n} dogs and {m} cats"
    slots["more_dogs"] = f"{'Yes' if n > m else 'No'}, {comparison}."
    return slots


def paragraph(rng: random.Random) -> Row:
    """Ask about a paragraph: for something it says word by word, or for what follows from it."""
    wordings = rng.choice(list(facts.QUESTIONS))
    question, answer = rng.choice(facts.QUESTIONS[wordings])
    slots = paragraph_slots(rng)
    context, response = rng.choice(wordings).format(**slots), answer.format(**slots)
    judged = response.startswith(("Yes, ", "No, "))
    extracted = not judged and all(part in context for part in response.split(", "))
    category = "information_extraction" if extracted else "closed_qa"
    return row(question.format(**slots), response, category, context)


INSTRUCTION_MIX: list[tuple[Make, int]] = [
    (arithmetic, 22),
    (word_problem, 10),
    (spelling, 22),
    (sorting, 14),
    (sentence_words, 14),
    (vocabulary, 20),
    (capital, 16),
    (conversion, 12),
    (kind_of_thing, 14),
    (examples_of_kind, 6),
    (review, 15),
    (report, 12),
    (paragraph, 123),
]


def instruction_rows(seed: int) -> list[Row]:
    """Return rows in databricks-dolly-15k's schema, half of them with a context."""
    rng = random.Random(seed)
    rows: dict[tuple[str, str], Row] = {}
    for make, count in INSTRUCTION_MIX:
        wanted = len(rows) + count
        while len(rows) < wanted:
            made = make(rng)
            rows.setdefault((made["instruction"], made["context"]), made)
    return rng.sample(list(rows.values()), len(rows))
