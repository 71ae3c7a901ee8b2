"""What the displacement estimate does with evidence: it leaves no more of a field than the confidence pays for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fusion_core.rfvif.correlation import CorrelationAlignment, settle


def affine_field(height: int = 30, width: int = 40) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack((3 + 2 * x - y, -1 + 0.5 * x + 2 * y))[None]


def test_an_affine_field_stays_whatever_its_confidence() -> None:
    confidence = torch.from_numpy(np.random.default_rng(0).uniform(-2, 1, (1, 1, 30, 40)).astype(np.float32))
    torch.testing.assert_close(settle(affine_field(), confidence, 1.0), affine_field(), atol=0.1, rtol=0)


@pytest.mark.parametrize(("log_confidence", "left"), [(-3.0, (0.0, 0.1)), (1.5, (0.8, 1.05))])
def test_a_departure_stays_where_it_is_sure_of_itself_only(log_confidence: float, left: tuple[float, float]) -> None:
    field, confidence = affine_field(), torch.zeros(1, 1, 30, 40)
    field[0, 0, 8:20, 10:24] += 4.0
    confidence[0, 0, 8:20, 10:24] = log_confidence
    departure = (settle(field, confidence, 1.0) - affine_field())[0, 0, 14, 17] / 4.0
    assert left[0] <= float(departure) <= left[1]


@pytest.mark.parametrize("learned_features", [False, True])
def test_the_last_look_is_what_refine_does(learned_features: bool) -> None:
    plane = cv2.GaussianBlur(np.random.default_rng(2).normal(size=(96, 128)), (0, 0), 2).astype(np.float32)
    visible = torch.from_numpy(0.5 + 2 * plane)[None, None].clamp(0, 1)
    torch.manual_seed(0)
    stages, priors = ((8, 2), (4, 2), (2, 1)), (9.0, 0.2, 0.4)
    alignment = CorrelationAlignment(stages, priors, learned_features=learned_features).eval()
    with torch.inference_mode():
        found = alignment(visible, 1 - visible)
        assert len(found.displacements) == 2 + len(priors)
        again = alignment.refine(visible, 1 - visible, found.displacements[-2])
    torch.testing.assert_close(again.displacements[-1], found.displacements[-1])
    torch.testing.assert_close(again.log_confidence, found.log_confidence)
