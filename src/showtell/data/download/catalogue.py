"""What ``showtell data download`` knows: addresses, sizes and sums of published data sets.

Every address, size and sum stands here and nowhere else. COCO's addresses are those of
https://cocodataset.org/#download; COCO publishes no sums, so those here are the sums that
TensorFlow Datasets recorded (``tensorflow_datasets/url_checksums/coco.txt``), and the sizes are
theirs. Karpathy's split is at https://cs.stanford.edu/people/karpathy/deepimagesent/. For Flickr8k
and Flickr30k see ``terms``. Where no sum is known, the size that the server tells is checked, and
every member of the archive by its own sum (CRC-32).
"""

from dataclasses import dataclass

from showtell.errors import DataError, unknown_name

COCO = "http://images.cocodataset.org"  # the address has no certificate of its own
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
FLICKR30K_FORM = "https://forms.illinois.edu/sec/229675"
FLICKR8K_FORM = "https://forms.illinois.edu/sec/1713398"


@dataclass(frozen=True, slots=True)
class Archive:
    """One file to fetch and unpack.

    Attributes:
        url: Its address.
        num_bytes: Its size; 0: what the server tells.
        sha256: Its sum in hexadecimal; "" where none is published or recorded.
        members: The beginnings of the members' names that are unpacked; empty: all.
    """

    url: str
    num_bytes: int = 0
    sha256: str = ""
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Published:
    """A data set that others have published.

    Attributes:
        name: What the command line calls it.
        title: One line for people.
        terms: What its makers ask for, in lines.
        archives: What is fetched.
        data: What to give as DATA, from the folder on; "" for the folder itself.
        by_hand: What has to be done by hand afterwards, in lines; empty where nothing has to.
    """

    name: str
    title: str
    terms: tuple[str, ...]
    archives: tuple[Archive, ...]
    data: str = ""
    by_hand: tuple[str, ...] = ()


_COCO_TERMS = (
    "annotations: Creative Commons Attribution 4.0 (https://cocodataset.org/#termsofuse)",
    "pictures: from Flickr, each under its own licence, which the annotations name; their use must "
    "follow Flickr's terms of use (https://www.flickr.com/creativecommons/)",
)
_CITE_KARPATHY = "to be cited as Karpathy and Fei-Fei 2015, 'Deep Visual-Semantic Alignments'"

PUBLISHED = {
    entry.name: entry
    for entry in (
        Published(
            "coco2017",
            "COCO 2017: 118,287 pictures for training and 5,000 for validation, 5 captions each",
            _COCO_TERMS,
            (
                Archive(
                    f"{COCO}/annotations/annotations_trainval2017.zip",
                    252_907_541,
                    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                    members=("annotations/captions_",),
                ),
                Archive(
                    f"{COCO}/zips/val2017.zip",
                    815_585_330,
                    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                ),
                Archive(
                    f"{COCO}/zips/train2017.zip",
                    19_336_861_798,
                    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                ),
            ),
        ),
        Published(
            "coco2014",
            "COCO 2014: 82,783 pictures for training and 40,504 for validation, 5 captions each",
            _COCO_TERMS,
            (
                Archive(
                    f"{COCO}/annotations/annotations_trainval2014.zip",
                    252_872_794,
                    "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                    members=("annotations/captions_",),
                ),
                Archive(
                    f"{COCO}/zips/val2014.zip",
                    6_645_013_297,
                    "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                ),
                Archive(
                    f"{COCO}/zips/train2014.zip",
                    13_510_573_713,
                    "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                ),
            ),
        ),
        Published(
            "karpathy",
            "Karpathy's splits and captions of COCO, Flickr8k and Flickr30k, without the pictures",
            (
                "the captions are those of COCO (CC BY 4.0), Flickr8k and Flickr30k (for research "
                "and teaching, not for commerce)",
                _CITE_KARPATHY,
                "no sum is published; the size and each member's own sum are checked",
            ),
            (Archive(KARPATHY),),
            data="dataset_coco.json",
            by_hand=(
                "the pictures of COCO: showtell data download coco2014 --to {folder}",
                "the pictures of Flickr8k: showtell data download flickr8k --to {folder}",
            ),
        ),
        Published(
            "flickr8k",
            "Flickr8k: 8,091 pictures with 5 captions each",
            (
                "for research and teaching, not for commerce; the pictures are their "
                "photographers', and Flickr's terms of use hold",
                "to be cited as Hodosh, Young and Hockenmaier 2013, 'Framing Image Description as "
                "a Ranking Task'",
                f"its makers gave it out by a form ({FLICKR8K_FORM}); the files come from a copy "
                "that many courses use, as the first address is gone",
                "no sum is published; the size and each member's own sum are checked",
            ),
            (
                Archive(f"{FLICKR8K}/Flickr8k_text.zip"),
                Archive(f"{FLICKR8K}/Flickr8k_Dataset.zip"),
            ),
        ),
        Published(
            "flickr30k",
            "Flickr30k: 31,014 pictures with 5 captions each; the captions here, the pictures by "
            "a form",
            (
                "for research and teaching, not for commerce; the pictures are their "
                "photographers', and Flickr's terms of use hold",
                "to be cited as Young et al. 2014, 'From image descriptions to visual denotations'",
                f"the captions and splits are Karpathy's; {_CITE_KARPATHY}",
                "no sum is published; the size and each member's own sum are checked",
            ),
            (Archive(KARPATHY, members=("dataset_flickr30k.json",)),),
            data="dataset_flickr30k.json",
            by_hand=(
                f"the pictures are given out by a form: {FLICKR30K_FORM}",
                "unpack flickr30k-images.tar.gz there, so that the pictures lie in "
                "{folder}/flickr30k-images",
            ),
        ),
    )
}


def find_published(name: str) -> Published:
    """The data set of this name.

    Raises:
        DataError: there is none.
    """
    if name not in PUBLISHED:
        raise DataError(unknown_name("data set to download", name, PUBLISHED))
    return PUBLISHED[name]
