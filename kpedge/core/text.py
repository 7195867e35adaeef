"""Words for messages."""


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return name.replace("_", "-").replace("lr-groups", "lr-group")


def format_count(count: int, noun: str) -> str:
    """A number of things, for messages: `1 photo`, `2,500 photos`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def escape_bytes(text: str) -> str:
    """A text in which the bytes of a file name that are not UTF-8 are escaped, as `backslashreplace` does."""
    return text.encode("utf-8", "backslashreplace").decode()
