"""Settings of the detector: an ONNX model of the user's that looks at the pictures beside the fusion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DetectConfig"]


class DetectConfig(BaseModel):
    """Which model looks at which picture, how often, and what counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: Path = Field(description="ONNX file of YOLO (one output) or DETR (boxes and logits) kind, yours")
    picture: Literal["fused", "visible", "thermal"] = Field("fused", description="what it looks at")
    kind: Literal["auto", "yolo", "detr"] = Field("auto", description="of its outputs; auto tells by their number")
    runtime: Literal["auto", "openvino", "onnxruntime"] = Field(
        "auto", description="auto takes ONNX Runtime where it is installed, else OpenVINO"
    )
    max_fps: float = Field(5, gt=0, le=60, description="pictures/s it looks at; it never holds the fusion up")
    threads: int = Field(1, ge=1, le=64, description="processor threads it may use, at a lower priority")
    confidence: float = Field(0.4, ge=0, le=1, description="0..1, least confidence of a box")
    overlap: float = Field(0.5, gt=0, le=1, description="0..1, boxes of one class that overlap more are one (YOLO)")
    labels: tuple[str, ...] = Field((), max_length=2000, description="names of its classes; () = those in the file")
    only: tuple[str, ...] = Field((), max_length=200, description="classes that count; () = all")
    hold_ms: float = Field(600, ge=0, le=10_000, description="ms that boxes are shown on later pictures")
    normalize: Literal["auto", "none", "imagenet"] = Field(
        "auto", description="of the input in [0, 1]; auto: none for YOLO, ImageNet's mean and deviation for DETR"
    )
    scores: Literal["sigmoid", "softmax"] = Field(
        "sigmoid", description="of DETR logits; softmax for the first DETR, whose last class is `nothing`"
    )

    @model_validator(mode="after")
    def _only_known(self) -> Self:
        unknown = [name for name in self.only if self.labels and name not in self.labels]
        if unknown:
            raise ValueError(f"only has {unknown[0]!r}, which is none of labels")
        return self
