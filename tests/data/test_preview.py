from bases import BYTES, MARKED, write_tokenizer

from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.data.preview import END_MARK, example_text, labelled_text, readable
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import END_OF_TEXT

TOKENIZER = GPT2Tokenizer()
LETTERS = "<|endoftext|>"


def test_end_of_text_as_a_token_is_told_apart_from_its_letters():
    encode = TOKENIZER.encode
    ids = [END_OF_TEXT, *encode(f"a {LETTERS}é"), END_OF_TEXT, END_OF_TEXT, *encode(" b")]
    assert readable(ids, TOKENIZER) == f"{END_MARK}a {LETTERS}é{END_MARK}{END_MARK} b"
    assert readable([], TOKENIZER) == ""
    assert LETTERS not in END_MARK


def test_parts_of_an_example_are_named_and_counted():
    ids = [*TOKENIZER.encode("one two three"), END_OF_TEXT]
    assert example_text(ids, [False, False, True, True], 6, TOKENIZER).plain == (
        "2 prompt + 2 supervised + 2 padding tokens\n--- prompt ---\none two"
        f"\n--- supervised ---\n three{END_MARK}\n--- padding ---\n{END_MARK} x 2"
    )


def test_turns_stand_in_their_order():
    ids = TOKENIZER.encode("one two three four")
    shown = example_text(ids, [False, True, False, True], 4, TOKENIZER).plain
    assert shown.startswith("2 prompt + 2 supervised + 0 padding tokens\n--- prompt ---\none")
    places = [shown.index(word) for word in ("one", " two", " three", " four")]
    assert places == sorted(places)
    assert shown.count("--- supervised ---") == 2


def test_what_is_learnt_keeps_the_blank_space_it_begins_with(tmp_path):
    write_tokenizer(tmp_path, MARKED)
    tokenizer = read_tokenizer(tmp_path)
    asked, said = tokenizer.encode("The tide"), tokenizer.encode("comes in")
    learnt = [False] * len(asked) + [True] * len(said)
    shown = example_text([*asked, *said], learnt, len(learnt), tokenizer).plain
    assert "--- prompt ---\nThe tide\n--- supervised ---\n comes in\n" in shown


def test_a_class_is_shown_and_what_fills_up_is_what_does(tmp_path):
    write_tokenizer(tmp_path, BYTES)
    tokenizer = read_tokenizer(tmp_path)
    ids = [*tokenizer.encode("tide"), tokenizer.separator, *tokenizer.encode("ebb")]
    assert labelled_text(ids, "sea", len(ids) + 2, tokenizer).plain == (
        f"{len(ids)} text + 2 padding tokens\n--- text ---\ntide{END_MARK}ebb"
        "\n--- class ---\nsea\n--- padding ---\n<|im_start|> x 2"
    )
