import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from showtell.data.sampler import epoch_batches

lengths_of_captions = st.lists(st.integers(1, 12), min_size=1, max_size=300).map(np.array)


@given(lengths_of_captions, st.integers(1, 40), st.integers(0, 99), st.integers(1, 5))
def test_every_caption_exactly_once(lengths, batch_size, seed, epoch) -> None:
    batches = epoch_batches(lengths, batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert sum(size < batch_size for size in sizes) <= 1
    assert len(batches) == -(-len(lengths) // batch_size)


@given(lengths_of_captions, st.integers(1, 40))
def test_mixed_lengths_only_on_borders(lengths, batch_size) -> None:
    batches = epoch_batches(lengths, batch_size, seed=1, epoch=1)
    mixed = sum(len(set(lengths[batch])) > 1 for batch in batches)
    assert mixed <= len(set(lengths)) - 1


def test_follows_from_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 15, 1000)
    one, again, other_epoch, other_seed = (
        np.concatenate(epoch_batches(lengths, 32, seed=s, epoch=e))
        for s, e in ((1, 1), (1, 1), (1, 2), (2, 1))
    )
    assert (one == again).all()
    assert (one != other_epoch).any()
    assert (one != other_seed).any()


def test_captions_of_one_length_meet_in_new_company_each_epoch() -> None:
    lengths = np.full(64, 9)
    first = epoch_batches(lengths, 8, seed=0, epoch=1)[0]
    assert not any(set(first) == set(batch) for batch in epoch_batches(lengths, 8, seed=0, epoch=2))


@given(lengths_of_captions, st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_whole_pictures_exactly_once(lengths, batch_size, num_pictures, seed) -> None:
    pictures = np.random.default_rng(seed).integers(0, num_pictures, len(lengths))
    batches = epoch_batches(lengths, batch_size, seed=seed, epoch=1, pictures=pictures)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    # Each border between two batches splits one picture at most.
    parts = sum(len(set(pictures[batch])) for batch in batches)
    assert parts <= len(set(pictures)) + len(batches) - 1


def test_pictures_of_a_batch_have_captions_of_about_one_length() -> None:
    rng = np.random.default_rng(0)
    lengths, pictures = rng.integers(5, 20, 5000), np.repeat(np.arange(1000), 5)
    longest = lengths.reshape(1000, 5).max(axis=1)
    for batch in epoch_batches(lengths, 100, seed=0, epoch=1, pictures=pictures):
        assert np.ptp(longest[pictures[batch]]) <= 12
    first, second = (
        {
            frozenset(pictures[batch])
            for batch in epoch_batches(lengths, 100, seed=0, epoch=epoch, pictures=pictures)
        }
        for epoch in (1, 2)
    )
    assert not first & second
