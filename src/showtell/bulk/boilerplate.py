"""Texts in a picture's metadata that no person wrote: those of cameras, phones and programs.

Cameras fill the description and the comments without being asked. To add one that is missing, put
it into ``TEXTS`` (compared without case and spaces around), or write a pattern for its kind. The
entries come from photo managers that have lists of the same kind (PhotoPrism, gThumb) and from
what the makers' manuals and users report. In doubt a text is a person's: a picture that is left out
can be captioned with ``--overwrite``, but words that were replaced are gone.
"""

import json
import re
from functools import cache

TEXTS = frozenset(
    text.strip()
    for text in """
    appleMark | binary comment | burst | dcim | default | dvc 10.1 hdmi | exif jpeg | exif_jpeg |
    exif_jpeg_picture | exif jpeg picture | flashpix | hellomoto | iclarified | image | intel ipp |
    jpeg | minolta | minolta dsc | my beautiful picture | my image | my picture | no comment |
    none | null | photo | picture | samsung | samsung camera pictures | scanner | screenshot |
    sony dsc | sony | test | title | unknown | unnamed | untitled | user comments | (null) | n/a |
    smart | ldc | lge | jpeg file | jfif | frem | x-default | description | caption | comment
    """.replace("\n", " ")
    .casefold()
    .split("|")
)

# What Huawei, Honor and other phones write, a code for the way of shooting: dav, oznorWO, rhdr,
# sdr_HDRB, fbthdr, mde_soft, hdrpl, _cuva, ... alone or joined.
_PHONE_CODES = (
    "bdr|bhdp|bhdr|bok|bsh|bst|btf|btr|bty|burst|cof|cuva|dav|edf|fbt|frem|fsh|hdr|hdrb|mde|mdn|"
    "mon|nfv|nhdr|nor|ozno|oznor|ptr|qrf|rbt|rhdr|rpt|sdr|tri|vhdr|vivi"
)

_PROGRAMS = (
    "gimp|imlib|adobe|imagemagick|ebay|paint|acdsee|jpegmini|jpeg-recompress|photoshop|libgd|canva|"
    "snapseed|matlab|ulead|accusoft|ffmpeg|opencv|vsco|lightroom|picsart|darktable|rawtherapee|"
    "inkscape|krita"
)
_FILES = (
    "jpe?g|jpe|png|tiff?|hei[cf]|avif|webp|gif|bmp|psd|dng|raw|nef|cr[23]|arw|orf|rw2|mp4|mov|avi"
)

MOST_CHARACTERS = 1000  # that the patterns see; none of them tells a text by what comes later

# None has a repetition within an unlimited one that can be taken apart in two ways: a picture's
# metadata may come from anyone, and matching would take exponential time.
_PATTERNS = (
    # A path, or a file's name: DCIM\100MEDIA\DJI_0042.JPG, /storage/emulated/0/a.jpg. Only one
    # that begins as a path may have spaces in it.
    (rf"(([a-z]:)?[\\/][^\n]*|\S+)\.({_FILES})", re.IGNORECASE),
    (r"[a-z]:[\\/]\S*|dcim[\\/]\S*", re.IGNORECASE),
    (r"_?(dscn?|dscf|img|imgp|pict|mvi|dji|gopr|sam|cimg|pxl|mg|p)[_-]?\d+", re.IGNORECASE),
    # The maker's name and what it makes: OLYMPUS DIGITAL CAMERA, <Digimax i5, Samsung #1>.
    (r"<?([A-Z0-9.&/+-]+ ){0,2}DIGITAL (STILL )?CAMERA>?", 0),
    (
        r"<?((agfa\w*|aiptek|benq|canon|casio|concord|epson|fuji(film)?|ge|general|hp|jenoptik|"
        r"jvc|kodak|konica|leica|medion|minolta|mustek|nikon|olympus|panasonic|pentax|polaroid|"
        r"praktica|ricoh|rollei|samsung|sanyo|sony|toshiba|traveler|vivitar|yakumo) )*"
        r"digital (still )?camera>?",
        re.IGNORECASE,
    ),
    (r"<[^<>]*(digimax|kenox|samsung)[^<>]*>", re.IGNORECASE),
    # Codes of phones; a single word with no vowel in it is one, too.
    (rf"_?(front)?(({_PHONE_CODES})_?){{1,6}}(pl|wo|soft)?", re.IGNORECASE),
    (r"_?[b-df-hj-np-tv-xz]{2,8}", 0),
    # What a program says of itself: its name, and a few words or a version.
    (
        r"(file )?(created|edited|processed|optimi[sz]ed|compressed|generated|written|made) "
        rf"(with|by|using|in) (the )?({_PROGRAMS})\S*(?!.*\bby\b)"
        r"((\s+\S+){0,3}|(\s+\S+){0,3}\s+v?\d+\.\d\S*(\s+\S+){0,3})",
        re.IGNORECASE,
    ),
    (r"creator: gd-jpeg.*|lead technologies,? inc.*|intel\(r\).*", re.IGNORECASE),
    (r"lavc[\d.]+|u-?lead systems.*", re.IGNORECASE),
    (r"(optimized|processed|compressed) by \S+|jpeg encoder copyright.*", re.IGNORECASE),
    (r"handmade software,? inc.*|\*+", re.IGNORECASE),
    # Fields without words: an encoding's name, settings, long codes, a moment, no letter at all.
    (r"charset ?= ?[\"']?\w+[\"']?", re.IGNORECASE),
    (r"(\s*[\w-]+ ?[:=] ?-?\d(\.\d+)? ?;){3,}.*", 0),
    (r"(?=.*\d)(?!\w+://)[!-~]{40,}", 0),
    (r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d|\d{8}_\d{6}|\d{9,}|0+", 0),
    (r"[\s!-/:-@\[-`{-~]+", 0),
)


@cache
def _compiled() -> tuple[re.Pattern[str], ...]:
    """The patterns; compiling them takes longer than any other module takes to load."""
    return tuple(re.compile(pattern, re.DOTALL | flags) for pattern, flags in _PATTERNS)


def is_boilerplate(text: str) -> bool:
    """Whether a text of a picture's metadata says nothing that a person meant to say."""
    plain = text.strip(" \0\t\r\n")
    if plain.casefold() in TEXTS or _is_json(plain):
        return True
    seen = plain[:MOST_CHARACTERS]
    return any(pattern.fullmatch(seen) for pattern in _compiled())


def _is_json(text: str) -> bool:
    """Whether this is an object or a list of JSON; what people put into brackets is none."""
    if not text.startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
