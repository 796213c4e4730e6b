"""What may stand in a file in place of what belongs there: values, and whole contents."""

import copy
import functools
import json

from gpt2_tuning import small_files

ANYTHING = [
    *("null", "true", "false", "0", "-1", "7", "1.5", "1e300", "1e999", "-Infinity", "NaN"),
    *("9" * 30, "9" * 300, "9" * 5000, "-" + "9" * 5000, '""', '"x"', '"7"', '"a\\u0000b"'),
    *('"\\ud800"', '"x\\ny"', '"(a|a)*$"', json.dumps("x" * 10_000), json.dumps("(.*.*)*" * 99)),
    *("[]", "[[]]", "[1]", '["x"]', json.dumps(["x"] * 3000), "[" * 60 + "]" * 60),
    *("[" * 100_000, '{"a":' * 100_000, "{}", '{"x": 1}', '{"name": null}', '{"(.*.*)*b": 2}'),
]
"""A value of each kind as JSON has it, some out of all bounds."""
MARK = "put something here"

WHOLE = {
    "nothing": b"",
    "deep": b"[" * 100_000,
    "deeper": b'{"a":' * 100_000,
    "number": b"9" * 5000,
    "binary": bytes(range(256)),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "large": b'{"a": 1}' + b" " * small_files.MOST_BYTES,
    "half": b'{"schema_version": 1, "task',
    "bomb": b"a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "tags": b"epochs: !!int x",
    "tag": b"epochs: !!bool x",
    "time": b"epochs: !!timestamp x",
    "object": b"epochs: !!python/object/apply:os.system [x]",
    "sixties": b"epochs: " + b"9:" * 90_000 + b"9",
    "keys": b"".join(b"k%d: 1\n" % n for n in range(4000)),
    "list as key": b"? [a]\n: 1",
}


def places_of(content, path=()):
    """The path of keys to every value."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places_of(value, (*path, key))


def changed_json(content, place, value):
    """JSON of the content with another value, as JSON has it, in a place; None takes it away."""
    changed = copy.deepcopy(content)
    *outer, last = place
    at = functools.reduce(lambda inner, key: inner[key], outer, changed)
    if value is None:
        del at[last]
        return json.dumps(changed)
    at[last] = MARK
    return json.dumps(changed).replace(f'"{MARK}"', value)
