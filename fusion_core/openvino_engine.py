"""The network on a CPU through OpenVINO, in two compiled parts with the warp between them.

The displacement estimate runs in float32 (bfloat16 resolves only 4 px at x = 640) and, on video, every few frames with
smoothing: a rig's displacement field changes slowly. The fusion runs on every frame, in bfloat16 where the CPU has it.
One compiled pair per picture size; the converted models are kept on disk, so that only the first start converts.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engine_cache import EngineCache
from fusion_core.errors import EngineError
from fusion_core.rfvif import NETWORK_VERSION, Rfvif
from fusion_core.torch_engine import check_network_pair

__all__ = ["OpenVinoEngine", "cpu_has_bfloat16"]

SMOOTHING = 0.5
"""Weight of a new displacement estimate against the running one, on video."""

_JUMP_PX = 3.0
"""A new estimate further off than this (median over the grid) replaces the running one: the rig was hit, or a cut."""


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself (AVX-512 BF16 or AMX); emulated it is slower than float32."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _Estimate(nn.Module):
    """uint8 pictures -> displacement (1, 2, h, w) in pixels and log-confidence (1, 1, h, w), float32."""

    def __init__(self, network: Rfvif) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        scale = 1.0 / 255.0
        pad = self.network.pad
        found = self.network.estimate(pad(visible.float() * scale), pad(infrared.float() * scale))
        return found.displacements[-1], found.log_confidence


class _Fuse(nn.Module):
    """uint8 visible and warped infrared, log-confidence -> uint8 luminance."""

    def __init__(self, network: Rfvif) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor, log_confidence: Tensor) -> Tensor:
        height, width = visible.shape[-2:]
        scale = 1.0 / 255.0
        pad = self.network.pad
        out = self.network.fuse_warped(pad(visible.float() * scale), pad(infrared.float() * scale), log_confidence)
        return _to_uint8(out.fused[:, :, :height, :width])


class _Whole(nn.Module):
    """For networks that estimate no displacement: uint8 pictures -> uint8 luminance."""

    def __init__(self, network: Rfvif) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        scale = 1.0 / 255.0
        return _to_uint8(self.network(visible.float() * scale, infrared.float() * scale))


def _to_uint8(fused: Tensor) -> Tensor:
    return (fused.float().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)


class OpenVinoEngine:
    """One network on the CPU. Owner: the one thread that calls it; `warm_up` may run in another before the first frame."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        precision: str = "auto",
        threads: int | None = None,
        align_every: int = 1,
        cache: EngineCache | None = None,
    ) -> None:
        """Set up; nothing is compiled before `warm_up` or the first frame of a size.

        Args:
            precision: auto, f32 or bf16, of the fusion part.
            threads: of the inference; None leaves it to OpenVINO.
            align_every: frames between displacement estimates; 1 estimates anew on every frame, without smoothing.
            cache: where converted models are kept; None converts at every start.
        """
        if align_every < 1:
            raise EngineError(f"align_every is {align_every}, must be at least 1")
        self._checkpoint = checkpoint
        self._precision = precision if precision != "auto" else ("bf16" if cpu_has_bfloat16() else "f32")
        self._threads = threads
        self._align_every = align_every
        self._cache = cache
        self._name = f"openvino-{self._precision}:{label or checkpoint.path.stem}"
        self._size: tuple[int, int] | None = None
        self._compiled: _Compiled | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.reset()

    @property
    def name(self) -> str:
        return self._name

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """The running displacement estimate, (2, H/8, W/8): (dx, dy) in pixels, None before the first frame."""
        return self._displacement

    def warm_up(self, height: int, width: int) -> None:
        """Convert (or take from the cache), compile and run once at this size. Raises EngineError."""
        compiled = self._compile(height, width)
        visible = np.zeros((height, width), np.uint8)
        compiled.run(visible, visible, self)
        self.reset()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engine.FusionEngine.fuse`."""
        check_network_pair(visible, thermal)
        y = luminance(visible)
        fused = self._compile(*y.shape).run(y, np.ascontiguousarray(thermal), self)
        return replace_luminance(visible, fused, old_y=y)

    def reset(self) -> None:
        """Forget the running displacement: the next frame is estimated anew."""
        self._displacement: npt.NDArray[np.float32] | None = None
        self._confidence: npt.NDArray[np.float32] | None = None
        self._age = 0
        self._maps: tuple[np.ndarray, np.ndarray] | None = None

    def close(self) -> None:
        self._closed = True
        self._compiled = None
        self.reset()

    # ---- inside

    def _compile(self, height: int, width: int) -> _Compiled:
        with self._lock:
            if self._closed:
                raise EngineError(f"{self._name} is closed; create a new engine")
            if self._compiled is None or self._size != (height, width):
                self.reset()
                self._compiled = _Compiled(
                    self._checkpoint, height, width, self._precision, self._threads, self._cache
                )
                self._size = (height, width)
            return self._compiled

    def _warped(self, visible: np.ndarray, thermal: np.ndarray, compiled: _Compiled) -> tuple[np.ndarray, np.ndarray]:
        if self._displacement is None or self._age >= self._align_every:
            displacement, confidence = compiled.estimate(visible, thermal)
            previous, before = self._displacement, self._confidence
            if previous is not None and before is not None and self._align_every > 1:
                step = float(np.median(np.abs(displacement - previous)))
                if step < _JUMP_PX:
                    displacement = previous + SMOOTHING * (displacement - previous)
                    confidence = before + SMOOTHING * (confidence - before)
            self._displacement, self._confidence = displacement, confidence
            self._age = 0
            self._maps = _remap_maps(displacement, *visible.shape)
        self._age += 1
        assert self._maps is not None and self._confidence is not None
        warped = cv2.remap(thermal, *self._maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped), self._confidence


def _remap_maps(displacement: npt.NDArray[np.float32], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point maps for cv2.remap from a field on the 8-pixel grid (which covers the padded picture)."""
    rows, columns = displacement.shape[1:]
    full = [
        cv2.resize(plane, (columns * 8, rows * 8), interpolation=cv2.INTER_LINEAR)[:height, :width]
        for plane in displacement
    ]
    xs = full[0] + np.arange(width, dtype=np.float32)
    ys = full[1] + np.arange(height, dtype=np.float32)[:, None]
    first, second = cv2.convertMaps(xs, ys, cv2.CV_16SC2)
    return np.asarray(first), np.asarray(second)


class _Compiled:
    """The compiled models of one size."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        height: int,
        width: int,
        precision: str,
        threads: int | None,
        cache: EngineCache | None,
    ) -> None:
        os.environ.setdefault("OPENVINO_TELEMETRY_OPTOUT", "1")
        import openvino as ov

        network = checkpoint.network.float().cpu().eval()
        self._estimates = network.alignment is not None
        core = ov.Core()

        def compile_part(name: str, module: nn.Module, examples: tuple[Tensor, ...], part_precision: str) -> object:
            def convert() -> object:
                with torch.no_grad():
                    return ov.convert_model(torch.export.export(module.eval(), examples))

            options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": part_precision}
            if threads:
                options["INFERENCE_NUM_THREADS"] = threads
            try:
                if cache is None:
                    model = convert()
                else:
                    key = {
                        "kind": f"openvino-{name}",
                        "weights": checkpoint.sha256,
                        "network": NETWORK_VERSION,
                        "height": height,
                        "width": width,
                        "torch": torch.__version__,
                        "openvino": ov.__version__,
                    }
                    model = cache.openvino_model(key, convert)
                return core.compile_model(model, "CPU", options).create_infer_request()
            except (RuntimeError, ValueError, TypeError) as error:
                raise EngineError(f"OpenVINO cannot compile the {name} part at {height}x{width}: {error}") from error

        picture = torch.zeros(1, 1, height, width, dtype=torch.uint8)
        if not self._estimates:
            self._whole = compile_part("whole", _Whole(network), (picture, picture), precision)
            return
        multiple = network.config.multiple
        grid = [-(-side // multiple) * multiple // 8 for side in (height, width)]
        confidence = torch.zeros(1, 1, *grid)
        self._estimate = compile_part("estimate", _Estimate(network), (picture, picture), "f32")
        self._fuse = compile_part("fuse", _Fuse(network), (picture, picture, confidence), precision)

    def run(self, visible: np.ndarray, thermal: np.ndarray, engine: OpenVinoEngine) -> npt.NDArray[np.uint8]:
        try:
            if not self._estimates:
                out = self._whole.infer([visible[None, None], thermal[None, None]])  # type: ignore[attr-defined]
            else:
                warped, confidence = engine._warped(visible, thermal, self)
                inputs = [visible[None, None], warped[None, None], confidence[None]]
                out = self._fuse.infer(inputs)  # type: ignore[attr-defined]
            return np.asarray(out[0][0, 0])
        except RuntimeError as error:
            raise EngineError(f"{engine.name} failed on a frame: {error}") from error

    def estimate(
        self, visible: np.ndarray, thermal: np.ndarray
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        out = self._estimate.infer([visible[None, None], thermal[None, None]])  # type: ignore[attr-defined]
        return np.array(out[0][0]), np.array(out[1][0])
