"""The surest wrong answers, and how a card shows their texts."""

import numpy as np

from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.training.mistakes import LONGEST, mistakes_table, surest_mistakes

NAMES = ["no", "a|b"]
TOKENIZER = GPT2Tokenizer()


def records(rows, labels):
    return Records.of(rows, label=np.array(labels, np.int32))


def test_the_surest_mistakes_come_first_and_no_right_answer_is_among_them():
    texts = ["right", "less sure", "surest", "as sure", "unsure"]
    probabilities = np.array([[0.99, 0.01], [0.3, 0.7], [0.95, 0.05], [0.7, 0.3], [0.6, 0.4]])
    split = records([TOKENIZER.encode(text) for text in texts], [0, 0, 1, 1, 1])
    found = surest_mistakes(split, probabilities, NAMES, TOKENIZER, count=3)
    assert [mistake.texts for mistake in found] == [("surest",), ("less sure",), ("as sure",)]
    assert [(m.label, m.predicted, m.probability) for m in found] == [
        ("a|b", "no", 0.95),
        ("no", "a|b", 0.7),
        ("a|b", "no", 0.7),
    ]


def test_texts_of_a_pair_stand_apart_and_cannot_break_the_table():
    """`<|endoftext|>` in letters is text, token 50256 what keeps two texts apart."""
    encode = TOKENIZER.encode
    pair = [*encode("a | <|endoftext|>\nb"), END_OF_TEXT, *encode("`c` " + "long " * 99)]
    probabilities = np.array([[0.75, 0.25]])
    (mistake,) = surest_mistakes(records([pair], [1]), probabilities, NAMES, TOKENIZER)
    assert mistake.texts[0] == "a | <|endoftext|>\nb"
    header, rule, row = mistakes_table([mistake]).splitlines()
    assert header == "| premise | hypothesis | true | predicted | probability |"
    assert rule.count("---") == 5
    assert row.startswith(r"| a \| &lt;\|endoftext\|&gt; b | \`c\` long long")
    assert row.endswith(r"… | a\|b | no | 0.750 |")
    assert len(row) < LONGEST + 80
