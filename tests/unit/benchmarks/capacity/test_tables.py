"""docs/scaling.md shows what the model calculates from the costs that were measured."""

from pathlib import Path

from benchmarks.capacity import costs, tables

_DOCS = Path(__file__).parents[4] / "docs" / "scaling.md"


def test_the_document_shows_the_tables_of_the_script() -> None:
    report = tables.report(costs.load())

    assert report in _DOCS.read_text(), "run `python -m benchmarks.capacity` and put its output into docs/scaling.md"
