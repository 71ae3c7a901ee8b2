"""What is carried over between pictures: the options, and the kernels inside the network."""

from __future__ import annotations

import pytest
import torch
from support import network_weights as weights

from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError
from fusion_core.rfvif import preset_config
from fusion_core.rfvif.fdam import CarriedKernels


def test_still_pictures_carry_nothing() -> None:
    assert (STILL_PICTURES.align_every, STILL_PICTURES.kernels_every) == (1, 1)
    assert VideoOptions().align_every > 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"align_every": 0}, "align_every is 0"),
        ({"kernels_every": -1}, "kernels_every is -1"),
        ({"align_smoothing": 0.0}, "align_smoothing is 0.0, must be above 0"),
        ({"kernels_smoothing": 1.5}, "kernels_smoothing is 1.5"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        VideoOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_kernels_that_are_carried_are_those_that_were_computed(preset: str) -> None:
    network = weights.disturbed(preset_config(preset))
    torch.manual_seed(1)
    one, other = (tuple(torch.rand(1, 1, 64, 64) for _ in range(2)) for _ in range(2))
    confidence = torch.zeros(1, 1, 8, 8)

    def fuse(pictures: tuple[torch.Tensor, ...], carried: CarriedKernels | None) -> torch.Tensor:
        with torch.no_grad():
            fused: torch.Tensor = network.fuse_warped(*pictures, confidence, carried=carried).fused
        return fused

    count = network.kernel_values
    fresh = CarriedKernels(torch.zeros(count), torch.ones(1))
    plain = fuse(one, None)
    assert torch.allclose(fuse(one, fresh), plain, atol=1e-6)
    assert fresh.used.shape == (count,)
    assert torch.allclose(fuse(one, CarriedKernels(fresh.used, None)), plain, atol=1e-6)

    stale = fuse(other, CarriedKernels(fresh.used, None))
    half = CarriedKernels(fresh.used, torch.full((1,), 0.5))
    errors = [(picture - fuse(other, None)).abs().mean() for picture in (stale, fuse(other, half))]
    assert errors[0] > errors[1] > 0  # half way there is nearer
