"""What /metrics tells Prometheus. Needs the extra `serve`."""

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client import generate_latest as as_text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpt2_tuning.serving.engine import Engine

PATHS = (
    *("/v1/completions", "/v1/chat/completions", "/v1/models", "/v1/classify", "/v1/embeddings"),
    *("/healthz", "/metrics"),
)
"""The others are counted as one: whoever asks for anything must not make a counter of it."""
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Measures:
    """The numbers of one server."""

    def __init__(self, engine: Engine):
        self._registry = CollectorRegistry()
        self._registry.register(EngineNumbers(engine))
        self._requests = Counter(
            "gpt2_tuning_requests",
            "Requests by address and status; 0 is of those without an answer",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "gpt2_tuning_request_seconds",
            "Seconds until the last byte of an answer",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.media_type = CONTENT_TYPE_LATEST

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        path = path if path in PATHS else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return as_text(self._registry)


class EngineNumbers(Collector):
    """The engine's own numbers, as they are when they are asked for."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        engine, counts = self._engine, self._engine.counts
        gauges: dict[str, tuple[str, float]] = {
            "rows_running": ("Answers that are computed now", engine.running),
            "rows_waiting": ("Answers and jobs that wait", engine.waiting),
            "slots": ("Answers that are computed together at most", engine.slots),
        }
        counters: dict[str, tuple[str, float]] = {
            "rows": ("Answers that were begun", counts.rows),
            "prompt_tokens": ("Tokens of prompts that were read", counts.prompt_tokens),
            "new_tokens": ("Tokens that were chosen", counts.new_tokens),
            "turns": ("Turns of the engine", counts.turns),
            "turn_seconds": ("Seconds in them", counts.seconds),
            "failures": ("Turns that failed", counts.failures),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"gpt2_tuning_{name}", text, value)
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"gpt2_tuning_{name}", text, value)
