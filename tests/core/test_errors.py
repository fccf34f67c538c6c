from collections.abc import Iterator

from cairn.core import CairnError, MissingExtraError, errors


def every_error(cls: type[CairnError] = CairnError) -> Iterator[type[CairnError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from every_error(child)


def test_codes_are_unique_and_statuses_are_http_errors() -> None:
    # One may have two parents.
    kinds = {kind for kind in every_error() if kind.__module__ == errors.__name__}
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert all(400 <= kind.http_status < 600 for kind in kinds)


def test_the_remedy_comes_last() -> None:
    assert str(CairnError("what", remedy="do this")) == "what\n  do this"
    assert str(CairnError("what")) == "what"


def test_a_missing_extra_says_what_to_install() -> None:
    assert "cairn[train]" in MissingExtraError("training", "train").remedy
