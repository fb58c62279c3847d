from tailplane.deploy.demo.analysis import _quote


def test_a_long_sentence_is_cut_between_two_words() -> None:
    quote = _quote("seven " * 100)
    assert quote.endswith("seven ...")
    assert len(quote) <= 304


def test_a_sentence_that_fits_is_whole_and_one_long_word_is_cut() -> None:
    assert _quote("a short one.") == "a short one."
    assert _quote("a" * 300 + " b") == "a" * 300 + " ..."
    assert _quote("x" * 400) == "x" * 300 + " ..."
