"""The routes' file: what it may say, and the line of every mistake."""

from pathlib import Path

import pytest

from cairn.core.errors import ConfigError
from cairn.server.routing.config import MOST_BYTES, RoutesError, load_routes, read_routes

GOOD = """\
[providers.quarry]
base_url = "https://quarry.example/v1"
key_env = "QUARRY_KEY"

[providers.claude]
kind = "anthropic"
base_url = "https://api.anthropic.com/v1"

[routes.assistant]
strategy = "least_outstanding"
affinity = true
targets = [
  { model = "tutorial", weight = 2 },
  { provider = "quarry", model = "stone-1" },
]

[routes.assistant.canary]
target = { provider = "claude", model = "c-1" }
percent = 5

[[routes.small.targets]]
model = "tutorial"

[[routes.small.targets]]
provider = "quarry"
model = "stone-1"

[breaker]
failures = 3
"""


def test_a_whole_file() -> None:
    config = read_routes(GOOD)
    assert [target.name for target in config.routes["assistant"].targets] == [
        "local/tutorial",
        "quarry/stone-1",
    ]
    assert config.routes["assistant"].canary is not None
    assert [target.name for target in config.routes["small"].targets] == ["local/tutorial", "quarry/stone-1"]
    assert config.breaker.failures == 3
    assert read_routes("").routes == {}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('kind = "anthropic"', 'kind = "anthropc"', 6, "kind"),
        ("affinity = true", "afinity = true", 11, "did you mean 'affinity'"),
        ("affinity = true", "affinity = maybe", 11, "not valid TOML"),
        ("weight = 2", "weight = 0", 13, "weight"),
        ('{ provider = "quarry", model = "stone-1" },', '{ model = "tutorial" },', 14, "twice"),
        ('{ provider = "quarry"', '{ provider = "query"', 14, "no provider 'query'"),
        ("percent = 5", "percent = 500", 19, "percent"),
        (
            '[[routes.small.targets]]\nprovider = "quarry"',
            '[[routes.small.targets]]\nprovider = "q"',
            25,
            "'q'",
        ),
        ("failures = 3", "failures = 0", 29, "failures"),
        ('strategy = "least_outstanding"', 'strategy = "ordered"', 11, "affinity needs"),
        ("[breaker]", "[braker]", 28, "did you mean 'breaker'"),
        ('base_url = "https://quarry.example/v1"', 'base_url = "quarry"', 2, "base_url"),
        ("[providers.quarry]", "[providers.local]", 1, "no name of a provider"),
        (
            "[routes.assistant.canary]",
            '[routes.assistant.cascade]\nby = "score"\nthreshold = 0.5\n[x]',
            20,
            "x",
        ),
    ],
)
def test_mistakes_have_their_line(old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RoutesError) as caught:
        read_routes(GOOD.replace(old, new, 1))
    assert any(message in problem.message and problem.line == line for problem in caught.value.problems), (
        caught.value.problems
    )
    assert f"line {line}: " in caught.value.message


@pytest.mark.parametrize("field", ["key_env", "base_url", "kind", "connect_seconds", "api_key"])
def test_a_key_put_into_the_file_is_not_repeated(field: str) -> None:
    with pytest.raises(RoutesError) as caught:
        read_routes(
            f'[providers.a]\nbase_url = "https://x/v1"\n{field} = "sk-live-123"\n'.replace(
                'base_url = "https://x/v1"\nbase_url', "base_url"
            )
        )
    assert "sk-live-123" not in caught.value.sentence


@pytest.mark.parametrize("cascade", ['by = "score"\nthreshold = 0.5\n'])
def test_a_cascade_needs_two_targets_and_no_canary(cascade: str) -> None:
    text = f'[routes.a]\ntargets = [{{ model = "x" }}]\n[routes.a.cascade]\n{cascade}'
    with pytest.raises(RoutesError, match="line 3: a cascade needs two targets"):
        read_routes(text)
    with pytest.raises(RoutesError, match="contradict"):
        read_routes(text + '[routes.a.canary]\npercent = 1\ntarget = { model = "y" }\n')


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    assert load_routes(path).routes == {}
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_routes(path)
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="larger"):
        load_routes(path)
