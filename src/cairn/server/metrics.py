"""Prometheus metrics of the server: requests, tokens, latencies, queue and key-value cache.

Label values come from small sets (route templates, status codes, served model names, the first 64 tenants of
a model, 64 collections), so that a client cannot grow the server's memory by inventing paths or models.
"""

from collections.abc import Iterable
from itertools import islice

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from cairn.retrieval.recall import Recall
from cairn.server.routing.watch import RouteMetrics

_MOST_COLLECTIONS = 64
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One set of metrics for one application."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.http_requests = Counter(
            "cairn_http_requests", "HTTP requests answered", ("method", "route", "status"), registry=registry
        )
        self.http_seconds = Histogram(
            "cairn_http_request_seconds", "Time to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self.prompt_tokens = Counter("cairn_prompt_tokens", "Tokens read", ("model",), registry=registry)
        self.cached_tokens = Counter(
            "cairn_cached_prompt_tokens", "Tokens read from the prefix cache", ("model",), registry=registry
        )
        self.completion_tokens = Counter(
            "cairn_completion_tokens", "Tokens written", ("model",), registry=registry
        )
        self.first_token_seconds = Histogram(
            "cairn_time_to_first_token_seconds",
            "Time to the first text",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.between_tokens_seconds = Histogram(
            "cairn_inter_token_seconds",
            "Time between pieces of text",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.completions = Counter(
            "cairn_completions", "Completions by how they ended", ("model", "outcome"), registry=registry
        )
        self.repeated_answers = Counter(
            "cairn_repeated_answers", "Answers given again from memory", ("model",), registry=registry
        )
        self.saved_tokens = Counter(
            "cairn_saved_tokens", "Tokens of those, read and written", ("model",), registry=registry
        )
        self.in_flight = Gauge("cairn_requests_in_flight", "Requests being answered", registry=registry)
        self._watch_engines(registry)
        self.recalls = RecallMetrics(registry)
        self.routes = RouteMetrics(registry)
        self.traces = Gauge("cairn_traces", "Traces since the start", ("fate",), registry=registry)

    def _watch_engines(self, registry: CollectorRegistry) -> None:
        """Make what providers are asked for at each reading."""
        self.running = Gauge("cairn_engine_running", "Sequences in the batch", ("model",), registry=registry)
        self.waiting = Gauge(
            "cairn_engine_waiting", "Requests waiting for the engine", ("model",), registry=registry
        )
        self.tenant_running = Gauge(
            "cairn_tenant_running", "Sequences in the batch", ("model", "tenant"), registry=registry
        )
        self.tenant_waiting = Gauge(
            "cairn_tenant_waiting", "Requests waiting for the engine", ("model", "tenant"), registry=registry
        )
        self.tenant_tokens = Gauge(
            "cairn_tenant_tokens",
            "Tokens computed since the model was loaded",
            ("model", "tenant"),
            registry=registry,
        )
        self.kv_blocks_used = Gauge(
            "cairn_kv_blocks_used", "Key-value blocks in use", ("model",), registry=registry
        )
        self.kv_blocks_total = Gauge(
            "cairn_kv_blocks_total", "Key-value blocks there are", ("model",), registry=registry
        )
        self.memory_budget = Gauge(
            "cairn_models_memory_budget_bytes", "Memory that loaded models may take", registry=registry
        )
        self.memory_held = Gauge(
            "cairn_models_memory_bytes", "Memory of weights and key-value caches", registry=registry
        )
        self.model_loads = Gauge("cairn_model_loads", "Models loaded", ("outcome",), registry=registry)
        self.model_departures = Gauge(
            "cairn_model_departures", "Models that left memory, by reason", ("reason",), registry=registry
        )
        self.tokens_guessed = Gauge(
            "cairn_tokens_guessed",
            "Tokens computed ahead of their choice, by who guessed them",
            ("model", "drafter"),
            registry=registry,
        )
        self.tokens_guessed_right = Gauge(
            "cairn_tokens_guessed_right",
            "Tokens computed ahead that were chosen",
            ("model", "drafter"),
            registry=registry,
        )

    def observe_http(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request under its route's template."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "PATCH", "DELETE", "HEAD") else "other"
        self.http_requests.labels(method, route, str(status)).inc()
        self.http_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class RecallMetrics:
    """How well collections are searched, as their monitors found."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"cairn_index_recall{name}", text, ("collection",), registry=registry)

        self._recall = gauge("", "Share of the nearest passages that the search of a collection finds")
        self._samples = gauge("_samples", "Searches that it was measured on")
        self._low = gauge("_low", "1 while it is below the collection's bound")

    def observe(self, recalls: Iterable[Recall]) -> None:
        """Set what is known of the first collections, and forget those that are gone."""
        for each in (self._recall, self._samples, self._low):
            each.clear()
        for found in islice(recalls, _MOST_COLLECTIONS):
            self._recall.labels(found.collection).set(found.recall)
            self._samples.labels(found.collection).set(found.num_samples)
            self._low.labels(found.collection).set(found.is_low)
