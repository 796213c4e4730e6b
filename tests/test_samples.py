"""The bundled samples: reproducible, balanced, free of duplicates, and with right answers."""

import hashlib
import importlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "src" / "gpt2_tuning" / "assets"
EXPERIMENTS = ROOT / "experiments"
COLUMNS = {
    "emotion_sample.jsonl": ["text", "label"],
    "entailment_sample.jsonl": ["premise", "hypothesis", "label"],
    "instruction_sample.jsonl": ["instruction", "context", "response", "category"],
    "conversation_sample.jsonl": ["messages"],
}
EMOTIONS = ["sadness", "joy", "love", "anger", "fear", "surprise"]


def read(name):
    lines = (ASSETS / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def make_samples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("make_samples")


@pytest.fixture(scope="module")
def instructions():
    return read("instruction_sample.jsonl")


def bag_of_words_accuracy(texts, labels):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0, max_iter=2000))
    return cross_val_score(model, texts, labels, cv=5).mean()


def matches(rows, pattern):
    """Return (match, response) of the rows whose instruction fits the pattern; never none."""
    found = [(re.fullmatch(pattern, row["instruction"]), row["response"]) for row in rows]
    kept = [(match, response) for match, response in found if match]
    assert kept, f"no instruction fits {pattern}"
    return kept


def test_generator_reproduces_files_byte_for_byte(make_samples, tmp_path):
    make_samples.main([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(COLUMNS)
    for name in COLUMNS:
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes(), name


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_exact_and_cells_are_clean_text(name):
    for row in read(name):
        assert list(row) == COLUMNS[name]
        cells = [*row.items()]
        if column_of_lists := row.get("messages"):
            cells = [(message["role"], message["content"]) for message in column_of_lists]
            cells = [(role, part) for role, text in cells for part in text.split("\n\n")]
        for column, cell in cells:
            assert isinstance(cell, str)
            assert cell == " ".join(cell.split())
            assert cell or column == "context"
            assert not re.search(r"[{}_]", cell) or column in ("label", "category")


def test_samples_stay_small():
    assert sum((ASSETS / name).stat().st_size for name in COLUMNS) < 400_000


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("emotion_sample.jsonl", ["text"]),
        ("entailment_sample.jsonl", ["premise", "hypothesis"]),
        ("instruction_sample.jsonl", ["instruction", "context"]),
    ],
)
def test_no_duplicates(name, key):
    rows = read(name)
    assert len({tuple(row[column] for column in key) for row in rows}) == len(rows)


def test_emotion_is_balanced_lower_case_and_short():
    rows = read("emotion_sample.jsonl")
    assert Counter(row["label"] for row in rows) == dict.fromkeys(EMOTIONS, 100)
    for row in rows:
        assert row["text"] == row["text"].lower()
        assert 6 <= len(row["text"].split()) <= 25


def test_entailment_is_balanced_and_premises_are_10_to_40_words():
    rows = read("entailment_sample.jsonl")
    labels = Counter(row["label"] for row in rows)
    assert labels == {"entailment": 200, "not_entailment": 200}
    for row in rows:
        assert 10 <= len(row["premise"].split()) <= 40
        assert row["premise"] != row["hypothesis"]


def test_emotion_is_learnable_but_not_trivial():
    rows = read("emotion_sample.jsonl")
    accuracy = bag_of_words_accuracy([row["text"] for row in rows], [row["label"] for row in rows])
    assert 0.70 < accuracy < 0.97


def test_hypothesis_alone_does_not_give_the_label_away():
    rows = read("entailment_sample.jsonl")
    labels = [row["label"] for row in rows]
    assert bag_of_words_accuracy([row["hypothesis"] for row in rows], labels) < 0.62


def test_instruction_counts_categories_and_answer_length(instructions):
    assert len(instructions) == 300
    assert sum(not row["context"] for row in instructions) == 150
    assert {row["category"] for row in instructions} == {
        "open_qa",
        "closed_qa",
        "classification",
        "information_extraction",
        "brainstorming",
    }
    for row in instructions:
        assert 1 <= len(row["response"].split()) <= 40
        assert bool(row["context"]) == (
            row["category"] in ("closed_qa", "information_extraction")
            or row["instruction"].endswith(("negative?", "negative."))
            or row["instruction"].startswith(("Classify", "What is the text about"))
        )


def test_arithmetic_answers_recomputed(instructions):
    forms = {
        r"What is (\d+) \+ (\d+)\?": lambda x, y: x + y,
        r"Add (\d+) and (\d+)\.": lambda x, y: x + y,
        r"What is (\d+) - (\d+)\?": lambda x, y: x - y,
        r"Subtract (\d+) from (\d+)\.": lambda x, y: y - x,
        r"What is (\d+) times (\d+)\?": lambda x, y: x * y,
        r"What is (\d+) divided by (\d+)\?": lambda x, y: x / y,
    }
    for pattern, compute in forms.items():
        for match, response in matches(instructions, pattern):
            assert int(response) == compute(*map(int, match.groups())), match[0]


def test_word_problem_answers_recomputed(instructions):
    forms = {
        r"One box holds (\d+) (\w+)\. How many \w+ do (\d+) boxes hold\?": lambda n, m: n * m,
        r"\w+ has (\d+) (\w+) and gives away (\d+)\. .*": lambda n, m: n - m,
        r"\w+ has (\d+) (\w+) and buys (\d+) more\. .*": lambda n, m: n + m,
    }
    for pattern, compute in forms.items():
        for match, response in matches(instructions, pattern):
            n, things, m = match.groups()
            assert response == f"{compute(int(n), int(m))} {things}."


def test_spelling_sorting_and_counting_answers_recomputed(instructions):
    forms = {
        r'Spell the word "(\w+)" backwards\.': lambda word: "".join(reversed(word)),
        r'How many letters are in the word "(\w+)"\?': lambda word: f"{len(word)} letters.",
        r'What is the first letter of the word "(\w+)"\?': lambda word: word[0],
        r'Write the word "(\w+)" in capital letters\.': str.upper,
        r"Sort these words alphabetically: (.*)\.": lambda s: ", ".join(sorted(s.split(", "))),
        r"Put these numbers in order, smallest first: (.*)\.": lambda s: ", ".join(
            sorted(s.split(", "), key=int)
        ),
        r"How many words are in this sentence\? (.*)": lambda s: f"{s.count(' ') + 1} words.",
        r"What is the first word of this sentence\? (.*)": lambda s: s.split()[0],
        r"What is the last word of this sentence\? (.*)\.": lambda s: s.split()[-1],
        r"Is (\d+) odd or even\?": lambda n: f"{n} is {['even', 'odd'][int(n) % 2]}.",
    }
    for pattern, compute in forms.items():
        for match, response in matches(instructions, pattern):
            assert response == compute(match[1]), match[0]


def test_conversions_recomputed(instructions):
    seconds = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}
    millimeters = {"centimeters": 10, "meters": 1000, "kilometers": 10**6}
    sizes = seconds | millimeters | {"grams": 1, "kilograms": 1000, "cents": 1, "dollars": 100}
    sizes |= {"inches": 1, "feet": 12, "yards": 36}
    asked = [
        (*match.groups(), response)
        for match, response in matches(instructions, r"Convert (\d+) (\w+) to (\w+)\.")
    ] + [
        (match[2], match[3], match[1], response)
        for match, response in matches(instructions, r"How many (\w+) are in (\d+) (\w+)\?")
    ]
    for n, unit, smaller, response in asked:
        assert response == f"{int(n) * sizes[unit] // sizes[smaller]} {smaller}."


def test_extracted_answers_stand_in_their_context(instructions):
    extracted = [row for row in instructions if row["category"] == "information_extraction"]
    assert len(extracted) >= 50
    for row in extracted:
        for part in row["response"].split(", "):
            assert re.search(rf"\b{re.escape(part)}", row["context"]), row


def test_totals_recomputed_from_context(instructions):
    checked = 0
    for row in instructions:
        found = re.findall(r"(\d+) (dogs|cats|rabbits)", row["context"])
        numbers = {thing: int(n) for n, thing in found}
        if row["instruction"] == "How many animals live in the shelter?":
            expected = f"The shelter looks after {sum(numbers.values())} animals."
        elif row["instruction"] == "How many dogs and cats are there together?":
            expected = f"{numbers['dogs'] + numbers['cats']} dogs and cats."
        elif row["instruction"] == "Are there more dogs than cats in the shelter?":
            word = "Yes" if numbers["dogs"] > numbers["cats"] else "No"
            expected = f"{word}, there are {numbers['dogs']} dogs and {numbers['cats']} cats."
        elif match := re.fullmatch(r"What do (\d+) tickets cost together\?", row["instruction"]):
            price = re.search(r"(\d+) dollars", row["context"])
            assert price
            expected = f"{match[1]} tickets cost {int(match[1]) * int(price[1])} dollars."
        elif row["instruction"] == "How many items does the order contain in total?":
            n, m = re.findall(r"(\d+) [a-z ]+? and (\d+) [a-z ]+", row["context"])[0]
            expected = f"The order contains {int(n) + int(m)} items."
        else:
            continue
        checked += 1
        assert row["response"] == expected
    assert checked >= 5


def test_yes_and_no_follow_from_context(instructions):
    pattern = r"(Does the order contain|Is the [a-z ]+ on a) ([A-Za-z ]+)\?"
    answers: Counter[str] = Counter()
    for row in instructions:
        if match := re.fullmatch(pattern, row["instruction"]):
            word = row["response"].split(",")[0]
            assert word == ("Yes" if match[2] in row["context"] else "No")
            answers[word] += 1
    assert set(answers) == {"Yes", "No"}


def test_vocabulary_file_is_openai_s_and_its_licence_is_beside_it():
    digest = hashlib.sha256((ASSETS / "vocab.bpe").read_bytes()).hexdigest()
    assert digest == "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    licence = (ASSETS / "LICENSE-vocab.bpe.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2019 OpenAI" in licence
    assert digest in (ASSETS / "README.md").read_text(encoding="utf-8")
