"""What has gone wrong, for an operator: the pipeline's own words name engines, files and measures."""

from __future__ import annotations

import re

from PyQt6.QtCore import QCoreApplication

from app.pipeline.state.problems import PipelineProblem, Severity

__all__ = ["FORBIDDEN", "in_plain_words"]

FORBIDDEN = re.compile(
    r"(?i)\b(pyramid|aligned-pyramid|ncc-pyramid|openvino|tensorrt|torch|skew|counts?|agc|onnx|bf16|f32|tiny|small)\b"
)
"""What an operator need not know: engine ids, and the words of those who build such things."""

translate = QCoreApplication.translate


def in_plain_words(problem: PipelineProblem) -> tuple[str, str]:
    """(what happened, what to do) without a word that an operator need not know."""
    if not FORBIDDEN.search(f"{problem.text} {problem.advice}"):
        return problem.text, problem.advice
    if problem.source == "engine":
        if problem.severity is Severity.ERROR:
            text = translate("PlainWords", "The picture is fused in a simpler way: the network does not run here.")
            return text, translate("PlainWords", "The log says why: Ctrl+L in the expert view.")
        return translate("PlainWords", "The picture is fused in a simpler way until the network is ready."), ""
    names = {
        "visible": translate("PlainWords", "the visible camera"),
        "thermal": translate("PlainWords", "the thermal camera"),
        "recording": translate("PlainWords", "the recording"),
        "calibration": translate("PlainWords", "the alignment"),
    }
    text = translate("PlainWords", "There is trouble with {0}.")
    name = names.get(problem.source, translate("PlainWords", "the pictures"))
    return text.format(name), translate("PlainWords", "The log says more: Ctrl+L in the expert view.")
