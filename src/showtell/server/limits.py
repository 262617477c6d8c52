"""How much of anything one client may ask of the server."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits; what goes past one is refused with the status that its line names.

    Attributes:
        pictures: Pictures a request (413).
        picture_bytes: Bytes a picture's file (413).
        request_bytes: Bytes a request's body (413).
        pixels: Pixels a picture, as its header tells before anything is decoded (413).
        field_bytes: Bytes of a form field that is no picture (413).
        upload_seconds: For a request's body to arrive (408).
        answer_seconds: From then to the answer (503).
        queue: Pictures that wait or are worked on, of all requests (503).
        held_bytes: Bytes of uploads in memory, of all requests (503).
        idle_seconds: A connection may stay without a request.
        beam_size: Hypotheses and captions a picture (422).
        caption_words: Words that a caption may be asked to have (422).
        named_words: Words and phrases that may be forbidden or required (422).
    """

    pictures: int = 32
    picture_bytes: int = 20 * MIB
    request_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    field_bytes: int = 16 * 1024
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0
    queue: int = 256
    held_bytes: int = 512 * MIB
    idle_seconds: float = 10.0
    beam_size: int = 20
    caption_words: int = 60
    named_words: int = 50
