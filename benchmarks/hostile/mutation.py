"""Changes of texts and JSON documents."""

import copy
import math
import random
import re
from typing import Any

from media import mutate

WORDS = (
    *("nan", "inf", "-1e400", "1e7", "", "0", "-0", "x", "null", "true", "[]", "{}", '"', ",", "\\", "\0", "\r"),
    *("1,5", "٣", "\ufeff", "\u2028", "../" * 9, "9" * 5000, "[" * 5000, "<!ENTITY a 'b'>", "&#0;", "-1", "1_0"),
)
VALUES = (
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 0.5, math.nan, math.inf, -math.inf, "", "x", "\0", [], {}, [[]]),
    *({"": None}, [None], "../../x", "é" * 300),
)
"""Put in place of values of JSON documents."""


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Bytes as `mutate` changes them, or words and numbers replaced."""
    if rng.random() < 0.4:
        return mutate(data, rng)
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        found = re.compile(r"[-\d.]+|\w+").search(text, at)
        start, stop = found.span() if found and rng.random() < 0.7 else (at, at)
        text = text[:start] + rng.choice(WORDS) + text[stop:]
    return text.encode("utf-8", "surrogateescape")


def mutate_document(document: Any, rng: random.Random) -> None:
    """Replace or remove values of a JSON document, in place."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
            elif rng.random() < 0.2:
                del place[key]
                break
            else:
                place[key] = copy.deepcopy(rng.choice(VALUES))
                break
