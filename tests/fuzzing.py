"""What the tests of damaged and hostile files share: how files are changed, and the limits.

``SHOWTELL_FUZZ=1000`` in the environment tries 1,000 files that are new each time.
"""

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

NUM_EXAMPLES = int(os.environ.get("SHOWTELL_FUZZ", "200"))
MOST_SECONDS = 5.0
MOST_BYTES = 10**9

fuzzed = settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize="SHOWTELL_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

TOKENS = (
    *(b'"', b",", b"\t", b"\n", b"\r", b"\0", b"{", b"[", b"]", b"}", b":", b"null", b"NaN"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xff", b"\\ud800", b"../../etc/passwd", b"/etc/passwd"),
    *(b"C:\\a.jpg", b"http://127.0.0.1/a.jpg", b"-1", b"9" * 5000, b"[" * 2000, b"{}", b'""'),
    *(b"\x00\x00\x00\x00\xff\xff\xff\x7f", b"0000777", b"77777777777", b"\x80" * 9, b"1e999"),
    *(b"a" * 70_000, b"#0\t", b"\\"),
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "delete", "repeat", "cut"]),
        st.floats(0, 1),
        st.integers(0, 64),
        st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=8)),
    ),
    min_size=1,
    max_size=6,
)


def changed(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """A file's bytes with some changes, as a bad disk or a bad person makes them."""
    for kind, where, length, token in changes:
        start = int(where * len(content))
        end = start + length
        if kind == "insert":
            content = content[:start] + token + content[start:]
        elif kind == "replace":
            content = content[:start] + token + content[start + len(token) :]
        elif kind == "delete":
            content = content[:start] + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[start:end] * 50 + content[end:]
        else:
            content = content[:start]
    return content


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder."""
    stats = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (found.st_size, found.st_mtime_ns) for path, found in stats.items()}
