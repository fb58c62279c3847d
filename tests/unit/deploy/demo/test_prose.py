import pytest

from tailplane.deploy.demo.prose import analyse, readability


def test_words_and_sentences_of_plain_text() -> None:
    found = analyse("One two three. Four five!\n\nSix don't-stop?", ".txt")
    assert (found.words, found.sentences) == (7, 3)
    assert found.longest_sentence == "One two three."


def test_markdown_is_read_without_its_code_tables_and_link_targets() -> None:
    text = (
        "# A title\n\nSome [words](https://example.org/path/of/a/link) here. See https://example.org too.\n\n"
        "```python\nthis is code and no prose\n```\n\n| a | table |\n\n* item one\n* item two\n"
    )
    found = analyse(text, ".md")
    assert found.headings == 1
    assert found.links == 2
    assert "code" not in found.frequencies
    assert "table" not in found.frequencies
    assert "example" not in found.frequencies
    assert found.sentences == 5


def test_of_python_only_docstrings_and_comments_count() -> None:
    source = '"""Module text here."""\n\n\ndef f():\n    """Do it well."""\n    return identifier  # because of that\n'
    found = analyse(source, ".py")
    assert "identifier" not in found.frequencies
    assert found.frequencies["module"] == 1
    assert found.words == 9


@pytest.mark.parametrize("text", ["def (", "\x0c", "'''", "((((" * 400, "a = '\ud800'"])
def test_what_is_no_python_is_read_as_text(text: str) -> None:
    analyse(text, ".py")


def test_underlined_headings_count() -> None:
    assert analyse("Title\n=====\n\nSection\n-------\n\ntext", ".rst").headings == 2


def test_common_words_are_not_reported_as_frequent() -> None:
    assert dict(analyse("the stream and the stream and a cat", ".txt").frequencies) == {"stream": 2, "cat": 1}


@pytest.mark.parametrize("text", ["", "   \n\n ", "1234 !!! ---", "|a|b|"])
def test_a_text_without_words_is_no_error(text: str) -> None:
    found = analyse(text, ".md")
    assert (found.words, found.sentences, found.readability) == (0, 0, 0.0)


def test_readability_grows_with_long_sentences_and_long_words() -> None:
    assert readability(100, 10, 10) == 20.0
    assert readability(100, 5, 10) > readability(100, 10, 10) < readability(100, 10, 30)


def test_other_alphabets_have_words() -> None:
    assert analyse("Привет мир. Ça va très bien.", ".txt").words == 6
