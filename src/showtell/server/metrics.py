"""What the server counts, for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
GONE = 499  # what nginx logs for a client that did not wait


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "showtell_requests", "Requests.", ["method", "path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "showtell_request_seconds",
            "From a request's head to its answer's end.",
            ["path"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._registry,
        )
        self.pictures = Counter(
            "showtell_pictures", "Pictures by outcome.", ["outcome"], registry=self._registry
        )
        self.model_failures = Counter(
            "showtell_model_failures",
            "Pictures that the server behind a model failed to caption.",
            ["model"],
            registry=self._registry,
        )
        self.batch_pictures = Histogram(
            "showtell_batch_pictures",
            "Pictures a pass of the encoder.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.batch_seconds = Histogram(
            "showtell_batch_seconds",
            "Encoding a batch and searching its captions.",
            buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self._registry,
        )

    def batch(self, pictures: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_pictures.observe(pictures)
        self.batch_seconds.observe(seconds)

    def model_failure(self, model: str) -> None:
        """Count a picture that the server behind a model failed to caption."""
        self.model_failures.labels(model).inc()

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is wanted."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class Observer:
    """Counts requests and their time, around the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        finally:
            # Only names that are ours: a client could make up any number of others.
            path = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
