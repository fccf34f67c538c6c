"""Downloads: whom they trust. What they fetch is tested where they are used: data sets and pulls."""

from pathlib import Path

import pytest

from cairn.core.download import certified_context


def test_a_bare_system_trusts_the_authorities_of_certifi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert certified_context().cert_store_stats()["x509_ca"] > 50


def test_authorities_that_are_given_are_the_only_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.pem").write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert certified_context().cert_store_stats()["x509_ca"] == 0
