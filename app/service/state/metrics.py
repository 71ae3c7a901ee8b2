"""Numbers for Prometheus, made at each scrape from one StatsSnapshot, as screen and log are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.pipeline.detector import DetectorFigures
from app.pipeline.state.stats import BudgetLevel, HistogramReading, RecordingState, StatsSnapshot
from app.recording.writing.load import LoadStep
from app.service.state.gpu import GpuReading

__all__ = [
    "METRICS",
    "HomeAssistantFigures",
    "MetricsCollector",
    "PushFigures",
    "ServiceFigures",
    "VirtualCameraFigures",
    "make_registry",
    "render_metrics",
]

METRICS: Mapping[str, str] = {
    "lumitherm_build_info": "version of the program",
    "lumitherm_uptime_seconds": "s since the pipeline began",
    "lumitherm_ready": "1 when pictures come out, degraded or not",
    "lumitherm_state": "1 for the state the pipeline is in",
    "lumitherm_safe_mode": "1 in safe mode: raw recording only",
    "lumitherm_restarts": "restarts within the window, after runs that did not end in order",
    "lumitherm_fps": "frames/s by stage: visible, thermal, paired, fused, shown, recorded",
    "lumitherm_frames_total": "frames by stage since the start",
    "lumitherm_drops_total": "lost frames by cause",
    "lumitherm_reconnects_total": "times a camera came back",
    "lumitherm_camera_streaming": "1 while the camera delivers",
    "lumitherm_ffc_total": "shutter corrections of the thermal camera",
    "lumitherm_ffc_active": "1 during a shutter correction",
    "lumitherm_latency_seconds": "s from grab to fused or shown, histogram",
    "lumitherm_skew_seconds": "s between the two pictures of a pair, absolute, histogram",
    "lumitherm_fuse_seconds": "s the engine takes for a pair, histogram",
    "lumitherm_queue_depth": "entries in a bounded queue",
    "lumitherm_queue_capacity": "most entries a queue takes",
    "lumitherm_engine": "1 for the engine that fuses; reason says why it is not the wanted one",
    "lumitherm_engine_fallback": "1 while another engine stands in for the wanted one",
    "lumitherm_engine_build_seconds": "s that an engine has been building in the background; absent while none is",
    "lumitherm_detector_running": "1 while the detector looks at pictures; absent without one",
    "lumitherm_detector_looked_total": "pictures the detector has looked at",
    "lumitherm_detector_passed_total": "pictures the detector passed over, by its rate",
    "lumitherm_detector_seconds": "s the detector took for its newest picture",
    "lumitherm_recording": "1 for the state of the recorder",
    "lumitherm_recorded_seconds": "s of the recording under way",
    "lumitherm_recorded_pictures": "pictures of the recording under way by track: fused, visible, thermal",
    "lumitherm_recording_step": "1 for what is recorded under the present load: full, without_fused, visible_reduced",
    "lumitherm_disk_seconds_left": "s until the disk's reserve is reached at the present rate",
    "lumitherm_budget_pixels": "px of the alignment budget by part: parallax, skew, residual, total, limit",
    "lumitherm_drift_pixels": "px that the measured shift is off the calibration",
    "lumitherm_budget_level": "1 for the level of the budget: green, amber, red, unknown",
    "lumitherm_warnings": "lasting warnings at this moment",
    "lumitherm_push_connected": "1 while a stream is being pushed",
    "lumitherm_push_frames_total": "pictures sent to a media server",
    "lumitherm_push_drops_total": "pictures not sent: the server was slow or away",
    "lumitherm_push_reconnects_total": "times the connection to a media server was made again",
    "lumitherm_push_latency_seconds": "s from grab to sent, newest picture",
    "lumitherm_virtual_camera_connected": "1 while the virtual camera takes pictures; absent without one",
    "lumitherm_virtual_camera_frames_total": "pictures written to the virtual camera",
    "lumitherm_virtual_camera_passed_total": "pictures that came while another was written to it",
    "lumitherm_home_assistant_connected": "1 while Home Assistant's broker answers; absent without one",
    "lumitherm_home_assistant_states_total": "states sent to Home Assistant",
    "lumitherm_home_assistant_commands_total": "commands taken from Home Assistant",
    "lumitherm_events_total": "events by source: trigger name, external, person",
    "lumitherm_hooks_total": "calls of a hook by outcome: ok, failed, dropped",
    "lumitherm_retention_deleted_total": "recordings deleted",
    "lumitherm_retention_deleted_bytes_total": "bytes of deleted recordings",
    "lumitherm_http_refused_total": "requests refused by reason",
    "lumitherm_gpu_utilization_ratio": "share of time the GPU was busy",
    "lumitherm_gpu_memory_used_bytes": "GPU memory in use by all programs",
    "lumitherm_gpu_memory_total_bytes": "GPU memory",
    "lumitherm_gpu_temperature_celsius": "deg C of the GPU",
    "lumitherm_scrape_seconds": "s that the scrape before this one took",
}
"""Every name that is exported, with its meaning and unit; docs/run-unattended.md prints this table."""

_BUDGET_PARTS = ("parallax", "skew", "residual", "total", "limit")


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """Counters of the service's own parts, as plain numbers."""

    state: str = "starting"
    ready: bool = False
    safe_mode: bool = False
    restarts: int = 0
    pushes: Mapping[str, PushFigures] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    hooks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    deleted: int = 0
    deleted_bytes: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] = ()
    scrape_s: float | None = None
    engine_build_s: float | None = None
    detector: DetectorFigures | None = None
    virtual_camera: VirtualCameraFigures | None = None
    home_assistant: HomeAssistantFigures | None = None


@dataclass(frozen=True, slots=True)
class PushFigures:
    """One stream to a media server."""

    connected: bool
    frames: int
    drops: int
    reconnects: int
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class VirtualCameraFigures:
    """connected: the device takes pictures. written: so far. passed: that came while another was written."""

    connected: bool = False
    written: int = 0
    passed: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HomeAssistantFigures:
    """connected: to the broker. states: sent so far. commands: taken. problem: the last, empty when well."""

    connected: bool = False
    states: int = 0
    commands: int = 0
    problem: str = ""


class MetricsCollector(Collector):
    """Makes all metrics from one snapshot. Called in whatever thread scrapes.

    Args:
        labels: on every metric, `rig` among them.
    """

    def __init__(
        self,
        snapshot: Callable[[], StatsSnapshot],
        figures: Callable[[], ServiceFigures],
        labels: Mapping[str, str],
    ) -> None:
        self._snapshot, self._figures = snapshot, figures
        self._names = list(labels)
        self._values = [labels[name] for name in self._names]

    def collect(self) -> Iterable[Metric]:
        """All metrics of this moment."""
        snapshot, figures = self._snapshot(), self._figures()
        yield self._info()
        yield from self._pipeline(snapshot)
        yield from self._engine(snapshot, figures)
        yield from self._detector(figures.detector)
        yield from self._recording(snapshot)
        yield from self._budget(snapshot)
        yield from self._targets(figures)
        yield from self._service(figures)

    # ------------------------------------------------------------------ parts

    def _info(self) -> Metric:
        family = InfoMetricFamily("lumitherm_build", METRICS["lumitherm_build_info"], labels=self._names)
        family.add_metric(self._values, {"version": _version()})
        return family

    def _pipeline(self, s: StatsSnapshot) -> Iterable[Metric]:
        yield self._gauge("lumitherm_uptime_seconds", s.uptime_s)
        yield self._gauges("lumitherm_fps", ("stage",), [((k,), v) for k, v in s.fps.items()])
        yield self._counters("lumitherm_frames", ("stage",), [((k,), v) for k, v in s.frames.items()])
        yield self._counters("lumitherm_drops", ("cause",), [((k,), v) for k, v in s.drops.items()])
        yield self._counters("lumitherm_reconnects", ("stream",), [((k,), v) for k, v in s.reconnects.items()])
        yield self._gauges(
            "lumitherm_camera_streaming", ("stream",), [((k,), v == "streaming") for k, v in s.cameras.items()]
        )
        yield self._counter("lumitherm_ffc", s.ffc_count)
        yield self._gauge("lumitherm_ffc_active", s.ffc_active)
        readings = s.histograms
        latency = [((k,), readings[name]) for k, name in (("fused", "grab_to_fused"), ("shown", "grab_to_shown"))]
        yield self._histograms("lumitherm_latency_seconds", ("to",), latency)
        yield self._histograms("lumitherm_skew_seconds", (), [((), readings["skew"])])
        yield self._histograms("lumitherm_fuse_seconds", (), [((), readings["fuse"])])
        yield self._gauges("lumitherm_queue_depth", ("queue",), [((k,), q.depth) for k, q in s.queues.items()])
        yield self._gauges("lumitherm_queue_capacity", ("queue",), [((k,), q.capacity) for k, q in s.queues.items()])
        yield self._gauge("lumitherm_warnings", len(s.warnings))

    def _engine(self, s: StatsSnapshot, f: ServiceFigures) -> Iterable[Metric]:
        reason = s.fallback_reason or ""
        yield self._gauges("lumitherm_engine", ("engine", "reason"), [((s.engine, reason[:200]), 1)])
        yield self._gauge("lumitherm_engine_fallback", bool(reason))
        yield self._gauge("lumitherm_engine_build_seconds", f.engine_build_s)

    def _detector(self, d: DetectorFigures | None) -> Iterable[Metric]:
        yield self._gauge("lumitherm_detector_running", None if d is None else bool(d.name) and not d.failed)
        yield self._counter("lumitherm_detector_looked", None if d is None else d.looked)
        yield self._counter("lumitherm_detector_passed", None if d is None else d.passed)
        yield self._gauge("lumitherm_detector_seconds", d.last_ms / 1e3 if d is not None and d.looked else None)

    def _targets(self, f: ServiceFigures) -> Iterable[Metric]:
        camera, home = f.virtual_camera, f.home_assistant
        written, passed = (None, None) if camera is None else (camera.written, camera.passed)
        states, commands = (None, None) if home is None else (home.states, home.commands)
        yield self._gauge("lumitherm_virtual_camera_connected", None if camera is None else camera.connected)
        yield self._counter("lumitherm_virtual_camera_frames", written)
        yield self._counter("lumitherm_virtual_camera_passed", passed)
        yield self._gauge("lumitherm_home_assistant_connected", None if home is None else home.connected)
        yield self._counter("lumitherm_home_assistant_states", states)
        yield self._counter("lumitherm_home_assistant_commands", commands)

    def _recording(self, s: StatsSnapshot) -> Iterable[Metric]:
        states = [((state.value,), state is s.recording) for state in RecordingState]
        yield self._gauges("lumitherm_recording", ("state",), states)
        yield self._gauge("lumitherm_recorded_seconds", s.recorded_s)
        yield self._gauges("lumitherm_recorded_pictures", ("track",), [((k,), v) for k, v in s.recorded.items()])
        steps = [((step.value,), step.value == s.recording_step) for step in LoadStep]
        yield self._gauges("lumitherm_recording_step", ("step",), steps)
        yield self._gauge("lumitherm_disk_seconds_left", s.disk_s_left)

    def _budget(self, s: StatsSnapshot) -> Iterable[Metric]:
        budget = s.budget
        parts = [] if budget is None else [((part,), getattr(budget, f"{part}_px")) for part in _BUDGET_PARTS]
        yield self._gauges("lumitherm_budget_pixels", ("part",), parts)
        yield self._gauge("lumitherm_drift_pixels", budget.residual_px if budget is not None else None)
        level = budget.level if budget is not None else BudgetLevel.UNKNOWN
        yield self._gauges("lumitherm_budget_level", ("level",), [((x.value,), x is level) for x in BudgetLevel])

    def _service(self, f: ServiceFigures) -> Iterable[Metric]:
        yield self._gauge("lumitherm_ready", f.ready)
        yield self._gauges("lumitherm_state", ("state",), [((f.state,), 1)])
        yield self._gauge("lumitherm_safe_mode", f.safe_mode)
        yield self._gauge("lumitherm_restarts", f.restarts)
        pushes = f.pushes.items()
        yield self._gauges("lumitherm_push_connected", ("push",), [((k,), p.connected) for k, p in pushes])
        yield self._counters("lumitherm_push_frames", ("push",), [((k,), p.frames) for k, p in pushes])
        yield self._counters("lumitherm_push_drops", ("push",), [((k,), p.drops) for k, p in pushes])
        yield self._counters("lumitherm_push_reconnects", ("push",), [((k,), p.reconnects) for k, p in pushes])
        latency = [((k,), None if p.latency_ms is None else p.latency_ms / 1e3) for k, p in pushes]
        yield self._gauges("lumitherm_push_latency_seconds", ("push",), latency)
        yield self._counters("lumitherm_events", ("source",), [((k,), v) for k, v in f.events.items()])
        yield self._counters("lumitherm_hooks", ("hook", "outcome"), list(f.hooks.items()))
        yield self._counter("lumitherm_retention_deleted", f.deleted)
        yield self._counter("lumitherm_retention_deleted_bytes", f.deleted_bytes)
        yield self._counters("lumitherm_http_refused", ("reason",), [((k,), v) for k, v in f.refused.items()])
        gpus = [((str(gpu.index), gpu.name), gpu) for gpu in f.gpus]
        names = ("gpu", "name")
        yield self._gauges("lumitherm_gpu_utilization_ratio", names, [(k, g.utilization) for k, g in gpus])
        yield self._gauges("lumitherm_gpu_memory_used_bytes", names, [(k, g.memory_used_bytes) for k, g in gpus])
        yield self._gauges("lumitherm_gpu_memory_total_bytes", names, [(k, g.memory_total_bytes) for k, g in gpus])
        yield self._gauges("lumitherm_gpu_temperature_celsius", names, [(k, g.temperature_c) for k, g in gpus])
        yield self._gauge("lumitherm_scrape_seconds", f.scrape_s)

    # ------------------------------------------------------------------ kinds

    def _gauge(self, name: str, value: float | None) -> Metric:
        return self._gauges(name, (), [((), value)])

    def _gauges(
        self, name: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float | None]]
    ) -> Metric:
        family = GaugeMetricFamily(name, METRICS[name], labels=[*self._names, *labels])
        for own, value in values:
            if value is not None:
                family.add_metric([*self._values, *own], float(value))
        return family

    def _counter(self, name: str, value: float | None) -> Metric:
        return self._counters(name, (), [] if value is None else [((), value)])

    def _counters(self, name: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
        family = CounterMetricFamily(name, METRICS[f"{name}_total"], labels=[*self._names, *labels])
        for own, value in values:
            family.add_metric([*self._values, *own], float(value))
        return family

    def _histograms(
        self, name: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], HistogramReading]]
    ) -> Metric:
        family = HistogramMetricFamily(name, METRICS[name], labels=[*self._names, *labels])
        for own, reading in values:
            edges = zip(reading.edges_ms, reading.at_most, strict=True)
            buckets = [*((f"{edge / 1e3:g}", float(count)) for edge, count in edges), ("+Inf", float(reading.count))]
            family.add_metric([*self._values, *own], buckets, sum_value=reading.sum_ms / 1e3)
        return family


def make_registry(collector: MetricsCollector) -> CollectorRegistry:
    """Make a registry with our metrics and those of the process (memory, CPU, open files)."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def render_metrics(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(registry)


def _version() -> str:
    try:
        return metadata.version("lumitherm")
    except metadata.PackageNotFoundError:
        return "unknown"
