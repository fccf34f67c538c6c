"""BoundedCache against a list that is kept by hand."""

from hypothesis import given
from hypothesis import strategies as st

from cairn.core.bounded_cache import BoundedCache

steps = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 12)), max_size=60)


@given(steps)
def test_it_holds_what_was_asked_for_last(given_steps: list[tuple[bool, int, int]]) -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    held: list[tuple[int, int]] = []  # key and size, the longest unused first
    for is_put, key, size in given_steps:
        mine = next((each for each in held if each[0] == key), None)
        if not is_put:
            assert cache.get(key) == (None if mine is None else mine[1])
            if mine is not None:
                held.append(held.pop(held.index(mine)))
        elif size <= 10:
            cache.put(key, size, size)
            held = [each for each in held if each[0] != key] + [(key, size)]
            while sum(size for _, size in held) > 10:
                held.pop(0)
        else:
            cache.put(key, size, size)
        assert len(cache) == len(held)
        assert cache.num_bytes == sum(size for _, size in held)
    cache.clear()
    assert (len(cache), cache.num_bytes) == (0, 0)
