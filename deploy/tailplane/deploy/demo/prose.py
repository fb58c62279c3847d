"""What there is to say about a text: words, sentences, headings, links, readability. No I/O."""

import ast
import io
import re
import tokenize
from collections import Counter
from dataclasses import dataclass

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"')\]*_]*\s+")
_BLOCK_START = re.compile(r"\s*(?:[-*+•]|\d+[.)]|#{1,6}|=+|>|\.\.)\s")
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_LINK_TARGET = re.compile(r"\]\([^)\s]*\)")
_LINK = re.compile(r"\]\([^)\s]+\)|(?<!\]\()https?://[^\s)>\"'`\]]+")
_URL = re.compile(r"https?://\S+")
_HEADING = re.compile(r"^(?:#{1,6} \S|={1,5} \S|\*{1,5} [A-Z])", re.MULTILINE)
_UNDERLINED = re.compile(r"^\S[^\n]*\n(=|-|~|\^|\"){3,}\s*$", re.MULTILINE)
# Words in columns, as in the tables of docstrings.
_COLUMNS = re.compile(r"\S {3,}\S")
_LONG_WORD = 7

# Words that are frequent everywhere say nothing about a text.
_COMMON_TEXT = """
about after all also and any are because been before being between both but can could did does each every for from had
has have her here him his how into its just may more most must nor not now off one only other our out over own same she
should some such than that the their them then there these they this those through too two under until very was were
what when where which while who whom why will with without would yet you your never whose itself
der die das und ein eine ist nicht mit den von auf für les des une est pas pour dans que los las una por con del
"""
_COMMON = frozenset(_COMMON_TEXT.split())


@dataclass(frozen=True, slots=True)
class Analysis:
    """The findings about one text."""

    words: int
    long_words: int
    sentences: int
    headings: int
    links: int
    longest_sentence: str
    longest_sentence_words: int
    frequencies: Counter[str]

    @property
    def readability(self) -> float:
        """The LIX of the text: see `readability`."""
        return readability(self.words, self.sentences, self.long_words)


def readability(words: int, sentences: int, long_words: int) -> float:
    """Return the LIX: words per sentence plus the percentage of long words. It needs no dictionary of syllables."""
    if not words:
        return 0.0
    return round(words / max(1, sentences) + 100 * long_words / words, 1)


def analyse(text: str, suffix: str) -> Analysis:
    """Return the findings about a text; `suffix` (`.md`, `.py` ...) says how to tell prose from the rest."""
    prose = _comments_and_docstrings(text) if suffix == ".py" else _without_markup(text)
    sentences = _sentences(prose)
    words = [word.lower() for sentence in sentences for word in _WORD.findall(sentence)]
    longest = max(sentences, key=_count_words, default="")
    return Analysis(
        words=len(words),
        long_words=sum(len(word) >= _LONG_WORD for word in words),
        sentences=len(sentences),
        headings=0 if suffix == ".py" else len(_HEADING.findall(text)) + len(_UNDERLINED.findall(text)),
        links=len(_LINK.findall(text)),
        longest_sentence=longest,
        longest_sentence_words=_count_words(longest),
        frequencies=Counter(word for word in words if len(word) > 2 and word not in _COMMON),
    )


def _count_words(sentence: str) -> int:
    return len(_WORD.findall(sentence))


def _without_markup(text: str) -> str:
    return _URL.sub("", _LINK_TARGET.sub("]", _FENCE.sub("\n\n", text)))


def _comments_and_docstrings(source: str) -> str:
    parts = []
    try:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                parts.append(ast.get_docstring(node) or "")
        comments = [
            token.string.lstrip("#! ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        ]
    # Not Python after all, or another age's: RecursionError and MemoryError come from deeply nested text.
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return source
    return "\n\n".join([*parts, "\n".join(comments)])


def _sentences(prose: str) -> list[str]:
    # A sentence ends with its block: at an empty line, a table, a heading, or where the next item of a list begins.
    blocks: list[list[str]] = [[]]
    for line in prose.splitlines():
        if not line.strip() or line.lstrip().startswith("|") or _COLUMNS.search(line):
            blocks.append([])
        elif _HEADING.match(line):
            blocks += [line.strip()], []
        elif _BLOCK_START.match(line):
            blocks.append([line.strip()])
        else:
            blocks[-1].append(line.strip())
    candidates = (part.strip() for block in blocks for part in _SENTENCE_END.split(" ".join(block)))
    return [sentence for sentence in candidates if _WORD.search(sentence)]
