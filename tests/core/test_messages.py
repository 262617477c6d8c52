from showtell.core.messages import counted


def test_one_is_singular_and_large_numbers_have_commas() -> None:
    assert counted(1, "picture") == "1 picture"
    assert counted(0, "picture") == "0 pictures"
    assert counted(1200, "caption", 7) == "  1,200 captions"
