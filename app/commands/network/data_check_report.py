# ruff: noqa: E501 - lines of a page, not of a program
"""The page of `lumitherm train doctor`: what spoils a set of pairs, how far they lie off, and their sizes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from calibration.report_page import page
from fusion_core.errors import RunError

if TYPE_CHECKING:
    from fusion_core.training.data_check import DataCheck

__all__ = ["SHIFT_BOUNDS_PX", "shift_counts", "write_data_check_report"]

SHIFT_BOUNDS_PX = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, float("inf"))

_PAGE = page(
    "Training pairs",
    """<h1>Training pairs</h1><p class="quiet">{{ folder }}: {{ found.pairs }} pairs</p>
<div class="verdict{{ '' if found.findings else ' good' }}">{{ found.findings|length ~ ' problems' if found.findings else 'No problems' }}</div>
<section><h2>Residual shift of whole pictures</h2>
<p>Pairs by how far thermal content lies from visible content, px, where both pictures correlate clearly. {{ found.unclear }} pairs do not, and nothing can be said of them. Training registers what lies below the limit.</p>{{ histogram }}</section>
{% for kind, findings in kinds %}<section><h2>{{ kind }}: {{ findings|length }}</h2><table><tr><th>pair</th><th>what</th></tr>
{% for finding in findings %}<tr><td>{{ finding.stem }}</td><td>{{ finding.detail }}</td></tr>{% endfor %}</table></section>{% endfor %}
{% if found.unaligned %}<p>{{ advice }}</p>{% endif %}
<section><h2>Pictures</h2><table><tr><th>pairs</th><th>size</th></tr>
{% for kind, count in found.sizes %}<tr><td>{{ count }}</td><td>{{ kind }}</td></tr>{% endfor %}</table>
<p>{{ found.repeated }} near-duplicates inside the training part: no fault, but they weigh more.</p>
{% for note in found.notes %}<p>{{ note }}</p>{% endfor %}</section>
""",
)


def shift_counts(shifts_px: tuple[float, ...]) -> list[int]:
    """Pairs between each two of SHIFT_BOUNDS_PX."""
    return [sum(low <= shift < high for shift in shifts_px) for low, high in itertools.pairwise(SHIFT_BOUNDS_PX)]


def write_data_check_report(found: DataCheck, folder: Path, path: Path) -> None:
    """Write the page.

    Raises:
        RunError: it cannot be written.
    """
    from fusion_core.training.data_check import UNALIGNED

    kinds = [
        (kind, list(findings))
        for kind, findings in itertools.groupby(found.findings, key=lambda finding: finding.kind.value)
    ]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    bars = _bars(shift_counts(found.shifts_px))
    text = template.render(folder=str(folder), found=found, kinds=kinds, advice=UNALIGNED, histogram=bars)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def _bars(counts: list[int]) -> Markup:
    labels = [
        f"{low:g} to {high:g}" if high < 1e9 else f"{low:g} and more"
        for low, high in itertools.pairwise(SHIFT_BOUNDS_PX)
    ]
    most = max(*counts, 1)
    rows = [
        f'<text x="0" y="{20 + 28 * row}" font-size="13">{label} px</text>'
        f'<rect x="110" y="{7 + 28 * row}" width="{380 * count / most:.0f}" height="18" fill="{"#b4432f" if row == 5 else "#3b6ea5"}"/>'
        f'<text x="{118 + 380 * count / most:.0f}" y="{20 + 28 * row}" font-size="13">{count}</text>'
        for row, (label, count) in enumerate(zip(labels, counts, strict=True))
    ]
    return Markup(f'<svg viewBox="0 0 560 {28 * len(rows) + 4}" width="560" role="img">{"".join(rows)}</svg>')
