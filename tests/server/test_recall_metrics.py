"""What the monitors of collections found, as Prometheus reads it."""

from cairn.retrieval.recall import LEAST_SAMPLES, Recall
from cairn.server.metrics import Metrics


def test_recall_is_told_until_its_collection_is_gone() -> None:
    metrics = Metrics()
    low = Recall("notes", 0.5, LEAST_SAMPLES, 0.95, 0.0)
    few = Recall("others", 0.5, LEAST_SAMPLES - 1, 0.95, 0.0)
    metrics.recalls.observe([low, few])
    text = metrics.text().decode()
    assert 'cairn_index_recall{collection="notes"} 0.5' in text
    assert 'cairn_index_recall_samples{collection="others"} 19.0' in text
    assert 'cairn_index_recall_low{collection="notes"} 1.0' in text
    assert 'cairn_index_recall_low{collection="others"} 0.0' in text
    metrics.recalls.observe([few])
    assert "notes" not in metrics.text().decode()


def test_collections_cannot_fill_the_memory() -> None:
    metrics = Metrics()
    metrics.recalls.observe(Recall(f"c{n}", 1.0, 1, 0.95, 0.0) for n in range(1000))
    assert metrics.text().decode().count("cairn_index_recall{") == 64
