"""What Prometheus reads at `/metrics`, in a registry of the server's own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters and histograms of requests, batches and explanations; CPU seconds and memory of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "exaranker_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self.seconds = self._histogram("exaranker_request_seconds", "From the first byte to the answer", SECONDS)
        self.queue_seconds = self._histogram("exaranker_queue_seconds", "Until a request's first batch", SECONDS)
        self.batch_seconds = self._histogram("exaranker_batch_seconds", "Of one batch in the model", SECONDS)
        self.batch_rows = self._histogram("exaranker_batch_rows", "Inputs scored together", ROWS)
        self.tokens = Counter("exaranker_tokens", "Tokens scored, without padding", registry=self._registry)
        self.explanations = Counter("exaranker_explanations", "Explanations written", registry=self._registry)
        self.waiting_tokens = Gauge(
            "exaranker_waiting_tokens", "Tokens of inputs that wait for a batch", registry=self._registry
        )
        self.open_requests = Gauge(
            "exaranker_open_requests", "Requests that are read or answered", registry=self._registry
        )

    def page(self) -> bytes:
        """The values now, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, buckets=buckets, registry=self._registry)
