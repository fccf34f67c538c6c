"""lifecycle: recipes and stages. From a recipe to a finished model, resumable, explained and reported.

`build` runs a recipe, `stage_statuses` says what it would do, `plan_recipe` what it would take.
"""

from cairn.lifecycle.build import build
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.predictions import plan_recipe
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.result import BuildResult, StageOutcome
from cairn.lifecycle.stage import AnyRecipe, load_recipe
from cairn.lifecycle.stage_plan import RecipePlan, StagePlan
from cairn.lifecycle.status import StageStatus, stage_statuses, stages_again

__all__ = [
    "AnyRecipe",
    "BuildResult",
    "HeadRecipe",
    "Recipe",
    "RecipePlan",
    "StageOutcome",
    "StagePlan",
    "StageStatus",
    "build",
    "load_recipe",
    "plan_recipe",
    "stage_statuses",
    "stages_again",
]
