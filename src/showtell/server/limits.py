"""How much a client may ask of the server.

``Limits`` has the numbers. ``Shares`` keeps one address from using up what every client needs;
``Lane`` keeps costly work from delaying all other work.
"""

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from showtell.server.problems import busy, too_many

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits; what goes past one is refused with the status that its line names.

    Attributes:
        pictures: Pictures a request (413).
        picture_bytes: Bytes a picture's file (413).
        request_bytes: Bytes a request's body (413).
        pixels: Pixels a picture, as its header tells before anything is decoded (413).
        large_pixels: A picture with more is decoded in a lane of its own, one at a time.
        scans: Passes of a progressive JPEG; each costs as much as decoding the picture (413).
        field_bytes: Bytes of a form field that is not a picture (413).
        header_bytes: Bytes of a request's head (400).
        idle_seconds: For a connection to send a request's whole head, after it was opened or after
            the last answer; and to take in some more of an answer.
        upload_seconds: For a request's body to arrive (408).
        upload_patience: Seconds after which a body must keep to ``upload_rate``.
        upload_rate: Bytes per second, on average since the head (408).
        answer_seconds: From the body's end to the answer (503).
        connections: Connections at a time (503).
        queue: Pictures that wait or are worked on, of all requests (503).
        held_bytes: Bytes of uploads in memory, of all requests (503).
        beam_size: Hypotheses and captions a picture (422).
        caption_words: Words that a caption, or an n-gram, may be asked to have (422).
        search_effort: What one picture's search may cost, as ``search_effort`` counts (422); and
            what all searches with settings of the requests' own may cost at a time.
        named_words: Words and phrases that may be forbidden or required (422).
        phrase_characters: Characters of each of them (422).
        named_characters: Characters of all of them together (422).
        table_bytes: Bytes of the table that a search for or without them needs (422).
        attention_captions: Captions with attention a request (422).
    """

    pictures: int = 32
    picture_bytes: int = 20 * MIB
    request_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    large_pixels: int = 16_000_000
    scans: int = 100
    field_bytes: int = 16 * 1024
    header_bytes: int = 16 * 1024
    idle_seconds: float = 10.0
    upload_seconds: float = 30.0
    upload_patience: float = 5.0
    upload_rate: int = 4 * 1024
    answer_seconds: float = 60.0
    connections: int = 500
    queue: int = 256
    held_bytes: int = 512 * MIB
    beam_size: int = 20
    caption_words: int = 60
    search_effort: int = 600
    named_words: int = 50
    phrase_characters: int = 100
    named_characters: int = 1000
    table_bytes: int = 16 * MIB
    attention_captions: int = 64


def share(total: int) -> int:
    """What one address may have of ``total``: three quarters, so that some is left for others."""
    return max(1, total * 3 // 4)


def client_of(address: str) -> str:
    """Whom a connection from ``address`` counts for: of IPv6 its network of 64 bits.

    That is the smallest network that a site is given, so one client has all of its addresses.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def client_of_request(request: Request) -> str:
    """Whom a request counts for, as ``client_of``."""
    return client_of(request.client.host if request.client else "")


class Shares:
    """Something of which there is ``total``, and of which one client may have ``each``.

    Args:
        what: Its name in the refusals.
    """

    def __init__(self, total: int, each: int, what: str) -> None:
        self.total, self.each, self.what = total, each, what
        self.taken = 0
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def held_by(self, client: str) -> Iterator["Holding"]:
        """What a client takes within it; all of it is given back in the end."""
        holding = Holding(self, client)
        try:
            yield holding
        finally:
            self.taken -= holding.amount
            self._by_client[client] -= holding.amount
            if not self._by_client[client]:
                del self._by_client[client]

    def take(self, client: str, amount: int) -> None:
        """Count ``amount`` for the client.

        Raises:
            Problem: 503 where too much is taken already, 429 where this client has too much of it.
        """
        if self.taken + amount > self.total:
            raise busy(f"{self.what}; try again in a second")
        if self._by_client[client] + amount > self.each:
            raise too_many(f"{self.what} from your address; try again in a second")
        self.taken += amount
        self._by_client[client] += amount


class Holding:
    """What one request has of a ``Shares``."""

    def __init__(self, shares: Shares, client: str) -> None:
        self._shares, self._client = shares, client
        self.amount = 0

    def add(self, amount: int) -> None:
        """Take some more; raises what ``Shares.take`` raises."""
        self._shares.take(self._client, amount)
        self.amount += amount


class Lane:
    """Work of at most ``capacity`` at a time, in the order in which it came."""

    def __init__(self, capacity: int) -> None:
        self._capacity = self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, cost: int) -> int:
        """Wait until there is room for ``cost``, or for all of the lane where that is more.

        Returns:
            What to give back.
        """
        entry = min(cost, self._capacity), asyncio.get_running_loop().create_future()
        cost, turn = entry
        self._waiting.append(entry)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(entry)
                self._admit()
            else:  # its turn came at the same moment
                self.give_back(cost)
            raise
        return cost

    def give_back(self, cost: int) -> None:
        """Work of this cost is done."""
        self._free += cost
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            cost, turn = self._waiting[0]
            if turn.cancelled():  # whoever waited is about to take it out
                break
            self._waiting.popleft()
            self._free -= cost
            turn.set_result(None)
