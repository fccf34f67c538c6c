"""The page of settings says what the code says."""

from cairn.compute import MachineProfile
from cairn.data import DatasetSpec
from tests.docs import settings
from tests.test_house import every_config


def test_the_page_is_what_the_descriptions_make() -> None:
    assert settings.PAGE.read_text(encoding="utf-8") == settings.page(), "run python -m tests.docs.settings"


def test_every_config_a_person_can_write_has_a_section() -> None:
    documented = {cls for _, _, cls in settings.SECTIONS}
    # Files that Cairn itself writes: the profile of a machine, the table of data sets.
    assert every_config() - documented == {MachineProfile, DatasetSpec}
