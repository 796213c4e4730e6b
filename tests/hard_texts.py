"""Texts that are hard to tokenise."""

import random

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
HARD_TEXTS = [
    "",
    " ",
    "Hello world",
    " leading and trailing ",
    "a  b   c    d",
    "tabs\t\tand\nnew\n\nlines\r\n \n  x",
    "   \n\t  ",
    "I'm you're he'll we've they'd it's DON'T don't '' 's 'S",
    "1234567890 3.14159 1,000,000 007 ²³ ½ Ⅷ ٣",
    f"emoji {FAMILY} \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea ✌️",
    "漢字とひらがな、カタカナ。한국어 中文",
    "مرحبا بالعالم שלום",
    "e\u0301 n\u0303 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d",
    "control \x01\x02\x1b[0m\x7f\x80\x85\x9f",
    "nul \x00\x00 in between",
    "\u00a0nbsp \u2003em \u200bzero \u2028line \u2029par \u3000wide \ufeffbom",
    "soft\u00adhyphen",
    "<|endoftext|>",
    "before <|endoftext|> after<|endoftext|><|endoftext|>",
    "<|endoftext|",
    "_under_score__ @#$%^&*()[]{}~`|\\/?!.,;:",
    "\U0010ffff\ufffe\uffff\ue000",
    "ĠĊ ġ Ā",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "The quick brown fox. " * 5000,
]


def random_texts(count, seed):
    """Strings from all of Unicode, with many of the characters that the splitting looks at."""
    rng = random.Random(seed)
    common = " \t\n'stremdvl019.,<|endoftext|>éß漢\u00a0\u0301"
    texts = []
    for _ in range(count):
        characters = []
        for _ in range(rng.randrange(30)):
            code = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])
            odd = "" if 0xD800 <= code < 0xE000 else chr(code)
            characters.append(rng.choice(common) if rng.random() < 0.5 else odd)
        texts.append("".join(characters))
    return texts
