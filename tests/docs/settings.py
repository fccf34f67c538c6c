"""Writes docs/settings.md from the descriptions in the code: `python -m tests.docs.settings`.

A test compares the page with what this would write, so a setting cannot be added, changed or dropped
without its page.
"""

from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cairn.core import Config, Settings
from cairn.data import CleanConfig, PipelineConfig, ReadConfig
from cairn.data.decontamination import DecontaminateConfig
from cairn.data.duplicates import ExactConfig, NearConfig
from cairn.data.quality import QualityConfig
from cairn.engine import EngineConfig, ShareConfig
from cairn.lifecycle import HeadRecipe, Recipe, head_recipe, recipe
from cairn.providers.remote import ProviderConfig
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.folder_access import AccessRule
from cairn.server import ServerConfig
from cairn.server.config import SharesConfig, SignOnConfig
from cairn.server.routing import config as routing
from cairn.server.usage.prices import PriceConfig, PricesConfig
from cairn.server.usage.rules import Rule
from cairn.telemetry import TelemetryConfig
from cairn.training import TrainConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

INTRODUCTION = """# Settings

Every setting there is, with its default. Made from the descriptions in the code by
`python -m tests.docs.settings`; do not edit. An unknown key is an error that names the nearest one, and a
value out of range is one that says what is allowed.

## A worked example

The same descriptions and bounds hold in Python. What a mistake looks like:

```python
from cairn.core import ConfigError, parse_config
from cairn.training import TrainConfig

try:
    parse_config(TrainConfig, {"steps": 10, "learning_rte": 0.001}, source="[pretrain]")
except ConfigError as error:
    print(error)
    assert "did you mean 'learning_rate'?" in str(error)
```
"""

# Heading, what stands below it, the settings. A recipe's tables come in the order they are written.
SECTIONS: tuple[tuple[str, str, type[Config]], ...] = (
    ("Environment", "Each as `CAIRN_` and the name in capitals: `CAIRN_HOME`, `CAIRN_MIRROR`.", Settings),
    ("Recipe", "The top of a [recipe](recipes.md), and its tables.", Recipe),
    ("`[data]`", "", recipe.DataStage),
    ("`[[data.sources]]`", "", recipe.TextSource),
    (
        "`[data.filters]`",
        'The [data pipeline](data.md). A recipe without this table has `languages = ["en"]`.',
        PipelineConfig,
    ),
    ("`[data.filters.clean]`", "", CleanConfig),
    ("`[data.filters.quality]`", "", QualityConfig),
    ("`[data.filters.exact]`", "", ExactConfig),
    ("`[data.filters.near]`", "", NearConfig),
    ("`[data.filters.decontaminate]`", "", DecontaminateConfig),
    ("`[tokenizer]`", "", recipe.TokenizerStage),
    ("`[model]`", "", recipe.ModelStage),
    ("`[pretrain]` and `[sft]`", "`TrainConfig`; see [training](training.md).", TrainConfig),
    ("`[instructions]`", "", recipe.InstructionsStage),
    ("`[[instructions.sources]]`", "", recipe.InstructionSource),
    ("`[evaluate]`", "See [evaluation](evaluation.md).", recipe.EvaluateStage),
    ("`[release]`", "", recipe.ReleaseStage),
    (
        "Recipe of a head",
        "The top of the recipe of a [reader or reranker](heads.md).",
        HeadRecipe,
    ),
    ("`[head]`", "", head_recipe.HeadStage),
    ("`[examples]`", "", head_recipe.ExamplesStage),
    ("`[[examples.sources]]`", "", head_recipe.QuestionSource),
    ("`[judge]`", "`[train]` is a `TrainConfig`, as `[pretrain]` above.", head_recipe.JudgeStage),
    ("Reading files", "`ReadConfig`, for `read_documents`.", ReadConfig),
    ("Engine", "`EngineConfig`; see [the engine](engine.md).", EngineConfig),
    (
        "Single sign-on",
        "`SignOnConfig`, the file of `cairn up --sign-on`; see [identity](identity.md#single-sign-on).",
        SignOnConfig,
    ),
    (
        "Traces",
        "`TelemetryConfig`, the file of `cairn up --telemetry`; see [traces](telemetry.md#what-is-kept).",
        TelemetryConfig,
    ),
    ("Shares", "`SharesConfig`, the file of `cairn up --shares`.", SharesConfig),
    (
        "`[[shares]]`",
        "`ShareConfig`, of the engine and of the server; see [scheduling](scheduling.md).",
        ShareConfig,
    ),
    ("Server", "`ServerConfig`; `cairn up --help` lists those that have an option.", ServerConfig),
    ("`prices.toml`", "In `CAIRN_HOME`; see [limits](limits.md).", PricesConfig),
    ("`[models.NAME]`", "In units of the currency.", PriceConfig),
    ("Limits", "What `cairn limit set` and `PUT /api/limits` take.", Rule),
    (
        "`routes.toml`",
        "[Routes](routing.md), in the home folder. Providers and routes are tables by name.",
        routing.RoutesConfig,
    ),
    ("`[providers.NAME]`", "", ProviderConfig),
    ("`[routes.NAME]`", "", routing.RouteConfig),
    ("`[[routes.NAME.targets]]`", "Also `target` of a canary and of a shadow.", routing.TargetConfig),
    ("`[routes.NAME.canary]`", "", routing.CanaryConfig),
    ("`[routes.NAME.shadow]`", "", routing.ShadowConfig),
    ("`[routes.NAME.cascade]`", "", routing.CascadeConfig),
    ("`[breaker]`", "Of every target.", routing.BreakerConfig),
    (
        "Collection",
        "How a collection of [documents](knowledge.md) cuts, finds and orders; kept in the catalogue.",
        CollectionConfig,
    ),
    ("`.cairn-access.toml`", "Who may see a folder's files; see [knowledge](knowledge.md).", AccessRule),
)


def page() -> str:
    """The whole page."""
    sections = [
        "\n\n".join(filter(None, (f"## {heading}", text, table(cls)))) for heading, text, cls in SECTIONS
    ]
    return "\n".join([INTRODUCTION, *sections])


def table(cls: type[Config]) -> str:
    """A row for each setting: name, default, description."""
    rows = [
        f"| `{name}` | {shown(field.get_default(call_default_factory=True))} | {field.description} |"
        for name, field in cls.model_fields.items()
    ]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows]) + "\n"


def shown(default: object) -> str:
    """A default as a recipe would write it; words where there is none or where it has a table of its own."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "unset"
    if isinstance(default, BaseModel):
        return "its own defaults"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str | Path):
        return f'`"{default}"`'
    if isinstance(default, list | tuple):
        return f"`[{', '.join(shown(each).strip('`') for each in default)}]`"
    return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
